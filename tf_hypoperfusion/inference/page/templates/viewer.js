"use strict";
(async () => {
  const byId = id => document.getElementById(id);
  const given = JSON.parse(byId("viewer-data").textContent);
  const say = text => { byId("no-viewer").textContent = text; byId("no-viewer").hidden = false; };
  const hasWebGl = () => { try { return !!document.createElement("canvas").getContext("webgl2"); } catch { return false; } };
  if (!hasWebGl() || typeof DecompressionStream === "undefined") {
    say("This browser has no WebGL 2, which the viewer needs; the pictures on this page show the same.");
    return;
  }
  try {
    const packed = Uint8Array.from(atob(byId("niivue-code").textContent), c => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);

    byId("viewer").hidden = false;
    const nv = new niivue.Niivue({
      backColor: [0, 0, 0, 1], isRadiologicalConvention: true, isOrientCube: false, show3Dcrosshair: true,
      isColorbar: false, dragAndDropEnabled: false, loadingText: "", logLevel: "silent",
      multiplanarShowRender: niivue.SHOW_RENDER.ALWAYS, multiplanarLayout: niivue.MULTIPLANAR_TYPE.GRID,
      showAllOrientationMarkers: true,
      fontColor: [0.94, 0.89, 0.26, 1], fontMinPx: 18, multiplanarPadPixels: 24,
      crosshairColor: [0.94, 0.89, 0.26, 0.7], crosshairWidth: 0.5, crosshairWidthUnit: "mm",
    });
    await nv.attachToCanvas(byId("view"));
    nv.addColormap(given.colours.name, given.colours.steps);
    for (const v of given.volumes) {
      nv.addVolume(await niivue.NVImage.loadFromBase64({
        base64: v.data, name: v.name + ".nii.gz", colormap: v.colormap, opacity: v.opacity,
        cal_min: v.low, cal_max: v.high, trustCalMinMax: false,
      }));
    }
    // What is not known is not there.
    const [dwi, adc, probability, core] = ["DWI", "ADC", "probability", "core"].map(
      name => given.volumes.findIndex(v => v.name === name));
    given.volumes.forEach((v, k) => { nv.volumes[k].cal_min = v.low; nv.volumes[k].cal_max = v.high; });
    // The colours run from 0 to 1 whatever the threshold is. What lies below it is made 0, which has
    // no colour: then no way of drawing can show it.
    const levels = nv.volumes[probability].img.slice();
    // A label has no colours in between, which smoothing would draw around other things.
    if (core >= 0) nv.volumes[core].setColormapLabel({ R: [0, given.core_colour[0]], G: [0, given.core_colour[1]], B: [0, given.core_colour[2]],
                                                              A: [0, 255], I: [0, 1], labels: ["", "core"] });
    nv.setInterpolation(true);  // voxels as they are, so that no mask seems to end elsewhere
    nv.updateGLVolume();
    nv.setSliceType(3);
    const home = () => { nv.scene.crosshairPos = nv.mm2frac(given.lesion_mm); nv.drawScene(); };

    const threshold = byId("threshold");
    const showThreshold = () => {
      const percent = Number(threshold.value);
      byId("threshold-value").textContent = (percent / 100).toFixed(2);
      byId("threshold-ml").textContent = given.ml_above[percent * 2];
      const shown = nv.volumes[probability].img;
      for (let k = 0; k < levels.length; k++) shown[k] = levels[k] < percent * 2 ? 0 : levels[k];
      nv.updateGLVolume();
    };
    threshold.addEventListener("input", showThreshold);
    for (const [id, index] of [["probability-opacity", probability], ["core-opacity", core]]) {
      byId(id)?.addEventListener("input", event => nv.setOpacity(index, event.target.value / 100));
    }
    byId("behind")?.addEventListener("change", event => {
      nv.setOpacity(dwi, event.target.value === "DWI" ? 1 : 0);
      nv.setOpacity(adc, event.target.value === "ADC" ? 1 : 0);
    });
    byId("view").addEventListener("keydown", event => {
      const step = { PageUp: 1, PageDown: -1 }[event.key];
      if (step) { event.preventDefault(); nv.moveCrosshairInVox(0, 0, step); }
    });
    byId("planes").addEventListener("change", event => nv.setSliceType(Number(event.target.value)));
    byId("reset").addEventListener("click", () => {
      threshold.value = given.threshold_percent;
      for (const [id, value, event] of [["probability-opacity", 60, "input"], ["core-opacity", 80, "input"],
                                        ["behind", "DWI", "change"], ["planes", "3", "change"]]) {
        const control = byId(id);
        if (control) { control.value = value; control.dispatchEvent(new Event(event)); }
      }
      showThreshold();
      home();
    });
    showThreshold();
    home();
    document.documentElement.dataset.viewer = "ready";
  } catch (error) {
    byId("viewer").hidden = true;
    say("The viewer could not be started (" + error.message + "); the pictures on this page show the same.");
  }
})();

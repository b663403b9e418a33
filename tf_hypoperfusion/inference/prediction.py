"""One patient through a predictor: native images -> probability, masks, mL, decision, warnings.

Knows no TensorFlow: the predictor may be a Keras model, a SavedModel or a server.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools import intensity, labels, patient, pictures
from data_tools.criteria import DEFUSE3
from data_tools.grid import ADC_CORE_UM2_PER_S, hemisphere
from data_tools.patient import MniPatient, NativePatient
from data_tools.runtime import atomic
from data_tools.volumes import save_volume
from tf_hypoperfusion import clinical
from tf_hypoperfusion.clinical import ClinicalFacts
from tf_hypoperfusion.config import PROBABILITY_THRESHOLD, RESEARCH_NOTICE
from tf_hypoperfusion.inference import uncertainty
from tf_hypoperfusion.inference.sliding_window import Predictor, model_image, predict_volume

MAPS = ("probability", "hypoperfusion_mask", "core_mask", "disagreement")
DICOM_FILES = ("segmentation.dcm", "probability.dcm", "report.dcm")
# As much as DEFUSE 3 allows a core. Noise and normal white matter had 35 and 55 mL in two patients.
UNCOUNTED_ML = DEFUSE3.max_core_ml


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A patient's result on the DWI's own grid.

    Attributes:
        native: the images it was made from.
        probability: float32, shape of the DWI, 0 outside the brain and in CSF.
        hypoperfusion: bool, probability >= 0.5.
        core: bool, ADC <= 620e-6 mm2/s, cleaned.
        disagreement: float32, standard deviation of the opinions' probabilities, or None.
        probability_mni, core_mni: the same on the MNI grid, for pictures.
        result: what ``result.json`` holds.
    """

    native: NativePatient
    probability: NDArray[np.float32]
    hypoperfusion: NDArray[np.bool_]
    core: NDArray[np.bool_]
    disagreement: NDArray[np.float32] | None
    probability_mni: NDArray[np.float32]
    core_mni: NDArray[np.bool_]
    result: dict[str, Any]


# Whoever answers, a model here or a server: the probability (91, 109, 60) of a patient on the MNI
# grid, 0 outside tissue.
VolumePredictor = Callable[[MniPatient, ClinicalFacts], NDArray[np.float32]]


def by_windows(predictor: Predictor, stride: int) -> VolumePredictor:
    """Answer with overlapping windows through a predictor of slabs.

    Args:
        predictor: see :mod:`sliding_window`. stride: slices between windows.
    """

    def answer(mni: MniPatient, given: ClinicalFacts) -> NDArray[np.float32]:
        image = model_image(mni.dwi, mni.adc_um2_per_s, mni.brain, given.side)
        # CSF is in no label that the network learnt from, so it is in no prediction either.
        tissue = intensity.parenchyma(mni.adc_um2_per_s, mni.brain)
        return predict_volume(
            predictor, image, intensity.nihss_feature(given.nihss), stride, tissue
        )

    return answer


def predict_patient(
    native: NativePatient,
    given: ClinicalFacts,
    answers: Sequence[VolumePredictor],
    name: str = "patient",
    second_opinion: bool = True,
) -> Prediction:
    """Register, predict, take the way back, measure, decide.

    Volumes and the decision are those of the patient's own grid; the same volumes counted on the
    MNI grid (in mL of the patient's tissue) stand beside them.

    Args:
        native: from :func:`data_tools.patient.load_native`.
        answers: one of :func:`by_windows` for each model, which are averaged; or a server's.
        name: for the picture's title.
        second_opinion: ask a single model about the mirror image too; see :mod:`uncertainty`.

    Raises:
        InputError: if the images hold no brain tissue.
    """
    clock = _Clock()
    mni, quality = patient.to_mni(native)
    clock.lap("register")
    opinions = uncertainty.ask(answers, mni, given, second_opinion)
    probability_mni = opinions.mean
    clock.lap("network")
    dwi = native.dwi
    outside = ~intensity.parenchyma(native.adc.data, native.brain)

    def way_back(volume: NDArray[np.float32]) -> NDArray[np.float32]:
        back = mni.transform.back(volume, dwi)
        back[outside] = 0
        return back

    probability = way_back(probability_mni)
    hypoperfusion = probability >= PROBABILITY_THRESHOLD
    each_ml, disagreement = _opinions_native(opinions, way_back, dwi.voxel_ml)
    core = labels.core_mask(dwi.data, native.adc.data, native.brain, dwi.voxel_ml)
    core_mni = patient.core_on_grid(mni)
    clock.lap("way_back")

    core_ml = float(core.sum() * dwi.voxel_ml)
    hypoperfusion_ml = float(hypoperfusion.sum() * dwi.voxel_ml)
    decision = clinical.defuse3(hypoperfusion_ml, core_ml)
    hypoperfusion_mni = probability_mni >= PROBABILITY_THRESHOLD
    doubt = uncertainty.figures(opinions.kind, each_ml, core_ml, decision.target_mismatch)
    result = {
        "notice": RESEARCH_NOTICE,
        "patient": name,
        "given": dataclasses.asdict(given),
        "hypoperfusion_ml": round(hypoperfusion_ml, 2),
        "core_ml": round(core_ml, 2),
        "hypoperfusion_mni_ml": round(float(hypoperfusion_mni.sum() * mni.voxel_ml), 2),
        "core_mni_ml": round(float(core_mni.sum() * mni.voxel_ml), 2),
        "mismatch_ratio": round(decision.ratio, 3),
        "mismatch_ml": round(decision.difference_ml, 2),
        "defuse3": {
            "ratio": _criterion(decision.ratio, f">= {DEFUSE3.min_ratio}", decision.ratio_met),
            "difference_ml": _criterion(
                decision.difference_ml, f">= {DEFUSE3.min_difference_ml:g}", decision.difference_met
            ),
            "core_ml": _criterion(core_ml, f"<= {DEFUSE3.max_core_ml:g}", decision.core_met),
            "target_mismatch": decision.target_mismatch,
        },
        "dawn": clinical.dawn(given.age, given.nihss, core_ml),
        "uncertainty": doubt,
        "warnings": _warnings(
            given, quality, core_mni, hypoperfusion_mni, core_ml, hypoperfusion_ml, mni.voxel_ml
        )
        + _uncounted(native, core_ml)
        + _doubts(doubt),
        "registration": {key: quality[key] for key in quality if key != "warnings"},
        "probability_threshold": PROBABILITY_THRESHOLD,
        "seconds": clock.laps,
    }
    return Prediction(
        native, probability, hypoperfusion, core, disagreement, probability_mni, core_mni, result
    )


def _opinions_native(
    opinions: uncertainty.Opinions,
    way_back: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    voxel_ml: float,
) -> tuple[list[float], NDArray[np.float32] | None]:
    """Hypoperfusion (mL) of each opinion on the patient's grid, and their standard deviation."""
    if len(opinions.each) == 1:
        return [], None
    volumes = [way_back(volume) for volume in opinions.each]
    each_ml = [float((v >= PROBABILITY_THRESHOLD).sum() * voxel_ml) for v in volumes]
    return each_ml, np.std(volumes, axis=0)


def _uncounted(native: NativePatient, core_ml: float) -> list[str]:
    """A warning if much tissue has a core's ADC and is not counted as core."""
    low = native.brain & (native.adc.data > 0) & (native.adc.data <= ADC_CORE_UM2_PER_S)
    rest_ml = float(low.sum() * native.dwi.voxel_ml) - core_ml
    if rest_ml < UNCOUNTED_ML:
        return []
    return [
        f"{rest_ml:.0f} mL of the brain have an ADC of at most 620e-6 mm2/s and were not counted "
        "as core, not bright enough on DWI or scattered: look at DWI and ADC before "
        "the core is believed"
    ]


def clear(out: str | Path) -> None:
    """Remove what an earlier prediction wrote into a folder, ``result.json`` first."""
    out = Path(out)
    names = ["result.json", "report.html", "report.pdf", "overview.png"]
    names += [f"{name}.nii.gz" for name in MAPS] + [f"dicom/{name}" for name in DICOM_FILES]
    for name in names:
        (out / name).unlink(missing_ok=True)


def _doubts(doubt: dict[str, Any] | None) -> list[str]:
    if doubt is None or doubt["decision_holds_in"] == doubt["opinions"]:
        return []
    who = "models" if doubt["kind"] == "models" else "answers (the image and its mirror image)"
    low, high = doubt["range_ml"]
    return [
        f"the decision holds in {doubt['decision_holds_in']} of {doubt['opinions']} {who}: they "
        f"find {low:.0f} to {high:.0f} mL of hypoperfusion"
    ]


def _criterion(value: float, required: str, met: bool) -> dict[str, Any]:
    return {"value": round(value, 3), "required": required, "met": met}


def _warnings(
    given: ClinicalFacts,
    quality: dict[str, Any],
    core: NDArray[np.bool_],
    hypoperfusion: NDArray[np.bool_],
    core_ml: float,
    hypoperfusion_ml: float,
    voxel_ml: float,
) -> list[str]:
    warnings = list(quality["warnings"])
    contradiction = patient.side_contradiction(core, given.side, voxel_ml)
    if contradiction:
        warnings.insert(0, contradiction)
    elif given.side != "bilateral":
        elsewhere = core & ~hemisphere(given.side)
        if elsewhere.sum() * voxel_ml >= patient.CONTRADICTING_CORE_ML:
            warnings.append(
                f"{elsewhere.sum() * voxel_ml:.1f} mL of the core lie outside the given side "
                f"({given.side}); look whether they are core or noise"
            )
    if given.side != "bilateral" and hypoperfusion.any():
        share = float((hypoperfusion & hemisphere(given.side)).sum() / hypoperfusion.sum())
        if share < 0.5:
            warnings.append(
                f"only {share:.0%} of the predicted hypoperfusion lies on the given side "
                f"({given.side})"
            )
    if given.nihss is None:
        warnings.append("NIHSS is unknown; the model was told so, and is less sure without it")
    if core_ml > hypoperfusion_ml:
        warnings.append(
            "the core is larger than the predicted hypoperfusion, which should hold it: the "
            "prediction failed or the core is noise"
        )
    if core_ml == 0:
        warnings.append(
            "no core is visible; the published model was weak on such patients (median Dice 0.25)"
        )
    return warnings


def write_maps(prediction: Prediction, out: str | Path) -> None:
    """Write NIfTI volumes on the DWI's grid and ``overview.png``; call write_result last."""
    clock = _Clock()
    out, affine = Path(out), prediction.native.dwi.affine
    clear(out)  # nothing of an old result may stand beside the new one
    maps = (prediction.probability, prediction.hypoperfusion, prediction.core,
            prediction.disagreement)  # fmt: skip
    for name, data in zip(MAPS, maps, strict=True):
        if data is not None:
            save_volume(out / f"{name}.nii.gz", data, affine, "predicted; research use only")
    atomic.write_bytes(out / "overview.png", overview(prediction))
    clock.lap("write")
    prediction.result["seconds"] |= clock.laps


def write_result(prediction: Prediction, out: str | Path) -> None:
    """Write ``result.json``; where it stands, everything else is written."""
    seconds = prediction.result["seconds"]
    seconds["total"] = round(sum(seconds.values()), 3)
    atomic.write_json(Path(out) / "result.json", prediction.result)


def overview(prediction: Prediction) -> bytes:
    """PNG: axial DWI slices with the predicted hypoperfusion's contour and the core filled."""
    dwi, result = prediction.native.dwi, prediction.result
    image, spacing = pictures.to_ras(dwi.data, dwi.affine)
    overlays = []
    for mask, label, colour, filled in (
        (prediction.core, f"core {result['core_ml']:.0f} mL", pictures.VERMILION, True),
        (
            prediction.hypoperfusion,
            f"predicted hypoperfusion {result['hypoperfusion_ml']:.0f} mL",
            pictures.SKY_BLUE,
            False,
        ),
    ):
        overlays.append(
            pictures.Overlay(pictures.to_ras(mask, dwi.affine)[0], label, colour, filled)
        )
    yes = "TARGET MISMATCH" if result["defuse3"]["target_mismatch"] else "no target mismatch"
    nihss = "unknown" if result["given"]["nihss"] is None else result["given"]["nihss"]
    title = "\n".join(
        [
            f"{result['patient']}: {yes} (DEFUSE 3), ratio {result['mismatch_ratio']:.1f}, "
            f"mismatch {result['mismatch_ml']:.0f} mL; side {result['given']['side']}, "
            f"NIHSS {nihss}",
            *(f"! {warning}" for warning in result["warnings"]),
        ]
    )
    brain, _ = pictures.to_ras(prediction.native.brain, dwi.affine)
    window = (0.0, float(np.percentile(image[brain], 99.5)))
    return pictures.axial_mosaic(
        image,
        overlays,
        spacing,
        title,
        window=window,
        brain=brain,
        footer=f"{RESEARCH_NOTICE} {pictures.CONVENTION}",
    )


class _Clock:
    """Seconds per step."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self.last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name] = round(now - self.last, 3)
        self.last = now

"""The picture of a patient's perfusion scan, ``qc.png``: maps, the artery, curves and motion.

A person sees here what no figure shows: an artery that is a vein, maps of noise, a head that moved.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from data_tools import charts, drawing, labels, pictures
from data_tools.grid import TMAX_HYPOPERFUSION_S
from data_tools.perfusion.examination import Examination
from data_tools.perfusion.maps import VOLUMES_AT_S, halves
from data_tools.perfusion.record import NOTICE, PerfusionQuality
from data_tools.perfusion.series import Series
from data_tools.runtime.errors import counted
from data_tools.volumes import Volume

MOST_SLICES, FEW_SLICES = 32, 8
TMAX_TOP_S, RELATIVE_TTP_TOP_S = 12.0, 12.0
# Of the brain's median: shows tissue, whatever share of the brain is vessels.
TIMES_MEDIAN = 2.5
# Below every value that a map has, so that what is outside the brain is not coloured.
OUTSIDE, SHOWN_FROM = -1e4, -1e3
CHART_HEIGHT = 290
AROUND_VOXELS = 2
# A vein's curve is wide and comes after the artery's; of those with the largest area it has this
# many voxels.
VEIN_VOXELS, VEIN_AFTER_S = 20, 2.0
LEAST_MOTION_MM = 2.0
WHITE = "#FFFFFF"


def draw(series: Series, examined: Examination, quality: PerfusionQuality) -> bytes:
    """All maps, the arterial voxels, the curves and the motion.

    Args:
        series: that was examined.
        examined: what came of it.
        quality: for the title, with every warning.

    Returns:
        PNG bytes.
    """
    maps, brain = examined.maps, examined.brain
    frames = examined.bolus.baseline_frames
    before = series.signal[..., frames].mean(axis=-1)
    voxel_ml = Volume(before, series.affine).voxel_ml
    artery = _ringed(examined)
    late = labels.territories(brain & (maps.tmax_s >= TMAX_HYPOPERFUSION_S), voxel_ml)

    def mosaic(
        values: NDArray[np.float32], label: str, *, top: float, title: str, unit: str = "",
        overlays: tuple[pictures.Overlay, ...] = (), panels: int = FEW_SLICES, footer: str = "",
    ) -> Image.Image:  # fmt: skip
        image, spacing_mm = pictures.to_ras(before, series.affine)
        words = [(at, f"{at:g}{unit}") for at in charts.ticks(0, top)]
        return pictures.axial_mosaic(
            image,
            [
                pictures.Overlay(
                    pictures.to_ras(each.mask, series.affine)[0],
                    each.label,
                    each.colour,
                    each.filled,
                )
                for each in overlays
            ],
            spacing_mm,
            title,
            panels=panels,
            brain=pictures.to_ras(brain, series.affine)[0],
            heat=pictures.Heat(
                values=pictures.to_ras(np.where(brain, values, OUTSIDE), series.affine)[0],
                label=label,
                top=top,
                shown_from=SHOWN_FROM,
                words=words,
            ),
            footer=footer,
        )  # fmt: skip

    def usual(values: NDArray[np.float32], name: str, title: str, unit: str = "") -> Image.Image:
        top = max(TIMES_MEDIAN * float(np.median(values[brain])), 1e-3)
        return mosaic(values, name, top=top, title=title, unit=unit)

    whole = [
        mosaic(
            maps.tmax_s,
            "Tmax",
            top=TMAX_TOP_S,
            unit=" s",
            title=_title(quality),
            panels=min(brain.shape[2], MOST_SLICES),
            overlays=(
                pictures.Overlay(late, "Tmax ≥ 6 s", pictures.MEASURED),
                pictures.Overlay(artery, "around the AIF's voxels", pictures.VERMILION),
            ),
        ),
        _artery_slices(before, artery, brain, series.affine),
        usual(maps.cbf, "CBF", "CBF, mL/100 mL/min, by the AIF's scale"),
        usual(maps.cbv, "CBV", "CBV, mL/100 mL, by the AIF's scale"),
        usual(maps.mtt_s, "MTT", "MTT", " s"),
        mosaic(
            maps.ttp_s - np.float32(examined.check.healthy_ttp_s),
            "relative TTP",
            top=RELATIVE_TTP_TOP_S,
            unit=" s",
            title="TTP later than the healthier half's median",
            footer=f"{pictures.CONVENTION} {NOTICE}",
        ),
        _charts(series, examined),
    ]
    return drawing.png(*whole)


def _ringed(examined: Examination) -> NDArray[np.bool_]:
    """The arterial voxels and what is around them within a slice: a voxel alone is not seen."""
    artery = np.zeros(examined.brain.shape, bool)
    artery[tuple(examined.arterial_input.voxels.T)] = True
    around = np.ones((2 * AROUND_VOXELS + 1, 2 * AROUND_VOXELS + 1, 1), bool)
    return ndimage.binary_dilation(artery, around)


def _artery_slices(
    before: NDArray[np.float32],
    artery: NDArray[np.bool_],
    brain: NDArray[np.bool_],
    affine: NDArray[np.float64],
) -> Image.Image:
    """The slices in which the artery is, without colours."""
    there = artery.any(axis=(0, 1))
    image, mask, inside = (
        pictures.to_ras(each[:, :, there], affine) for each in (before, artery, brain)
    )
    return pictures.axial_mosaic(
        image[0],
        [pictures.Overlay(mask[0], "around the AIF's voxels", pictures.VERMILION)],
        image[1],
        f"Signal before the bolus, in the {counted(int(there.sum()), 'slice')} that the AIF is "
        "from",
        panels=MOST_SLICES,
        brain=inside[0] | mask[0],
    )


def _title(quality: PerfusionQuality) -> str:
    """Name, what Tmax is by, volumes and every warning."""
    volumes = ", ".join(
        f"{quality.tmax_volumes_ml[f'{at:g}']:.0f} mL at {at:g} s" for at in VOLUMES_AT_S
    )
    ratio = quality.intensity_ratio
    return (
        f"{quality.participant_id}: Tmax by {quality.convention.in_words()}; {quality.equivalence}"
        f"\nTmax: {volumes}; HIR {'n/a' if ratio is None else f'{ratio:.2f}'}; TTP over 4.5 s late "
        f"{quality.relative_ttp_ml:.0f} mL; healthier half's median Tmax "
        f"{quality.healthy_tmax_s:.1f} s"
        + "".join(f"\n! {warning}" for warning in quality.warnings)
    )


def _charts(series: Series, examined: Examination) -> Image.Image:
    """Curves, and the motion beside them."""
    size = pictures.WIDTH // 2, CHART_HEIGHT
    both = Image.new("RGB", (pictures.WIDTH, CHART_HEIGHT))
    both.paste(_curve_chart(series, examined, size), (0, 0))
    both.paste(_motion_chart(series, examined, size), (size[0], 0))
    return both


def _curve_chart(series: Series, examined: Examination, size: tuple[int, int]) -> Image.Image:
    times_s = examined.tr_s * np.arange(examined.concentration.shape[-1])
    left, right = halves(examined.brain, series.affine)
    shown = [("AIF", pictures.VERMILION, examined.arterial_input.curve)]
    shown += [
        (name, colour, examined.concentration[half].mean(axis=0))
        for name, colour, half in (
            ("left half", pictures.SKY_BLUE, left),
            ("right half", pictures.YELLOW, right),
        )
        if half.any()
    ]
    vein = venous_curve(examined)
    if vein is not None:
        shown.append(("vein", pictures.BLUISH_GREEN, vein))
    frames = examined.bolus.baseline_frames
    return charts.line_chart(
        [
            charts.Line(x=times_s, y=curve / peak, label=f"{name} {peak:.0f}", colour=colour)
            for name, colour, curve in shown
            if (peak := float(curve.max())) > 0
        ],
        size,
        title="Concentration over its peak (named, 1/s); baseline shaded",
        x_label="s after the first frame",
        shaded=(times_s[frames.start], times_s[frames.stop - 1]),
    )


def venous_curve(examined: Examination) -> NDArray[np.float32] | None:
    """Mean curve of up to 20 voxels that hold most contrast and peak 2 s after the artery or later.

    Returns:
        float32 [T] in 1/s; None where there is none.
    """
    maps, peak_s = examined.maps, float(np.median(examined.arterial_input.shapes.peak_s))
    late = examined.brain & (maps.ttp_s > peak_s + VEIN_AFTER_S)
    late &= maps.tmax_s < TMAX_HYPOPERFUSION_S
    places = np.argwhere(late)
    if not len(places):
        return None
    most = places[np.argsort(-maps.cbv[late], kind="stable")[:VEIN_VOXELS]]
    return examined.concentration[tuple(most.T)].mean(axis=0)


def _motion_chart(series: Series, examined: Examination, size: tuple[int, int]) -> Image.Image:
    motion = examined.motion
    if motion is None:
        none = Image.new("RGB", size)
        drawing.Pen(none).write((52, 4), "Motion was not corrected", charts.TITLE_SIZE)
        return none
    colours = (pictures.VERMILION, pictures.YELLOW, pictures.SKY_BLUE)
    green = pictures.BLUISH_GREEN
    turn_deg = np.linalg.norm(motion.turns_deg, axis=1)
    return charts.line_chart(
        [
            *(
                charts.Line(x=series.times_s, y=shift, label=f"{axis}, mm", colour=colour)
                for axis, colour, shift in zip("xyz", colours, motion.shifts_mm.T, strict=True)
            ),
            charts.Line(x=series.times_s, y=turn_deg, label="turn, degrees", colour=green),
            charts.Line(
                x=series.times_s, y=motion.displacement_mm, label="largest, mm", colour=WHITE
            ),
        ],
        size,
        title="Motion of the head; largest: of points 50 mm from the middle",
        x_label="s after the first frame",
        least_height=LEAST_MOTION_MM,
    )

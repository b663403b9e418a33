"""Named shifts: one thing that is otherwise than in training, and everything else as it was.

A network that has learnt our patients by heart fails on one of these. Each changes some numbers of
a patient's appearance or the plan of the stroke; head, arteries and noise keep their random
numbers, so that patient 7 of a shifted cohort is patient 7 of the plain one, seen otherwise.
Truth follows the images in MNI space, as it does in a hospital: Tmax moves with a registration
that is off, and a core is what the shifted ADC map shows of it.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from data_tools.simulate.appearance import Appearance

if TYPE_CHECKING:
    from data_tools.simulate.clinical import Plan

NO_PENUMBRA = {"small": 1 / 3, "scattered": 1 / 3, "posterior": 1 / 3}
# SNR beyond the usual limit would not show.
NO_LIMIT = 100.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shift:
    """One named shift.

    Attributes:
        name: for ``--shift``.
        says: what it changes.
        look: appearance of the plain patient -> of the shifted one.
        plan: the same of the plan.
        negatives: all patients have these strokes without penumbra; None leaves them.
        prepared: it is about the way to MNI space, and without effect in native space.
        needs_lesions: it is nothing but real core masks, which have to be given.
        together: whether it combines several.
    """

    name: str
    says: str
    look: Callable[[Appearance], Appearance] = lambda look: look
    plan: Callable[["Plan"], "Plan"] = lambda plan: plan
    negatives: Mapping[str, float] | None = None
    prepared: bool = False
    needs_lesions: bool = False
    together: bool = False


def _set(name: str, says: str, part: str, **values: Any) -> Shift:
    """A shift that sets some numbers of one part of the appearance."""
    return Shift(
        name=name,
        says=says,
        look=lambda look: look.changed(part, **values),
        prepared=part == "preparation",
    )


def _by(
    name: str, says: str, change: Callable[[Appearance, float], Appearance], amount: float
) -> Shift:
    """A shift that changes the appearance by one number."""
    return Shift(name=name, says=says, look=lambda look: change(look, amount))


def _snr(look: Appearance, snr: float) -> Appearance:
    return look.changed("scanner", snr=(snr, snr), snr_limit=NO_LIMIT)


def _dwi_ratio(look: Appearance, grey_to_white: float) -> Appearance:
    """Grey over white on DWI, of pure tissue, by their signals at b = 0 alone.

    Voxels on images are mixed, so half of the ratio's change is seen there.
    """
    tissue = look.tissue
    b = look.scanner.b_s_per_mm2 * 1e-6
    fall = math.exp(-b * (tissue.cortex_adc_um2_per_s - tissue.white_adc_um2_per_s))
    return look.changed("tissue", white_s0=tissue.grey_s0 * fall / grey_to_white)


def _adc_ratio(look: Appearance, grey_to_white: float) -> Appearance:
    """Grey over white on ADC maps; DWI keeps its own ratio."""
    tissue, b = look.tissue, look.scanner.b_s_per_mm2 * 1e-6
    cortex = tissue.white_adc_um2_per_s * grey_to_white
    deep = tissue.deep_adc_um2_per_s * cortex / tissue.cortex_adc_um2_per_s
    kept = math.exp(-b * (cortex - tissue.cortex_adc_um2_per_s))
    return look.changed(
        "tissue",
        cortex_adc_um2_per_s=cortex,
        deep_adc_um2_per_s=deep,
        white_s0=tissue.white_s0 * kept,
    )


def _t2(look: Appearance, times: float) -> Appearance:
    """What a longer echo time does to the signals at b = 0; grey matter is the unit."""
    tissue, coupling = look.tissue, look.coupling
    look = look.changed(
        "tissue", csf_s0=tissue.csf_s0 * times, white_s0=tissue.white_s0 * (1 - (times - 1) / 3)
    )
    return look.changed("coupling", core_s0=coupling.core_s0 * (1 + (times - 1) / 5))


def _fainter(look: Appearance, times: float) -> Appearance:
    coupling = look.coupling
    return look.changed(
        "coupling",
        penumbra_adc=coupling.penumbra_adc * times,
        penumbra_s0=coupling.penumbra_s0 * times,
    )


def _without_core(plan: "Plan") -> "Plan":
    return dataclasses.replace(plan, core_ml=0.0)


def _another_hospital(look: Appearance) -> Appearance:
    look = _dwi_ratio(look.changed("scanner", b_s_per_mm2=800.0), 1.4)
    return _snr(look.changed("scanner", field_45_mm=0.12, field_18_mm=0.08), 12.0)


def _old_scanner(look: Appearance) -> Appearance:
    look = _snr(look.changed("scanner", slice_mm=(7.0,) * 4, gap_mm=2.0), 9.0)
    look = look.changed("scanner", adc_step_um2_per_s=50.0, susceptibility=2.5)
    return look.changed("preparation", off_mm=4.0)


def _hard_patient(look: Appearance) -> Appearance:
    look = _fainter(look.changed("tissue", bright_cortex=0.3, limbic=0.4), 0.4)
    return look.changed("tissue", old_infarct_other_side=True, old_infarct_ml=(10.0, 40.0))


_ALL = (
    _set("b700", "b = 700 s/mm2", "scanner", b_s_per_mm2=700.0),
    _set("b1500", "b = 1500 s/mm2", "scanner", b_s_per_mm2=1500.0),
    _by("snr8", "SNR of 8", _snr, 8.0),
    _by("snr30", "SNR of 30", _snr, 30.0),
    _set(
        "bias30",
        "brightness of the DWI that varies by 30%",
        "scanner",
        field_45_mm=0.24,
        field_18_mm=0.18,
    ),
    _by("grey_bright", "grey matter some 20% brighter than white on DWI", _dwi_ratio, 1.5),
    _by("grey_dark", "grey matter some 10% darker than white on DWI", _dwi_ratio, 0.84),
    _by("adc_even", "no difference of grey and white matter on ADC maps", _adc_ratio, 0.95),
    _by("t2", "a longer echo time", _t2, 1.4),
    _set("bright_cortex", "bright cortex and limbic lobe", "tissue",
         bright_cortex=0.35, limbic=0.4),
    _set(
        "skull_base",
        "twice the susceptibility, and bright bands above the skull base",
        "scanner",
        susceptibility=2.5,
        skull_base=0.8,
    ),
    _by("penumbra_faint", "penumbra that shows 0.4 times as much on DWI and ADC", _fainter, 0.4),
    _by("penumbra_unseen", "penumbra that neither DWI nor ADC shows", _fainter, 0.0),
    _set("thick", "slices 7 mm apart with gaps of 2 mm", "scanner",
         slice_mm=(7.0,) * 4, gap_mm=2.0),
    _set("stretch", "6% stretch of the DWI, 6 mm at the skull base", "scanner",
         stretch=1.06, distortion_mm=6.0),
    _set("adc_clipped", "ADC maps without values over 1500", "scanner",
         adc_max_um2_per_s=1500.0),
    _set("adc_coarse", "ADC maps in steps of 50", "scanner", adc_step_um2_per_s=50.0),
    _set("adc_scaled", "ADC maps 6% too high", "scanner", adc_scale=1.06),
    _set("off_4mm", "registration 4 mm off", "preparation", off_mm=4.0),
    _set("off_5deg", "registration turned by 5 degrees", "preparation", off_deg=5.0),
    _set("mask_small", "brain mask without its outer 4 mm", "preparation", mask_voxels=-2),
    _set("mask_skull", "brain mask with 6 mm of skull", "preparation", mask_voxels=3),
    _set("old_infarct", "an old infarct of 10 to 40 mL on the other side", "tissue",
         old_infarct_other_side=True, old_infarct_ml=(10.0, 40.0)),
    _set("stenosis", "a narrowed carotid of the other side: 1.5 to 2.4 s late, and no stroke",
         "coupling", old_delay_other_side=True, old_delay_s=(1.5, 2.4)),
    Shift(name="real_shapes", says="cores of real shapes (--lesions)", needs_lesions=True),
    _set("uncoupled", "cores that lie outside the late tissue, half of them reperfused",
         "coupling", reperfused_share=0.5, stray_core_share=0.6, more_core_seeds=2.0,
         severe_share=0.25),
    Shift(name="no_core", says="no core", plan=_without_core),
    Shift(
        name="no_penumbra",
        says="small, scattered and posterior strokes, in which nothing is to be saved",
        negatives=NO_PENUMBRA,
    ),
    Shift(
        name="another_hospital",
        says="b = 800, SNR 12, bright grey matter, brightness that varies by 14%",
        look=_another_hospital,
        together=True,
    ),
    Shift(
        name="old_scanner",
        says="thick slices, SNR 9, coarse ADC, susceptibility, registration 4 mm off",
        look=_old_scanner,
        together=True,
    ),
    Shift(
        name="hard_patient",
        says="faint penumbra, bright cortex and an old infarct of the other side",
        look=_hard_patient,
        together=True,
    ),
)  # fmt: skip
SHIFTS = {shift.name: shift for shift in _ALL}


def listed() -> str:
    """Every shift and what it changes, a line each."""
    width = max(map(len, SHIFTS))
    return "\n".join(f"    {shift.name:<{width}}  {shift.says}" for shift in _ALL)

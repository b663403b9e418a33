"""Named looks: what the patients of a cohort look like, and how their looks differ.

``first`` is one look for all, with which the published results were made. Its tissue contrast is
off: on real DWI grey matter is 5 to 15% brighter than white, here it is darker, and the ADC of
grey and white, which hardly differs on real heads, differs by 17%. ``wide`` draws contrast,
scanner, coupling and preparation anew for every patient, from ranges that hold the real heads
well inside, and a sixth of its patients have strokes without salvageable tissue, so that a network
learns where nothing is to be drawn. ``python -m data_tools.simulate.describe`` measures both.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from data_tools.simulate.appearance import (
    FIRST,
    Appearance,
    Coupling,
    Preparation,
    Scanner,
    Streams,
    Tissue,
)

# Healthy tissue of less would be taken for core.
LEAST_ADC_UM2_PER_S = 690.0


@dataclasses.dataclass(frozen=True)
class Look:
    """A named look.

    Attributes:
        name: for ``--look``.
        negative_share: of patients whose stroke leaves nothing to be saved.
        draw: of one patient.
    """

    name: str
    negative_share: float
    draw: Callable[[Streams], Appearance]


def _first(streams: Streams) -> Appearance:
    del streams  # everyone looks the same
    return FIRST


def _wide(streams: Streams) -> Appearance:
    scanner = _scanner(streams.of("scanner"))
    return Appearance(
        tissue=_tissue(streams.of("tissue"), scanner.b_s_per_mm2),
        coupling=_coupling(streams.of("coupling")),
        scanner=scanner,
        preparation=_preparation(streams.of("preparation")),
    )


def _tissue(rng: np.random.Generator, b_s_per_mm2: float) -> Tissue:
    # Pure tissue: with fluid in the voxels ADC is some 80 higher, and the ratios are nearer to 1.
    white = rng.uniform(690, 930)
    cortex = max(white * rng.uniform(0.74, 1.24), LEAST_ADC_UM2_PER_S)
    dwi_ratio = rng.uniform(1.0, 1.36)
    b = b_s_per_mm2 * 1e-6
    return Tissue(
        cortex_adc_um2_per_s=cortex,
        deep_adc_um2_per_s=max(cortex * rng.uniform(0.84, 1.0), LEAST_ADC_UM2_PER_S),
        white_adc_um2_per_s=white,
        csf_adc_um2_per_s=rng.uniform(2600, 3300),
        scalp_adc_um2_per_s=rng.uniform(600, 1300),
        white_s0=float(np.exp(-b * (cortex - white)) / dwi_ratio),
        csf_s0=rng.uniform(1.8, 3.2),
        scalp_s0=rng.uniform(0.05, 0.4),
        sulcal_fluid=rng.uniform(0, 1),
        adc_texture=rng.uniform(0.03, 0.085),
        s0_texture=rng.uniform(0.01, 0.1),
        bright_cortex=rng.uniform(0, 0.18),
        limbic=rng.uniform(0, 0.25),
        tract=rng.uniform(0, 0.15),
        cerebellum=rng.uniform(0.85, 1.25),
        white_disease=rng.uniform(0, 2),
        old_infarct_share=0.25,
        old_infarct_ml=(1.0, 30.0),
        shine_through_share=0.25,
    )


def _coupling(rng: np.random.Generator) -> Coupling:
    faint = rng.random() < 0.1  # penumbra that neither DWI nor ADC shows
    return Coupling(
        penumbra_adc=0.0 if faint else rng.uniform(0.2, 1.3),
        penumbra_s0=0.0 if faint else rng.uniform(0, 1.4),
        core_adc=rng.uniform(0.5, 0.62),
        core_s0=rng.uniform(1.2, 1.5),
        severe_share=rng.uniform(0.25, 0.6),
        reperfused_share=0.15,
        stray_core_share=0.25,
        more_core_seeds=rng.uniform(0.3, 2),
        old_delay_share=0.15,
        old_delay_s=(0.5, 2.2),
    )


def _scanner(rng: np.random.Generator) -> Scanner:
    snr = float(np.exp(rng.uniform(np.log(9), np.log(32))))
    # One value in place of the list keeps the draw that the scanner makes of it.
    slice_mm = float(rng.choice([2.0, 3.0, 4.0, 4.0, 5.0, 5.0, 5.0, 5.5, 6.0, 6.5]))
    in_plane_mm = float(rng.uniform(1.2 if slice_mm > 4 else 1.7, 2.3))
    field, share_45 = float(np.exp(rng.uniform(np.log(0.01), np.log(0.14)))), rng.uniform(0.4, 0.95)
    air = rng.random(5) < (0.6, 0.5, 0.3, 0.3, 0.15)
    return Scanner(
        b_s_per_mm2=float(rng.choice([800.0, 900.0, 1000.0, 1000.0, 1000.0, 1000.0, 1200.0])),
        snr=(snr, snr),
        snr_limit=40.0,
        noise_grain_voxels=rng.uniform(0.3, 0.8) if rng.random() < 0.6 else 0.0,
        noise_centre=rng.uniform(0, 0.5),
        in_plane_mm=(in_plane_mm,) * 4,
        slice_mm=(slice_mm,) * 4,
        gap_mm=rng.uniform(0, 1.5) if slice_mm >= 4 and rng.random() < 0.5 else 0.0,
        matrix=int(np.ceil(220 / in_plane_mm / 4) * 4),
        blur_mm=rng.uniform(0, 2),
        field_45_mm=field * share_45,
        field_18_mm=field * float(np.sqrt(1 - share_45**2)),
        coil=rng.uniform(0, 0.15),
        susceptibility=rng.uniform(0.3, 2),
        skull_base=rng.uniform(0, 0.5) if air[0] else 0.0,
        distortion_mm=rng.uniform(-6, 6) if air[1] else 0.0,
        ghost=rng.uniform(0, 0.03) if air[2] else 0.0,
        adc_scale=float(np.clip(rng.normal(1, 0.02), 0.96, 1.04)),
        adc_step_um2_per_s=10.0 if air[3] else 1.0,
        adc_max_um2_per_s=float(rng.choice([3000.0, 4000.0, 4000.0])),
        adc_high_to_zero=bool(air[4]),
    )


def _preparation(rng: np.random.Generator) -> Preparation:
    return Preparation(
        off_mm=float(np.clip(abs(rng.normal(0, 1.2)), 0, 3)),
        off_deg=float(np.clip(abs(rng.normal(0, 1.2)), 0, 3)),
        # Masks made of real DWI hold some of what surrounds the brain, which lowers the mean.
        mask_voxels=int(rng.choice([-1, 0, 0, 1, 1, 1, 2])),
    )


LOOKS = {
    look.name: look
    for look in (
        Look("first", 0.0, _first),
        Look("wide", 1 / 6, _wide),
    )
}

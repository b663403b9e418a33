"""What a simulated patient looks like: tissue, mark of ischaemia, scanner, preparation.

Every number that decides the look of the images stands here, in frozen types without behaviour.
Their defaults are the look ``first``, with which the published results were made; other looks
(:mod:`data_tools.simulate.looks`) draw them anew for every patient, and a named shift
(:mod:`data_tools.simulate.shifts`) changes one of them. What is off by default draws its random
numbers from a stream of its own, so that switching it on leaves everything else as it was.
"""

import dataclasses
import zlib
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tissue:
    """Healthy tissue, and what is old.

    Attributes:
        cortex_adc_um2_per_s: of cortex (Helenius 2002, as the next two).
        deep_adc_um2_per_s: of basal ganglia and thalamus.
        white_adc_um2_per_s: of white matter.
        csf_adc_um2_per_s: of fluid.
        scalp_adc_um2_per_s: of the scalp.
        grey_s0: signal at b = 0 of grey matter, arbitrary unit; the next three in the same unit.
        white_s0: of white matter: with T2 weighting grey is brighter.
        csf_s0: of fluid.
        scalp_s0: of the scalp, whose fat is suppressed.
        sulcal_fluid: share of the fluid in voxels of cortex that is there; the rest is cortex.
        adc_texture: SD of ADC between places 8 mm apart, as a share.
        s0_texture: the same of the b = 0 signal, 7 mm apart.
        bright_cortex: b = 0 signal that patches of cortex have more, as a share.
        limbic: the same of insula, cingulum and hippocampus, which are bright in everyone.
        tract: the same of pyramidal tract and splenium.
        cerebellum: b = 0 signal of the cerebellum, times that of the cerebrum.
        white_disease: burden of white-matter disease, times the usual for the age.
        old_infarct_share: of patients aged 70; rises with age.
        old_infarct_ml: smallest and largest.
        old_infarct_other_side: all patients have one, in the hemisphere without the stroke.
        shine_through_share: of patients aged 70.
    """

    cortex_adc_um2_per_s: float = 890.0
    deep_adc_um2_per_s: float = 750.0
    white_adc_um2_per_s: float = 700.0
    csf_adc_um2_per_s: float = 3000.0
    scalp_adc_um2_per_s: float = 900.0
    grey_s0: float = 1.0
    white_s0: float = 0.82
    csf_s0: float = 2.4
    scalp_s0: float = 0.12
    sulcal_fluid: float = 1.0
    adc_texture: float = 0.035
    s0_texture: float = 0.09
    bright_cortex: float = 0.0
    limbic: float = 0.0
    tract: float = 0.0
    cerebellum: float = 1.0
    white_disease: float = 1.0
    old_infarct_share: float = 0.15
    old_infarct_ml: tuple[float, float] = (1.0, 15.0)
    old_infarct_other_side: bool = False
    shine_through_share: float = 0.12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Coupling:
    """How core, delay and signal hang together. Shares are of patients.

    Attributes:
        penumbra_adc: how much late tissue loses of its ADC, times the published loss; 0 is none.
        penumbra_s0: how much it gains at b = 0, times the usual; 0 is none.
        strength_sd: scatter of both between patients.
        core_adc: ADC of pure core, times healthy: a little under the published mean, which
            holds partial volume too.
        core_s0: b = 0 signal of a fresh core, times healthy.
        core_s0_per_h: what it gains an hour.
        severe_share: of the volume over 6 s that is over 10 s: with blur and noise the published
            median, 0.4 (DEFUSE 2).
        reperfused_share: whose core was reperfused in part, so that it lies outside Tmax > 6 s.
        stray_core_share: whose core began outside the tissue that is late now (emboli).
        more_core_seeds: mean number of places beyond the first where a core began.
        old_delay_share: with a carotid narrowed of old: a hemisphere that is late, and no stroke.
        old_delay_s: by how much, from and to.
        old_delay_other_side: all patients have one, in the hemisphere without the stroke.
    """

    penumbra_adc: float = 1.0
    penumbra_s0: float = 1.0
    strength_sd: float = 0.3
    core_adc: float = 0.59
    core_s0: float = 1.34
    core_s0_per_h: float = 0.012
    severe_share: float = 0.43
    reperfused_share: float = 0.12
    stray_core_share: float = 0.15
    more_core_seeds: float = 0.7
    old_delay_share: float = 0.1
    old_delay_s: tuple[float, float] = (0.5, 1.8)
    old_delay_other_side: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scanner:
    """How DWI and ADC are taken.

    Attributes:
        b_s_per_mm2: of the DWI.
        snr: of tissue on DWI at 1.5 T, from and to; 15% more at 3 T.
        snr_limit: none is better.
        noise_grain_voxels: SD of the blur of the noise in the slice (interpolated matrices).
        noise_centre: how much noisier the head's middle is than its edge, as a share.
        in_plane_mm: voxel sizes that occur.
        slice_mm: distances of slices that occur.
        gap_mm: of them, what lies between slices and is not seen.
        matrix: voxels along a slice's edge.
        blur_mm: SD along the phase-encoded axis (y).
        field_45_mm: SD of the brightness between places 45 mm apart, as a share.
        field_18_mm: the same, 18 mm apart.
        coil: how much brighter the cortex is than the middle of the brain, near the coil.
        susceptibility: of air above the nose, times the usual.
        skull_base: brightness that signal piled up above the petrous bones adds, as a share.
        distortion_mm: how far the skull base moves along y; less above it.
        stretch: of the whole head along y.
        ghost: of the head, moved by half an image along y, as a share.
        adc_scale: of the ADC map: gradients that are not calibrated.
        adc_step_um2_per_s: that it is rounded to.
        adc_max_um2_per_s: where it is clipped.
        adc_high_to_zero: what is beyond is set to 0 and not to the limit.
    """

    b_s_per_mm2: float = 1000.0
    snr: tuple[float, float] = (15.0, 26.0)
    snr_limit: float = 30.0
    noise_grain_voxels: float = 0.0
    noise_centre: float = 0.0
    in_plane_mm: tuple[float, ...] = (1.72, 1.8, 1.875, 2.0)
    slice_mm: tuple[float, ...] = (5.0, 5.0, 5.5, 6.0)
    gap_mm: float = 0.0
    matrix: int = 128
    blur_mm: float = 0.0
    field_45_mm: float = 0.0
    field_18_mm: float = 0.0
    coil: float = 0.0
    susceptibility: float = 1.0
    skull_base: float = 0.0
    distortion_mm: float = 0.0
    stretch: float = 1.0
    ghost: float = 0.0
    adc_scale: float = 1.0
    adc_step_um2_per_s: float = 1.0
    adc_max_um2_per_s: float = 4000.0
    adc_high_to_zero: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preparation:
    """How well the images were brought to the MNI grid; without effect in native space.

    Attributes:
        off_mm: how far the registration is off.
        off_deg: by how much it is turned.
        mask_voxels: layers that the brain mask has too many; negative: too few.
    """

    off_mm: float = 0.0
    off_deg: float = 0.0
    mask_voxels: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Appearance:
    """All of it, of one patient."""

    tissue: Tissue = Tissue()
    coupling: Coupling = Coupling()
    scanner: Scanner = Scanner()
    preparation: Preparation = Preparation()

    def changed(self, part: str, **values: Any) -> "Appearance":
        """The same but for some fields of one part.

        >>> Appearance().changed("scanner", b_s_per_mm2=700.0).scanner.b_s_per_mm2
        700.0
        """
        return dataclasses.replace(
            self, **{part: dataclasses.replace(getattr(self, part), **values)}
        )


FIRST = Appearance()


@dataclasses.dataclass(frozen=True)
class Streams:
    """Random numbers of one patient by purpose, so that no purpose disturbs another.

    Attributes:
        seed: of the cohort.
        index: of the patient.
    """

    seed: int = 0
    index: int = 0

    def of(self, purpose: str) -> np.random.Generator:
        """A generator that starts anew at each call."""
        return np.random.default_rng([self.seed, self.index, zlib.crc32(purpose.encode())])


NO_STREAMS = Streams()

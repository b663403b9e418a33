"""A simulated stroke painted into a real head: its own tissue, our ratios, and so a known truth.

Plan, delay, core and their mark on ADC and signal are those of simulated patients. The mark is
what the head's own slices would show of it: blurred by their thickness, and on the tissue of a
voxel alone, not on its fluid. Everything else of the images stays as it was measured. The noise of
the DWI grows with the signal of the core, which in a scanner it would not.
"""

import dataclasses
import os

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from data_tools.grid import GRID_AFFINE, VOXEL_ML, VOXEL_MM, Side
from data_tools.simulate import clinical, heads, images, lesion, signals
from data_tools.simulate.anatomy import GRID_IN_MODEL
from data_tools.simulate.appearance import Appearance, Streams, Tissue
from data_tools.simulate.distractors import SWELLING
from data_tools.simulate.images import MniImages
from data_tools.simulate.patient import appearance_of, make_plan

# Of its size: what averaging over a voxel and interpolating between voxels blur, as an SD.
BLUR_OF_VOXEL = 0.5
# Marks of less are none: the head stays as it was measured.
LEAST_MARK = 1e-3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """Where a painted patient comes from.

    Attributes:
        head: its name in the table.
        mirrored: left is right.
        own_side: of the head's own lesion, as it lies here; None if it has none.
        own_lesion_ml: what was taken out of the coverage around it.
    """

    head: str
    mirrored: bool
    own_side: str | None
    own_lesion_ml: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class PaintedPatient:
    """A real head with a simulated stroke.

    Attributes:
        participant_id: ``sub-0001``...
        plan: of the stroke; mL of the head's own tissue.
        nihss: 0..42, simulated, or None where missing.
        lesion: the stroke on the model grid.
        images: on the MNI grid.
        core: bool (91, 109, 60), where the ADC was lowered as that of dead tissue.
        native_to_mni: 4x4, from which the volume of a voxel follows.
        look: of which the coupling was used.
        source: the head.
    """

    participant_id: str
    plan: clinical.Plan
    nihss: int | None
    lesion: lesion.Lesion
    images: MniImages
    core: NDArray[np.bool_]
    native_to_mni: NDArray[np.float64]
    look: Appearance
    source: Source

    def mni(self) -> MniImages:
        """The images on the MNI grid."""
        return self.images

    def mni_core(self) -> NDArray[np.bool_]:
        """The true core on the MNI grid."""
        return self.core

    def row(self) -> dict[str, str]:
        """The patient's line of ``participants.tsv``; of the head's person nothing is said."""
        return {
            "participant_id": self.participant_id,
            "age": "n/a",
            "sex": "n/a",
            "nihss": "n/a" if self.nihss is None else str(self.nihss),
            "side": self.plan.side,
            "occlusion": self.plan.occlusion,
            "field_strength_t": "n/a",
            "cohort": "simulated",
        }


def paint_patient(
    seed: int,
    index: int,
    table: str | os.PathLike,
    lesions: str | os.PathLike | None = None,
    *,
    look: str = "first",
    shift: str | None = None,
) -> PaintedPatient:
    """Paint the stroke of patient ``index`` (from 1) of the cohort ``seed`` into a real head.

    The heads take turns; in every second turn they are mirrored.

    Args:
        seed: of the cohort.
        index: of the patient.
        table: of the heads, see :func:`data_tools.simulate.heads.read`.
        lesions: folder of real core masks to use instead of grown ones.
        look: whose coupling of core, delay and signal is used.
        shift: of strokes or coupling; None is nothing.

    Raises:
        InputError: a head that cannot be used, by name.
    """
    files = heads.read(str(table))
    turn, which = divmod(index - 1, len(files))
    head = heads.load(files[which])
    # The same streams of numbers as of a simulated patient.
    children = np.random.SeedSequence([seed, index]).spawn(4)
    _, for_lesion, for_images, for_nihss = map(np.random.default_rng, children)
    streams = Streams(seed, index)
    seen = heads.see(head, streams, mirrored=turn % 2 == 1)
    plan = _in_this_head(make_plan(seed, index, look=look, shift=shift), seen, head.voxel_ml)
    appearance = appearance_of(streams, look, shift)
    coupling = appearance.coupling
    stroke = lesion.make_lesion(for_lesion, seen.anatomy, plan, lesions, coupling=coupling)
    adc_ratio, s0_ratio = signals.ischaemia(for_images, seen.anatomy, stroke, coupling)
    # Healthy tissue that is a little late by chance is left alone on the other side.
    half = (seen.anatomy.template_mm[0] < 0) == (plan.side == "left")
    adc_ratio, s0_ratio = (np.where(half, ratio, np.float32(1)) for ratio in (adc_ratio, s0_ratio))
    blur = BLUR_OF_VOXEL * head.voxel_size_mm / VOXEL_MM
    adc_ratio, s0_ratio, dead = (
        ndimage.gaussian_filter(image, blur, mode="nearest")[GRID_IN_MODEL]
        for image in (adc_ratio, s0_ratio, stroke.core.astype(np.float32))
    )
    dwi, adc = paint(
        seen.dwi,
        seen.adc_um2_per_s,
        adc_ratio=adc_ratio,
        s0_ratio=s0_ratio,
        dead=dead,
        b_s_per_mm2=head.b_s_per_mm2,
    )
    study = images.perfusion(for_images, seen.anatomy, stroke.tmax_s, seen.affine)
    grid_to_native = np.linalg.inv(seen.affine) @ GRID_AFFINE
    tmax_s, coverage = images.perfusion_on_grid(*study, grid_to_native, seen.brain)
    return PaintedPatient(
        participant_id=f"sub-{index:04d}",
        plan=plan,
        nihss=clinical.draw_nihss(for_nihss, stroke.eloquent_ml, plan.side),
        lesion=stroke,
        images=MniImages(
            dwi=dwi,
            adc_um2_per_s=np.round(adc),
            tmax_s=tmax_s,
            brain=seen.brain,
            coverage=coverage & ~seen.own_lesion,
        ),
        core=(stroke.core & half)[GRID_IN_MODEL],
        native_to_mni=seen.affine,
        look=appearance,
        source=Source(
            head=head.files.name,
            mirrored=seen.mirrored,
            own_side=seen.own_side,
            own_lesion_ml=round(float((seen.own_lesion & coverage).sum() * head.voxel_ml), 3),
        ),
    )


def _in_this_head(plan: clinical.Plan, seen: heads.Seen, voxel_ml: float) -> clinical.Plan:
    """The plan on the side that is free, and in mL of this head's tissue."""
    side: Side = "left" if plan.side == "bilateral" else plan.side
    if seen.own_side in ("left", "right"):
        side = "right" if seen.own_side == "left" else "left"
    larger = VOXEL_ML / voxel_ml  # the model grid counts template's mL
    return dataclasses.replace(
        plan,
        side=side,
        hypoperfusion_ml=plan.hypoperfusion_ml * larger,
        core_ml=plan.core_ml * larger,
    )


def paint(
    dwi: NDArray[np.float32],
    adc_um2_per_s: NDArray[np.float32],
    *,
    adc_ratio: NDArray[np.float32],
    s0_ratio: NDArray[np.float32],
    dead: NDArray[np.float32],
    b_s_per_mm2: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Change the tissue of every voxel by the ratios; where there are none, nothing changes.

    A voxel of more than 1100e-6 mm2/s holds fluid, as much as explains its ADC; dead tissue swells
    and presses a part of it out.

    Args:
        dwi: any unit.
        adc_um2_per_s: of the same shape, as all that follows.
        adc_ratio: of tissue, to what it was.
        s0_ratio: the same of the signal at b = 0.
        dead: 0..1, share of dead tissue.
        b_s_per_mm2: of the DWI.

    Returns:
        DWI and ADC.
    """
    marked = (np.abs(adc_ratio - 1) > LEAST_MARK) | (np.abs(s0_ratio - 1) > LEAST_MARK)
    where = np.nonzero(marked & (adc_um2_per_s > 0) & (dwi > 0))
    b = b_s_per_mm2 * 1e-6
    s1, adc = dwi[where].astype(np.float64), adc_um2_per_s[where].astype(np.float64)
    s0 = s1 * np.exp(b * adc)
    tissue_adc = np.minimum(adc, heads.TISSUE_ADC_UM2_PER_S)
    fluid_fall = np.exp(-b * np.maximum(adc, heads.FLUID_ADC_UM2_PER_S))
    tissue = (s1 - s0 * fluid_fall) / (np.exp(-b * tissue_adc) - fluid_fall)
    fluid = np.maximum(s0 - tissue, 0)
    pressed = SWELLING * dead[where] * fluid
    # What takes the fluid's place is grey matter, of less signal at b = 0.
    tissue = (tissue + pressed * Tissue().grey_s0 / Tissue().csf_s0) * s0_ratio[where]
    fluid = fluid - pressed
    painted_s1 = tissue * np.exp(-b * tissue_adc * adc_ratio[where]) + fluid * fluid_fall
    painted_dwi, painted_adc = dwi.copy(), adc_um2_per_s.copy()
    painted_dwi[where] = painted_s1
    painted_adc[where] = np.log((tissue + fluid) / painted_s1) / b
    return painted_dwi, painted_adc

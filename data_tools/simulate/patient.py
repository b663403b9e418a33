"""One simulated patient, whole: the plan, the head, the stroke, the images and the NIHSS."""

import dataclasses
import os

import numpy as np
from numpy.typing import NDArray

from data_tools.simulate import anatomy, clinical, images, lesion
from data_tools.simulate.appearance import Appearance, Streams
from data_tools.simulate.images import MniImages, NativeImages
from data_tools.simulate.looks import LOOKS
from data_tools.simulate.shifts import SHIFTS


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimulatedPatient:
    """Everything about one simulated patient.

    Attributes:
        participant_id: ``sub-0001``...
        plan: what was drawn first (clinical.Plan).
        nihss: 0..42, or None where missing.
        anatomy: the noise-free head on the model grid.
        lesion: the noise-free stroke on the model grid.
        native: the images as scanned.
        look: of tissue, lesion, scanner and preparation.
        streams: random numbers of what the usual look does not have.
    """

    participant_id: str
    plan: clinical.Plan
    nihss: int | None
    anatomy: anatomy.Anatomy
    lesion: lesion.Lesion
    native: NativeImages
    look: Appearance
    streams: Streams

    @property
    def native_to_mni(self) -> NDArray[np.float64]:
        """4x4, scanner mm -> MNI mm: the true affine."""
        return self.native.native_to_mni

    def mni(self) -> MniImages:
        """The images on the MNI grid, as a perfect preprocessing would give them."""
        return images.to_mni(self.native, self.anatomy, self.look.preparation, self.streams)

    def mni_core(self) -> NDArray[np.bool_]:
        """The true core where these images show it; see :func:`images.core_on_grid`."""
        return images.core_on_grid(self.lesion.core, self.anatomy, self.look, self.streams)

    def row(self) -> dict[str, str]:
        """The patient's line of ``participants.tsv``."""
        plan = self.plan
        return {
            "participant_id": self.participant_id,
            "age": str(plan.age) if plan.age_known else "n/a",
            "sex": plan.sex,
            "nihss": "n/a" if self.nihss is None else str(self.nihss),
            "side": plan.side,
            "occlusion": plan.occlusion,
            "field_strength_t": f"{plan.field_strength_t:g}",
            "cohort": "simulated",
        }


def make_plan(
    seed: int, index: int, *, look: str = "first", shift: str | None = None
) -> clinical.Plan:
    """What is planned for a patient of this look and shift; as in :func:`simulate_patient`."""
    share = LOOKS[look].negative_share
    if shift is None:
        return clinical.make_plan(seed, index, negative_share=share)
    named = SHIFTS[shift]
    if named.negatives is not None:
        return clinical.make_plan(seed, index, negative_share=1.0, negatives=named.negatives)
    return named.plan(clinical.make_plan(seed, index, negative_share=share))


def appearance_of(streams: Streams, look: str, shift: str | None) -> Appearance:
    """What a patient of this look and shift is like; as in :func:`simulate_patient`."""
    appearance = LOOKS[look].draw(streams)
    return appearance if shift is None else SHIFTS[shift].look(appearance)


def simulate_patient(
    seed: int,
    index: int,
    lesions: str | os.PathLike | None = None,
    noise: float = 1.0,
    *,
    look: str = "first",
    shift: str | None = None,
) -> SimulatedPatient:
    """Simulate patient number ``index`` (from 1) of the cohort ``seed``, in about a second.

    The same arguments give the same patient, whoever else is simulated and in what order.

    Args:
        seed: of the cohort.
        index: of the patient.
        lesions: folder of real core masks to use instead of grown ones.
        noise: of DWI and ADC, times that of the look.
        look: one of :data:`~data_tools.simulate.looks.LOOKS`.
        shift: one of :data:`~data_tools.simulate.shifts.SHIFTS`; None is the look itself.
    """
    # One generator per part, so that a change in one part leaves the others as they were.
    children = np.random.SeedSequence([seed, index]).spawn(4)
    for_anatomy, for_lesion, for_images, for_nihss = map(np.random.default_rng, children)
    streams = Streams(seed, index)
    plan = make_plan(seed, index, look=look, shift=shift)
    appearance = appearance_of(streams, look, shift)
    head = anatomy.make_anatomy(for_anatomy, plan.age)
    stroke = lesion.make_lesion(for_lesion, head, plan, lesions, coupling=appearance.coupling)
    native = images.acquire(
        for_images, head, stroke, plan, noise=noise, look=appearance, streams=streams
    )
    nihss = clinical.draw_nihss(for_nihss, stroke.eloquent_ml, plan.side)
    return SimulatedPatient(
        participant_id=f"sub-{index:04d}",
        plan=plan,
        nihss=nihss,
        anatomy=head,
        lesion=stroke,
        native=native,
        look=appearance,
        streams=streams,
    )

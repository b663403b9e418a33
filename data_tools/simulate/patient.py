"""One simulated patient, whole: the plan, the head, the stroke, the images and the NIHSS."""

import dataclasses
import os

import numpy as np

from data_tools.simulate import anatomy, clinical, images, lesion
from data_tools.simulate.appearance import FIRST, Appearance, Streams
from data_tools.simulate.images import MniImages, NativeImages


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

    def mni(self) -> MniImages:
        """The images on the MNI grid, as a perfect preprocessing would give them."""
        return images.to_mni(self.native, self.anatomy, self.look.preparation, self.streams)

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


def simulate_patient(
    seed: int, index: int, lesions: str | os.PathLike | None = None, noise: float = 1.0
) -> SimulatedPatient:
    """Simulate patient number ``index`` (from 1) of the cohort ``seed``, in 1 to 2 s.

    ``lesions`` is a folder of real core masks to use instead of grown ones, ``noise`` that of DWI
    and ADC, times the usual.
    The same arguments give the same patient, whoever else is simulated and in what order.
    """
    # One generator per part, so that a change in one part leaves the others as they were.
    children = np.random.SeedSequence([seed, index]).spawn(4)
    for_anatomy, for_lesion, for_images, for_nihss = map(np.random.default_rng, children)
    streams, look = Streams(seed, index), FIRST
    plan = clinical.make_plan(seed, index)
    head = anatomy.make_anatomy(for_anatomy, plan.age)
    stroke = lesion.make_lesion(for_lesion, head, plan, lesions, coupling=look.coupling)
    native = images.acquire(for_images, head, stroke, plan, noise=noise, look=look, streams=streams)
    nihss = clinical.draw_nihss(for_nihss, stroke.eloquent_ml, plan.side)
    return SimulatedPatient(
        participant_id=f"sub-{index:04d}",
        plan=plan,
        nihss=nihss,
        anatomy=head,
        lesion=stroke,
        native=native,
        look=look,
        streams=streams,
    )

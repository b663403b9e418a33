"""How far several answers about one patient agree: of several networks, or of one and its mirror.

Networks that learnt from different patients differ by what these patients do not settle. Where
there is one network only, or who answers gives no more than an average, the mirror image of the
patient (left for right, the side too) is asked about: it is as good a patient, and what comes of
it, mirrored back, differs from the first answer by what the network does not know.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from data_tools.grid import mirrored_side
from data_tools.patient import MniPatient
from tf_hypoperfusion.clinical import ClinicalFacts, defuse3
from tf_hypoperfusion.inference import sliding_window
from tf_hypoperfusion.inference.calibration import Calibration
from tf_hypoperfusion.inference.result import Uncertainty
from tf_hypoperfusion.inference.sliding_window import VolumeAnswer

Kind = Literal["models", "mirror", "none"]


@dataclasses.dataclass(frozen=True)
class Opinions:
    """Probabilities of one patient on the MNI grid.

    Attributes:
        mean: float32 (91, 109, 60), what is reported: the average of the networks, or the only
            network's answer.
        each: of every network, or of the network and its mirror; one alone if not asked further.
        kind: ``models``, ``mirror`` or ``none``.
        cores: the probability of core, likewise: what is reported (of several networks their mean),
            and that of the mirror if it was asked; () from networks without.
    """

    mean: NDArray[np.float32]
    each: tuple[NDArray[np.float32], ...]
    kind: Kind
    cores: tuple[NDArray[np.float32], ...] = ()


def ask(
    answers: Sequence[Callable[[MniPatient, ClinicalFacts], VolumeAnswer]],
    mni: MniPatient,
    given: ClinicalFacts,
    mirror: bool = True,
) -> Opinions:
    """Ask every network once; a single one is asked about the mirror image too.

    Args:
        answers: one for each model, or a server's, each with a volume for each of its networks.
        mni: the patient.
        given: clinical facts.
        mirror: False leaves the mirror image out.
    """
    asked = [answer(mni, given) for answer in answers]
    each = tuple(volume for answer in asked for volume in answer.networks)
    core = sliding_window.mean_core(asked)
    cores = () if core is None else (core,)
    if len(each) > 1:
        return Opinions(sliding_window.mean(each), each, "models", cores)
    if not mirror:
        return Opinions(each[0], each, "none", cores)
    other_side = dataclasses.replace(given, side=mirrored_side(given.side))
    reflection = answers[0](mirrored(mni), other_side)
    back = np.ascontiguousarray(reflection.networks[0][::-1])
    if reflection.core is not None:
        cores = (*cores, np.ascontiguousarray(reflection.core[::-1]))
    return Opinions(each[0], (each[0], back), "mirror", cores)


def calibrated(opinions: Opinions, calibration: Calibration) -> Opinions:
    """The same answers with the average's calibration, so that all are cut at one probability.

    Args:
        opinions: as the networks gave them.
        calibration: of their average.
    """
    each = tuple(calibration.probability(volume) for volume in opinions.each)
    mean = each[0] if opinions.kind != "models" else calibration.probability(opinions.mean)
    return dataclasses.replace(opinions, mean=mean, each=each)


def mirrored(mni: MniPatient) -> MniPatient:
    """A patient with left and right exchanged; the midline is the grid's middle column."""

    def flip(volume: NDArray | None) -> Any:
        return None if volume is None else np.ascontiguousarray(volume[::-1])

    volumes = ("dwi", "adc_um2_per_s", "brain", "coverage", "tmax_s", "truth")
    return dataclasses.replace(mni, **{name: flip(getattr(mni, name)) for name in volumes})


def figures(
    kind: Kind,
    hypoperfusion_ml: Sequence[float],
    core_ml: Sequence[float] | None,
    target_mismatch: bool | None,
) -> Uncertainty | None:
    """What the opinions mean for volume and decision; None for a single one.

    Args:
        kind: of :class:`Opinions`.
        hypoperfusion_ml: by each opinion, on the patient's own grid.
        core_ml: that each opinion is judged with; None if unknown, so that nothing is decided.
        target_mismatch: the decision that is reported.

    >>> figures("models", [80.0, 30.0], [20.0, 20.0], True).decision_holds_in
    1
    """
    if kind == "none":
        return None
    holds = None
    if core_ml is not None:
        volumes = zip(hypoperfusion_ml, core_ml, strict=True)
        decisions = [defuse3(ml, core).target_mismatch for ml, core in volumes]
        holds = sum(decision == target_mismatch for decision in decisions)
    return Uncertainty(
        kind=kind,
        opinions=len(hypoperfusion_ml),
        hypoperfusion_ml=tuple(round(ml, 2) for ml in hypoperfusion_ml),
        range_ml=(round(min(hypoperfusion_ml), 2), round(max(hypoperfusion_ml), 2)),
        decision_holds_in=holds,
    )

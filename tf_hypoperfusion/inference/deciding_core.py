"""Which core decides: one that is given, that of the networks, or that of the rule."""

import dataclasses
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from data_tools.core_examination import Core, CoreFindings, core_from, examine_core
from data_tools.patient import MniPatient, NativePatient
from data_tools.runtime.errors import InputError
from tf_hypoperfusion import config
from tf_hypoperfusion.inference.stroke_side import StrokeSide

By = Literal["rule", "learnt", "given"]
# "core by the ..."
WORDS: dict[By, str] = {
    "rule": "rule of ADC and DWI",
    "learnt": "network",
    "given": "given mask",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cores:
    """The cores of a patient on the DWI's grid.

    Attributes:
        by: whose decides; None where no core is known.
        rule_ml: by :func:`data_tools.labels.core_mask`; None without DWI or ADC map.
        learnt_ml: by the networks; None from networks without.
        probability: float32, shape of the DWI: that of the networks, 0 outside tissue; or None.
        elsewhere_ml: of the rule's core, what lies outside a given one; None without one of them.
    """

    by: By | None = "rule"
    rule_ml: float | None
    learnt_ml: float | None = None
    probability: NDArray[np.float32] | None = None
    elsewhere_ml: float | None = None


@dataclasses.dataclass(frozen=True)
class CoreWish:
    """What is asked for.

    Attributes:
        given: bool, shape of the DWI: a core that decides whatever others say; None without one.
        by: ``rule`` or ``learnt``; None takes :data:`config.CORE_BY`, or the one that is known.
    """

    given: NDArray[np.bool_] | None = None
    by: str | None = None


@dataclasses.dataclass(frozen=True)
class LearntCore:
    """The networks' probability of core; float32, 0 outside tissue.

    Attributes:
        native: shape of the DWI.
        mni: (91, 109, 60).
    """

    native: NDArray[np.float32]
    mni: NDArray[np.float32]

    def masks(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """The core on both grids."""
        return self.native >= config.CORE_THRESHOLD, self.mni >= config.CORE_THRESHOLD


def others(by: By | None, *, rule_ml: float | None, learnt_ml: float | None) -> dict[By, float]:
    """mL of the cores that do not decide, as far as they are known.

    Args:
        by: whose core decides.
        rule_ml: by the rule.
        learnt_ml: by the networks.
    """
    known: dict[By, float | None] = {"rule": rule_ml, "learnt": learnt_ml}
    return {who: ml for who, ml in known.items() if who != by and ml is not None}


def choose(
    native: NativePatient, mni: MniPatient, side: StrokeSide, *,
    by_rule: Core | None, learnt: LearntCore | None, wish: CoreWish,
) -> tuple[CoreFindings, Cores]:  # fmt: skip
    """The core that decides, examined, and what the others say.

    Where the networks' decides, the rule's may still say that the side contradicts the images: the
    networks were told the side.

    Args:
        native: the patient's images on the DWI's grid.
        mni: the same on the MNI grid.
        side: of the lesion, given or found.
        by_rule: of :func:`data_tools.core_examination.known_core`.
        learnt: by the networks; None from networks without.
        wish: what is asked for.

    Raises:
        InputError: the networks' core is asked for, and they have none.
    """
    if wish.by == "learnt" and learnt is None:
        raise InputError(
            "--core_by=learnt: the model does not answer with a core; leave it out, or choose a "
            "model that was trained with core_output"
        )

    def examined(core: Core | None) -> CoreFindings:
        return examine_core(native, mni, side.side, side_found=side.found, core=core)

    rule = examined(by_rule)
    learnt_ml = None
    if learnt is not None:
        learnt_ml = float(learnt.masks()[0].sum() * native.dwi.voxel_ml)
    known = Cores(
        by=None if rule.core is None else "rule",
        rule_ml=rule.native_ml,
        learnt_ml=learnt_ml,
        probability=None if learnt is None else learnt.native,
    )
    if wish.given is not None:
        on_grid = mni.transform.bring_mask(wish.given, native.dwi) & mni.brain
        core = core_from(native, mni, (wish.given, on_grid), "given")
        elsewhere_ml = None
        if rule.native is not None:
            elsewhere_ml = float((rule.native & ~wish.given).sum() * native.dwi.voxel_ml)
        return examined(core), dataclasses.replace(known, by="given", elsewhere_ml=elsewhere_ml)
    by_default = "learnt" if rule.core is None else config.CORE_BY
    if learnt is not None and (wish.by or by_default) == "learnt":
        findings = examined(core_from(native, mni, learnt.masks(), "learnt"))
        findings = dataclasses.replace(findings, alarms=rule.alarms or findings.alarms)
        return findings, dataclasses.replace(known, by="learnt")
    return rule, known

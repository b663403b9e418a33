"""Does a network hold where one thing is otherwise than in training? A battery of named shifts.

    python -m benchmarks.shifts --cohorts=FOLDER [--model=A,B] [--look=first] [--out=CSV]

Nothing is trained. For each shift of data_tools.simulate (its --help lists them) the same patients
are simulated with one thing changed, into FOLDER, where they stay for the next model; the networks
answer (their mean, if there are several), and every shift gets a line: median Dice and AUC of
patients with a lesion, mean volume error, sensitivity and specificity of target mismatch, and the
calibration error of voxels with a probability of 0.1 and more; of networks that answer with a core
also its median Dice with the true core, and the rule's. A calibrated model's columns "used_..." are
those of its calibrated mask, cut as `predict` cuts it; with them, how often the interval holds the
true volume, how many patients get a yes or a no and how often it is right, and how many images are
unlike those of the calibration. All other columns are of the networks' average at 0.5. "loss" is
the Dice that the shift costs; strokes without penumbra have none that means anything, so they are
judged by specificity and volume. Simulating takes about a second a patient and core, a network of
the demonstration model some 4 s a patient at stride 4, and less at a wider one.
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from benchmarks.measuring import as_used, options, turns
from benchmarks.measuring.as_used import AsUsed
from benchmarks.measuring.tables import Tables
from data_tools.cohort import clinical_record, read_participants
from data_tools.runtime import command
from data_tools.runtime.errors import InputError
from data_tools.simulate import simulate_cohort
from data_tools.simulate.shifts import SHIFTS
from tf_hypoperfusion import clinical, config
from tf_hypoperfusion.evaluation import cases
from tf_hypoperfusion.evaluation.patient_metrics import (
    CoreFigures,
    PatientMetrics,
    ThresholdCounts,
    core_figures,
    patient_metrics,
    threshold_counts,
)
from tf_hypoperfusion.inference import calibration, model_files
from tf_hypoperfusion.inference.calibration import Calibration
from tf_hypoperfusion.inference.sliding_window import SlabModel, together

FLAGS = flags.FlagValues()
flags.DEFINE_string(
    "cohorts", None, "<FOLDER> Where the simulated cohorts go, or are already.", required=True,
    flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_list(
    "model", None, "Networks, whose mean answers; without it, the demonstration model.",
    flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_list(
    "shifts", None, "Some of the shifts; without it, all.", flag_values=FLAGS,
)  # fmt: skip
options.count("patients", 46, "Simulated patients of each shift.", FLAGS)
flags.DEFINE_integer("seed", 77, "Of the patients; not that of training.", flag_values=FLAGS)
flags.DEFINE_enum(
    "look", "first", ["first", "wide"], "What the shifts depart from: the look of training.",
    flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_string(
    "lesions", None, "<FOLDER> Real core masks, without which real_shapes is left out.",
    flag_values=FLAGS,
)  # fmt: skip
options.count("stride", config.TEST_STRIDE, "Slices between windows.", FLAGS)
command.define_precision(FLAGS, "Arithmetic; without it, the model's own.", default=None)
options.count("workers", 1, "Processes that simulate.", FLAGS)
options.out(FLAGS)

PLAIN = "(none)"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answered:
    """One patient, answered and measured.

    Attributes:
        metrics: Dice, AUC and volumes.
        counts: voxels by probability and truth.
        mismatch: target mismatch by the truth.
        said: by the networks.
        core: theirs and the rule's; None from networks without.
        used: what the calibrated model says; None without calibration.
    """

    metrics: PatientMetrics
    counts: ThresholdCounts
    mismatch: bool
    said: bool
    core: CoreFigures | None = None
    used: AsUsed | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Held:
    """How the networks did on a cohort; None where nothing can be said.

    Attributes:
        patients: how many.
        dice: median.
        auc: median.
        bias_ml: mean of predicted minus true volume.
        sensitivity: right and all of those with target mismatch.
        specificity: of those without.
        calibration: error of probabilities from 0.1 on.
        cores: the networks answer with a core.
        core_dice: median of theirs, of patients with a true core.
        rule_dice: of the rule's.
        used: figures of the calibrated model as text; {} without calibration.
    """

    patients: int
    dice: float | None
    auc: float | None
    bias_ml: float
    sensitivity: tuple[int, int]
    specificity: tuple[int, int]
    calibration: float | None
    cores: bool = False
    core_dice: float | None = None
    rule_dice: float | None = None
    used: dict[str, str] = dataclasses.field(default_factory=dict)


def answer(
    model: SlabModel, cohort: Path, stride: int, known: Calibration | None = None
) -> list[Answered]:
    """Every patient of an MNI cohort through the networks.

    Args:
        model: who answers.
        cohort: folder, with truth.
        stride: slices between windows.
        known: the model's calibration.

    Raises:
        InputError: a patient that cannot be used.
    """
    rows = [clinical_record(row) for _, row in read_participants(cohort).iterrows()]
    found = []
    for _, case in cases.of_cohort(cohort, rows, stride):
        if isinstance(case, InputError):
            raise case
        facts = case.facts
        given = case.answer(model)
        probability = given.mean
        core = None
        if given.core is not None:
            core = core_figures(
                given.core,
                truth=case.true_core,
                by_rule=case.rule_core,
                coverage=case.coverage,
                voxel_ml=facts.voxel_ml,
            )
        metrics = patient_metrics(
            probability,
            truth=case.truth,
            coverage=case.coverage,
            side=facts.side,
            voxel_ml=facts.voxel_ml,
        )
        said, true = (
            clinical.defuse3(volume_ml, facts.core_ml).target_mismatch
            for volume_ml in (metrics.predicted_ml, metrics.truth_ml)
        )
        counts = threshold_counts(
            probability,
            truth=case.truth,
            coverage=case.coverage,
            side=facts.side,
            voxel_ml=facts.voxel_ml,
        )
        used = None if known is None else as_used.of_case(known, case, probability)
        found.append(
            Answered(metrics=metrics, counts=counts, mismatch=true, said=said, core=core, used=used)
        )
    return found


def judge(answered: Sequence[Answered]) -> Held:
    """The figures of a cohort."""
    from tf_hypoperfusion.evaluation.report.figures import calibration_from

    mismatch = np.array([each.mismatch for each in answered])
    said = np.array([each.said for each in answered])
    cores = [each.core for each in answered if each.core is not None]
    return Held(
        patients=len(answered),
        dice=_median([a.metrics.dice for a in answered]),
        auc=_median([a.metrics.auc for a in answered]),
        bias_ml=float(np.mean([a.metrics.volume_difference_ml for a in answered])),
        sensitivity=(int((mismatch & said).sum()), int(mismatch.sum())),
        specificity=(int((~mismatch & ~said).sum()), int((~mismatch).sum())),
        calibration=calibration_from([a.counts for a in answered]),
        cores=bool(cores),
        core_dice=_median([core.core_dice for core in cores]),
        rule_dice=_median([core.core_rule_dice for core in cores]),
        used=as_used.cells([each.used for each in answered if each.used is not None]),
    )


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def table(held: dict[str, Held]) -> list[dict[str, Any]]:
    """A line for each shift, then the worst and the mean loss."""
    plain = held[PLAIN]
    lines, losses = [], []
    for name, found in held.items():
        dice = found.dice if name != PLAIN and _has_dice(name) else None
        loss = None if plain.dice is None or dice is None else plain.dice - dice
        if loss is not None:
            losses.append((loss, name))
        lines.append(line(name, found, loss))
    if losses:
        worst = max(losses)
        lines.append({"shift": f"worst loss: {worst[1]}", "loss": _cell(worst[0], 2)})
        mean = float(np.mean([loss for loss, _ in losses]))
        lines.append({"shift": "mean loss", "loss": _cell(mean, 2)})
    return lines


def line(name: str, found: Held, loss: float | None) -> dict[str, Any]:
    """A cohort's figures as text.

    Args:
        name: of the shift, or another cohort.
        found: its figures.
        loss: of Dice, or None.
    """
    cells = {
        "shift": name,
        "n": found.patients,
        "Dice": _cell(found.dice, 2),
        "loss": _cell(loss, 2),
        "AUC": _cell(found.auc, 2),
        "bias_ml": _cell(found.bias_ml, 1),
        "sensitivity": "{}/{}".format(*found.sensitivity),
        "specificity": "{}/{}".format(*found.specificity),
        "calibration": _cell(found.calibration, 3),
    }
    if found.cores:
        cells |= {
            "core_Dice": _cell(found.core_dice, 2),
            "core_Dice_of_rule": _cell(found.rule_dice, 2),
        }
    return cells | found.used


def _has_dice(name: str) -> bool:
    return name in SHIFTS and SHIFTS[name].negatives is None


def _cell(value: float | None, digits: int) -> str:
    return "n/a" if value is None else f"{value:.{digits}f}"


def _names() -> list[str]:
    """The plain patients and the wanted shifts, without those that cannot be.

    Raises:
        InputError: no such shift.
    """
    wanted = FLAGS.shifts or list(SHIFTS)
    if unknown := [name for name in wanted if name not in SHIFTS]:
        raise InputError(
            f"--shifts holds {', '.join(unknown)}; expected some of {', '.join(SHIFTS)}"
        )
    left_out = [name for name in wanted if SHIFTS[name].needs_lesions and not FLAGS.lesions]
    if left_out and FLAGS.shifts:
        raise InputError(f"--shifts={','.join(left_out)} needs --lesions, real core masks")
    for name in left_out:
        print(f"{name} is left out: it needs --lesions", file=sys.stderr)
    return [PLAIN, *(name for name in wanted if name not in left_out)]


def cohort_of(name: str, given: flags.FlagValues, look: str, lesions: str | None = None) -> Path:
    """The plain cohort or that of a shift, simulated unless it is there.

    Args:
        name: :data:`PLAIN`, or of a shift.
        given: flags ``cohorts``, ``patients``, ``seed`` and ``workers``.
        look: what the shift departs from.
        lesions: folder of real core masks, for shifts that need them.
    """
    shift = None if name == PLAIN else name
    return simulate_cohort(
        Path(given.cohorts) / f"{look}-{shift or 'plain'}",
        given.patients,
        given.seed,
        space="mni",
        workers=given.workers,
        look=look,
        shift=shift,
        lesions=lesions if shift and SHIFTS[shift].needs_lesions else None,
    )


def model_of(models: Sequence[str] | None, precision: str | None = None) -> SlabModel:
    """Networks on disk, together; without any, the demonstration model."""
    from tf_hypoperfusion.inference import predictors

    return together([predictors.load(path, precision=precision) for path in _paths(models)])


def calibration_of(models: Sequence[str] | None) -> Calibration | None:
    """What lies with the same networks; None if nothing."""
    return calibration.of_models([model_files.describe(path) for path in _paths(models)])


def _paths(models: Sequence[str] | None) -> list[Path]:
    return [model_files.check_undamaged(path) for path in models or [str(model_files.demo_model())]]


def main() -> None:
    """Simulate, answer, print."""
    names = _names()
    model, known = model_of(FLAGS.model, FLAGS.precision), calibration_of(FLAGS.model)
    tables = Tables(FLAGS.out, ("tensorflow", "keras"), f"{FLAGS.look}, seed {FLAGS.seed}")
    held: dict[str, Held] = {}
    for name in turns.progress(names, "cohorts"):
        cohort = cohort_of(name, FLAGS, FLAGS.look, FLAGS.lesions)
        held[name] = judge(answer(model, cohort, FLAGS.stride, known))
        cells = line(name, held[name], None)
        print("  ".join(f"{key} {value}" for key, value in cells.items()), file=sys.stderr)
    tables.show(f"{FLAGS.patients} simulated patients of each shift", table(held))


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))

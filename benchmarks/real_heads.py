"""Does a network keep quiet on real heads, and answer the same when they are moved a little?

    python -m benchmarks.real_heads --heads=TABLE [--model=A,B] [--cores] [--painted=COHORT]
        [--out=CSV]

TABLE is that of data_tools.simulate --heads. Real heads with no or small lesions of their own have
no perfusion truth, so what must hold is measured, for each side and some NIHSS: no target mismatch,
at most 20 mL, nothing in the cerebellum. Then each head is moved as no answer should depend on (for
each side with the NIHSS of the largest answer): registration by 0.3 mm and 0.5 degrees, noise of 1%
of the mean in DWI and ADC, a brain mask larger or smaller by a voxel of the MNI grid, whole
numbers; masks of 20 mL and more are to have a Dice of 0.97 with the unmoved one.

--cores asks of the core only: that of the rule and, from networks that answer with one, theirs; mL
of each head, and Dice where the table's column `lesion` names an expert's mask.

--painted is a cohort that data_tools.simulate --heads wrote: real looks, known truth. It gets a
line as the shifts do, one for each patient, and a table of movements. Its patients lie on the MNI
grid and are interpolated once more when they are moved, so their Dice is a little lower for that.
Volumes are mL of the patient. Several networks answer with their mean.
"""

import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks import shifts
from benchmarks.measuring import options
from benchmarks.measuring.tables import Tables
from data_tools import cohort as cohorts
from data_tools import intensity
from data_tools.grid import GRID_AFFINE, GRID_SHAPE
from data_tools.lone_image import on_grid_of
from data_tools.mni_patient import load_mni
from data_tools.patient import MniPatient, NativePatient, core_of, on_grid
from data_tools.runtime import command
from data_tools.runtime.errors import InputError
from data_tools.transform import Transform
from data_tools.volumes import Volume
from tf_hypoperfusion import clinical, config
from tf_hypoperfusion.clinical import ClinicalFacts
from tf_hypoperfusion.inference.prediction import VolumePredictor, volume_predictor
from tf_hypoperfusion.inference.sliding_window import SlabModel

FLAGS = flags.FlagValues()
flags.DEFINE_string(
    "heads", None, "<FILE> Table of real heads.", required=True, flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_list(
    "model", None, "Networks, whose mean answers; without it, the demonstration model.",
    flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_list("nihss", ["n/a", "4", "12"], "What is said of each head.", flag_values=FLAGS)
flags.DEFINE_string(
    "painted", None, "<FOLDER> MNI cohort of strokes painted into real heads.", flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_bool("cores", False, "Only the table of cores.", flag_values=FLAGS)
options.count("moved", 4, "Patients of --painted that are moved.", FLAGS, lowest=0)
options.count("stride", config.TEST_STRIDE, "Slices between windows.", FLAGS)
options.out(FLAGS)

SIDES = ("left", "right")
MOST_ML, LEAST_DICE = 20.0, 0.97
CEREBELLUM_NONE_ML = 0.05  # which is printed as 0.0
SHIFT_MM, TURN_DEG, NOISE = 0.3, 0.5, 0.01
NOISE_SEEDS = 3
INT16_MAX = 32767
TURNED_ABOUT_MM = np.array([0.0, -18.0, 10.0])
# The cerebellum lies behind the stem and under the tentorium, which falls to the sides and, behind
# so many mm, to the back. No atlas is shipped: the planes were fitted to a published one.
TENTORIUM_MM, FALL_TO_SIDE, FALL_TO_BACK, FALLS_BEHIND_Y_MM = -8.0, 0.4, 0.6, -75.0
CEREBELLUM_BEHIND_Y_MM = -38.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """A head that is asked about.

    Attributes:
        name: of head or patient.
        native: its images.
        transform: their way to the template.
        side: of its own lesion; None without one, or where it does not count.
        lesion: bool, shape of the DWI: that lesion as an expert drew it; or None.
    """

    name: str
    native: NativePatient
    transform: Transform
    side: str | None = None
    lesion: NDArray[np.bool_] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """What the networks say of a head.

    Attributes:
        mask: bool, shape of the DWI: hypoperfusion.
        on_grid: the same on the MNI grid.
        ml: of the mask.
        core: bool, shape of the DWI: by its rule.
        core_ml: of that.
        learnt: bool, likewise: the core by the networks; None from networks without.
        cerebellum_ml: of hypoperfusion in the cerebellum.
    """

    mask: NDArray[np.bool_]
    on_grid: NDArray[np.bool_]
    ml: float
    core: NDArray[np.bool_]
    core_ml: float
    learnt: NDArray[np.bool_] | None
    cerebellum_ml: float

    @property
    def mismatch(self) -> bool:
        """Target mismatch."""
        return clinical.defuse3(self.ml, self.core_ml).target_mismatch


@dataclasses.dataclass(frozen=True)
class Movement:
    """Something that is to change no answer.

    Attributes:
        name: several of a name are one line.
        change: of images on the way to the grid.
        mask_voxels: layers of the MNI grid's voxels that the brain mask gets more.
    """

    name: str
    change: Callable[[Subject], Subject]
    mask_voxels: int = 0


def cerebellum() -> NDArray[np.bool_]:
    """Where the template's cerebellum lies on the MNI grid, as far as the grid reaches (-40 mm)."""
    index = np.indices(GRID_SHAPE).reshape(3, -1)
    points = GRID_AFFINE[:3, :3] @ index + GRID_AFFINE[:3, 3:]
    x, y, z = points.reshape(3, *GRID_SHAPE)
    to_back = FALL_TO_BACK * np.clip(FALLS_BEHIND_Y_MM - y, 0, None)
    tentorium = TENTORIUM_MM - FALL_TO_SIDE * np.abs(x) - to_back
    return (z < tentorium) & (y < CEREBELLUM_BEHIND_Y_MM)


def ask(
    subject: Subject,
    given: ClinicalFacts,
    answers: VolumePredictor,
    mask_voxels: int = 0,
) -> Answer:
    """One answer, measured where predict measures it: on the grid of the DWI."""
    mni = on_grid(subject.native, subject.transform)
    if mask_voxels:
        mni = _with_mask(mni, mask_voxels)
    native = subject.native
    said = answers(mni, given)
    inside = said.mean >= config.PROBABILITY_THRESHOLD
    tissue = intensity.parenchyma(native.adc.data, native.brain)

    def on_dwi(probability: NDArray[np.float32], threshold: float) -> NDArray[np.bool_]:
        return (mni.transform.back(probability, native.dwi) >= threshold) & tissue

    mask, core = on_dwi(said.mean, config.PROBABILITY_THRESHOLD), core_of(native)
    voxel_ml = native.dwi.voxel_ml
    return Answer(
        mask=mask,
        on_grid=inside,
        ml=float(mask.sum() * voxel_ml),
        core=core,
        core_ml=float(core.sum() * voxel_ml),
        learnt=None if said.core is None else on_dwi(said.core, config.CORE_THRESHOLD),
        cerebellum_ml=float((inside & cerebellum()).sum() * mni.voxel_ml),
    )


def _with_mask(mni: MniPatient, layers: int) -> MniPatient:
    change = ndimage.binary_dilation if layers > 0 else ndimage.binary_erosion
    brain = change(mni.brain, iterations=abs(layers)) & (mni.adc_um2_per_s > 0)
    return dataclasses.replace(mni, brain=brain, coverage=brain)


def movements() -> list[Movement]:
    """Every movement: six ways of shift and turn, noise of three seeds, both masks, int16."""
    ways = [sign * axis for axis in np.eye(3) for sign in (1, -1)]
    found = [
        *(Movement(f"{SHIFT_MM} mm", partial(_moved, shift_mm=SHIFT_MM * way)) for way in ways),
        *(
            Movement(f"{TURN_DEG} degrees", partial(_moved, shift_mm=np.zeros(3), axis=way))
            for way in ways
        ),
    ]
    found += [
        Movement(f"noise of {NOISE:.0%}", partial(_noisy, seed=seed)) for seed in range(NOISE_SEEDS)
    ]
    found += [
        Movement("mask + a voxel", lambda s: s, 1),
        Movement("mask - a voxel", lambda s: s, -1),
    ]
    return [*found, Movement("int16", _whole_numbers)]


def _moved(
    subject: Subject, shift_mm: NDArray[np.float64], axis: NDArray[np.float64] | None = None
) -> Subject:
    """A registration that is off by a shift, or a turn about an axis through the brain's middle."""
    off = np.eye(4)
    if axis is not None:
        x, y, z = axis
        cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        angle = np.deg2rad(TURN_DEG)
        off[:3, :3] += np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    off[:3, 3] = TURNED_ABOUT_MM - off[:3, :3] @ TURNED_ABOUT_MM + shift_mm
    transform = dataclasses.replace(subject.transform, affine=off @ subject.transform.affine)
    return dataclasses.replace(subject, transform=transform)


def _changed(
    subject: Subject, change: Callable[[NDArray[np.float32], float], NDArray[np.floating]]
) -> Subject:
    """Other DWI and ADC; ``change`` gets each and its mean in the brain."""
    native = subject.native

    def other(volume: Volume) -> Volume:
        data = change(volume.data, float(volume.data[native.brain].mean())).astype(np.float32)
        return dataclasses.replace(volume, data=np.maximum(data, 0))

    images = dataclasses.replace(native, dwi=other(native.dwi), adc=other(native.adc))
    return dataclasses.replace(subject, native=images)


def _noisy(subject: Subject, seed: int) -> Subject:
    rng = np.random.default_rng(seed)

    def change(data: NDArray[np.float32], mean: float) -> NDArray[np.floating]:
        # What is 0 was masked, and stays so.
        return data + NOISE * mean * rng.standard_normal(data.shape) * (data > 0)

    return _changed(subject, change)


def _whole_numbers(subject: Subject) -> Subject:
    def change(data: NDArray[np.float32], mean: float) -> NDArray[np.float32]:
        step = float(data.max()) / INT16_MAX
        return np.rint(data / step) * step

    return _changed(subject, change)


def real_subjects(table: str) -> list[Subject]:
    """The heads of a table, registered.

    Raises:
        InputError: no table, or a head that cannot be used.
    """
    from data_tools.simulate import heads

    loaded = [heads.load(files) for files in heads.read(table)]
    return [
        Subject(
            name=head.files.name,
            native=head.native,
            transform=Transform(head.affine),
            side=head.files.side,
            lesion=None if head.lesion is None else on_grid_of(head.lesion, head.native.dwi),
        )
        for head in loaded
    ]


def painted_subjects(cohort: str, most: int) -> Iterator[tuple[Subject, ClinicalFacts]]:
    """Patients of an MNI cohort, as if the MNI grid were that of their scanner.

    Raises:
        InputError: a patient that cannot be used.
    """
    for _, row in cohorts.read_participants(cohort).head(most).iterrows():
        record = cohorts.clinical_record(row)
        mni = load_mni(cohort, record["participant_id"])
        grid = np.linalg.inv(mni.transform.affine) @ GRID_AFFINE
        native = NativePatient(
            dwi=Volume(mni.dwi, grid),
            adc=Volume(mni.adc_um2_per_s, grid),
            adc_unit="1e-6 mm2/s",
            brain=mni.brain,
        )
        subject = Subject(name=record["participant_id"], native=native, transform=mni.transform)
        yield subject, ClinicalFacts(record["side"], record["nihss"])


def panel(
    subjects: Sequence[Subject], nihss: Sequence[int | None], answers: VolumePredictor
) -> tuple[list[dict[str, Any]], list[tuple[Subject, ClinicalFacts, Answer]]]:
    """A line for each head, side and NIHSS; and of each head and side the largest answer."""
    lines, largest = [], []
    for subject in subjects:
        for side in SIDES:
            found = []
            for score in nihss:
                given = ClinicalFacts(side, score)
                answer = ask(subject, given, answers)
                found.append((subject, given, answer))
                lines.append(
                    {
                        "head": subject.name,
                        "side": side,
                        "nihss": _score(score),
                        "hypoperfusion_ml": f"{answer.ml:.1f}",
                        "core_ml": f"{answer.core_ml:.1f}",
                        "mismatch": "YES" if answer.mismatch else "no",
                        "cerebellum_ml": f"{answer.cerebellum_ml:.1f}",
                        "holds": "yes" if holds(answer) else "NO",
                        "largest_at_mm": _largest_at(answer.on_grid),
                    }
                )
            largest.append(max(found, key=lambda each: each[2].ml))
    return lines, largest


def cores(
    subjects: Sequence[Subject], nihss: Sequence[int | None], answers: VolumePredictor
) -> list[dict[str, Any]]:
    """A line for each head and NIHSS with the cores; both sides of a head without a lesion."""
    lines = []
    for subject in subjects:
        voxel_ml, expert = subject.native.dwi.voxel_ml, subject.lesion
        for side in [subject.side] if subject.side else SIDES:
            for score in nihss:
                answer = ask(subject, ClinicalFacts(side, score), answers)
                line = {"head": subject.name, "side": side, "nihss": _score(score)}
                masks = {"expert": expert, "rule": answer.core, "learnt": answer.learnt}
                for who, mask in masks.items():
                    line[f"{who}_ml"] = "n/a" if mask is None else f"{mask.sum() * voxel_ml:.1f}"
                for who in ("rule", "learnt"):
                    mask = masks[who]
                    line[f"{who}_Dice"] = (
                        "n/a" if expert is None or mask is None else f"{overlap(mask, expert):.2f}"
                    )
                lines.append(line)
    return lines


def holds(answer: Answer) -> bool:
    """Whether an answer is as it must be where nothing is hypoperfused."""
    return (
        not answer.mismatch and answer.ml <= MOST_ML and answer.cerebellum_ml < CEREBELLUM_NONE_ML
    )


def _score(nihss: int | None) -> str:
    return "n/a" if nihss is None else str(nihss)


def _largest_at(mask: NDArray[np.bool_]) -> str:
    """MNI coordinates of the middle of the largest piece."""
    pieces, count = ndimage.label(mask, np.ones((3, 3, 3)))
    if not count:
        return ""
    biggest = int(np.bincount(pieces.ravel())[1:].argmax()) + 1
    middle = np.array(ndimage.center_of_mass(pieces == biggest))
    return " ".join(f"{mm:.0f}" for mm in GRID_AFFINE[:3, :3] @ middle + GRID_AFFINE[:3, 3])


def stability(
    cases: Sequence[tuple[Subject, ClinicalFacts, Answer]], answers: VolumePredictor
) -> list[dict[str, Any]]:
    """A line for each case and movement, then whether masks of 20 mL hold."""
    lines, large = [], []
    for subject, given, unmoved in cases:
        dice: dict[str, list[float]] = {}
        moved: dict[str, list[Answer]] = {}
        for movement in movements():
            answer = ask(movement.change(subject), given, answers, movement.mask_voxels)
            dice.setdefault(movement.name, []).append(overlap(answer.mask, unmoved.mask))
            moved.setdefault(movement.name, []).append(answer)
        for name, found in dice.items():
            ml = [answer.ml for answer in moved[name]]
            kept = sum(answer.mismatch == unmoved.mismatch for answer in moved[name])
            if unmoved.ml >= MOST_ML:
                large += found
            lines.append(
                {
                    "head": subject.name,
                    "side": given.side,
                    "nihss": _score(given.nihss),
                    "movement": name,
                    "ml": f"{unmoved.ml:.1f}",
                    "moved_ml": f"{min(ml):.1f} to {max(ml):.1f}",
                    "worst_dice": f"{min(found):.3f}",
                    "median_dice": f"{np.median(found):.3f}",
                    "same_decision": f"{kept}/{len(ml)}",
                }
            )
    if large:
        lines.append(
            {
                "head": f"masks of {MOST_ML:.0f} mL and more",
                "movement": f"{sum(d >= LEAST_DICE for d in large)}/{len(large)} at {LEAST_DICE}",
                "worst_dice": f"{min(large):.3f}",
                "median_dice": f"{np.median(large):.3f}",
            }
        )
    return lines


def overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Dice; 1 where both are empty."""
    total = int(one.sum() + other.sum())
    return 2 * int((one & other).sum()) / total if total else 1.0


def painted_tables(
    cohort: str, model: SlabModel, stride: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The line of a cohort, and one for each patient."""
    answered = shifts.answer(model, Path(cohort), stride)
    held = shifts.judge(answered)
    whole = {key: line for key, line in shifts.line("painted", held, None).items() if key != "loss"}
    names = cohorts.read_participants(cohort)["participant_id"]
    lines = []
    for name, each in zip(names, answered, strict=True):
        metrics = each.metrics
        lines.append(
            {
                "patient": name,
                "truth_ml": f"{metrics.truth_ml:.1f}",
                "predicted_ml": f"{metrics.predicted_ml:.1f}",
                "Dice": "n/a" if metrics.dice is None else f"{metrics.dice:.2f}",
                "mismatch": "YES" if each.mismatch else "no",
                "said": "YES" if each.said else "no",
            }
        )
    return [whole], lines


def scores_of(words: Sequence[str]) -> list[int | None]:
    """NIHSS values as they were typed.

    Raises:
        InputError: one that is none.
    """
    found = [cohorts.number("nihss", word) for word in words]
    if not found:
        raise InputError("--nihss is empty; expected scores, or n/a, with commas between")
    return [None if score is None else int(score) for score in found]


def main() -> None:
    """Ask, move, print."""
    scores = scores_of(FLAGS.nihss)
    model = shifts.model_of(FLAGS.model)
    answers = volume_predictor(model.predict, FLAGS.stride, model.cores)
    subjects = real_subjects(FLAGS.heads)
    names = ", ".join(FLAGS.model or ["demonstration model"])
    tables = Tables(FLAGS.out, ("tensorflow", "keras"), f"{names}; stride {FLAGS.stride}")
    if FLAGS.cores:
        tables.show("Real heads: the core", cores(subjects, scores, answers))
        return
    lines, largest = panel(subjects, scores, answers)
    tables.show(f"Real heads: at most {MOST_ML:.0f} mL and no mismatch", lines)
    tables.show("Real heads, moved", stability(largest, answers))
    if FLAGS.painted is None:
        return
    whole, each = painted_tables(FLAGS.painted, model, FLAGS.stride)
    tables.show("Strokes painted into real heads", whole)
    tables.show("The same, patient by patient", each)
    cases = [
        (subject, given, ask(subject, given, answers))
        for subject, given in painted_subjects(FLAGS.painted, FLAGS.moved)
    ]
    tables.show("Painted patients, moved", stability(cases, answers))


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))

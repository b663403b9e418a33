"""``patients.csv`` of an evaluation, read back and checked."""

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_tools import criteria, flow, groups, text_table
from data_tools.cohort import OCCLUSIONS, mni_file
from data_tools.flow import LeftOut
from data_tools.grid import SIDES
from data_tools.quartiles import Program
from data_tools.runtime import atomic, errors
from data_tools.runtime.errors import InputError
from tf_hypoperfusion import clinical
from tf_hypoperfusion.evaluation.patient_metrics import PAPER_STEP, STEPS, ThresholdCounts

REQUIRED = (
    "participant_id", "age", "sex", "nihss", "side", "occlusion", "field_strength_t", "cohort",
    "core_ml", "truth_ml", "predicted_ml", "dice", "auc", "true_target_mismatch",
    "predicted_target_mismatch", "dawn",
)  # fmt: skip
# Columns an evaluation of an older version, or another program, need not have.
OPTIONAL = ("precision", "recall", "hd95_mm", "surface_dice", "mrs_90d")
# Of scanners for heads.
NOMINAL_FIELDS_T = (0.064, 0.2, 0.35, 0.55, 1.0, 1.5, 3.0, 7.0, 9.4, 11.7)
# 2.89 T is sold as 3 T.
NEAR_NOMINAL = 0.06
# Of evaluate --choose_threshold: all or none.
CHOSEN = ("chosen_threshold", "chosen_dice", "chosen_predicted_ml", "chosen_target_mismatch")
# Of networks that answer with a core: likewise.
CORE = ("core_dice", "core_rule_dice", "core_learnt_ml", "core_truth_ml")
NUMBERS = {  # column: (least, greatest, may be empty)
    "age": (0, 120, True),
    "nihss": (0, 42, True),
    "mrs_90d": (0, 6, True),
    "field_strength_t": (0.01, 20, True),
    "core_ml": (0, 3000, False),
    "truth_ml": (0, 3000, False),
    "predicted_ml": (0, 3000, False),
    "hypoperfusion_ml": (0, 3000, False),
    "dice": (0, 1, True),
    "auc": (0, 1, True),
    "precision": (0, 1, True),
    "recall": (0, 1, True),
    "hd95_mm": (0, 400, True),
    "surface_dice": (0, 1, True),
    "voxel_ml": (1e-6, 1, False),
    "chosen_threshold": (0, 1, False),
    "chosen_dice": (0, 1, True),
    "chosen_predicted_ml": (0, 3000, False),
    "core_dice": (0, 1, True),
    "core_rule_dice": (0, 1, True),
    "core_learnt_ml": (0, 3000, False),
    "core_truth_ml": (0, 3000, False),
}
BOOLEANS = ("true_target_mismatch", "predicted_target_mismatch", "dawn")
WORDS = {"sex": ("M", "F"), "side": SIDES, "occlusion": OCCLUSIONS}
TERRITORIES = {  # paper, Table 1
    "ICA or M1 segment": ("ICA", "M1"),
    "M2 or M3 segments": ("M2", "M3"),
    "M4 segment or no occlusion": ("M4", "none"),
}
# Paper, Performance Evaluation: large vessel occlusion is that of the ICA or the M1 segment.
LVO = TERRITORIES["ICA or M1 segment"]
MOST_FAULTS = 20
# What early versions said of them.
EARLY_WITHOUT_TRUTH = "no Tmax and no mask"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Patients:
    """An evaluated cohort.

    Attributes:
        path: of ``patients.csv``.
        title: for headings.
        table: one row per patient; numbers as float with NaN, decisions as float 0/1 with NaN.
        counts: voxels by probability, in the table's order; None without ``thresholds.npz``.
        looks: numbers of the images, in that order; None where nothing is kept of them.
        left_out: who is not in the table, at which step and why; None if nobody knows.
        followed: whether those whom preprocess refused are among them, as early versions' were not.
        models: path and checksum of each.
        warnings: of the evaluation, and of this reading.
        network_s: seconds that the networks took for each patient, in the table's order; None in an
            evaluation of an early version.
        median_network_s: their median, which early versions kept; None if even that is unknown.
        machines: on which they did.
        volumes: MNI cohort that the evaluation read, or that its records were built from; None if
            nobody knows. It may have moved or changed since.
        program: whose quartiles and Mann-Whitney U test its report has.
    """

    path: Path
    title: str
    table: pd.DataFrame
    counts: list[ThresholdCounts] | None
    left_out: tuple[LeftOut, ...] | None
    models: list[str]
    warnings: list[str]
    looks: list[dict[str, float]] | None = None
    followed: bool = True
    network_s: list[float] | None = None
    median_network_s: float | None = None
    machines: tuple[str, ...] = ()
    volumes: Path | None = None
    program: Program = "stata"

    def __len__(self) -> int:
        return len(self.table)

    @property
    def counted(self) -> str:
        """How many patients these are, and visits where one has several."""
        return groups.counted_patients(list(self.table["participant_id"]))

    @property
    def simulated(self) -> bool:
        """Whether every patient, or some, came out of the simulator."""
        return bool((self.table["cohort"] == "simulated").any())

    def where(self, rows: NDArray[np.bool_]) -> "Patients":
        """The patients of a subgroup."""

        def some(values: Any) -> Any:
            return values and [each for each, inside in zip(values, rows, strict=True) if inside]

        return dataclasses.replace(
            self,
            table=self.table[rows].reset_index(drop=True),
            counts=some(self.counts),
            looks=some(self.looks),
            network_s=some(self.network_s),
        )

    def values(self, column: str) -> NDArray[np.float64]:
        """A column's known values."""
        column_values = self.table[column].to_numpy(float)
        return column_values[np.isfinite(column_values)]

    @property
    def difference_ml(self) -> NDArray[np.float64]:
        """Predicted - true volume of every patient."""
        return (self.table["predicted_ml"] - self.table["truth_ml"]).to_numpy(float)

    def map_file(self, participant: str, what: str) -> Path:
        """Where the evaluation's NIfTI map of a patient is, or would be."""
        return mni_file(self.path.parent / "evaluation/maps", participant, what)


def nominal_field_t(field_strength_t: float) -> float:
    """The field strength that a scanner is sold with, of the one that its files name.

    One that is far from all of them stays as it is.

    >>> nominal_field_t(2.89), nominal_field_t(1.494), nominal_field_t(6.98), nominal_field_t(2.2)
    (3.0, 1.5, 7.0, 2.2)
    """
    nearest = min(NOMINAL_FIELDS_T, key=lambda nominal: abs(np.log(field_strength_t / nominal)))
    return nearest if abs(np.log(field_strength_t / nearest)) < NEAR_NOMINAL else field_strength_t


def by_field(patients: Patients) -> dict[float, Patients]:
    """The patients of each nominal field strength, rising; those of an unknown one are in none."""
    strengths = patients.table["field_strength_t"].to_numpy(float)
    nominal = np.array([nominal_field_t(v) if np.isfinite(v) else np.nan for v in strengths])
    known = sorted(set(nominal[np.isfinite(nominal)].tolist()))
    return {strength: patients.where(nominal == strength) for strength in known}


def subgroups(patients: Patients) -> dict[str, Patients]:
    """The paper's subgroups (Tables 2 and 3) that hold any patient, and all patients.

    Patients of an unknown occlusion, or of another territory, are in neither of the last two.
    """
    core = patients.table["core_ml"].to_numpy() > 0
    known = patients.table["occlusion"].isin(flow.TERRITORIES).to_numpy()
    lvo = patients.table["occlusion"].isin(LVO).to_numpy()
    inside = {
        "Baseline core >0 mL": core,
        "Baseline core equal to 0 mL": ~core,
        "Large vessel occlusion": known & lvo,
        "No large vessel occlusion": known & ~lvo,
    }
    groups = {name: patients.where(rows) for name, rows in inside.items() if rows.any()}
    return {"All patients": patients} | groups


def load(path: str | Path, title: str | None = None) -> Patients:
    """Read ``patients.csv`` and, beside it, ``thresholds.npz`` and ``evaluation.json``.

    Raises:
        InputError: no such file, a column missing, or any wrong cell, all in one list; decisions
            that contradict the volumes beside them.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "patients.csv"
    table = _checked(_read(path), path)
    about = atomic.read_json(path.with_name("evaluation.json"))
    left_out, models, warnings = _about(about, len(table))
    both = sorted(set(table["participant_id"]) & {each.participant_id for each in left_out or ()})
    if both:
        raise InputError(
            f"{path}: {', '.join(both[:5])} stand in it, and evaluation.json beside it says that "
            "they were left out; expected one of the two. Evaluate again"
        )
    volumes = about.get("external") or about.get("cohort") or about.get("built_from")
    counts = _counts(path.with_name("thresholds.npz"), table)
    return Patients(
        path=path,
        title=title or path.parent.resolve().name.removeprefix("external-"),
        table=table,
        counts=counts,
        looks=_looks(path.with_name("thresholds.npz"), table) if counts else None,
        left_out=left_out,
        followed="left_out_at" in about,
        models=models,
        warnings=warnings,
        network_s=_seconds(about.get("network_s"), table),
        median_network_s=_median_seconds(about.get("seconds_per_patient")),
        machines=tuple(map(str, about.get("machines") or ())),
        volumes=Path(str(volumes)) if volumes else None,
    )


def _seconds(said: Any, table: pd.DataFrame) -> list[float] | None:
    """Of each patient; None if those of one are not kept."""
    names = list(table["participant_id"])
    if not isinstance(said, dict) or not all(isinstance(said.get(n), int | float) for n in names):
        return None
    return [float(said[name]) for name in names]


def _median_seconds(said: Any) -> float | None:
    value = said.get("network") if isinstance(said, dict) else None
    return float(value) if isinstance(value, int | float) else None


def _read(path: Path) -> pd.DataFrame:
    """The table as text; refused if it is none, or lacks a column."""
    if not path.is_file():
        raise InputError(
            f"{path}: no such file; expected patients.csv of python -m tf_hypoperfusion.evaluate"
        )
    try:
        table = pd.read_csv(
            io.StringIO(text_table.text_of(path)),
            dtype=str,
            keep_default_na=False,
            na_values=["", "n/a"],
        )
    except ValueError as error:
        raise InputError(f"{path}: not a readable comma-separated table ({error})") from error
    absent = [name for name in REQUIRED if name not in table]
    if len(table.columns) == 1 and len(absent) == len(REQUIRED):
        raise InputError(
            f"{path}: one column only ({str(table.columns[0])[:40]}...); expected commas "
            "between the columns, not semicolons or tabs"
        )
    if absent:
        raise InputError(
            f"{path}: no column {', '.join(absent)}; expected patients.csv of "
            "python -m tf_hypoperfusion.evaluate, evaluated with this version"
        )
    if table.empty:
        raise InputError(f"{path}: holds no patient")
    for together in (CHOSEN, CORE):
        there = [name for name in together if name in table]
        if there and len(there) < len(together):
            lost = ", ".join(name for name in together if name not in table)
            raise InputError(f"{path}: no column {lost}, but {', '.join(there)}; evaluate again")
    return table


def _checked(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Text -> numbers, with every fault of the table in one list."""
    table = table.assign(**{name: np.nan for name in OPTIONAL if name not in table})
    numbers = [name for name in NUMBERS if name in table]
    booleans = [*BOOLEANS, *(name for name in CHOSEN[-1:] if name in table)]
    for name in booleans:  # spreadsheets write TRUE
        table[name] = table[name].where(table[name].isna(), table[name].str.capitalize())
    faults = _faults(table, numbers, booleans)
    if not faults:
        for name in numbers:
            table[name] = pd.to_numeric(table[name]).astype(float)
        for name in booleans:
            table[name] = table[name].map({"True": 1.0, "False": 0.0}).astype(float)
        faults = _contradictions(table)
    if faults:
        more = len(faults) - MOST_FAULTS
        raise InputError(
            f"{path}: {errors.counted(len(faults), 'fault')}:\n  "
            + "\n  ".join(faults[:MOST_FAULTS])
            + (f"\n  and {more} more" if more > 0 else "")
        )
    return table


def _about(
    about: dict[str, Any], rows: int
) -> tuple[tuple[LeftOut, ...] | None, list[str], list[str]]:
    """Who was left out, models and warnings of ``evaluation.json``, as far as it is readable."""
    left_out, models, warnings = (about.get(k) for k in ("left_out", "models", "warnings"))
    if not (isinstance(left_out, dict) and isinstance(models, list) and isinstance(warnings, list)):
        return (
            None,
            [],
            ["evaluation.json is missing or not readable: nobody knows who was left out"],
        )
    named = [
        f"{m.get('path')} ({str(m.get('sha256'))[:12]})" if isinstance(m, dict) else str(m)
        for m in models
    ]
    notes = [str(warning) for warning in warnings]
    if about.get("patients") != rows:
        notes.append(f"patients.csv holds {rows} of the {about.get('patients')} patients evaluated")
    steps = about.get("left_out_at")
    steps = steps if isinstance(steps, dict) else {}
    lost = tuple(
        LeftOut(participant_id=name, step=_step(steps.get(name), str(reason)), reason=str(reason))
        for name, reason in sorted(left_out.items())
    )
    return lost, named, notes


def _step(said: Any, reason: str) -> str:
    """At which step a patient was left out; early versions gave a reason only.

    Raises:
        InputError: no step of ours.
    """
    if isinstance(said, str) and said in flow.STEPS:
        return said
    if said is not None:
        raise InputError(
            f"evaluation.json: a patient was left out at {said!r}; expected one of "
            f"{', '.join(flow.STEPS)}. Evaluate again"
        )
    return flow.TRUTH if reason == EARLY_WITHOUT_TRUTH else flow.EVALUATE


def _faults(table: pd.DataFrame, numbers: list[str], booleans: list[str]) -> list[str]:
    faults = []
    for column in ("participant_id", "side"):
        for row in np.flatnonzero(table[column].isna()):
            faults.append(f"row {row + 2}: {column} is empty; expected a value")
    repeated = table["participant_id"][table["participant_id"].duplicated()].dropna()
    faults += [f"{name}: stands more than once; expected one row" for name in sorted(set(repeated))]

    def complain(rows, column: str, expected: str) -> None:
        for row in np.flatnonzero(rows):
            who = table["participant_id"].iloc[row]
            faults.append(f"{who}: {column} is {table[column].iloc[row]!r}; expected {expected}")

    for column in numbers:
        low, high, optional = NUMBERS[column]
        values = pd.to_numeric(table[column], errors="coerce")
        empty = table[column].isna()
        wrong = ~values.between(low, high) & ~(empty & optional)
        complain(wrong, column, f"{low:g} to {high:g}" + (", or nothing" if optional else ""))
    for column in booleans:
        allowed = table[column].isin(["True", "False"]) | (
            table[column].isna() & (column == "dawn")
        )
        complain(~allowed, column, "True or False")
    for column, words in WORDS.items():
        wrong = ~(table[column].isin(words) | table[column].isna())
        complain(wrong, column, f"{', '.join(words)}, or nothing")
    return faults


def _contradictions(table: pd.DataFrame) -> list[str]:
    """A decision that is not that of its own volumes means that somebody mixed two tables."""
    faults = []
    decisions = [
        ("true_target_mismatch", "truth_ml"),
        ("predicted_target_mismatch", "predicted_ml"),
    ]
    if CHOSEN[0] in table:
        decisions.append(("chosen_target_mismatch", "chosen_predicted_ml"))
    for column, volume in decisions:
        expected = criteria.target_mismatch(table[volume], table["core_ml"])
        for row in np.flatnonzero(expected != (table[column] == 1)):
            line = table.iloc[row]
            faults.append(
                f"{line['participant_id']}: {column} is {bool(line[column])}, but "
                f"{line[volume]:g} mL with a core of {line['core_ml']:g} mL gives "
                f"{bool(expected[row])}"
            )
    for _, line in table.iterrows():
        age, nihss = (None if np.isnan(line[name]) else line[name] for name in ("age", "nihss"))
        dawn = clinical.dawn(age, nihss, line["core_ml"])
        given = None if np.isnan(line["dawn"]) else bool(line["dawn"])
        if given is not dawn:
            faults.append(
                f"{line['participant_id']}: dawn is {given}, but age, NIHSS and core give {dawn}"
            )
    lesion = table["truth_ml"] > 0
    for row in np.flatnonzero(lesion != table["dice"].notna()):
        line = table.iloc[row]
        faults.append(
            f"{line['participant_id']}: true volume {line['truth_ml']:g} mL, Dice "
            f"{line['dice']:g}; expected a Dice with a lesion, and none without"
        )
    return faults


def _looks(path: Path, table: pd.DataFrame) -> list[dict[str, float]] | None:
    """Numbers of the images; None in an evaluation of an older version."""
    with np.load(path) as saved:
        order = {name: i for i, name in enumerate(saved["participant_id"].tolist())}
        if "look" not in saved.files:
            return None
        names, values = saved["look_names"].tolist(), saved["look"]
    return [
        {
            name: float(v)
            for name, v in zip(names, values[order[who]], strict=True)
            if np.isfinite(v)
        }
        for who in table["participant_id"]
    ]


def _counts(path: Path, table: pd.DataFrame) -> list[ThresholdCounts] | None:
    if not path.is_file():
        return None
    try:
        with np.load(path) as saved:
            order = {name: i for i, name in enumerate(saved["participant_id"].tolist())}
            covered, hemisphere = saved["covered"], saved["hemisphere"]
            voxel_ml = saved["voxel_ml"]
        shape = (len(order), 2, STEPS + 1)
        if (covered.shape, hemisphere.shape, voxel_ml.shape) != (shape, shape, shape[:1]):
            raise ValueError(
                f"its shapes are {covered.shape}, {hemisphere.shape}, {voxel_ml.shape}"
            )
        rows = [order[name] for name in table["participant_id"]]
    except KeyError as error:
        raise InputError(
            f"{path}: does not belong to the patients.csv beside it ({error} is missing); evaluate "
            "again"
        ) from error
    except Exception as error:  # a damaged zip file fails in many ways
        raise InputError(f"{path}: cannot be read ({error}); evaluate again") from error
    counts = [
        ThresholdCounts(covered[i].astype(np.int64), hemisphere[i].astype(np.int64), voxel_ml[i])
        for i in rows
    ]
    predicted = np.array([count.volume_ml()[PAPER_STEP] for count in counts])
    for row in np.flatnonzero(np.abs(predicted - table["predicted_ml"]) > 0.001):
        raise InputError(
            f"{path}: {predicted[row]:g} mL predicted in {table['participant_id'].iloc[row]}, but "
            f"{table['predicted_ml'].iloc[row]:g} mL in patients.csv; evaluate again"
        )
    dice = [np.nan if (curve := count.dice()) is None else curve[PAPER_STEP] for count in counts]
    for row in np.flatnonzero(np.abs(np.array(dice) - table["dice"]) > 0.001):
        raise InputError(
            f"{path}: Dice {dice[row]:.3f} in {table['participant_id'].iloc[row]}, but "
            f"{table['dice'].iloc[row]:.3f} in patients.csv; evaluate again"
        )
    return counts

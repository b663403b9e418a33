"""What the evaluation and its report say about the patients who were predicted."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from data_tools import groups
from data_tools.criteria import DEFUSE3
from tf_hypoperfusion import __version__, config
from tf_hypoperfusion.evaluation.dossier import files
from tf_hypoperfusion.evaluation.dossier.fact import (
    Fact,
    Known,
    Missing,
    Source,
    derive,
    in_words,
)
from tf_hypoperfusion.evaluation.dossier.files import Document, Folders, folds_in_words
from tf_hypoperfusion.evaluation.report.patients import Patients, nominal_field_t
from tf_hypoperfusion.evaluation.statistics import Estimate

PATIENTS, STATISTICS = "run/patients.csv", "report/statistics.csv"
ALL = "All patients"
MEASURES = {
    "ppv": "positive predictive value",
    "npv": "negative predictive value",
    "Concordance of true and predicted volume (z transform)": "concordance of volumes",
    "Concordance of true and predicted volume (bootstrap)": "concordance of volumes",
}
# Letters of a checksum in a sentence; sbom.json has all.
SHOWN = 12


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResultFacts:
    """Facts about an evaluation and its statistics.

    Attributes:
        about: evaluation.json.
        settings: report.json, what the report was asked for.
        rows: of patients.csv.
        numbers: of statistics.csv, by table, group and measure.
        evaluated: how many rows: patients, or visits of them.
        tested: the same in words.
        folds: whose patients these are, in words.
        averaged: whether the average of folds predicted them.
        models: files with checksums, in words.
        external: other cohorts that were evaluated, in words.
        warnings: of the evaluation.
        chosen: thresholds chosen on tuning patients.
        calibration: file of a calibration.
        lesions: patients with and without a reference lesion, and with target mismatch; in words.
        confusion: of target mismatch, in words.
        poor: patients with a Dice below good agreement, and none at all; in words.
        by_sex: median Dice of each sex.
        by_field: median Dice at each field strength.
        threshold: from which probability on a voxel counts, as volumes and voxel counts show.
        decision: what target mismatch is, as volumes and decisions show.
        measures: names of what was measured.
        tests: whose definitions of quartiles and rank tests.
    """

    about: Document
    settings: Document
    rows: Sequence[Mapping[str, str]]
    numbers: Mapping[tuple[str, str, str], Mapping[str, str]]
    evaluated: Known
    tested: Known
    folds: Known
    averaged: Known
    models: Known
    external: Known
    warnings: Known
    chosen: Known
    calibration: Known
    lesions: Known
    confusion: Known
    poor: Known
    by_sex: Known
    by_field: Known
    threshold: Known
    decision: Known
    measures: Known
    tests: Known

    def number(self, table: str, group: str, measure: str) -> Known:
        """A row of statistics.csv as "0.52 (0.44 to 0.61; n 43)"."""
        source = Source(STATISTICS, f"{table} / {group} / {measure}")
        row = self.numbers.get((table, group, measure))
        if row is None or not row.get("value"):
            return Missing(source, "" if row is None else "undefined for these patients")
        return Fact(_estimate(row), (source,))


def collect(folders: Folders, primary: Patients | None) -> ResultFacts:
    """Read evaluation.json, patients.csv, statistics.csv and report.json.

    Args:
        folders: of the study.
        primary: patients.csv as the report read it, which checked volumes against decisions and
            voxel counts; None where there is none.
    """
    about = files.document(folders, "run", "evaluation.json")
    settings = files.document(folders, "report", "report.json")
    rows = files.table(folders, "run", "patients.csv")
    numbers = {
        (row["table"], row["group"], row["measure"]): row
        for row in files.table(folders, "report", "statistics.csv")
        if {"table", "group", "measure"} <= set(row)
    }
    here = _Rows(rows)
    counted = Source("run/thresholds.npz", "covered, against predicted_ml of patients.csv")
    return ResultFacts(
        about=about,
        settings=settings,
        rows=rows,
        numbers=numbers,
        evaluated=here.fact(("participant_id",), len),
        tested=here.fact(("participant_id",), _counted),
        folds=here.fact(("fold",), _folds),
        averaged=here.fact(("fold",), lambda each: any(row["fold"] == "all" for row in each)),
        models=derive(_models, about.fact("models")),
        external=_external(folders),
        warnings=derive(lambda said: "; ".join(said), about.fact("warnings")),
        chosen=about.fact("chosen_thresholds"),
        calibration=settings.fact("calibration"),
        lesions=here.fact(("truth_ml", "true_target_mismatch"), _lesions),
        confusion=here.fact(("true_target_mismatch", "predicted_target_mismatch"), _confusion),
        poor=here.fact(("dice",), _poor),
        by_sex=here.by("sex"),
        by_field=here.by("field_strength_t", numbers=True),
        threshold=Missing(counted)
        if primary is None or primary.counts is None
        else Fact(config.PROBABILITY_THRESHOLD, (counted,)),
        decision=_decision(primary),
        measures=_measures(numbers),
        tests=_definitions(numbers),
    )


def _decision(primary: Patients | None) -> Known:
    """The criteria, which each decision in the table was checked with as it was read."""
    source = Source(PATIENTS, "true_target_mismatch, predicted_target_mismatch, against mL")
    if primary is None:
        return Missing(source)
    return Fact(
        f"a ratio of at least {DEFUSE3.min_ratio:g}, a difference of at least "
        f"{DEFUSE3.min_difference_ml:g} mL and a core of at most {DEFUSE3.max_core_ml:g} mL",
        (source, Source(f"tf_hypoperfusion {__version__}", "data_tools.criteria.DEFUSE3")),
    )


class _Rows:
    """Facts of the columns of patients.csv."""

    def __init__(self, rows: Sequence[Mapping[str, str]]) -> None:
        self.rows = rows

    def fact(self, columns: tuple[str, ...], make: Callable[[Any], Any]) -> Known:
        source = Source(PATIENTS, ", ".join(columns))
        if not self.rows or any(name not in self.rows[0] for name in columns):
            return Missing(source)
        return Fact(make(self.rows), (source,))

    def by(self, column: str, *, numbers: bool = False) -> Known:
        """Median Dice by the values of a column; missing where fewer than two are there.

        Args:
            column: of the table.
            numbers: it holds field strengths, which are taken as scanners are sold.
        """
        source = Source(PATIENTS, f"{column}, dice")
        groups: dict[str, list[float]] = {}
        for row in self.rows:
            if row.get(column) and row.get("dice"):
                name = in_words(nominal_field_t(float(row[column]))) if numbers else row[column]
                groups.setdefault(name, []).append(float(row["dice"]))
        if len(groups) < 2:
            return Missing(source, "fewer than two groups are known" if self.rows else "")
        words = [
            f"{name}: {median(values):.2f} (n {len(values)})"
            for name, values in sorted(groups.items())
        ]
        return Fact("; ".join(words), (source,))


def _estimate(row: Mapping[str, str]) -> str:
    found = Estimate(
        value=float(row["value"]),
        low=float(row["low"]) if row.get("low") else None,
        high=float(row["high"]) if row.get("high") else None,
        n=int(float(row["n"])),
        k=int(float(row["k"])) if row.get("k") else None,
    )
    interval = ""
    if found.low is not None and found.high is not None:
        interval = f"{found.low:.3g} to {found.high:.3g}; "
    counted = f"{found.k} of {found.n}" if found.k is not None else f"n {found.n}"
    return f"{found.value:.3g} ({interval}{counted})"


def _counted(rows: Sequence[Mapping[str, str]]) -> str:
    return groups.counted_patients([row["participant_id"] for row in rows])


def _folds(rows: Sequence[Mapping[str, str]]) -> str:
    found = sorted({row["fold"] for row in rows})
    if found == ["all"]:
        return "the average of the folds"
    return folds_in_words([int(fold) for fold in found if fold.isdigit()])


def _models(said: Any) -> str:
    return "; ".join(f"{each.name} (SHA-256 {each.sha256[:SHOWN]}...)" for each in models(said))


@dataclasses.dataclass(frozen=True)
class Model:
    """A network that predicted.

    Attributes:
        name: its file, with the fold's folder.
        sha256: of that file.
        cohort: that it was trained on; "" if unknown.
    """

    name: str
    sha256: str
    cohort: str


def models(said: Any) -> list[Model]:
    """What evaluation.json says of its networks; those without a checksum are left out."""
    found = []
    for each in said if isinstance(said, list) else ():
        sums = each.get("sha256") if isinstance(each, dict) else None
        for one in sums if isinstance(sums, list) else [sums]:
            if isinstance(one, str):
                name = "/".join(str(each.get("path")).replace("\\", "/").split("/")[-2:])
                found.append(Model(name, one, str(each.get("cohort") or "")))
    return found


def _external(folders: Folders) -> Known:
    """Every external-NAME/evaluation.json of the run."""
    found: list[str] = []
    sources: list[Source] = []
    for path in sorted(folders.run.glob("external-*/evaluation.json")):
        read = files.document(folders, "run", f"{path.parent.name}/evaluation.json")
        number = read.fact("patients")
        if isinstance(number, Fact):
            found.append(f"{path.parent.name.removeprefix('external-')} ({number.value} patients)")
            sources += number.sources
    if not found:
        return Missing(Source("run/external-*/evaluation.json", "patients"))
    return Fact(found, tuple(sources))


def _true(row: Mapping[str, str], column: str) -> bool:
    return row[column] in ("True", "1", "1.0")


def _lesions(rows: Sequence[Mapping[str, str]]) -> str:
    lesion = sum(float(row["truth_ml"]) > 0 for row in rows)
    mismatch = sum(_true(row, "true_target_mismatch") for row in rows)
    return (
        f"{lesion} of {len(rows)} patients have a reference lesion, and {mismatch} have target "
        "mismatch by it"
    )


def _confusion(rows: Sequence[Mapping[str, str]]) -> str:
    cells = {(True, True): 0, (True, False): 0, (False, True): 0, (False, False): 0}
    for row in rows:
        cells[_true(row, "true_target_mismatch"), _true(row, "predicted_target_mismatch")] += 1
    return (
        f"{cells[True, True]} true positive, {cells[True, False]} false negative, "
        f"{cells[False, True]} false positive and {cells[False, False]} true negative"
    )


def _poor(rows: Sequence[Mapping[str, str]]) -> str:
    dice = [float(row["dice"]) for row in rows if row["dice"]]
    low, none = sum(each <= config.GOOD_DICE for each in dice), sum(each == 0 for each in dice)
    return (
        f"{low} of {len(dice)} patients with a lesion have a Dice of {config.GOOD_DICE:g} or less, "
        f"{none} of them a Dice of 0"
    )


def _measures(numbers: Mapping[tuple[str, str, str], Any]) -> Known:
    found = [
        MEASURES.get(measure, measure.removeprefix("median (IQR) "))
        for table, group, measure in numbers
        if group.startswith(ALL)
        and table
        in (
            "table3_segmentation",
            "table3_further",
            "table2_target_mismatch",
            "agreement",
            "reliability",
        )
        and not measure.startswith(("McNemar", "Median "))
    ]
    source = Source(STATISTICS, "measure")
    return Fact(in_words(list(dict.fromkeys(found))), (source,)) if found else Missing(source)


def _definitions(numbers: Mapping[Any, Mapping[str, str]]) -> Known:
    found = sorted({row["definition"] for row in numbers.values() if row.get("definition")})
    source = Source(STATISTICS, "definition")
    return Fact(in_words(found), (source,)) if found else Missing(source)

"""Every patient of a run predicted once, by models that never saw it, and measured.

The network runs in this process, which has TensorFlow; measuring (distances, AUC, writing maps)
runs in worker processes beside it. What is done is kept patient by patient, so that a killed
evaluation goes on: a result is taken over if models, data and settings are the same.
"""

import dataclasses
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_tools import cohort as cohorts
from data_tools import mni_patient
from data_tools.manifest import Manifest
from data_tools.runtime import atomic, executors
from data_tools.runtime.errors import InputError
from data_tools.splits import SUBSETS, fold_roles
from tf_hypoperfusion.config import RESEARCH_NOTICE, TEST_STRIDE
from tf_hypoperfusion.evaluation import cases, measured_patient, thresholds
from tf_hypoperfusion.evaluation.cases import Case
from tf_hypoperfusion.evaluation.patient_metrics import STEPS
from tf_hypoperfusion.inference import model_files, onnx_model, predictors, sliding_window
from tf_hypoperfusion.inference.page.index import Entry, write_index
from tf_hypoperfusion.training import run_summary

# Raise it when a figure of a patient changes its meaning.
EVALUATION_VERSION = 2
NO_TRUTH = "no Tmax and no mask"
VALIDATION = "validation"
OF_VALIDATION = (
    "these are validation patients, on which the weights were chosen: figures to choose settings "
    "by, not results"
)
# The truth that the cohort's volumes give may differ from the records' by rounding only.
SAME_TRUTH_ML = 0.01


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is evaluated, and how.

    Attributes:
        run: folder of ``tf_hypoperfusion.train``. records: folder of ``build_records``.
        fold: ``0`` to ``4``, or ``all`` that are trained.
        cohort: MNI cohort of the same patients; None uses the windows in the records.
        external: MNI cohort that no fold has seen; the folds' models are averaged over it.
        stride: slices between windows; only where volumes are read.
        workers: processes that measure, or a Dask scheduler.
        maps: write probability, truth and DWI as NIfTI.
        choose_threshold: also choose each fold's threshold on its validation patients.
        validation: measure each fold's validation patients in place of its test patients, to
            choose between settings without a look at the test patients.
    """

    run: str
    records: str
    fold: str = "all"
    cohort: str | None = None
    external: str | None = None
    stride: int = TEST_STRIDE
    workers: int | str = 1
    maps: bool = True
    choose_threshold: bool = False
    validation: bool = False


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What :func:`evaluate` found.

    Attributes:
        folder: where ``patients.csv`` was written.
        rows: one per patient. left_out: patient -> reason. warnings: of the whole.
        seconds_per_patient: medians of ``network`` and ``measure``, when they were measured.
    """

    folder: Path
    rows: list[dict[str, Any]]
    left_out: dict[str, str]
    warnings: list[str]
    seconds_per_patient: dict[str, float]


@dataclasses.dataclass(frozen=True)
class _Part:
    """Patients that one predictor answers for; ``asked``: predict them if they are not kept;
    ``reported``: they are rows of the table, and no mere means of choosing a threshold.
    """

    name: str
    fold: int | None
    asked: bool
    models: list[Path]
    participants: Sequence[str]
    subset: int | None = None
    reported: bool = True


def evaluate(settings: Settings) -> Evaluation:
    """Predict and measure; writes ``patients.csv``, ``thresholds.npz``, ``evaluation.json``, maps.

    Into the run's folder, into ``RUN/external-NAME`` for an external cohort, or into
    ``RUN/validation`` for the validation patients.

    Raises:
        InputError: no trained fold, no records, records or a cohort other than those trained on,
            an external cohort that was trained on, or no patient that can be used.
    """
    run = Path(settings.run)
    asked = _asked_folds(run, settings)
    # The table also keeps what other folds' evaluations left; only the asked ones are predicted.
    folds = asked if settings.external else _trained_folds(run)
    warnings = _unfinished(run, asked)
    seen: dict[tuple, str] = {}
    if settings.external:
        folder = run / f"external-{Path(settings.external).resolve().name}"
        rows_by_name, without = _cohort_rows(settings.external)
        seen = _trained_patients(run, folds, settings.records)
        if not seen:
            warnings.append(
                f"the records that the folds were trained on are not in {settings.records}, so "
                f"nobody checked that the patients of {settings.external} are others"
            )
        models = [_network(run, k) for k in folds]
        parts = [_Part("external", None, True, models, list(rows_by_name))]
        manifest = None
    else:
        from data_tools import records

        folder = run / VALIDATION if settings.validation else run
        reported = VALIDATION if settings.validation else "test"
        if settings.validation:
            warnings.append(OF_VALIDATION)
        manifest = records.load_manifest(settings.records)
        _refuse_other_records(run, asked, settings.records, manifest)
        rows_by_name, without = {}, {}
        if settings.cohort:
            rows_by_name, _ = _cohort_rows(settings.cohort)
        without = dict.fromkeys(manifest.without_truth, NO_TRUTH)
        parts = [
            _Part(
                f"{role}-{k}",
                k,
                k in asked,
                [_network(run, k)],
                manifest.subsets[subset].participants,
                subset,
                role == reported,
            )
            for k in folds
            for role in ([reported, VALIDATION] if settings.choose_threshold else [reported])
            for subset in fold_roles(k)[role]
        ]
    atomic.check_writable(folder)
    with atomic.one_writer(folder / "evaluation"):
        atomic.sweep(folder / "evaluation")
        found, faults = _all_parts(settings, folder, parts, rows_by_name, manifest, seen)
        return _write(settings, folder, parts, found, without | faults, warnings)


def _network(run: Path, fold: int) -> Path:
    """A fold's network: training's ``best.keras``, else the ``model.onnx`` of other software."""
    own = run / f"fold-{fold}/best.keras"
    other = own.with_name(onnx_model.FILE)
    return other if other.is_file() and not own.is_file() else own


def _trained_folds(run: Path) -> list[int]:
    return [k for k in range(SUBSETS) if _network(run, k).is_file()]


def _asked_folds(run: Path, settings: Settings) -> list[int]:
    fold = settings.fold
    if fold != "all" and fold not in map(str, range(SUBSETS)):
        raise InputError(f"fold is {fold!r}; expected 0 to {SUBSETS - 1}, or all")
    folds = [k for k in _trained_folds(run) if fold in ("all", str(k))]
    if not folds:
        raise InputError(
            f"{run} holds no trained fold ({fold}); expected {run}/fold-*/best.keras. Train one: "
            f"python -m tf_hypoperfusion.train --fold={fold.replace('all', '0')} "
            f"--records={settings.records} --run={run}"
        )
    return folds


def _unfinished(run: Path, folds: Sequence[int]) -> list[str]:
    known = {summary.fold: summary for summary in run_summary.summarise(run).folds}
    return [
        f"fold {k} is not trained to its end ({known[k].epochs} epochs so far)"
        for k in folds
        if k in known and not known[k].finished
    ]


def _refuse_other_records(
    run: Path, folds: Sequence[int], records_dir: str, manifest: Manifest
) -> None:
    for k in folds:
        config = atomic.read_json(run / f"fold-{k}/config.json")
        if not config:
            raise InputError(
                f"{run}/fold-{k} has no readable config.json, so nobody knows which patients it "
                "was trained on; bring it back, or train the fold anew"
            )
        if config.get("fold") != k:
            raise InputError(
                f"{run}/fold-{k} holds fold {config.get('fold')} by its config.json: it was "
                f"trained on the test patients of fold {k}. Give the folder its own name back."
            )
        if (config.get("records") or {}).get("fingerprint") != manifest.fingerprint:
            raise InputError(
                f"{run}/fold-{k} was trained on other records than {records_dir}, so a test "
                "patient may have been seen in training; give the records it was trained on"
            )


def _cohort_rows(cohort: str) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Clinical rows of the patients with a truth, and the reasons of those left out."""
    table = cohorts.read_participants(cohort)
    rows = {row["participant_id"]: cohorts.clinical_record(row) for _, row in table.iterrows()}
    if not any(cohorts.mni_file(cohort, name, "dwi").is_file() for name in rows):
        raise InputError(
            f"{cohort} holds no volumes in MNI space; if it is a raw cohort, run\n"
            f"  python -m data_tools.preprocess --cohort={cohort} --out=MNI\nand give MNI"
        )
    without = {}
    for name in rows:
        if not cohorts.mni_file(cohort, name, "dwi").is_file():
            without[name] = f"no volumes: {cohorts.mni_file(cohort, name, 'dwi')} is missing"
        elif not any(
            cohorts.mni_file(cohort, name, what).is_file()
            for what in ("tmax", "desc-hypoperfusion_mask")
        ):
            without[name] = NO_TRUTH
    return {name: row for name, row in rows.items() if name not in without}, without


def _trained_patients(run: Path, folds: Sequence[int], records_dir: str) -> dict[tuple, str]:
    """Volumes -> participant, of all patients that the folds know; {} without their records.

    Three volumes to the microlitre and the size of a voxel are a fingerprint, whatever the patient
    is called elsewhere, however old, and whoever drew the truth.
    """
    from data_tools import records

    try:
        manifest = records.load_manifest(records_dir)
        _refuse_other_records(run, folds, records_dir, manifest)
    except InputError:
        return {}
    return {_volumes_of(patient): patient["participant_id"] for patient in manifest.patients}


def _volumes_of(row: dict[str, Any]) -> tuple:
    return row["brain_ml"], row["coverage_ml"], row["core_ml"], row["voxel_ml"]


def _all_parts(
    settings: Settings,
    folder: Path,
    parts: Sequence[_Part],
    rows: dict[str, dict[str, Any]],
    manifest: Manifest | None,
    seen: dict[tuple, str],
) -> tuple[dict[str, dict[str, dict]], dict[str, str]]:
    """Results by part and patient, faults by patient."""
    found: dict[str, dict[str, dict]] = {part.name: {} for part in parts}
    faults: dict[str, str] = {}
    keys: dict[tuple[str, str], str] = {}
    todo: dict[str, list[str]] = {part.name: [] for part in parts}
    for part in parts:
        part_key = _part_key(settings, part, manifest)
        for name in part.participants:
            key = _patient_key(part_key, settings, name, rows.get(name))
            keys[part.name, name] = key
            saved = atomic.read_json(_result_file(folder, part, name))
            if measured_patient.is_whole(saved, key) and _maps_there(settings, folder, part, name):
                known = seen.get(_volumes_of(saved["row"]))
                if known:
                    faults[name] = _trained_on(known)
                else:
                    found[part.name][name] = saved
            elif part.asked:
                todo[part.name].append(name)

    def tasks() -> Iterator[tuple]:
        for part in parts:
            wanted = todo[part.name]
            if not wanted:
                continue
            loaded = [predictors.load_predictor(path) for path in part.models]
            predictor = sliding_window.average(loaded)
            for name, case in _cases(settings, part, wanted, rows, manifest):
                if isinstance(case, InputError):
                    faults[name] = str(case).removeprefix(f"{name}: ")
                    continue
                known = seen.get(_volumes_of(case.row))
                if known:
                    faults[name] = _trained_on(known)
                    continue
                began = time.monotonic()
                probability = case.predict(predictor)
                took = time.monotonic() - began
                maps = folder / "evaluation/maps" if _with_maps(settings, part) else None
                light = dataclasses.replace(case, image=case.image[:0], nihss=case.nihss[:0])
                yield (
                    name,
                    part.name,
                    _result_file(folder, part, name),
                    maps,
                    keys[part.name, name],
                    light,
                    probability,
                    took,
                    part.fold,
                )

    total = sum(map(len, todo.values()))
    if total:
        for task, result in executors.map_patients(
            measured_patient.measure, tasks(), settings.workers, "evaluate", total=total
        ):
            name, part_name = task[:2]
            if isinstance(result, InputError):
                faults[name] = str(result).removeprefix(f"{name}: ")
                continue
            found[part_name][name] = result
    for part in parts:
        for name in part.participants:
            if part.asked and name not in found[part.name] and name not in faults:
                faults[name] = "not in the records, although their manifest names it"
    return found, faults


def _cases(
    settings: Settings,
    part: _Part,
    wanted: Sequence[str],
    rows: dict[str, dict[str, Any]],
    manifest: Manifest | None,
) -> Iterator[tuple[str, Case | InputError]]:
    if settings.external:
        yield from cases.of_cohort(
            settings.external, [rows[name] for name in wanted], settings.stride
        )
        return
    assert manifest is not None and part.subset is not None
    if not settings.cohort:
        for case in cases.of_records(settings.records, manifest, part.subset, wanted):
            yield case.row["participant_id"], case
        return
    recorded = manifest.rows()
    absent = [name for name in wanted if name not in rows]
    for name in absent:
        yield name, InputError(f"is in the records, not in {settings.cohort}")
    there = [rows[name] for name in wanted if name in rows]
    for name, case in cases.of_cohort(settings.cohort, there, settings.stride):
        if isinstance(case, Case) and _differs(case.row, recorded[name]):
            yield (
                name,
                InputError(
                    f"{name}: truth of {case.row['truth_ml']} mL, {case.row['side']}, in "
                    f"{settings.cohort}, but {recorded[name]['truth_ml']} mL, "
                    f"{recorded[name]['side']}, in {settings.records}; expected the cohort that "
                    "the records were built from"
                ),
            )
        else:
            yield name, case


def _differs(row: dict[str, Any], recorded: dict[str, Any]) -> bool:
    clinical_fields = ("side", "nihss", "age")
    return abs(row["truth_ml"] - recorded["truth_ml"]) > SAME_TRUTH_ML or any(
        row[name] != recorded[name] for name in clinical_fields
    )


def _write(
    settings: Settings,
    folder: Path,
    parts: Sequence[_Part],
    found: dict[str, dict[str, dict]],
    left_out: dict[str, str],
    warnings: Sequence[str],
) -> Evaluation:
    tested = [part for part in parts if part.reported]
    results = [r for part in tested for _, r in sorted(found[part.name].items())]
    if not results:
        raise InputError(
            "no patient could be evaluated:\n"
            + "\n".join(f"  {name}: {reason}" for name, reason in sorted(left_out.items()))
        )
    here = {part.fold for part in tested if found[part.name]}
    if not settings.external and len(here) < SUBSETS:
        absent = ", ".join(str(k) for k in range(SUBSETS) if k not in here)
        warnings = [*warnings, f"patients of fold {absent} are not in the table: not evaluated yet"]
    rows = [dict(result["row"]) for result in results]
    counts = [measured_patient.counts_of(result) for result in results]
    chosen = {}
    if settings.choose_threshold:
        for part in parts:
            if not part.reported and found[part.name]:
                validation = [
                    measured_patient.counts_of(result) for result in found[part.name].values()
                ]
                chosen[part.fold] = thresholds.choose(validation)
        for row, count in zip(rows, counts, strict=True):
            if row["fold"] not in chosen:
                raise InputError(
                    f"fold {row['fold']} was evaluated before, without its validation patients; "
                    "give --fold=all with --choose_threshold=val"
                )
            row.update(thresholds.at(count, chosen[row["fold"]], row["core_ml"]))
    atomic.write_csv(folder / "patients.csv", rows)
    with atomic.replacing(folder / "thresholds.npz") as temporary:
        np.savez_compressed(
            temporary,
            participant_id=np.array([row["participant_id"] for row in rows]),
            covered=np.array([count.covered for count in counts], np.uint32),
            hemisphere=np.array([count.hemisphere for count in counts], np.uint32),
            voxel_ml=np.array([count.voxel_ml for count in counts]),
        )
    medians = {
        what: round(float(np.median([result["seconds"][what] for result in results])), 3)
        for what in ("network", "measure")
    }
    about = {
        "notice": RESEARCH_NOTICE,
        **dataclasses.asdict(settings),
        "models": [
            model_files.describe(path).to_json()
            for part in tested
            if found[part.name]
            for path in part.models
        ],
        "patients": len(rows),
        "left_out": left_out,
        "warnings": list(warnings),
        "seconds_per_patient": medians,
    }
    if chosen:
        about["chosen_thresholds"] = {str(fold): value for fold, value in chosen.items()}
        about["chosen_on"] = "validation patients of each fold: highest mean Dice"
    if settings.maps:
        who = VALIDATION if settings.validation else "test"
        _write_index(folder, rows, f"Evaluation: {folder.name}", who)
    atomic.write_json(folder / "evaluation.json", about)
    return Evaluation(folder, rows, left_out, list(warnings), medians)


def _part_key(settings: Settings, part: _Part, manifest: Manifest | None) -> list[Any]:
    volumes = settings.external or settings.cohort
    return [
        EVALUATION_VERSION,
        STEPS,
        [atomic.sha256(path) for path in part.models],
        manifest.fingerprint if manifest else None,
        [str(Path(volumes).resolve()), settings.stride, *_label_settings(volumes)]
        if volumes
        else None,
    ]


def _label_settings(cohort: str) -> list[str]:
    """What changes a cohort's truth besides its volumes."""
    return [mni_patient.WITHIN_SIDE] if mni_patient.within_side_only(cohort) else []


def _patient_key(
    part_key: list[Any], settings: Settings, name: str, row: dict[str, Any] | None
) -> str:
    files = []
    volumes = settings.external or settings.cohort
    if volumes:
        paths = sorted((Path(volumes) / name).glob("*"))
        files = [[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in paths if p.is_file()]
    return hashlib.sha256(json.dumps([part_key, name, row, files]).encode()).hexdigest()


def _trained_on(participant: str) -> str:
    return f"is {participant} of the records that the folds were trained on"


def _with_maps(settings: Settings, part: _Part) -> bool:
    return settings.maps and part.reported


def _result_file(folder: Path, part: _Part, name: str) -> Path:
    return folder / "evaluation" / part.name / f"{name}.json"


def _maps_there(settings: Settings, folder: Path, part: _Part, name: str) -> bool:
    maps = folder / "evaluation/maps"
    return not _with_maps(settings, part) or measured_patient.drawn(maps, name)


def _write_index(folder: Path, rows: Sequence[dict[str, Any]], title: str, who: str) -> None:
    """``index.html``: every patient with a picture, the smallest Dice first."""
    entries = [
        Entry(
            {
                "patient": row["participant_id"],
                "fold": str(row["fold"]),
                "Dice": row["dice"],
                "AUC": row["auc"],
                "truth, mL": row["truth_ml"],
                "predicted, mL": row["predicted_ml"],
                "core, mL": row["core_ml"],
                "target mismatch": row["true_target_mismatch"],
                "predicted": row["predicted_target_mismatch"],
                "side": row["side"],
                "NIHSS": row["nihss"],
            },
            link=f"evaluation/pages/{row['participant_id']}.html",
            picture=f"evaluation/pictures/{row['participant_id']}.png",
            alt=f"DWI of {row['participant_id']} with truth and prediction",
        )
        for row in sorted(rows, key=lambda row: -1.0 if row["dice"] is None else row["dice"])
    ]
    write_index(
        folder / "index.html", entries, title=title,
        lead=f"{len(rows)} {who} patients, the smallest Dice first.",
        simulated=any(row["cohort"] == "simulated" for row in rows),
    )  # fmt: skip

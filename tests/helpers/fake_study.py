"""A made-up study: the files of a cohort, its records and an evaluated run of three folds."""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np

from data_tools.grid import VOXEL_ML
from data_tools.manifest import SCHEMA_VERSION
from data_tools.splits import fold_roles
from helpers.evaluated_cohorts import table_of
from tf_hypoperfusion.config import preset
from tf_hypoperfusion.evaluation.patient_metrics import STEPS
from tf_hypoperfusion.training.history import MONITOR

FOLDS, PATIENTS = 3, 12
COMMIT = "0123456789abcdef0123456789abcdef01234567"
LOST = (
    ("sub-0091", "excluded", "poor DWI"),
    ("sub-0092", "preprocess", "no ADC.nii.gz"),
    ("sub-0093", "preprocess", "no ADC.nii.gz"),
    ("sub-0094", "truth", "neither Tmax nor an edited mask"),
)


def write_study(folder: Path, *, simulated: bool = False) -> Path:
    """Write ``cohort``, ``mni``, ``records`` and ``run``; returns the run's folder.

    Twelve patients, four who were left out on the way, and a report that is not written yet.
    """
    table = _table(simulated)
    rows = [
        {name: None if value is np.nan or value != value else value for name, value in row.items()}
        for row in table.to_dict("records")
    ]
    names = [row["participant_id"] for row in rows]
    subsets = [names[k::FOLDS] for k in range(FOLDS)]
    _write_cohorts(folder, names, simulated)
    _write_records(folder / "records", rows, subsets, simulated)
    for fold in range(FOLDS):
        _write_fold(folder / f"run/fold-{fold}", fold, simulated)
    table["fold"] = [k % FOLDS for k in range(PATIENTS)]
    _write_counts(folder / "run/thresholds.npz", table)
    table.to_csv(folder / "run/patients.csv", index=False)
    _write_json(folder / "run/evaluation.json", _evaluation(folder, simulated))
    return folder / "run"


def change(folder: Path, file: str, key: str, value: object) -> None:
    """Change a value of one of the study's JSON files.

    Args:
        folder: of the study.
        file: ``run/fold-*/config.json``; all that match.
        key: dotted; ``3`` is a place in a list, and ``[]`` every place.
        value: in its place; None takes it away.
    """
    found = sorted(folder.glob(file))
    assert found, file
    for path in found:
        content = json.loads(path.read_text())
        _put(content, key.split("."), value)
        _write_json(path, content)


def _put(content, keys, value):
    first, *rest = keys
    if first == "[]":
        for each in content:
            _put(each, rest, value)
    elif rest:
        _put(content[int(first) if isinstance(content, list) else first], rest, value)
    elif value is None:
        del content[first]
    else:
        content[int(first) if isinstance(content, list) else first] = value


def change_cells(path: Path, column: str, value: str, **where: str) -> None:
    """Change a column of a CSV or TSV file, in the lines that have these cells."""
    separator = "\t" if path.suffix == ".tsv" else ","
    lines = list(csv.DictReader(path.open(newline=""), delimiter=separator))
    hit = [line for line in lines if all(line[name] == cell for name, cell in where.items())]
    assert hit, where
    for line in hit:
        line[column] = value
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(lines[0]), delimiter=separator)
        writer.writeheader()
        writer.writerows(lines)


def _table(simulated):
    rows = [
        (100, 90, 10, True), (80, 10, 20, False), (60, 70, 0, False), (50, 5, 0, None),
        (120, 100, 75, False), (30, 20, 2, True), (45, 50, 12, True), (20, 40, 0.6, False),
        (15, 14, 0, None), (90, 95, 30, False), (150, 120, 40, False), (0, 6, 0, True),
    ]  # fmt: skip
    return table_of(
        [tuple(map(float, row[:3])) + row[3:] for row in rows],
        cohort="simulated" if simulated else "ours",
        field_strength_t=[1.5, 3.0] * 6,
        site=["North", "South"] * 6,
        truth_from="Tmax",
        derived="",
        lacks="",
        group="",
        tmax_from="",
        voxel_ml=VOXEL_ML,
    )


def _write_counts(path, table):
    """Voxels whose probability is 0.9 or 0.1, so that volumes are those of the table."""
    covered = np.zeros((len(table), 2, STEPS + 1), np.uint32)
    for k, row in enumerate(table.itertuples()):
        true, predicted = (round(ml / VOXEL_ML) for ml in (row.truth_ml, row.predicted_ml))
        common = min(true, predicted) * 4 // 5
        covered[k, 1, [900, 100]] = common, true - common
        covered[k, 0, [900, 100]] = predicted - common, 100_000
        table.loc[k, "dice"] = 2 * common / (true + predicted) if true else np.nan
    np.savez_compressed(
        path,
        participant_id=np.array(table["participant_id"], dtype=str),
        covered=covered,
        hemisphere=covered,
        voxel_ml=np.full(len(table), VOXEL_ML),
    )


def _name(simulated):
    return "Simulated acute stroke cohort" if simulated else "Our strokes"


def _write_cohorts(folder, names, simulated):
    described = {
        "Name": _name(simulated),
        "License": "CC0" if simulated else "CC BY 4.0",
        "SourceDatasets": [{"URL": "https://example.org/strokes"}],
    }
    _write_json(folder / "cohort/dataset_description.json", described)
    lost = [name for name, _, _ in LOST]
    _write_lines(folder / "cohort/participants.tsv", ["participant_id", *names, *lost])
    made = {"GeneratedBy": [{"Name": "data_tools.preprocess", "Version": "7"}]}
    _write_json(folder / "mni/dataset_description.json", described | made)
    _write_lines(folder / "mni/participants.tsv", ["participant_id", *names, lost[-1]])
    for name in names:
        quality = {
            "participant_id": name, "verdict": "good", "registration": "affine",
            "tmax_threshold_s": 6.0, "b_value_s_per_mm2": 1000.0, "spacing_mm": [2.0, 2.0, 5.0],
        }  # fmt: skip
        _write_json(folder / f"mni/{name}/qc.json", quality)


def _write_records(folder, rows, subsets, simulated):
    places = {name: k for k, names in enumerate(subsets) for name in names}
    patients = [row | {"slabs": 12, "subset": places[row["participant_id"]]} for row in rows]
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "cohort": f"{_name(simulated)} - in MNI space",
        "cohort_folder": str(folder.parent / "mni"),
        "licence": "CC0" if simulated else "CC BY 4.0",
        "settings": {
            "stride": 4, "shards": 1, "seed": 7, "folds": FOLDS, "stratify": "volume,side",
            "splits": None, "leave_out": None, "duplicates": "refuse",
        },
        "labels": {"within_stroke_side": False},
        "fingerprint": "f" * 64,
        "slabs": 12 * len(rows),
        "subsets": [
            {"participants": names, "slabs": 12 * len(names), "shards": [], "about": {}}
            for names in subsets
        ],
        "patients": patients,
        "left_out": [
            {"participant_id": name, "step": step, "reason": reason} for name, step, reason in LOST
        ],
        "duplicates": [],
        "warnings": [],
    }  # fmt: skip
    _write_json(folder / "manifest.json", manifest)
    _write_json(folder / "splits.json", {"seed": 7, "subsets": subsets})


def _write_fold(folder, fold, simulated):
    model, training = preset("tiny")
    software = {"tf_hypoperfusion": "0.1.0", "git_commit": COMMIT, "tensorflow": "2.21.0"}
    config = {
        "run": "run",
        "fold": fold,
        "model": dataclasses.asdict(model),
        "training": dataclasses.asdict(training),
        "records": {"fingerprint": "f" * 64, "cohort": f"{_name(simulated)} - in MNI space"},
        "subsets": fold_roles(fold, FOLDS),
        "resolved": {"precision": "float32", "micro_batch": 4},
        "parameters": 7825,
        "steps_per_epoch": 24,
        "devices": ["/device:CPU:0"],
        "software": software,
        "sessions": [{"system": "Linux-6", "devices": ["/device:CPU:0"], "software": software}],
    }
    _write_json(folder / "config.json", config)
    lines = [f"epoch,composite,{MONITOR},val_dice", "1,0.9,0.8,0.3", "2,0.8,0.7,0.4"]
    _write_lines(folder / "history.csv", lines)


def _evaluation(folder, simulated):
    return {
        "run": str(folder / "run"),
        "records": str(folder / "records"),
        "fold": "all",
        "cohort": None,
        "external": None,
        "stride": 4,
        "other_territories": False,
        "built_from": str(folder / "mni"),
        "models": [
            {
                "path": str(folder / f"run/fold-{fold}/best.keras"),
                "sha256": f"{fold}" * 64,
                "cohort": _name(simulated),
                "fold": fold,
            }
            for fold in range(FOLDS)
        ],
        "patients": PATIENTS,
        "left_out": {name: reason for name, _, reason in LOST},
        "left_out_at": {name: step for name, step, _ in LOST},
        "warnings": [],
        "seconds_per_patient": {"network": 0.5, "measure": 0.3},
        "machines": ["A processor, 2 cores"],
    }


def _write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def _write_lines(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")

"""Evaluated cohorts that several test files report on."""

import shutil

import numpy as np
import pytest
from helpers.evaluated_cohorts import table_of, volume_pair

from data_tools.grid import GRID_AFFINE, GRID_SHAPE
from tf_hypoperfusion.evaluation import patient_metrics
from tf_hypoperfusion.evaluation.report import patients


@pytest.fixture
def write(tmp_path):
    """Write a DataFrame as NAME/patients.csv and load it."""

    def save(table, name="ours"):
        (tmp_path / name).mkdir(exist_ok=True)
        table.to_csv(tmp_path / name / "patients.csv", index=False)
        return patients.load(tmp_path / name / "patients.csv")

    return save


@pytest.fixture
def cohort(write):
    """Twelve patients of every kind: no core, no lesion, unknown occlusion, age and NIHSS."""
    rows = [
        (100, 90, 10, True), (80, 10, 20, False), (60, 70, 0, False), (0, 5, 0, None),
        (120, 100, 75, False), (30, 20, 2, True), (45, 50, 12, True), (20, 40, 0.6, False),
        (15, 14, 0, None), (90, 95, 30, False), (150, 120, 40, False), (70, 66, 5, True),
    ]  # fmt: skip
    table = table_of([tuple(map(float, row[:3])) + row[3:] for row in rows])
    table["occlusion"] = [
        "ICA",
        "M1",
        "M2",
        "none",
        "M1",
        "M3",
        None,
        "M4",
        "M2",
        "ICA",
        "M1",
        "M1",
    ]
    table["field_strength_t"] = [1.5, 3] * 6
    table.loc[[3, 8], ["age", "nihss"]] = np.nan
    return write(table)


@pytest.fixture(scope="session")
def counted_patients(tmp_path_factory):
    """Four patients with voxel counts and maps beside patients.csv, as evaluate leaves them.

    Read only.
    """
    from data_tools.cohort import mni_file
    from data_tools.volumes import save_volume

    here = tmp_path_factory.mktemp("report") / "counted"
    rows, counts = [], []
    coverage = np.ones(GRID_SHAPE, bool)
    for k, shift in enumerate((0, 2, 6, 30)):
        probability, truth = volume_pair(shift)
        known = {"truth": truth, "coverage": coverage, "side": "left", "voxel_ml": 0.008}
        found = patient_metrics.patient_metrics(probability, **known)
        counts.append(patient_metrics.threshold_counts(probability, **known))
        rows.append((found.truth_ml, found.predicted_ml, 1.0, True, found))
        for what, data in (
            ("desc-hypoperfusion_probseg", probability),
            ("desc-truth_mask", truth.astype(np.uint8)),
            ("desc-normalised_dwi", 1 + truth.astype(np.float32)),
            ("desc-coverage_mask", coverage.astype(np.uint8)),
        ):
            save_volume(
                mni_file(here / "evaluation/maps", f"sub-{k + 1:04d}", what), data, GRID_AFFINE
            )
    table = table_of([row[:4] for row in rows])
    for name in ("dice", "auc", "hd95_mm", "surface_dice", "precision", "recall"):
        table[name] = [getattr(row[4], name) for row in rows]
    table["voxel_ml"] = 0.008
    table.to_csv(here / "patients.csv", index=False)
    np.savez_compressed(
        here / "thresholds.npz",
        participant_id=np.array(table["participant_id"], dtype=str),
        covered=np.array([c.covered for c in counts], np.uint32),
        hemisphere=np.array([c.hemisphere for c in counts], np.uint32),
        voxel_ml=np.full(4, 0.008),
    )
    return here


@pytest.fixture
def with_counts(counted_patients, tmp_path):
    """A copy of the four patients, loaded."""
    return patients.load(shutil.copytree(counted_patients, tmp_path / "counted"))

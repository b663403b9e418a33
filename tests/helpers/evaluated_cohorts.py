"""Made-up tables of evaluated patients, to be reported on."""

import numpy as np
import pandas as pd

from data_tools import criteria
from data_tools.grid import GRID_SHAPE
from tf_hypoperfusion.evaluation.report import patients

# Hypoperfusion in mL that, with these small cores, is and is not target mismatch.
YES, NO = 100.0, 12.0


def table_of(rows, **changes):
    """patients.csv as a DataFrame from (true mL, predicted mL, core mL, dawn) rows."""
    true, predicted, core, dawn = (list(column) for column in zip(*rows, strict=True))
    n = len(rows)
    lesion = np.array(true) > 0
    table = pd.DataFrame(
        {
            "participant_id": [f"sub-{k:04d}" for k in range(1, n + 1)],
            "age": 70,
            "sex": ["M", "F"] * (n // 2) + ["M"] * (n % 2),
            # DAWN: yes from 10 points on, with these small cores.
            "nihss": [np.nan if d is None else 12 if d else 4 for d in dawn],
            "side": "left",
            "occlusion": "M1",
            "field_strength_t": 3,
            "cohort": "ours",
            "core_ml": core,
            "truth_ml": true,
            "predicted_ml": predicted,
            "dice": np.where(lesion, np.linspace(0.2, 0.8, n), np.nan),
            "auc": np.where(lesion, np.linspace(0.7, 0.99, n), np.nan),
            "true_target_mismatch": criteria.target_mismatch(true, core),
            "predicted_target_mismatch": criteria.target_mismatch(predicted, core),
            "dawn": dawn,
        }
    )
    return table.assign(**changes)


def papers_primary_cohort():
    """413 patients with the joint counts that the paper's text and Table 2 imply."""
    cells = (  # true, model, DAWN, patients
        (YES, YES, True, 129), (YES, YES, False, 124), (YES, NO, True, 11), (YES, NO, False, 17),
        (NO, NO, False, 97), (NO, NO, True, 3), (NO, YES, False, 19), (NO, YES, True, 11),
        (YES, YES, None, 1), (YES, NO, None, 1),
    )  # fmt: skip
    rows = [(t, m, 10.0, d) for t, m, d, count in cells for _ in range(count)]
    assert len(rows) == 413
    return table_of(rows)


def rows_of(table):
    """A table's rows by their first cell."""
    return {row[0]: row[1:] for row in table.rows}


def volume_pair(shift):
    """Probability and truth; the further the shift, the worse the prediction."""
    rng = np.random.default_rng(shift)
    truth = np.zeros(GRID_SHAPE, bool)
    truth[10:25, 40:60, 20:30] = True
    probability = np.where(np.roll(truth, shift, 0), 0.8, 0.1) + rng.uniform(0, 0.1, GRID_SHAPE)
    return probability.astype(np.float32), truth


def as_written(table):
    """A table that was read, with its decisions as ``evaluate`` writes them."""
    words = {name: table[name].map({1.0: "True", 0.0: "False"}) for name in patients.BOOLEANS}
    return table.assign(**words)

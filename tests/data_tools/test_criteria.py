"""DEFUSE 3 and DAWN against a plain reading of the trials' texts, patient by patient."""

import numpy as np
import pytest

from data_tools import criteria

pytestmark = [pytest.mark.core, pytest.mark.quick]


def test_many_patients_against_a_plain_reading():
    rng = np.random.default_rng(0)
    hypo = np.round(rng.uniform(0, 150, 2000), 3) * (rng.random(2000) > 0.1)
    core = np.round(rng.uniform(0, 90, 2000), 3) * (rng.random(2000) > 0.3)
    age, nihss = rng.integers(60, 95, 2000), rng.integers(5, 30, 2000)
    mismatch, dawn = criteria.target_mismatch(hypo, core), criteria.dawn(age, nihss, core)
    ratio = criteria.mismatch_ratio(hypo, core)
    for k in range(2000):
        quotient = 0 if hypo[k] == 0 else (hypo[k] / core[k] if core[k] > 0 else 20)
        assert ratio[k] == pytest.approx(min(quotient, 20))
        expected = quotient >= 1.8 and hypo[k] - core[k] >= 15 and core[k] <= 70
        assert mismatch[k] == expected
        if age[k] >= 80:
            expected = nihss[k] >= 10 and core[k] < 21
        elif nihss[k] >= 20:
            expected = core[k] <= 51
        else:
            expected = nihss[k] >= 10 and core[k] < 31
        assert dawn[k] == expected
    assert 0 < mismatch.sum() < 2000
    assert 0 < dawn.sum() < 2000


def test_edges_and_shapes():
    assert criteria.target_mismatch([90.0, 89.9], [50.0, 50.0]).tolist() == [True, False]
    assert criteria.target_mismatch([85.0, 84.9], 70.0).tolist() == [False, False]  # ratio 1.21
    assert criteria.target_mismatch([126.0, 126.2], [70.0, 70.1]).tolist() == [True, False]
    # 3 x 0.1 is a hair more than 0.3 in floating point; 15 mL are 15 mL.
    assert criteria.target_mismatch(15 + 0.3, 0.1 * 3)
    assert criteria.mismatch_ratio([], []).shape == (0,)

"""Numbers of an image, and whether they are unusual."""

import numpy as np
import pytest

from data_tools.grid import GRID_SHAPE
from tf_hypoperfusion.inference import familiarity

pytestmark = pytest.mark.quick


def image(noise=0.05, slope=0.0, seed=0):
    rng = np.random.default_rng(seed)
    tissue = np.zeros(GRID_SHAPE, bool)
    tissue[20:70, 20:90, 10:50] = True
    dwi = 1 + noise * rng.normal(size=GRID_SHAPE) + slope * np.linspace(-1, 1, 91)[:, None, None]
    adc = 1 + 0.1 * rng.normal(size=GRID_SHAPE) - 0.3 * (dwi - 1)
    return dwi.astype(np.float32), adc.astype(np.float32), tissue


def test_each_number_is_what_its_words_say():
    found = familiarity.measure(*image())
    assert list(found) == list(familiarity.WORDS)
    assert found["dwi_low"] == pytest.approx(1 - 1.645 * 0.05, abs=0.002)
    assert found["dwi_high"] == pytest.approx(1 + 3.09 * 0.05, abs=0.01)
    # The median step of white noise: 0.674 times its SD, and root 2 of that.
    assert found["dwi_grain"] == pytest.approx(0.674 * np.sqrt(2) * 0.05, rel=0.02)
    assert found["adc_middle"] == pytest.approx(1, abs=0.002)
    assert found["tissue_voxels"] == 50 * 70 * 40 and found["dwi_large_scale"] < 0.005
    assert found["dwi_adc"] < -0.1
    uneven = familiarity.measure(*image(slope=0.4))
    # A slope over 50 of the 91 columns, a little smoothed: its SD is 0.4 x 50/90 / root 3.
    assert uneven["dwi_large_scale"] == pytest.approx(0.4 * 50 / 90 / np.sqrt(3), rel=0.2)
    assert uneven["dwi_grain"] == pytest.approx(found["dwi_grain"], rel=0.05)
    assert familiarity.measure(*image()[:2], np.zeros(GRID_SHAPE, bool)) == {}


def test_an_image_is_unusual_where_it_lies_outside_the_others():
    patients = [familiarity.measure(*image(noise, seed=k)) for k, noise in enumerate((0.04, 0.06))]
    familiar = familiarity.ranges(patients)
    assert familiarity.unlike(patients[0], familiar) == ()
    assert familiarity.unlike(familiarity.measure(*image(0.05, seed=9)), {}) == ()
    reasons = familiarity.unlike(familiarity.measure(*image(0.12)), familiar)
    assert any("unlike those of the calibration: the grain of the DWI is 0.11" in r
               for r in reasons)  # fmt: skip
    low, high = familiar["dwi_grain"]
    width = patients[1]["dwi_grain"] - patients[0]["dwi_grain"]
    assert (low, high) == pytest.approx(
        (patients[0]["dwi_grain"] - width / 4, patients[1]["dwi_grain"] + width / 4), abs=1e-4
    )
    # What is not known of every patient has no range.
    assert "dwi_low" not in familiarity.ranges([{"dwi_low": 1.0}, {}])

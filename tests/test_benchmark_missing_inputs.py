"""What a network loses without an input: figures of networks whose answers are known."""

import numpy as np
import pytest

from benchmarks import missing_inputs
from data_tools.cohort import clinical_record, read_participants
from data_tools.grid import hemisphere
from tf_hypoperfusion.inference.sliding_window import VolumeAnswer


@pytest.fixture(scope="module")
def two(mni_cohort):
    """Folder and two patients: one with a stroke on the right, one on the left."""
    rows = [clinical_record(row) for _, row in read_participants(mni_cohort).iterrows()]
    return str(mni_cohort), [next(r for r in rows if r["side"] == s) for s in ("right", "left")]


def test_each_input_is_taken_away(two):
    asked = []

    def by_dwi(patient, given):
        asked.append((patient.dwi.any(), patient.adc_um2_per_s.any(), given))
        bright = patient.dwi > np.median(patient.dwi[patient.brain])
        return VolumeAnswer((bright & patient.brain).astype(np.float32)[np.newaxis])

    found = missing_inputs.answer(*two, by_dwi)
    ways = list(found)
    told = [(way, side) for way in ways for side in (("right",) if way.side else ("left", "right"))]
    assert len(asked) == 2 * len(told)
    for (way, side), (dwi, adc, given) in zip(told, asked, strict=False):
        assert (dwi, adc) == (way.dwi, way.adc)
        assert (given.nihss is not None, given.side) == (way.nihss, side)
    whole = found[missing_inputs.ALL]
    lines = {way.name: missing_inputs.line(way, each, whole) for way, each in found.items()}
    assert lines["no ADC map"]["Dice"] == lines["all inputs"]["Dice"] > "0.00"
    assert lines["no ADC map"]["change"] == "+0.000" and lines["all inputs"]["change"] == ""
    assert lines["no DWI"]["Dice"] == "0.00" and lines["no DWI"]["change"].startswith("-")
    assert lines["no DWI"]["side_found"] == "" and lines["no side"]["side_found"].endswith("/2")


def test_the_side_with_the_larger_answer_is_found(two):
    left = hemisphere("left").astype(np.float32)

    def sees_the_left(patient, given):
        return VolumeAnswer(left[np.newaxis] * (given.side == "left"))

    found = missing_inputs.answer(*two, sees_the_left)
    for way, each in found.items():
        told = [None, None] if way.side else [False, True]
        assert [answered.side_found for answered in each] == told

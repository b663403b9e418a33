"""Simulated patients in memory: what records would give a network, each computed once."""

import numpy as np
import pytest
from helpers import commands

from data_tools import mni_patient
from data_tools.cohort import clinical_record, read_participants
from data_tools.grid import SIDES, from_frame, to_frame, window_about_brain
from data_tools.runtime.errors import InputError
from tf_hypoperfusion import train_on_gpu
from tf_hypoperfusion.inference.sliding_window import model_image
from tf_hypoperfusion.training.gpu import patients
from tf_hypoperfusion.training.gpu.patients import BRAIN, CORE, COVERAGE, HELD, TRUTH

pytestmark = pytest.mark.quick


@pytest.fixture(scope="module")
def one(mni_cohort):
    """A patient of a simulated cohort: from its files, and held."""
    row = clinical_record(next(iter(read_participants(mni_cohort).iterrows()))[1])
    patient, label, _ = mni_patient.load_labelled(mni_cohort, row)
    core = mni_patient.load_core(mni_cohort, row["participant_id"])
    return row, patient, label, patients.held(patient, row["side"], row["nihss"], core)


def test_what_is_held_is_what_a_network_sees(one):
    row, patient, label, held = one
    image = model_image(patient.dwi, patient.adc_um2_per_s, patient.brain, row["side"])
    window = window_about_brain(HELD)
    np.testing.assert_array_equal(held.dwi[0].astype(np.float32), image[window][..., 0])
    np.testing.assert_array_equal(held.adc[0], to_frame(patient.adc_um2_per_s)[window])
    ratio = (held.adc[0] / held.adc_mean[0]).astype(np.float16).astype(np.float32)
    tissue = (held.adc[0] > 0) & (held.adc[0] < 2000)
    np.testing.assert_array_equal(np.where(tissue, ratio, 0), image[window][..., 1])
    np.testing.assert_array_equal((held.adc[0] > 0) & (held.adc[0] < 620), image[window][..., 2])
    masks = (
        (BRAIN, patient.brain), (TRUTH, label.truth), (COVERAGE, label.coverage),
        (CORE, label.core_truth),
    )  # fmt: skip
    for bit, mask in masks:
        np.testing.assert_array_equal(held.flags[0] & bit > 0, to_frame(mask)[window])
    assert SIDES[held.side[0]] == row["side"]
    assert held.nihss[0] == np.float32(-1 if row["nihss"] is None else row["nihss"] / 21)


def test_the_whole_grid_is_held():
    everywhere = np.zeros((128, 128), bool)
    everywhere[window_about_brain(HELD)] = True
    assert from_frame(everywhere).all()


def test_each_patient_is_simulated_once_and_looks_go_by_turns(one, tmp_path, monkeypatch):
    asked = []

    class Made:
        plan, nihss = type("Plan", (), {"side": "left"}), 7

        def mni(self):
            return one[1]

        def mni_core(self):
            return one[2].core_truth

    def simulate(seed, number, *, look, shift):
        asked.append((seed, number, look))
        assert shift is None
        if number == 3:
            raise InputError("no such head")
        return Made()

    monkeypatch.setattr(patients, "simulate_patient", simulate)
    looks = ("first", "wide")
    made = patients.simulated(5, [1, 2, 3], tmp_path, looks=looks)
    assert asked == [(5, 1, "wide"), (5, 2, "first"), (5, 3, "wide")]
    assert len(made) == 2
    np.testing.assert_array_equal(made.dwi[1], one[3].dwi[0])
    del asked[:]
    again = patients.simulated(5, [1, 2], tmp_path, looks=looks)
    assert asked == []
    for name, array in made.arrays().items():
        np.testing.assert_array_equal(again.arrays()[name], array)


def test_what_was_not_simulated_in_time_is_left_out(tmp_path):
    with pytest.raises(InputError, match="no patient was simulated in 0 minutes"):
        patients.simulated(5, [1], tmp_path, minutes=0)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--networks=0", "--networks is 0; expected more than 0"),
        ("--minutes=0", "--minutes is 0.0; expected more than 0"),
        ("--layers=fast", "expected one of auto, plane, stock"),
        ("--seed=1000000", "expected less than 1000000"),
    ],
)
def test_what_cannot_be_is_refused_first(flag, message, tmp_path, capsys):
    folders = (f"--run={tmp_path}/run", f"--cache={tmp_path}/cache")
    assert commands.call(train_on_gpu, flag, *folders) == 2
    assert message in capsys.readouterr().err

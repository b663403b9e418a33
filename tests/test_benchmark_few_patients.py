"""Few patients with trained weights and without: differences of known figures, refusals."""

import functools

import pytest
from helpers import commands

from benchmarks import few_patients
from benchmarks.few_patients import Figures
from data_tools.runtime.errors import InputError

pytestmark = pytest.mark.quick
BEFORE = Figures(site={"0": 0.5, "1": 0.3}, home={"0": 0.6, "1": 0.8})
FOUND = {
    ("tuned", 0): Figures(site={"0": 0.6, "1": 0.4}, home={"0": 0.6, "1": 0.7}, minutes=9.0),
    ("tuned", 1): Figures(site={"0": 0.7, "1": 0.4}, home={"0": 0.6, "1": 0.8}),
    ("scratch", 0): Figures(site={"0": 0.5, "1": 0.4}, home={"0": 0.5, "1": 0.5}, cpu_minutes=3.0),
}  # fmt: skip


def test_gains_are_per_patient_and_only_where_the_rival_has_the_same_draw():
    shipped, first, second, mean, rival = few_patients.lines(FOUND, BEFORE)
    assert shipped["site Dice"] == "0.400" and shipped["home Dice"] == "0.700"
    assert (first["site gain"], first["home gain"]) == ("+0.050", "-0.050")
    assert first["minutes"] == "9.0" and first["CPU minutes"] == ""
    assert "site gain" not in second and second["home gain"] == "+0.000"
    assert (mean["draw"], mean["site gain"], mean["home gain"]) == ("mean", "+0.050", "-0.025")
    assert rival["home gain"] == "-0.200" and "site gain" not in rival


def test_figures_of_other_patients_are_not_compared():
    with pytest.raises(InputError, match="figures of other patients lie in --out"):
        few_patients.gain({"0": 0.5}, {"1": 0.5})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--draws=0,x",), "--draws holds 'x'; expected numbers from 0"),
        (("--variant=tuned=--epochs=3",), "expected a number of patients first"),
        (("--variant=tuned=0",), "expected a number of patients first"),
    ],
)
def test_what_cannot_be_run_is_refused_at_once(tmp_path, capsys, given, message):
    call = functools.partial(commands.call, few_patients)
    assert call(f"--out={tmp_path / 'few'}", *given) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.json"))

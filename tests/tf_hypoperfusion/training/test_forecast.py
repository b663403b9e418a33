"""What a study will take: measured once, and the arithmetic and the words of the command."""

from types import SimpleNamespace

import pytest
from helpers.commands import call

from tf_hypoperfusion import config, plan
from tf_hypoperfusion.training import forecast
from tf_hypoperfusion.training.forecast import Rates

RATES = Rates(patient_s=36.0, step_s=1.0, slab_s=0.25, mni_gb=0.01, records_gb=0.02, network_gb=0.1)


@pytest.fixture
def measured(monkeypatch):
    monkeypatch.setattr(forecast, "measure", lambda configs, stride, log: RATES)


def test_a_machine_is_measured():
    configs = config.preset("tiny", base_filters=2, batch_size=2)
    said = []
    rates = forecast.measure(configs, 16, said.append)
    assert rates.patient_s > 0.5 and rates.step_s > rates.slab_s > 0
    assert 0.001 < rates.mni_gb < 0.1 and 0.001 < rates.records_gb < 0.1
    assert 0 < rates.network_gb < 0.01
    assert len(said) == 2


@pytest.mark.quick
def test_more_workers_and_fewer_windows_take_less():
    configs = config.preset("tiny", epochs=2)

    def hours(**changed):
        found = forecast.stations(40, RATES, configs, **{"stride": 4} | changed)
        return {each.name: each.hours for each in found}

    once, shared, coarse = hours(), hours(workers=2), hours(stride=16)
    assert shared["preprocess"] == once["preprocess"] / 2 and shared["train"] == once["train"]
    assert coarse["train"] < once["train"] / 2 and coarse["preprocess"] == once["preprocess"]
    assert once["preprocess"] == 40 * 36 / 3600


@pytest.mark.quick
class TestCommand:
    def test_hours_and_disk_are_added_up(self, measured, tmp_path, capsys):
        where = f"--disk={tmp_path / 'not/yet'}"
        assert call(plan, "--patients=100", "--preset=tiny", "--stride=4", where) == 0
        out = capsys.readouterr().out
        assert "100 patients, preset tiny: 5 folds" in out
        assert "36 s to register a patient, 1.00 s an optimizer step of 4 slabs" in out
        rows = {line.split()[0]: line.split() for line in out.splitlines() if "at most" in line}
        parts = ("preprocess", "build_records", "train", "evaluate")
        for column in (3, 5):  # hours, GB
            values = [float(rows[name][column]) for name in parts]
            assert float(rows["all"][column]) == pytest.approx(sum(values), abs=0.02)

    def test_a_full_disk_is_told_before_anything_begins(self, measured, monkeypatch, capsys):
        monkeypatch.setattr(plan.shutil, "disk_usage", lambda path: SimpleNamespace(free=1e9))
        assert call(plan, "--patients=100", "--preset=tiny") == 2
        assert "1.0 GB are free; expected 3." in capsys.readouterr().err

    @pytest.mark.parametrize("flags", [[], ["--patients=3", "--source=x.zip"]])
    def test_patients_are_counted_or_said(self, flags, capsys):
        assert call(plan, *flags) == 2
        assert "expected either --source or --patients" in capsys.readouterr().err

"""The one command: it lists all others, runs them with their own flags and status, and helps."""

import configparser
import importlib.metadata
import subprocess
import sys

import pytest
from helpers import PROJECT

from tf_hypoperfusion import command_line

pytestmark = pytest.mark.quick


@pytest.fixture
def said(capsys, monkeypatch):
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["hypoperfusion", *words])
        status = command_line.main()
        return status, capsys.readouterr()

    return run


def test_every_command_of_the_packages_is_listed(said):
    there = {
        ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__main__")
        for package in ("data_tools", "tf_hypoperfusion")
        for path in (PROJECT / package).rglob("*.py")
        if '__name__ == "__main__"' in path.read_text()
    }
    assert set(command_line.MODULES.values()) == there
    status, (out, _) = said()
    assert status == 0
    assert all(f"\n  {name} " in out for name in command_line.MODULES)
    assert max(map(len, out.splitlines())) <= 96
    assert "not a medical device" in out


# What these call ends with it.
SHARED_ENDS = ("cohort_prediction.answer(", "service.serve(")


@pytest.mark.parametrize("module", command_line.MODULES.values())
def test_every_command_ends_with_what_comes_next(module):
    source = command_line._file(module).read_text()
    assert any(call in source for call in ("command.next_steps(", *SHARED_ENDS))


@pytest.mark.parametrize("wing", ["inference/cohort_prediction", "hospital/service"])
def test_so_do_those_that_they_share(wing):
    assert "    next_steps(" in (PROJECT / f"tf_hypoperfusion/{wing}.py").read_text()


@pytest.mark.parametrize(
    ("name", "advice"),
    [("predct", "did you mean predict?"), ("xyzzy", "hypoperfusion alone lists them")],
)
def test_a_name_that_is_none_gets_advice(said, name, advice):
    status, (_, error) = said(name)
    assert status == 2
    assert f"{name} is not a command; {advice}" in error


def test_the_version_is_that_of_the_package(said):
    _, (out, _) = said("--version")
    assert out.startswith(f"hypoperfusion {importlib.metadata.version('tf-hypoperfusion')}. ")


@pytest.mark.parametrize("name", ["check-cohort", "check_cohort"])
def test_a_command_gets_its_flags_and_gives_its_status(name, tmp_path):
    words = [sys.executable, "-m", "tf_hypoperfusion", name, f"--cohort={tmp_path}/none"]
    done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "none" in done.stderr and "Traceback" not in done.stderr


def test_pip_installs_it_under_its_name():
    parser = configparser.ConfigParser()
    parser.read(PROJECT / "setup.cfg")
    assert parser["options.entry_points"]["console_scripts"].split() == [
        "hypoperfusion", "=", "tf_hypoperfusion.command_line:main",
    ]  # fmt: skip

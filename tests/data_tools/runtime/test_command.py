"""The frame of every command: exit status, help, messages without a traceback."""

import importlib
import os
import subprocess
import sys
import time

import pytest
from absl import flags

from data_tools.runtime import atomic, command, progress
from data_tools.runtime.errors import InputError, RunAgain

pytestmark = pytest.mark.quick


@pytest.fixture
def toy():
    """Flags of a command with one required and one bounded flag."""
    values = flags.FlagValues()
    flags.DEFINE_string("cohort", None, "Folder to read.", required=True, flag_values=values)
    flags.DEFINE_integer("stride", 4, "Slices.", lower_bound=1, flag_values=values)
    return values


def test_flags_reach_main_and_none_means_success(toy):
    seen = {}

    def main():
        seen.update(cohort=toy.cohort, stride=toy.stride)

    assert command.run(main, toy, "", ["--cohort=a", "--stride=7"]) == 0
    assert seen == {"cohort": "a", "stride": 7}


def test_a_second_run_does_not_remember_the_first(toy):
    command.run(lambda: 0, toy, "", ["--cohort=a", "--stride=7"])
    assert command.run(lambda: toy.stride, toy, "", ["--cohort=a"]) == 4
    assert command.run(lambda: 0, toy, "", []) == 2


def test_mains_status_is_passed_on(toy):
    assert command.run(lambda: command.EXIT_SOME_FAILED, toy, "", ["--cohort=a"]) == 1


@pytest.mark.parametrize(("public", "mode"), [(False, 0o640), (True, 0o644)])
def test_others_read_nothing_of_patients(toy, tmp_path, public, mode):
    file = tmp_path / "figures.json"
    before = os.umask(0o022)
    try:
        command.run(lambda: atomic.write_json(file, {}), toy, "", ["--cohort=a"], public=public)
        assert os.umask(0o022) == 0o022  # as it was
    finally:
        os.umask(before)
    assert file.stat().st_mode & 0o777 == mode


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "--cohort is required."),
        (
            ["--cohort=a", "--stride=0"],
            "--stride=0 is not valid; expected a whole number, 1 or more",
        ),
        (
            ["--cohort=a", "--stride=x"],
            "--stride=x is not valid; expected a whole number, 1 or more",
        ),
        (
            ["--cohort=a", "--strid=4"],
            "--strid is not a flag of this command; did you mean --stride?",
        ),
        (["--cohort=a", "left"], "'left' is not understood: every argument is a flag"),
    ],
)
def test_bad_flags_exit_with_2_before_main(toy, capsys, argv, message):
    assert command.run(lambda: pytest.fail("main ran"), toy, "", argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert "--help" in error
    assert "Traceback" not in error


def test_an_input_error_is_a_message_and_status_2(toy, capsys):
    def main():
        raise InputError("sub-0001: no DWI; expected one")

    assert command.run(main, toy, "", ["--cohort=a"]) == 2
    captured = capsys.readouterr()
    assert captured.err == "error: sub-0001: no DWI; expected one\n"
    assert captured.out == ""


def test_an_interrupt_is_status_130(toy, capsys):
    def main():
        raise KeyboardInterrupt

    assert command.run(main, toy, "", ["--cohort=a"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_stop_for_a_scheduler_is_status_75(toy, capsys):
    def main():
        raise RunAgain("the state is saved")

    assert command.run(main, toy, "", ["--cohort=a"]) == 75
    assert capsys.readouterr().err == "the state is saved\n"


def test_a_defect_keeps_its_traceback(toy):
    def main():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        command.run(main, toy, "", ["--cohort=a"])


@pytest.mark.parametrize("argument", ["--help", "-h", "--helpfull"])
def test_help_shows_what_it_does_and_the_flags(toy, capsys, argument):
    status = command.run(lambda: pytest.fail("main ran"), toy, "Check a cohort.", [argument])
    assert status == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Check a cohort.")
    assert "--cohort" in shown
    assert "Folder to read." in shown


def test_help_that_is_not_read_to_its_end_is_no_error():
    program = [sys.executable, "-m", "data_tools.check_cohort", "--help"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == 0


def test_headings_part_the_flags_and_a_title_may_come_again(capsys):
    values = flags.FlagValues()
    flags.DEFINE_string("name", "x", "Name.", flag_values=values)
    command.heading("Output", values)
    flags.DEFINE_string("out", None, "<FOLDER> Where to.", required=True, flag_values=values)
    command.heading("Machine", values)
    command.define_workers(values, "Worker processes.")
    command.heading("Output", values)
    flags.DEFINE_bool("maps", True, "Maps too.", flag_values=values)
    assert command.run(lambda: 0, values, "Writes.", ["--help"]) == 0
    assert (
        capsys.readouterr().out
        == """Writes.

Flags:
  --name=TEXT                 Name. (default: x)

Output:
  --out=FOLDER                Where to. (required)
  --[no]maps                  Maps too. (default: true)

Machine:
  --workers=N                 Worker processes. (default: 1)
  --dask_scheduler=ADDRESS    tcp://HOST:PORT of a Dask cluster that does the work instead of
                              --workers. It must see the same files (extra `cluster`).
"""
    )


def test_a_flag_that_went_says_where_it_is(toy, capsys):
    command.moved(["colour", "shade"], "paint with python -m paint", toy)
    for name in ("colour", "shade"):
        assert command.run(lambda: pytest.fail("main ran"), toy, "", [f"--{name}=red"]) == 2
        told = f"error: --{name} is not a flag of this command; paint with python -m paint\n"
        assert capsys.readouterr().err.startswith(told)


def test_the_stride_is_within_a_slab_and_the_precision_one_of_two(capsys):
    values = flags.FlagValues()
    command.define_stride(values, 4, cut="slab", text="Not more.")
    command.define_precision(values, "Arithmetic.")

    def main():
        assert (values.stride, values.precision) == (16, "bfloat16")

    assert command.run(main, values, "", ["--stride=16", "--precision=bfloat16"]) == 0
    assert command.run(main, values, "", ["--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Slices from one slab to the next, 1 to 16. Not more. (default: 4)" in shown
    assert "--precision=float32|bfloat16 Arithmetic. (default: float32)" in shown
    for wrong in ("--stride=17", "--stride=0"):
        assert command.run(main, values, "", [wrong]) == 2
        assert "expected a whole number from 1 to 16" in capsys.readouterr().err
    assert command.run(main, values, "", ["--precision=int8"]) == 2
    assert "expected float32 or bfloat16" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["build_records", "check_cohort", "preprocess"])
def test_commands_explain_themselves_and_refuse_unknown_flags(capsys, name):
    module = importlib.import_module(f"data_tools.{name}")
    assert command.run(module.main, module.FLAGS, module.__doc__, ["--help"]) == 0
    assert f"python -m data_tools.{name} --cohort=" in capsys.readouterr().out
    assert command.run(module.main, module.FLAGS, module.__doc__, ["--colour=red"]) == 2
    assert "colour" in capsys.readouterr().err


def test_a_real_process_exits_with_2_and_no_traceback(run_command, tmp_path):
    result = run_command("data_tools.check_cohort", f"--cohort={tmp_path}")
    assert result.returncode == 2
    assert "participants.tsv: no such file" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_empty_out_is_refused():
    """It would be the folder that the user stands in."""
    given = flags.FlagValues()
    command.define_patient(given, "rule")
    given(["predict", "--out= ", "--dwi=d", "--nihss=5", "--side=left"])
    with pytest.raises(InputError, match="--out is empty; expected a folder for the result"):
        command.patient_request(given)


@pytest.fixture
def of_patient():
    values = flags.FlagValues()
    command.define_patient(values, "rule")
    return values


def test_what_a_person_says_of_the_files_reaches_the_request(of_patient):
    seen = []
    given = ["--dwi=d", "--nihss=3", "--side=left", "--out=o", "--b0=z", "--b_value=800",
             "--adc_unit=mm2/s", "--brain_mask=m", "--few_directions", "--series=7"]  # fmt: skip
    command.run(
        lambda: seen.append(command.patient_request(of_patient)), of_patient, "", given
    )  # fmt: skip
    assert seen[0].b0 == "z"
    assert seen[0].overrides.given() == {
        "series": "7",
        "b_value": 800.0,
        "adc_unit": "mm2/s",
        "brain_mask": "m",
        "few_directions": True,
    }
    command.run(
        lambda: seen.append(command.patient_request(of_patient)), of_patient, "", given[:4]
    )  # fmt: skip
    assert seen[1].overrides.given() == {} and seen[1].b0 is None


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--cohort=c", "--out=o", "--brain_mask=m"], "leave out --brain_mask"),
        (["--cohort=c", "--out=o", "--b0=m"], "leave out --b0"),
        (["--cohort=c", "--out=o", "--series= "], "--series is empty"),
        (["--cohort=c", "--out=o", "--b_value=0"], "--b_value=0 is not valid"),
        (["--cohort=c", "--out=o", "--adc_unit=m2/s"], "--adc_unit=m2/s is not valid"),
    ],
)
def test_what_cannot_be_said_of_files_is_refused(of_patient, argv, message, capsys):
    status = command.run(lambda: command.patient_request(of_patient) and 0, of_patient, "", argv)
    assert status == 2
    assert message in capsys.readouterr().err


def test_a_cohorts_command_knows_the_same_flags_but_no_mask():
    for name in ("data_tools.preprocess", "data_tools.check_cohort"):
        values = importlib.import_module(name).FLAGS
        assert {"series", "b_value", "adc_unit", "few_directions"} <= set(values)
        assert "brain_mask" not in values


def test_the_last_lines_are_what_to_open_and_what_comes_next(capsys):
    run = command.line("build-records", cohort="my cohort", out="records", folds=None)
    command.next_steps(look_at="my cohort/qc.html", run=run)
    assert capsys.readouterr().out == (
        "open  my cohort/qc.html\n"
        "next  hypoperfusion build-records --cohort='my cohort' --out=records\n"
    )


def test_next_words_are_given_as_they_are(capsys):
    given = ["--dwi=...", "--out=result"]
    command.next_steps(run=command.line("predict", given=given, model="m"))
    assert (
        capsys.readouterr().out == "next  hypoperfusion predict --model=m --dwi=... --out=result\n"
    )


def test_a_command_that_is_slow_and_silent_says_so(toy, monkeypatch, capfd):
    monkeypatch.setenv(progress.VARIABLE, "0.1")
    heard = []

    def main():
        with progress.doing("thinking"):
            deadline = time.monotonic() + 60
            while "... thinking" not in "".join(heard):
                assert time.monotonic() < deadline
                heard.append(capfd.readouterr().err)
                time.sleep(0.05)

    assert command.run(main, toy, "", ["--cohort=a"]) == 0

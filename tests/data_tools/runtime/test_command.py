"""The frame of every command: exit status, help, messages without a traceback."""

import importlib

import pytest
from absl import flags

from data_tools.runtime import command
from data_tools.runtime.errors import InputError


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


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "--cohort"),
        (["--cohort=a", "--stride=0"], "flag --stride=0"),
        (["--cohort=a", "--stride=x"], "flag --stride=x"),
        (["--cohort=a", "--strid=4"], "strid"),
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

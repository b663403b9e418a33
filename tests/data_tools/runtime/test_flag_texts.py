"""What a command says of its flags: the list of --help, and messages that say what was expected."""

import pytest
from absl import flags

from data_tools.runtime import command, flag_texts

pytestmark = pytest.mark.quick


@pytest.fixture
def values():
    """A flag of each kind; ``out`` and ``patients`` are required."""
    values = flags.FlagValues()
    flags.DEFINE_string("out", None, "<FOLDER> Where to.", required=True, flag_values=values)
    flags.DEFINE_integer("patients", None, "How many.", required=True, flag_values=values)
    flags.DEFINE_integer("stride", 4, "Slices.", 1, 16, flag_values=values)
    flags.DEFINE_integer("seed", 1, "Seed.", flag_values=values)
    flags.DEFINE_integer("most", 1, "Most.", upper_bound=9, flag_values=values)
    flags.DEFINE_float("poll_s", 2.0, "<SECONDS> Between looks.", 0.1, flag_values=values)
    flags.DEFINE_float("ratio", 5e-4, "Ratio.", flag_values=values)
    flags.DEFINE_enum("form", "bytes", ["bytes", "volume", "slabs"], "Form.", flag_values=values)
    flags.DEFINE_list("model", ["a", "b"], "Models.", flag_values=values)
    flags.DEFINE_bool("maps", True, "Maps.", flag_values=values)
    flags.DEFINE_bool("no_gates", False, "No gates.", flag_values=values)
    flags.DEFINE_bool("augment", None, "Augment. (paper: false)", flag_values=values)
    return values


def told(values, capsys, *argv):
    assert command.run(lambda: pytest.fail("main ran"), values, "", argv) == 2
    message, advice = capsys.readouterr().err.splitlines()
    assert advice == "Run with --help to see the flags."
    return message.removeprefix("error: ")


def test_each_kind_is_shown_as_it_is_written(values):
    assert flag_texts.describe(values, {}).splitlines() == [
        "Flags:",
        "  --out=FOLDER                Where to. (required)",
        "  --patients=N                How many. (required)",
        "  --stride=N                  Slices. (default: 4)",
        "  --seed=N                    Seed. (default: 1)",
        "  --most=N                    Most. (default: 1)",
        "  --poll_s=SECONDS            Between looks. (default: 2)",
        "  --ratio=NUMBER              Ratio. (default: 0.0005)",
        "  --form=bytes|volume|slabs   Form. (default: bytes)",
        "  --model=A,B,...             Models. (default: a,b)",
        "  --[no]maps                  Maps. (default: true)",
        "  --no_gates                  No gates. (default: false)",
        "  --[no]augment               Augment. (paper: false)",
    ]


def test_long_texts_are_wrapped_and_a_default_is_not_parted():
    values = flags.FlagValues()
    text = "word " * 12 + "end."  # the default would begin in this line and end in the next
    flags.DEFINE_string("final_learning_rate_ratio", "none", text, flag_values=values)
    _, flag, first, second = flag_texts.describe(values, {}).splitlines()
    assert flag == "  --final_learning_rate_ratio=TEXT"
    assert first == " " * 30 + text
    assert second == " " * 30 + "(default: none)"


def test_prose_is_wrapped_and_examples_stay():
    example = "    python -m data_tools.simulate " + "--flag=value " * 6
    prose = ("A sentence of --many words that goes on " * 3).strip()
    shown = flag_texts.wrap(f"Title.\n\n{example}\n\n{prose}\nand on.").splitlines()
    assert shown[:4] == ["Title.", "", example, ""]
    assert max(map(len, shown[4:])) <= 96 and " ".join(shown[4:]) == f"{prose} and on."


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ((), "--out and --patients are required."),
        (("--out=x",), "--patients is required."),
        (("--stride=99",), "--stride=99 is not valid; expected a whole number from 1 to 16"),
        (("--patients=x",), "--patients=x is not valid; expected a whole number"),
        (("--most=10",), "--most=10 is not valid; expected a whole number, at most 9"),
        (("--poll_s=0",), "--poll_s=0 is not valid; expected a number, 0.1 or more"),
        (("--ratio=a: b",), "--ratio=a: b is not valid; expected a number"),
        (("--form=xml",), "--form=xml is not valid; expected bytes, volume or slabs"),
        (("--maps=maybe",), "--maps=maybe is not valid; expected true or false"),
        (("--nomaps=1",), "--nomaps takes no value; expected --nomaps or --maps=false"),
        (("--out",), "--out has no value; expected --out=FOLDER"),
        (
            (f"--stride={'9' * 5000}",),
            f"--stride={'9' * 40}... is not valid; expected a whole number from 1 to 16",
        ),
        (("--ouf=x",), "--ouf is not a flag of this command; did you mean --out?"),
        (("--no-gates",), "--no-gates is not a flag of this command; did you mean --no_gates?"),
        (("--nomap",), "--nomap is not a flag of this command; did you mean --nomaps?"),
        (("--colour=red",), "--colour is not a flag of this command."),
        (
            ("--seed", "1", "out=x"),
            "'out=x' is not understood: every argument is a flag (--name=value); did you mean "
            "--out=x?",
        ),
        (  # as word processors write it
            ("–Patients=3",),
            "'–Patients=3' is not understood: every argument is a flag (--name=value); did you "
            "mean --patients=3?",
        ),
        (
            ("--out=x", "--patients=1", "5"),
            "'5' is not understood: every argument is a flag (--name=value).",
        ),
        (
            ("--flagfile=/none",),
            "Unable to open flagfile: [Errno 2] No such file or directory: '/none'",
        ),
    ],
)
def test_messages_say_what_was_expected(argv, message, values, capsys):
    assert told(values, capsys, *argv) == message


def test_a_switch_is_turned_off_in_two_ways(values):
    for off in ("--nomaps", "--maps=false"):
        assert (
            command.run(lambda: int(values.maps), values, "", ["--out=x", "--patients=1", off]) == 0
        )
    assert command.run(lambda: int(values.maps), values, "", ["--out=x", "--patients=1"]) == 1

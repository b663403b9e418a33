"""What a command says of its flags: the list in ``--help``, and what is wrong with those given.

A flag's help text may begin with the name of its value in angle brackets, as absl itself writes the
values of an enum: ``"<FOLDER> Where the result goes."`` is shown as ``--out=FOLDER``.
"""

import difflib
import itertools
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence

from absl import flags

WIDTH = 96
# Texts begin in this column; a flag that does not fit before it has a line of its own.
TEXT_COLUMN = 30
SHOWN_OF_A_VALUE = 40
VALUE_NAMES = {"int": "N", "float": "NUMBER", "string": "TEXT"}


def describe(flag_values: flags.FlagValues, headings: Mapping[int, str]) -> str:
    """Every flag under its heading, in the order of definition.

    Args:
        flag_values: the command's flags.
        headings: each by the number of flags that were defined before it.
    """
    required = _required(flag_values)
    sections: dict[str, list[str]] = {}
    title = "Flags"
    for position, flag in enumerate(_flags(flag_values)):
        title = headings.get(position, title)
        sections.setdefault(title, []).append(_entry(flag, required=flag.name in required))
    return "\n\n".join("\n".join([f"{title}:", *lines]) for title, lines in sections.items())


def wrap(text: str) -> str:
    """Text in lines of at most ``WIDTH``; indented lines are examples and stay as they are."""
    shown: list[str] = []
    for is_prose, group in itertools.groupby(text.splitlines(), lambda line: line[:1] > " "):
        lines = list(group)
        too_wide = is_prose and any(len(line) > WIDTH for line in lines)
        shown += _fill(" ".join(lines)).splitlines() if too_wide else lines
    return "\n".join(shown)


def explain(
    error: Exception,
    arguments: Sequence[str],
    flag_values: flags.FlagValues,
    moved: Mapping[str, str],
) -> str:
    """What is wrong with the flags given, and what was expected; absl's own words tell neither.

    Args:
        error: what absl raised.
        arguments: what it was given.
        flag_values: the command's flags.
        moved: flags that the command had once, and what to do instead.
    """
    said = str(error)
    if isinstance(error, flags.UnrecognizedFlagError):
        told = f"--{error.flagname} is not a flag of this command"
        advice = moved.get(error.flagname) or _did_you_mean(error.flagname, flag_values)
        return f"{told}; {advice}" if advice else f"{told}."
    if _IS_REQUIRED in said:
        # absl ends at an argument that is no flag, so the flags behind it seem to be absent.
        if stray := _first_positional(arguments, flag_values):
            return explain_positional(stray, flag_values)
        absent = [f"--{name}" for name in _required(flag_values) if flag_values[name].value is None]
        return f"{_in_words(absent, 'and')} {'is' if len(absent) == 1 else 'are'} required."
    reason = error.__context__  # what the flag's parser raised
    if reason and (found := re.match(r"flag --(\w+)=", said)):
        value = said.removeprefix(found[0]).removesuffix(f": {reason}")
        if len(value) > SHOWN_OF_A_VALUE:
            value = f"{value[:SHOWN_OF_A_VALUE]}..."
        expected = _expected(flag_values[found[1]].parser)
        if expected is None:
            return f"--{found[1]}={value}: {reason}"
        return f"--{found[1]}={value} is not valid; expected {expected}"
    found = re.match(r"Missing value for flag -*(\w+)", said)
    if found and found[1] in flag_values:
        return f"--{found[1]} has no value; expected {_form(flag_values[found[1]])}"
    if found := re.match(r"-*no(\w+)=.* does not take an argument", said, re.DOTALL):
        return f"--no{found[1]} takes no value; expected --no{found[1]} or --{found[1]}=false"
    return said.removeprefix("ERROR:: ")


def explain_positional(argument: str, flag_values: flags.FlagValues) -> str:
    """What is wrong with an argument that is no flag, such as ``out=result``."""
    name, equals, value = argument.lstrip("-–—").partition("=")
    told = f"'{argument}' is not understood: every argument is a flag (--name=value)"
    advice = _did_you_mean(name, flag_values, equals + value)
    return f"{told}; {advice}" if advice else f"{told}."


def as_written(value: object) -> str:
    """A value as the command line takes it: ``true``, ``0.0005``, ``10``."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant; None if none is like it."""
    found = difflib.get_close_matches(name.lower(), known, n=1)
    return found[0] if found else None


_IS_REQUIRED = "must have a value other than None"


def _flags(flag_values: flags.FlagValues) -> Iterator[flags.Flag]:
    for name in flag_values:
        flag = flag_values[name]
        if name == flag.name and name not in ("flagfile", "undefok"):  # absl's own
            yield flag


def _required(flag_values: flags.FlagValues) -> list[str]:
    """Names of the required flags; absl keeps that as validators of single flags."""
    return [
        flag.name
        for flag in _flags(flag_values)
        if any(_IS_REQUIRED in validator.message for validator in flag.validators)
    ]


def _entry(flag: flags.Flag, *, required: bool) -> str:
    note = "required" if required else f"default: {_default(flag)}" if _default(flag) else ""
    text = re.sub(r"^<[^>]*>:? ", "", flag.help) + (f" ({note})" if note else "")
    # A note such as (default: 4) is not parted.
    text = re.sub(r"\((default|paper): ", "(\\1:\N{NO-BREAK SPACE}", text)
    left = f"  {_form(flag)}"
    head, above = left.ljust(TEXT_COLUMN), ""
    if len(left) > TEXT_COLUMN - 2:
        head, above = " " * TEXT_COLUMN, f"{left}\n"
    return above + _fill(text, head).replace("\N{NO-BREAK SPACE}", " ")


def _fill(text: str, head: str = "") -> str:
    """Lines that begin below the end of ``head``, which stands before the first."""
    return textwrap.fill(
        text, WIDTH, initial_indent=head, subsequent_indent=" " * len(head),
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _form(flag: flags.Flag) -> str:
    """How the flag is written: ``--out=FOLDER``, ``--[no]maps``."""
    if flag.boolean:
        # --nono_gates can be given, but helps nobody.
        return f"--{flag.name}" if flag.name.startswith("no_") else f"--[no]{flag.name}"
    named = re.match(r"<([^>]*)>", flag.help)
    kind = flag.flag_type()
    value = named[1] if named else "A,B,..." if "list" in kind else VALUE_NAMES.get(kind, "VALUE")
    return f"--{flag.name}={value}"


def _default(flag: flags.Flag) -> str:
    if flag.default is None:
        return ""
    if isinstance(flag.default, bool | float):
        return as_written(flag.default)
    return flag.serializer.serialize(flag.default) if flag.serializer else str(flag.default)


def _expected(parser: flags.ArgumentParser) -> str | None:
    """What a value must be; None for kinds that give the reason themselves."""
    if isinstance(parser, flags.BooleanParser):
        return "true or false"
    if isinstance(parser, flags.EnumParser):
        return _in_words(parser.enum_values, "or")
    if not isinstance(parser, flags.IntegerParser | flags.FloatParser):
        return None
    kind = "a whole number" if isinstance(parser, flags.IntegerParser) else "a number"
    low, high = parser.lower_bound, parser.upper_bound
    if low is None and high is None:
        return kind
    if high is None:
        return f"{kind}, {low} or more"
    return f"{kind}, at most {high}" if low is None else f"{kind} from {low} to {high}"


def _first_positional(arguments: Sequence[str], flag_values: flags.FlagValues) -> str | None:
    is_value = False
    for argument in arguments:
        if not is_value and not argument.startswith("-"):
            return argument
        name = argument.lstrip("-")
        is_value = not is_value and name in flag_values and not flag_values[name].boolean
    return None


def _did_you_mean(name: str, flag_values: flags.FlagValues, value: str = "") -> str | None:
    known = []
    for flag in _flags(flag_values):
        known += [flag.name, f"no{flag.name}"] if flag.boolean else [flag.name]
    found = nearest(name, known)
    return f"did you mean --{found}{value}?" if found else None


def _in_words(names: list[str], last: str) -> str:
    *first, end = names
    return f"{', '.join(first)} {last} {end}" if first else end

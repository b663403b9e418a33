"""Flags of the benchmarks, refused before anything is measured and not after an hour of it."""

import ast
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import flags

from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError
from tf_hypoperfusion.config import MOST, PRESETS


class _List(flags.CsvListSerializer, flags.ArgumentParser):
    """Comma-separated words, each read by ``read``; at least ``least`` of them."""

    def __init__(self, read: Callable[[str], object], least: int):
        flags.CsvListSerializer.__init__(self, ",")
        self.read, self.least = read, least

    def parse(self, argument):
        words = argument.split(",") if isinstance(argument, str) else list(argument)
        found = [self.read(str(word).strip()) for word in words if str(word).strip()]
        if len(found) < self.least:
            raise ValueError("at least one is expected, several with commas between")
        return found

    def serialize(self, value):
        return super().serialize([str(each) for each in value])

    def flag_type(self):
        return "comma separated list"


def numbers(
    name: str, default: Sequence[int], text: str, values: flags.FlagValues, *, least: int = 1
) -> None:
    """A list of whole numbers from 1 on. ``least``: how many; 0 allows ``--name=``."""

    def read(word: str) -> int:
        if not word.isdecimal() or not 1 <= int(word) <= MOST:
            raise ValueError(f"{word!r} is no whole number from 1 to {MOST}")
        return int(word)

    parser = _List(read, least)
    flags.DEFINE(parser, name, list(default), text, values, parser)


def choices(
    name: str, default: Sequence[str], text: str, values: flags.FlagValues, *, known: Sequence[str]
) -> None:
    """A list of words out of ``known``."""

    def read(word: str) -> str:
        if word not in known:
            raise ValueError(f"{word!r} is none of {', '.join(known)}")
        return word

    parser = _List(read, 1)
    flags.DEFINE(parser, name, list(default), text, values, parser)


def count(name: str, default: int, text: str, values: flags.FlagValues, *, lowest: int = 1) -> None:
    """A whole number from ``lowest`` on."""
    flags.DEFINE_integer(name, default, text, lowest, MOST, flag_values=values)


class _Variant(flags.ArgumentParser):
    """NAME=FLAGS as the name and the words of the flags."""

    def parse(self, argument):
        if not isinstance(argument, str):
            return argument
        name, sign, words = argument.partition("=")
        if not sign:
            raise ValueError("expected NAME=FLAGS")
        return name, words.split()


def variants(
    default: Sequence[tuple[str, list[str]]], values: flags.FlagValues, command: str = "predict"
) -> None:
    """``--variant``, as often as one likes: pairs of a name and the words of its flags."""
    text = f"NAME=FLAGS: ours with these flags of {command}, in a line of its own."
    flags.DEFINE_multi(
        _Variant(), flags.ArgumentSerializer(), "variant", list(default), text, values
    )  # fmt: skip


def rounds(values: flags.FlagValues) -> None:
    """``--rounds``, of which the median is taken."""
    count("rounds", 5, "Measured calls of each line, of which the median is taken.", values)


def preset(values: flags.FlagValues, default: str) -> None:
    """``--preset`` of the network."""
    flags.DEFINE_enum("preset", default, list(PRESETS), "Preset.", flag_values=values)


def out(values: flags.FlagValues, text: str = "CSV of all that is printed.") -> None:
    """``--out``, a file that can be written."""
    flags.DEFINE_string("out", None, text, flag_values=values)

    def check(path: str | None) -> bool:
        if path is not None:
            if not path or (Path(path).exists() and not Path(path).is_file()):
                raise InputError(f"--out={path} is no file; expected the name of a CSV file")
            atomic.check_writable(Path(path).parent)
        return True

    flags.register_validator("out", check, flag_values=values)


def others(values: flags.FlagValues, needs: Sequence[str], required: bool = False) -> None:
    """``--others``, the Python that has the frameworks we are compared with."""
    text = f"Python with {', '.join(needs)}."
    flags.DEFINE_string("others", None, text, flag_values=values, required=required)
    ask = (
        f"from importlib.util import find_spec as f; print([m for m in {list(needs)} if not f(m)])"
    )

    def check(path: str | None) -> bool:
        if path is None:
            return True
        try:
            done = subprocess.run([path, "-c", ask], capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired):
            done = None
        if done is None or done.returncode or not done.stdout.startswith("["):
            raise InputError(f"--others={path} is no Python; expected an interpreter with {text}")
        if absent := ast.literal_eval(done.stdout):
            raise InputError(
                f"--others={path} lacks {', '.join(absent)}; install them there: "
                f"{path} -m pip install {' '.join(absent)}"
            )
        return True

    flags.register_validator("others", check, flag_values=values)


def interpreter(path: str) -> str:
    """``--others`` for a process that is started in another folder; links stay links."""
    return os.path.abspath(shutil.which(path) or path)


def folder(
    name: str, holds: str, text: str, values: flags.FlagValues, *, required: bool = True
) -> None:
    """A folder that must hold a file of the name ``holds``."""
    flags.DEFINE_string(name, None, text, flag_values=values, required=required)

    def check(path: str | None) -> bool:
        if path is not None and not (Path(path) / holds).is_file():
            raise InputError(f"--{name}={path} holds no {holds}; expected: {text}")
        return True

    flags.register_validator(name, check, flag_values=values)

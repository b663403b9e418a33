"""The --help of every command: its flags under headings, in lines that fit a terminal."""

import importlib
import re

import pytest
from helpers import PROJECT

from data_tools.runtime import command
from tf_hypoperfusion import config, train

pytestmark = pytest.mark.quick

COMMANDS = sorted(
    ".".join(path.relative_to(PROJECT).with_suffix("").parts)
    for package in ("data_tools", "tf_hypoperfusion")
    for path in (PROJECT / package).rglob("*.py")
    if '__name__ == "__main__"' in path.read_text()
)


@pytest.fixture(params=COMMANDS)
def module(request):
    return importlib.import_module(request.param)


@pytest.fixture
def shown(module, capsys):
    assert command.run(module.main, module.FLAGS, module.__doc__, ["--help"]) == 0
    return capsys.readouterr().out


def test_all_commands_are_looked_at():
    assert len(COMMANDS) >= 13
    assert "tf_hypoperfusion.train" in COMMANDS and "data_tools.simulate.__main__" in COMMANDS


def test_no_line_is_wider_than_96(shown):
    assert [line for line in shown.splitlines() if len(line) > 96] == []


def test_every_flag_is_shown_once_under_a_heading(module, shown):
    first = shown.index("\n  --")
    lines = shown[shown.rindex("\n\n", 0, first) :].strip().splitlines()
    assert lines[0] != "Flags:"  # the heading of those without one
    for name in module.FLAGS:
        forms = tuple(f"  --{form}{end}" for form in (name, f"[no]{name}") for end in ("=", " "))
        assert sum(line.startswith(forms) for line in lines) == 1, name
    assert sum(line.startswith("  --") for line in lines) == len(module.FLAGS)
    headings = [line for line in lines if line and not line.startswith(" ")]
    assert len(headings) >= 2 and all(line.endswith(":") for line in headings)


def test_required_flags_and_defaults_are_said(module, shown):
    words = " ".join(shown.split())
    for name in module.FLAGS:
        flag = module.FLAGS[name]
        if flag.default not in (None, True, False) and isinstance(flag.default, str | int):
            assert f"(default: {flag.default})" in words, name
    assert "None" not in words[words.index(" --") :]


def test_train_says_what_the_paper_has():
    from tf_hypoperfusion import config, train

    for part in config.PRESETS["paper"]:
        for name in vars(part).keys() & set(train.FLAGS):
            shown = f"{getattr(part, name):g}" if isinstance(getattr(part, name), float) else None
            value = shown or str(getattr(part, name)).replace("True", "true")
            value = value.replace("False", "false")
            assert train.FLAGS[name].help.endswith(f" (preset paper: {value})"), name
            assert train.FLAGS[name].default is None


def test_flags_beyond_the_paper_are_those_that_the_settings_call_so(capsys):
    assert command.run(train.main, train.FLAGS, train.__doc__, ["--help"]) == 0
    part = capsys.readouterr().out.split("\nBeyond the paper:\n")[1].split("\n\n")[0]
    shown = set(re.findall(r"^  --(?:\[no\])?(\w+)", part, re.MULTILINE))
    assert shown == {name for name, source in config.sources().items() if source == config.BEYOND}

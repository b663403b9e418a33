"""The rules of the house that imports and definitions show; contracts in setup.cfg hold more."""

import ast
import re
import subprocess
import sys
from collections import Counter

import pytest
from helpers import PROJECT
from helpers.import_arrows import arrows, floors, imported, module_arrows

pytestmark = pytest.mark.quick

PACKAGES = ("data_tools", "tf_hypoperfusion")
MODULES = sorted(path for package in PACKAGES for path in PROJECT.glob(f"{package}/**/*.py"))


def is_command(path):
    return '__name__ == "__main__"' in path.read_text()


def names(paths):
    return {str(path.relative_to(PROJECT)) for path in paths}


def test_only_records_and_the_start_import_tensorflow_in_data_tools():
    guilty = [
        path
        for path in MODULES
        if path.is_relative_to(PROJECT / "data_tools")
        and any(name.split(".")[0] in ("tensorflow", "keras") for name in imported(path))
    ]
    assert names(guilty) == {"data_tools/records.py", "data_tools/runtime/tensorflow_start.py"}


def test_only_commands_and_their_frame_read_flags():
    guilty = [
        path
        for path in MODULES
        if any(name.split(".")[0] == "absl" for name in imported(path)) and not is_command(path)
    ]
    assert names(guilty) == {
        "data_tools/runtime/command.py", "data_tools/runtime/flag_texts.py"
    }  # fmt: skip


def test_no_module_imports_a_command():
    commands = {
        ".".join(path.relative_to(PROJECT).with_suffix("").parts)
        for path in MODULES
        if is_command(path)
    }
    assert "tf_hypoperfusion.train" in commands
    for path in MODULES:
        assert not set(imported(path)) & commands, f"{path} imports a command"


def test_commands_answer_help_without_heavy_imports():
    heavy = {"tensorflow", "keras", "ants", "nilearn", "pandas", "sklearn", "matplotlib"}
    for path in filter(is_command, MODULES):
        tops = {name.split(".")[0] for name in imported(path, top_level_only=True)}
        assert not tops & heavy, f"{path} imports {tops & heavy} at start"


@pytest.mark.parametrize("package", PACKAGES)
def test_no_rooms_import_each_other_in_a_circle(package):
    _, found = arrows(PROJECT / package)
    for each in (found, module_arrows(PROJECT / package)):
        assert max(floors(each).values()) > 3  # raises graphlib.CycleError on a circle


def test_a_circle_would_be_found(tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p/a.py").write_text("def f():\n    from p import b\n")
    (tmp_path / "p/b.py").write_text("from p.a import f\n")
    with pytest.raises(ValueError, match="cycle"):
        floors(arrows(tmp_path / "p")[1])
    wing = tmp_path / "p/wing"
    wing.mkdir()
    (tmp_path / "p/b.py").unlink()
    (wing / "a.py").write_text("def f():\n    from p.wing import b\n")
    (wing / "b.py").write_text("from p.wing.a import f\n")
    with pytest.raises(ValueError, match="cycle"):
        floors(module_arrows(tmp_path / "p"))


def test_types_of_more_than_four_fields_are_built_by_name():
    """As ruff has it for functions (PLR0917): neighbours of one shape are easily exchanged."""
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ClassDef):
                continue
            how = [ast.unparse(each) for each in node.decorator_list]
            fields = [ast.unparse(each) for each in node.body if isinstance(each, ast.AnnAssign)]
            if "_: dataclasses.KW_ONLY" in fields:
                fields = fields[: fields.index("_: dataclasses.KW_ONLY")]
            if len(fields) > 4 and any("dataclass" in each for each in how):
                assert any("kw_only=True" in each for each in how), f"{path}: {node.name}"
            tuples = {"NamedTuple", "typing.NamedTuple"} & set(map(ast.unparse, node.bases))
            assert not (tuples and len(fields) > 4), f"{path}: {node.name}"


def test_no_two_files_of_tests_share_a_name():
    """pytest takes the second of a name for the first, and does not read it."""
    found = Counter(path.name for path in (PROJECT / "tests").rglob("test_*.py"))
    assert [name for name, count in found.items() if count > 1] == []


def test_the_map_in_contributing_names_every_module():
    text = (PROJECT / "CONTRIBUTING.md").read_text()
    drawn, folders = set(), [""]
    for line in re.search(r"```\n(data_tools/.*?)```", text, re.DOTALL)[1].splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        entry = re.split(r"\s{2,}", line.strip())[0]
        del folders[depth + 1 :]
        if entry.endswith("/"):
            folders.append(f"{folders[-1]}{entry}")
        drawn |= {f"{folders[-1]}{name}" for name in entry.split() if name.endswith(".py")}
    modules = {name for name in names(MODULES) if not name.endswith("__init__.py")}
    assert drawn == modules, f"not drawn: {modules - drawn}, not there: {drawn - modules}"


@pytest.mark.parametrize("path", sorted(PROJECT.glob("constraints/*.txt")), ids=lambda p: p.name)
def test_a_list_of_versions_names_each_package_once(path):
    """Named twice with two versions it can be installed by nobody."""
    lines = [line.split("#")[0].strip() for line in path.read_text().splitlines()]
    packages = [re.sub("[-_.]+", "-", line.split("==")[0]).lower() for line in lines if line]
    assert len(packages) > 50 and len(packages) == len(set(packages))


POSIX_MODULES = {"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"}
# Some of what Linux alone has, and macOS lacks too, or that no module may count on.
POSIX_NAMES = {
    "errno": {"EREMOTEIO", "ENOMEDIUM", "EMEDIUMTYPE", "ENOKEY", "ETIME", "ENODATA", "ENOTUNIQ"},
    "time": {"tzset"},
    "socket": {"AF_UNIX", "SO_REUSEPORT"},
    "os": {
        "chown",
        "getloadavg",
        "O_CLOEXEC",
        "O_DIRECTORY",
        "O_NOFOLLOW",
        "statvfs",
        "sysconf",
        "uname",
        "fork",
        "geteuid",
        "getuid",
        "getpgid",
        "killpg",
        "mkfifo",
        "setsid",
    },
    "signal": {"SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "alarm", "setitimer"},
}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_no_module_needs_what_windows_lacks(path):
    """Imported inside of a function with another way, or asked for by getattr, it is no need."""
    tree = ast.parse(path.read_text())
    needed = {
        name.name for node in tree.body if isinstance(node, ast.Import) for name in node.names
    }
    needed |= {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
    used = {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        and node.attr in POSIX_NAMES.get(node.value.id, ())
    }  # fmt: skip
    assert (needed & POSIX_MODULES, used) == (set(), set())


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_text_files_are_read_and_written_as_utf_8(path):
    """Windows has another encoding otherwise; ruff's PLW1514 sees those of known type only."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    guilty = [
        ast.unparse(call)
        for call in calls
        if isinstance(call.func, ast.Attribute)
        and call.func.attr in ("read_text", "write_text")
        and ast.unparse(call.func.value) != "atomic"  # which is UTF-8 always
        and "encoding" not in {keyword.arg for keyword in call.keywords}
    ]
    assert guilty == []


# What raises ImportError for our own modules, as on Windows; other packages know Windows already.
WITHOUT_POSIX = """
import builtins, importlib, os, signal, sys
hidden, root, modules = set(sys.argv[1].split()), sys.argv[2], sys.argv[3].split()
true_import = builtins.__import__
def without(name, globals=None, *rest, **named):
    if name.split(".")[0] in hidden and str((globals or {}).get("__file__", "")).startswith(root):
        raise ImportError(f"{name} is hidden")
    return true_import(name, globals, *rest, **named)
builtins.__import__ = without
for name in ("SIGHUP", "SIGUSR1", "SIGUSR2"):
    delattr(signal, name)
import errno
del errno.EREMOTEIO
for module in modules:
    importlib.import_module(module)
print(len(modules), "imported")
"""


def test_every_module_is_imported_without_what_windows_lacks():
    modules = [
        ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")
        for path in MODULES
        if "gpu" not in path.parts  # which needs jax
        and path != PROJECT / "tf_hypoperfusion/__main__.py"  # which runs
    ]
    given = [" ".join(POSIX_MODULES), str(PROJECT), " ".join(modules)]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_POSIX, *given],
        cwd=PROJECT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.endswith(f"{len(modules)} imported\n")

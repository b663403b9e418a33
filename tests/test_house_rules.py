"""The four rules of the house that imports can show. (The contracts in setup.cfg hold two more.)"""

import ast

from helpers import PROJECT

MODULES = sorted([*PROJECT.glob("data_tools/**/*.py"), *PROJECT.glob("tf_hypoperfusion/**/*.py")])


def imported(path, top_level_only=False):
    tree = ast.parse(path.read_text())
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def is_command(path):
    return '__name__ == "__main__"' in path.read_text()


def test_only_records_imports_tensorflow_in_data_tools():
    guilty = [
        str(path.relative_to(PROJECT))
        for path in MODULES
        if path.is_relative_to(PROJECT / "data_tools")
        and any(name.split(".")[0] in ("tensorflow", "keras") for name in imported(path))
    ]
    assert guilty == ["data_tools/records.py", "data_tools/runtime/tensorflow_start.py"]


def test_only_commands_and_their_frame_read_flags():
    guilty = [
        path.name
        for path in MODULES
        if any(name.split(".")[0] == "absl" for name in imported(path)) and not is_command(path)
    ]
    assert guilty == ["command.py", "flag_texts.py"]


def test_no_module_imports_a_command():
    commands = {
        ".".join(path.relative_to(PROJECT).with_suffix("").parts)
        for path in MODULES
        if is_command(path)
    }
    assert "tf_hypoperfusion.train" in commands
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                names = {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
                assert not names & commands, f"{path} imports {names & commands}"


def test_commands_answer_help_without_heavy_imports():
    heavy = {"tensorflow", "keras", "ants", "nilearn", "pandas", "sklearn", "matplotlib"}
    for path in filter(is_command, MODULES):
        tops = {name.split(".")[0] for name in imported(path, top_level_only=True)}
        assert not tops & heavy, f"{path} imports {tops & heavy} at start"

"""One command for all of them: ``hypoperfusion predict --dwi=...``.

``hypoperfusion NAME`` runs the module that ``python -m`` runs, with the same flags.
"""

import ast
import difflib
import importlib.metadata
import runpy
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

from data_tools.runtime.command import EXIT_BAD_INPUT, EXIT_OK, say

# By heading, in the order in which a study needs them.
COMMANDS = {
    "A patient": {
        "predict": "tf_hypoperfusion.predict",
        "app": "tf_hypoperfusion.app",
        "to-native": "data_tools.to_native",
    },
    "A cohort": {
        "import-public": "data_tools.import_public",
        "simulate": "data_tools.simulate",
        "describe": "data_tools.simulate.describe",
        "perfusion": "data_tools.perfusion",
        "check-cohort": "data_tools.check_cohort",
        "preprocess": "data_tools.preprocess",
        "build-records": "data_tools.build_records",
    },
    "A model": {
        "plan": "tf_hypoperfusion.plan",
        "train": "tf_hypoperfusion.train",
        "train-on-gpu": "tf_hypoperfusion.train_on_gpu",
        "evaluate": "tf_hypoperfusion.evaluate",
        "report": "tf_hypoperfusion.report",
        "calibrate": "tf_hypoperfusion.calibrate",
        "export": "tf_hypoperfusion.export",
    },
    "A server": {
        "serve": "tf_hypoperfusion.serve",
        "serving-client": "tf_hypoperfusion.serving_client",
        "node": "tf_hypoperfusion.node",
    },
}
MODULES = {name: module for group in COMMANDS.values() for name, module in group.items()}
NOTICE = "Research software, not a medical device."
COLUMNS = 96
HELP = ("", "help", "--help", "-h", "-help", "--helpfull")


def main() -> int:
    """Run the command that is named first; alone, or with ``--help``, list them.

    Returns:
        The exit status.
    """
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name in HELP:
        say(listed())
        return EXIT_OK
    if name in ("--version", "version"):
        print(f"hypoperfusion {importlib.metadata.version('tf-hypoperfusion')}. {NOTICE}")
        return EXIT_OK
    module = MODULES.get(name.replace("_", "-"))
    if module is None:
        near = difflib.get_close_matches(name, MODULES, 1)
        meant = f"did you mean {near[0]}?" if near else "hypoperfusion alone lists them."
        print(f"error: {name} is not a command; {meant}", file=sys.stderr)
        return EXIT_BAD_INPUT
    del sys.argv[1]
    runpy.run_module(module, run_name="__main__", alter_sys=True)  # ends with its own status
    return EXIT_OK


def listed() -> str:
    """Every command under its heading, with the first sentence of what it says of itself."""
    width = max(map(len, MODULES))
    lines = [
        "Hypoperfused tissue and target mismatch of acute stroke from diffusion MRI.",
        NOTICE,
        "",
        "    hypoperfusion COMMAND --help     what it does, and its flags",
        "    hypoperfusion COMMAND --flag=value ...",
    ]
    for heading, commands in COMMANDS.items():
        lines += ["", f"{heading}:"]
        for name, module in commands.items():
            begin, rest = f"  {name:{width}}  ", " " * (width + 4)
            lines.append(
                textwrap.fill(
                    summary(module), COLUMNS, initial_indent=begin, subsequent_indent=rest
                )
            )
    return "\n".join(lines)


def summary(module: str) -> str:
    """The first line of a command's docstring, which is not imported for it."""
    return (
        ast.get_docstring(ast.parse(_file(module).read_text(encoding="utf-8"))) or ""
    ).splitlines()[0]


def _file(module: str) -> Path:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(module)
    path = Path(spec.origin)
    return path.with_name("__main__.py") if path.name == "__init__.py" else path

"""Commands as a user starts them: in this process, or in one that goes on by itself."""

import subprocess
import sys

from data_tools.runtime import command
from helpers import PROJECT


def call(module, *arguments):
    """Run a command in this process; returns its exit status."""
    return command.run(module.main, module.FLAGS, module.__doc__, [str(a) for a in arguments])


def start(module, *arguments, **options):
    """Start ``python -m MODULE ARGS`` and return at once, with pipes to what it prints."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=PROJECT, **options,
    )  # fmt: skip

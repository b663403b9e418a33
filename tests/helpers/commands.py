"""A command run in this process, as a user would run it."""

from data_tools.runtime import command


def call(module, *arguments) -> int:
    """Run a command's module with flags; returns its exit status."""
    return command.run(module.main, module.FLAGS, module.__doc__, [str(a) for a in arguments])

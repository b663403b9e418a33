"""The exceptions that are meant for the person at the keyboard, and their words."""

PLURALS = {"is": "are", "was": "were", "has": "have"}


def reason_of(error: BaseException) -> str:
    """What an exception says, on one line; its name where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def counted(count: int, what: str) -> str:
    """A number of things, in the singular if it is one.

    >>> counted(1, "slice is"), counted(2, "slice is"), counted(0, "image")
    ('1 slice is', '2 slices are', '0 images')
    """
    noun, *verb = what.split()
    if count != 1:
        noun += "s"
        verb = [PLURALS.get(word, word) for word in verb]
    return " ".join([str(count), noun, *verb])


class InputError(Exception):
    """Something the user gave cannot be used.

    The message says what happened, what was expected and what to do, and names the patient
    and the file. Commands print it without a traceback and exit with status 2.
    """


class PatientDefect(InputError):
    """This program failed at one patient's files in a way that nobody foresaw.

    It is that patient's failure like any other, so that the others go on.

    Attributes:
        details: the traceback, for whoever mends the program.
    """

    def __init__(self, message: str, details: str):
        self.details = details
        super().__init__(message)

    def __reduce__(self):
        # Exceptions are pickled as their message; on its way out of a process it needs both.
        return type(self), (str(self), self.details)


class RunAgain(KeyboardInterrupt):
    """Stopped at a scheduler's wish; the same command is to be started again later.

    Commands print the message and exit with status 75.
    """

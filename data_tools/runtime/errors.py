"""The one exception that is meant for the person at the keyboard."""


class InputError(Exception):
    """Something the user gave cannot be used.

    The message says what happened, what was expected and what to do, and names the patient
    and the file. Commands print it without a traceback and exit with status 2.
    """

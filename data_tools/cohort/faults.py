"""What is wrong with a cohort, collected, so that a researcher mends it in one go."""

import dataclasses
from collections.abc import Iterable

from data_tools.runtime.errors import InputError, counted


@dataclasses.dataclass(frozen=True)
class Fault:
    """One thing wrong with a cohort: who, where, what."""

    participant: str
    file: str
    what: str


class CohortError(InputError):
    """An InputError that carries the list of faults."""

    def __init__(self, faults: list[Fault]):
        self.faults = faults
        super().__init__(f"{counted(len(faults), 'fault')} in the cohort:\n{fault_table(faults)}")

    def __reduce__(self):
        # Exceptions are pickled as their message; on its way out of a process it needs the faults.
        return type(self), (self.faults,)


def fault_table(faults: Iterable[Fault]) -> str:
    """Faults as aligned plain text."""
    rows = [("patient", "file", "what is wrong, what to do")]
    for fault in faults:
        for line in fault.what.splitlines():
            rows.append((fault.participant, fault.file, line))
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    text = "\n".join(f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}" for a, b, c in rows)
    # Names of files may hold bytes that are no letters, which no terminal prints.
    return text.encode(errors="backslashreplace").decode()

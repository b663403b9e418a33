"""Rows that belong together: visits of one patient, and what a column ``group`` joins."""

from collections.abc import Collection, Mapping
from typing import Any

from data_tools.runtime.errors import counted

VISIT = "_ses-"


def patient_of(participant: str) -> str:
    """The patient of a visit.

    >>> patient_of("sub-01_ses-2"), patient_of("sub-01")
    ('sub-01', 'sub-01')
    """
    return participant.split(VISIT)[0]


def counted_patients(participants: Collection[str]) -> str:
    """How many patients there are, and visits where one has several.

    >>> counted_patients(["sub-01", "sub-02"]), counted_patients(["sub-1_ses-1", "sub-1_ses-2"])
    ('2 patients', '2 visits of 1 patient')
    """
    patients = counted(len({patient_of(name) for name in participants}), "patient")
    alone = counted(len(participants), "patient")
    return alone if patients == alone else f"{counted(len(participants), 'visit')} of {patients}"


def groups_of(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """What keeps each row together with others: the first name of all that hang together.

    Visits of a patient do, and rows with the same word in ``group``; and what hangs together
    with one of them.

    Args:
        rows: by ``participant_id``, each perhaps with a ``group``.

    >>> groups_of({"sub-1_ses-1": {"group": "A"}, "sub-1_ses-2": {}, "sub-2": {"group": "A"}})
    {'sub-1_ses-1': 'sub-1_ses-1', 'sub-1_ses-2': 'sub-1_ses-1', 'sub-2': 'sub-1_ses-1'}
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    names = sorted(rows)
    keys: dict[tuple[str, str], int] = {}
    linked: list[tuple[int, int]] = []
    for i, name in enumerate(names):
        said = rows[name].get("group")
        labels = [("patient", patient_of(name))] + ([("group", str(said))] if said else [])
        linked += [(i, keys.setdefault(label, i)) for label in labels]
    ones = [True] * len(linked)
    at = ([a for a, _ in linked], [b for _, b in linked])
    _, parts = connected_components(coo_array((ones, at), shape=(len(names),) * 2), directed=False)
    first: dict[int, str] = {}
    for name, part in zip(names, parts, strict=True):
        first.setdefault(int(part), name)
    return {name: first[int(part)] for name, part in zip(names, parts, strict=True)}

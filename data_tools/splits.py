"""Patients -> five subsets. A patient's slabs never part, so no patient is both seen and tested.

Paper, Model Structure: patients randomly divided into five data sets; per fold three train, one
validates, one tests. Fold i tests on subset i and validates on subset (i + 1) mod 5.
"""

from collections.abc import Sequence

import numpy as np

from data_tools.runtime.errors import InputError

SUBSETS = 5


def split_patients(participants: Sequence[str], seed: int) -> list[list[str]]:
    """Five subsets whose sizes differ by one at most, each sorted.

    Depends on the names and the seed, never on the order the names came in.

    Raises:
        InputError: on fewer than five patients or a name given twice.

    >>> [len(subset) for subset in split_patients([f"sub-{i}" for i in range(413)], seed=1)]
    [83, 83, 83, 82, 82]
    """
    names = sorted(participants)
    if len(set(names)) != len(names):
        raise InputError("a participant_id stands more than once; expected one row per patient")
    if len(names) < SUBSETS:
        raise InputError(
            f"{len(names)} patients cannot be split into {SUBSETS} subsets; "
            f"expected at least {SUBSETS} with truth (Tmax or a hypoperfusion mask)"
        )
    order = np.random.default_rng(seed).permutation(len(names))
    return [sorted(names[i] for i in order[k::SUBSETS]) for k in range(SUBSETS)]


def fold_roles(fold: int) -> dict[str, list[int]]:
    """Which subsets train, validate and test in a fold.

    >>> fold_roles(4)
    {'train': [1, 2, 3], 'validation': [0], 'test': [4]}
    """
    if fold not in range(SUBSETS):
        raise InputError(f"fold is {fold}; expected 0 to {SUBSETS - 1}")
    test, validation = fold, (fold + 1) % SUBSETS
    train = [k for k in range(SUBSETS) if k not in (test, validation)]
    return {"train": train, "validation": [validation], "test": [test]}

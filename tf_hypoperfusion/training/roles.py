"""The networks of a run: one for each fold, and a final one of every subset.

Throughout, ``fold`` is a fold's number, or None for the final network. It has no validation, so
nothing says which epoch was best: its last one's weights are kept.
"""

from pathlib import Path

from data_tools import splits

FINAL = splits.FINAL
# In config.json and on the model card.
FINAL_NOTE = (
    "trained on all patients; untested by itself: the folds' figures are of networks trained on "
    "fewer"
)


def of(fold: int | None, subsets: int) -> dict[str, list[int]]:
    """Which of so many subsets train, validate and test.

    >>> of(None, 3)
    {'train': [0, 1, 2], 'validation': [], 'test': []}
    """
    if fold is None:
        return {"train": list(range(subsets)), "validation": [], "test": []}
    return splits.fold_roles(fold, subsets)


def name(fold: int | None) -> str:
    """Of the network's folder in its run.

    >>> name(2), name(None)
    ('fold-2', 'final')
    """
    # Not fold-final: fold-*/best.keras are the networks that an export averages.
    return FINAL if fold is None else f"fold-{fold}"


def in_words(fold: int | None) -> str:
    """For a message.

    >>> in_words(2), in_words(None)
    ('fold 2', 'the final network')
    """
    return "the final network" if fold is None else f"fold {fold}"


def folder(run: str | Path, fold: int | None) -> Path:
    """Where a network of a run is."""
    return Path(run) / name(fold)

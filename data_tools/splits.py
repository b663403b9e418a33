"""Patients -> subsets. What belongs together never parts, so no patient is both seen and tested.

Paper, Model Structure: patients randomly divided into five data sets; per fold three train, one
validates, one tests. Fold i tests on subset i and validates on the next one.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_tools import text_table
from data_tools.grid import ONE_SIDED
from data_tools.runtime.errors import InputError, counted

SUBSETS, MIN_SUBSETS, MAX_SUBSETS = 5, 3, 20
# In place of a fold: the network of all subsets.
FINAL = "final"
STRATA = ("volume", "side")
COLUMNS = ("participant_id", "subset")
NAMED = 10  # so many are named where many are wrong
# Programs that know only decimal numbers write 0.0.
_SUBSET = re.compile(r"[0-9]{1,3}(\.0*)?")


def split_patients(
    groups: Mapping[str, str],
    seed: int,
    subsets: int = SUBSETS,
    strata: Mapping[str, tuple] | None = None,
) -> list[list[str]]:
    """Subsets of whole groups, each sorted; their sizes differ by one at most if no group has two.

    Groups are dealt out one by one, the largest first, each to a subset with the fewest patients.
    With strata they come in the order of those, so that neighbours go to different subsets: of
    those with the fewest patients to one with the fewest of their side, and not to the one with
    the largest volume of all.
    Depends on the names and the seed, never on the order the names came in.

    Args:
        groups: the group of each patient, as :func:`data_tools.groups.groups_of` names it.
        seed: of the draw.
        subsets: how many.
        strata: of each patient what the subsets should share evenly; a group has that of its first.
            None is the paper's plain random division.

    Raises:
        InputError: fewer groups than subsets.

    >>> alone = {f"sub-{i}": f"sub-{i}" for i in range(413)}
    >>> [len(subset) for subset in split_patients(alone, seed=1)]
    [83, 83, 83, 82, 82]
    """
    members: dict[str, list[str]] = {}
    for name in sorted(groups):
        members.setdefault(groups[name], []).append(name)
    units = list(members.values())
    if len(units) < subsets:
        what = "patients" if len(units) == len(groups) else "groups of patients"
        raise InputError(
            f"{len(units)} {what} cannot be split into {subsets} subsets; "
            f"expected at least {subsets} with truth (Tmax or a hypoperfusion mask)"
        )
    rng = np.random.default_rng(seed)
    order = [units[i] for i in rng.permutation(len(units))]
    order.sort(key=lambda unit: (-len(unit), strata[unit[0]] if strata else ()))
    divided: list[list[str]] = [[] for _ in range(subsets)]
    of_side: list[Counter[str]] = [Counter() for _ in divided]
    volumes_ml = [0.0] * subsets
    for unit in order:
        fewest = min(map(len, divided))
        open_to = [k for k in range(subsets) if len(divided[k]) == fewest]
        if strata:
            # Where groups of several came first, the order of the strata alone makes nothing even.
            side = strata[unit[0]][0]
            fewest = min(of_side[k][side] for k in open_to)
            open_to = [k for k in open_to if of_side[k][side] == fewest]
            most_ml = max(volumes_ml[k] for k in open_to)
            open_to = [k for k in open_to if volumes_ml[k] < most_ml] or open_to
        chosen = open_to[rng.integers(len(open_to)) if strata else 0]
        divided[chosen] += unit
        for side, volume_ml in (strata[name] for name in unit) if strata else ():
            of_side[chosen][side] += 1
            volumes_ml[chosen] += volume_ml
    return [sorted(subset) for subset in divided]


def strata_of(rows: Mapping[str, Mapping[str, Any]], by: Sequence[str]) -> dict[str, tuple]:
    """What the subsets should share evenly: of each patient, by name.

    Args:
        rows: of the manifest, with ``side`` and ``truth_ml``.
        by: some of :data:`STRATA`.
    """
    return {
        name: (
            row["side"] if "side" in by and row["side"] in ONE_SIDED else "",
            row["truth_ml"] if "volume" in by else 0.0,
        )
        for name, row in rows.items()
    }


def parse_strata(text: str) -> tuple[str, ...]:
    """The words of ``--stratify``; none of them for ``none``.

    >>> parse_strata("side"), parse_strata("none")
    (('side',), ())

    Raises:
        InputError: an unknown word, or one twice.
    """
    words = [word.strip() for word in text.split(",")]
    if words == ["none"]:
        return ()
    if words == ["both"]:
        return STRATA
    if not set(words) <= set(STRATA) or len(set(words)) < len(words):
        raise InputError(f"--stratify is {text!r}; expected {', '.join(STRATA)}, both, or none")
    return tuple(word for word in STRATA if word in words)


def split_by_site(
    rows: Mapping[str, Mapping[str, Any]], groups: Mapping[str, str]
) -> list[list[str]]:
    """Each site is a subset, in the order of their names.

    Args:
        rows: of the patients, each with its ``site``.
        groups: as of :func:`split_patients`.

    Raises:
        InputError: a row without a site, fewer than three sites, a group at two of them.
    """
    absent = [name for name, row in sorted(rows.items()) if not row.get("site")]
    if absent:
        raise InputError(
            f"--leave_out=site needs the site of every patient; {counted(len(absent), 'patient')} "
            f"of participants.tsv without one: {_some(absent)}. Fill the column site, or leave "
            "--leave_out away."
        )
    sites = sorted({str(row["site"]) for row in rows.values()})
    if len(sites) < MIN_SUBSETS:
        raise InputError(
            f"--leave_out=site found {counted(len(sites), 'site')} ({_some(sites)}); expected "
            f"{MIN_SUBSETS} or more: one to test, one to validate and one to train on"
        )
    at = {name: sites.index(str(row["site"])) for name, row in rows.items()}
    remedy = (
        "This cohort cannot be divided by site as it is: leave rows of theirs out, or give --folds "
        "or --splits."
    )
    _refuse_parted(at, groups, where="site", names=sites, remedy=remedy)
    return _subsets_of(at, len(sites))


def read_table(path: str, known: Iterable[str]) -> dict[str, int]:
    """The subset of each patient, of a table or of the ``splits.json`` of other records.

    Args:
        path: tab-separated, with the columns of :data:`COLUMNS`; or that file.
        known: names of the cohort's patients.

    Raises:
        InputError: everything that is wrong with it, in one message.
    """
    given, faults = _read_json(Path(path)) if path.endswith(".json") else _read_tsv(Path(path))
    counts = Counter(name for name, _ in given)
    twice = [name for name, count in counts.items() if count > 1]
    unknown = sorted(set(counts) - set(known))
    if twice:
        faults.append(f"more than once: {_some(twice)}")
    if unknown:
        faults.append(f"not in participants.tsv: {_some(unknown)}")
    if faults:
        raise _table_error(path, faults)
    return dict(given)


def split_as_told(
    path: str, told: Mapping[str, int], with_truth: Iterable[str], groups: Mapping[str, str]
) -> list[list[str]]:
    """The subsets of :func:`read_table`; patients without truth are left out.

    Args:
        path: of the table, for the message.
        told: what it says.
        with_truth: who must stand in it.
        groups: as of :func:`split_patients`.

    Raises:
        InputError: a patient with truth is missing, a subset has nobody, there are too few or too
            many, or a group has patients in two of them.
    """
    wanted = sorted(with_truth)
    missing = [name for name in wanted if name not in told]
    at = {name: told[name] for name in wanted if name in told}
    subsets = max(at.values(), default=-1) + 1
    empty = sorted(set(range(subsets)) - set(at.values()))
    faults = []
    if missing:
        faults.append(f"missing, with truth: {_some(missing)}")
    if empty:
        from_1 = "; subsets are counted from 0" if empty == [0] else ""
        faults.append(f"nobody with truth in subset {_some(map(str, empty))}{from_1}")
    if not MIN_SUBSETS <= subsets <= MAX_SUBSETS:
        faults.append(f"{subsets} subsets; expected {MIN_SUBSETS} to {MAX_SUBSETS}")
    if faults:
        raise _table_error(path, faults)
    names = list(map(str, range(subsets)))
    remedy = "Give them the same subset there."
    _refuse_parted(at, groups, where=f"subset of {path}", names=names, remedy=remedy)
    return _subsets_of(at, subsets)


def checksum(told: Mapping[str, int]) -> str:
    """By which a division is known again, in whichever file it stands."""
    return hashlib.sha256(json.dumps(sorted(told.items())).encode()).hexdigest()


def fold_roles(fold: int, subsets: int) -> dict[str, list[int]]:
    """Which subsets train, validate and test in a fold.

    >>> fold_roles(4, 5)
    {'train': [1, 2, 3], 'validation': [0], 'test': [4]}
    """
    if fold not in range(subsets):
        raise InputError(f"fold is {fold}; expected 0 to {subsets - 1}")
    test, validation = fold, (fold + 1) % subsets
    train = [k for k in range(subsets) if k not in (test, validation)]
    return {"train": train, "validation": [validation], "test": [test]}


def check_fold(text: str) -> None:
    """Refuse what is no fold in any records.

    Raises:
        InputError: neither a number nor ``all`` nor ``final``.
    """
    if text not in ("all", FINAL) and not (text.isascii() and text.isdigit()):
        raise InputError(f"fold is {text!r}; expected a number from 0 up, all or {FINAL}")


def parse_folds(text: str, subsets: int) -> list[int | None]:
    """The numbers of ``--fold``; None is the network of all subsets.

    >>> parse_folds("all", 3), parse_folds("2", 3), parse_folds("final", 3)
    ([0, 1, 2], [2], [None])

    Raises:
        InputError: another word, or no such fold.
    """
    if text == "all":
        return list(range(subsets))
    if text == FINAL:
        return [None]
    if text not in map(str, range(subsets)):
        raise InputError(f"fold is {text!r}; expected 0 to {subsets - 1}, all or {FINAL}")
    return [int(text)]


def _read_tsv(path: Path) -> tuple[list[tuple[str, int]], list[str]]:
    given, faults = [], []
    for line in text_table.read(path, COLUMNS, COLUMNS).lines:
        name, subset = line.cells.get("participant_id", "?"), line.cells.get("subset", "")
        if line.fault:
            faults.append(f"row {line.number} {line.fault}")
        elif not _SUBSET.fullmatch(subset):
            faults.append(f"row {line.number}, {name}: subset is {subset!r}; expected 0, 1, 2...")
        else:
            given.append((name, int(float(subset))))
    if len(faults) > NAMED:
        faults[NAMED:] = [f"and {len(faults) - NAMED} more such rows"]
    return given, faults


def _read_json(path: Path) -> tuple[list[tuple[str, int]], list[str]]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a table or splits.json")
    try:
        subsets = json.loads(path.read_text(encoding="utf-8"))["subsets"]
        given = [(name, k) for k, names in enumerate(subsets) for name in names]
        readable = all(isinstance(name, str) for name, _ in given)
    except (ValueError, KeyError, TypeError, RecursionError):
        readable, given = False, []
    expected = 'not as build_records writes it; expected {"subsets": [["sub-01", ...], ...]}'
    return (given, []) if readable else ([], [expected])


def _subsets_of(at: Mapping[str, int], subsets: int) -> list[list[str]]:
    return [sorted(name for name in at if at[name] == k) for k in range(subsets)]


def _refuse_parted(
    at: Mapping[str, int],
    groups: Mapping[str, str],
    names: Sequence[str],
    *,
    where: str,
    remedy: str,
) -> None:
    """Raise where a group is in two subsets."""
    found: dict[str, dict[int, str]] = {}
    for name in sorted(at):
        found.setdefault(groups[name], {}).setdefault(at[name], name)
    parted = [
        " and ".join(f"{name} ({names[k]})" for k, name in firsts.items())
        for firsts in found.values()
        if len(firsts) > 1
    ]
    if parted:
        raise InputError(
            f"{counted(len(parted), 'group')} of patients in more than one {where}: "
            f"{_some(parted, '; ')}. Rows of one patient or group must be together, or "
            f"networks would be tested on patients they have seen. {remedy}"
        )


def _table_error(path: str, faults: list[str]) -> InputError:
    listed = "\n".join(f"  {fault}" for fault in faults)
    return InputError(
        f"{path} cannot be used:\n{listed}\nExpected every patient with truth once, with a subset "
        "from 0 up and none left out."
    )


def _some(names: Iterable[str], between: str = ", ") -> str:
    listed = list(names)
    more = f"{between}and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
    return between.join(listed[:NAMED]) + more

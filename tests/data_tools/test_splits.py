"""Subsets that keep together what belongs together, and the folds made of them."""

import json

import numpy as np
import pytest

from data_tools.groups import groups_of
from data_tools.runtime.errors import InputError
from data_tools.splits import (
    fold_roles,
    parse_folds,
    parse_strata,
    read_table,
    split_as_told,
    split_by_site,
    split_patients,
    strata_of,
)

pytestmark = pytest.mark.quick

NAMES = [f"sub-{k:04d}" for k in range(1, 24)]


def alone(names):
    return {name: name for name in names}


def plain_division(names, seed):
    """The paper's random division as this software has drawn it from the first version on."""
    names = sorted(names)
    order = np.random.default_rng(seed).permutation(len(names))
    return [sorted(names[i] for i in order[k::5]) for k in range(5)]


@pytest.mark.parametrize("seed", [1, 2, 77])
@pytest.mark.parametrize("count", [5, 23, 413])
def test_without_strata_each_seed_gives_the_subsets_it_always_gave(count, seed):
    names = [f"sub-{k}" for k in range(count)]
    assert split_patients(alone(names), seed) == plain_division(names, seed)
    assert split_patients(alone(names[::-1]), seed) == plain_division(names, seed)


def drawn(count, seed=0):
    rng = np.random.default_rng(seed)
    volumes = np.where(rng.random(count) < 0.15, 0, rng.lognormal(4, 1, count))
    sides = rng.choice(["left", "right", "bilateral"], count, p=[0.5, 0.45, 0.05])
    return {
        f"sub-{k:03d}": {"truth_ml": float(volumes[k]), "side": str(sides[k])} for k in range(count)
    }


@pytest.mark.parametrize("subsets", [3, 5, 8, 20])
@pytest.mark.parametrize("count", [20, 41, 60])
def test_strata_are_shared_evenly_and_sizes_differ_by_one(count, subsets):
    rows = drawn(count)
    for by in (["volume", "side"], ["side"]):
        divided = split_patients(alone(rows), 3, subsets, strata_of(rows, by))
        sizes = [len(names) for names in divided]
        assert max(sizes) - min(sizes) <= 1
        assert sorted(name for names in divided for name in names) == sorted(rows)
        for side in ("left", "right"):
            counts = [sum(rows[name]["side"] == side for name in names) for names in divided]
            assert max(counts) - min(counts) <= 2
    divided = split_patients(alone(rows), 3, subsets, strata_of(rows, ["volume"]))
    free = [sum(rows[name]["truth_ml"] == 0 for name in names) for names in divided]
    assert max(free) - min(free) <= 1


def test_stratified_subsets_depend_on_the_seed_alone():
    rows = drawn(40)
    strata = strata_of(rows, ["volume", "side"])
    first = split_patients(alone(rows), 1, 5, strata)
    assert first == split_patients(alone(list(rows)[::-1]), 1, 5, strata)
    assert first != split_patients(alone(rows), 2, 5, strata)


@pytest.mark.parametrize("by", [[], ["volume", "side"]])
def test_what_belongs_together_stays_together(by):
    rows = {name: {} for name in NAMES}
    rows |= {f"sub-v{k}_ses-{visit}": {} for k in range(4) for visit in "12"}
    for name in ("sub-0003", "sub-0017", "sub-v1_ses-2"):
        rows[name] = {"group": "family"}
    rows = {name: {"side": "left", "truth_ml": 1.0, **row} for name, row in rows.items()}
    groups = groups_of(rows)
    divided = split_patients(groups, 1, 5, strata_of(rows, by) if by else None)
    at = {name: k for k, names in enumerate(divided) for name in names}
    assert sorted(at) == sorted(rows)
    assert all(at[name] == at[group] for name, group in groups.items())
    assert max(map(len, divided)) - min(map(len, divided)) <= 1  # the small ones fill up


@pytest.mark.parametrize("seed", range(5))
def test_groups_leave_the_sides_even(seed):
    """Groups come first, so that the single ones after them have to make up for it."""
    rows = {f"sub-{k:02d}_ses-{visit}": {"side": "left"} for k in range(3) for visit in "12"}
    rows |= {f"sub-r{k}": {"side": "right"} for k in range(9)}
    rows |= {f"sub-l{k}": {"side": "left"} for k in range(3)}
    rows = {name: row | {"truth_ml": 10.0 + len(name)} for name, row in rows.items()}
    divided = split_patients(groups_of(rows), seed, 3, strata_of(rows, ["volume", "side"]))
    for side in ("left", "right"):
        assert [sum(rows[name]["side"] == side for name in names) for names in divided] == [3, 3, 3]


def test_fewer_patients_or_groups_than_subsets_are_refused():
    with pytest.raises(InputError, match="4 patients cannot be split into 5 subsets"):
        split_patients(alone(NAMES[:4]), seed=1)
    groups = dict.fromkeys(NAMES[:20], "sub-0001") | alone(NAMES[20:])
    with pytest.raises(InputError, match="4 groups of patients cannot be split into 5"):
        split_patients(groups, seed=1)


@pytest.mark.parametrize("text", ["age", "volume,volume", "none,side", ""])
def test_unknown_strata_are_refused(text):
    with pytest.raises(InputError, match="expected volume, side, both, or none"):
        parse_strata(text)


def at_sites(**changes):
    rows = {name: {"site": "ABC"[k % 3]} for k, name in enumerate(NAMES)}
    return rows | {name: row for name, row in changes.items()}


def test_each_site_is_a_subset():
    divided = split_by_site(at_sites(), alone(NAMES))
    assert divided == [NAMES[0::3], NAMES[1::3], NAMES[2::3]]
    assert fold_roles(2, 3) == {"train": [1], "validation": [0], "test": [2]}


def test_what_sites_lack_is_said():
    with pytest.raises(InputError, match="2 patients .*without one: sub-0002, sub-0009"):
        split_by_site(at_sites(**{"sub-0002": {"site": None}, "sub-0009": {}}), alone(NAMES))
    with pytest.raises(InputError, match=r"found 2 sites \(A, B\); expected 3 or more"):
        split_by_site({name: {"site": "AB"[k % 2]} for k, name in enumerate(NAMES)}, alone(NAMES))
    groups = alone(NAMES) | {"sub-0002": "sub-0001"}
    with pytest.raises(InputError, match=r"sub-0001 \(A\) and sub-0002 \(B\)"):
        split_by_site(at_sites(), groups)


def table(path, text):
    path.write_text(text)
    return str(path)


def test_a_table_says_who_goes_where(tmp_path):
    lines = [f"{name}\t{k % 4}" for k, name in enumerate(NAMES)]
    path = table(tmp_path / "s.tsv", "\n".join(["participant_id\tsubset", *lines]))
    told = read_table(path, NAMES)
    divided = split_as_told(path, told, NAMES[:-1], alone(NAMES))  # the last has no truth
    assert divided == [NAMES[:-1][k::4] for k in range(4)]
    again = table(tmp_path / "splits.json", json.dumps({"seed": 1, "subsets": divided}))
    assert split_as_told(again, read_table(again, NAMES), NAMES[:-1], alone(NAMES)) == divided
    with pytest.raises(InputError, match=r"subset of .*s.tsv: sub-0001 \(0\) and sub-0002 \(1\)"):
        split_as_told(path, told, NAMES, alone(NAMES) | {"sub-0002": "sub-0001"})


def test_everything_wrong_with_a_table_is_in_one_message(tmp_path):
    text = "participant_id\tsubset\nsub-0001\t0\nsub-0001\t1\nsub-x\t2\nsub-0002\tb\nsub-0003\n"
    with pytest.raises(InputError) as caught:
        read_table(table(tmp_path / "s.tsv", text), NAMES)
    for said in ("more than once: sub-0001", "not in participants.tsv: sub-x",
                 "row 5, sub-0002: subset is 'b'", "row 6 has 1 cell"):  # fmt: skip
        assert said in str(caught.value)
    with pytest.raises(InputError) as caught:
        split_as_told("s.tsv", {"sub-0001": 0, "sub-0002": 21}, NAMES[:3], alone(NAMES))
    for said in ("missing, with truth: sub-0003", "nobody with truth in subset 1, 2", "22 subsets"):
        assert said in str(caught.value)
    for content in ("{", "[" * 100_000, "[]", '{"subsets": [1]}', '{"subsets": [[1]]}'):
        with pytest.raises(InputError, match="not as build_records writes it"):
            read_table(table(tmp_path / "s.json", content), NAMES)


def test_of_many_faulty_rows_the_first_are_named(tmp_path):
    rows = "".join(f"sub-{k:04d}\t-1\n" for k in range(30))
    with pytest.raises(InputError) as caught:
        read_table(table(tmp_path / "s.tsv", f"participant_id\tsubset\n{rows}sub-x\t0\n"), NAMES)
    said = str(caught.value)
    assert said.count("subset is '-1'") == 10
    assert "and 20 more such rows" in said and "not in participants.tsv: sub-x" in said


@pytest.mark.parametrize(("text", "subset"), [("0", 0), ("2.0", 2), ("11.", 11)])
def test_programs_that_know_only_decimals_are_read(tmp_path, text, subset):
    path = table(tmp_path / "s.tsv", f"participant_id\tsubset\nsub-0001\t{text}\n")
    assert read_table(path, NAMES) == {"sub-0001": subset}


@pytest.mark.parametrize("text", ["1.5", "-0.0", "1e0", "1000", "", "\u0661", ".0"])
def test_what_is_no_subset_is_refused(tmp_path, text):
    path = table(tmp_path / "s.tsv", f"participant_id\tsubset\nsub-0001\t{text}\n")
    with pytest.raises(InputError, match="expected 0, 1, 2"):
        read_table(path, NAMES)


@pytest.mark.parametrize("subsets", [3, 5, 20])
def test_each_subset_tests_once_validates_once_and_trains_otherwise(subsets):
    folds = [fold_roles(fold, subsets) for fold in range(subsets)]
    for fold, roles in enumerate(folds):
        assert roles["test"] == [fold]
        assert roles["validation"] == [(fold + 1) % subsets]
        assert sorted(roles["train"] + roles["validation"] + roles["test"]) == list(range(subsets))


@pytest.mark.parametrize("fold", [-1, 5])
def test_there_is_no_sixth_fold(fold):
    with pytest.raises(InputError, match=f"fold is {fold}; expected 0 to 4"):
        fold_roles(fold, 5)
    with pytest.raises(InputError, match=f"fold is '{fold}'; expected 0 to 4, all or final"):
        parse_folds(str(fold), 5)

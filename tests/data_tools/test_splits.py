"""Five subsets and the folds made of them."""

import pytest

from data_tools.runtime.errors import InputError
from data_tools.splits import fold_roles, split_patients

pytestmark = pytest.mark.quick

NAMES = [f"sub-{k:04d}" for k in range(1, 24)]


def test_every_patient_is_in_one_subset():
    subsets = split_patients(NAMES, seed=1)
    assert sorted(name for subset in subsets for name in subset) == NAMES
    assert [len(subset) for subset in subsets] == [5, 5, 5, 4, 4]
    assert all(subset == sorted(subset) for subset in subsets)


def test_the_order_of_the_table_does_not_matter():
    assert split_patients(NAMES[::-1], seed=1) == split_patients(NAMES, seed=1)


def test_the_seed_does():
    assert split_patients(NAMES, seed=1) != split_patients(NAMES, seed=2)


def test_fewer_than_five_patients_are_refused():
    assert split_patients(NAMES[:5], seed=1) != []
    with pytest.raises(InputError, match="4 patients cannot be split into 5 subsets"):
        split_patients(NAMES[:4], seed=1)


def test_a_patient_named_twice_is_refused():
    with pytest.raises(InputError, match="stands more than once"):
        split_patients([*NAMES, NAMES[3]], seed=1)


def test_each_subset_tests_once_validates_once_and_trains_three_times():
    folds = [fold_roles(fold) for fold in range(5)]
    for fold, roles in enumerate(folds):
        assert roles["test"] == [fold]
        assert roles["validation"] == [(fold + 1) % 5]
        assert sorted(roles["train"] + roles["validation"] + roles["test"]) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("fold", [-1, 5])
def test_there_is_no_sixth_fold(fold):
    with pytest.raises(InputError, match=f"fold is {fold}; expected 0 to 4"):
        fold_roles(fold)

"""The clinical rules at and around every one of their limits."""

import pytest

from tf_hypoperfusion.clinical import dawn, defuse3, mismatch_ratio

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    ("hypoperfusion_ml", "core_ml", "expected"),
    [
        (126, 70, True),  # ratio exactly 1.8, core exactly 70
        (125.992, 70, False),  # one voxel less
        (300, 70.008, False),  # one voxel of core too many
        (33, 18, True),  # difference exactly 15
        (32.992, 18, False),
        (15, 0, True),  # no core: the ratio holds
        (14.992, 0, False),
        (0, 0, False),
        (20, 30, False),
    ],
)
def test_defuse3_limits(hypoperfusion_ml, core_ml, expected):
    assert defuse3(hypoperfusion_ml, core_ml).target_mismatch is expected


def test_defuse3_names_the_criterion_that_fails():
    decision = defuse3(200, 100)
    assert (decision.ratio_met, decision.difference_met, decision.core_met) == (True, True, False)
    decision = defuse3(10, 1)
    assert (decision.ratio_met, decision.difference_met, decision.core_met) == (True, False, True)


def test_limits_survive_the_rounding_of_voxel_sums():
    # 1.8 * 0.008 * 8750 and sums of 0.008 are not exact in binary
    core_ml = sum([0.008] * 8750)
    assert defuse3(sum([0.008] * 15750), core_ml).target_mismatch


@pytest.mark.parametrize("volumes", [(-1, 0), (0, -1), (float("nan"), 1)])
def test_impossible_volumes_are_refused(volumes):
    with pytest.raises(ValueError, match="expected 0 or more"):
        defuse3(*volumes)


def test_ratio_is_capped_at_20():
    assert [mismatch_ratio(h, c) for h, c in ((199, 10), (201, 10), (1, 0), (0, 5))] == [
        19.9, 20, 20, 0,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("age", "nihss", "core_ml", "expected"),
    [
        (80, 10, 20.992, True), (80, 10, 21, False), (80, 9, 1, False), (85, 25, 40, False),
        (79, 10, 30.992, True), (79, 10, 31, False), (79, 19, 31, False),
        (79, 20, 31, True), (79, 20, 51, True), (79, 20, 51.008, False),
        (80, 10, 21 - 5e-10, False), (79, 20, 51 + 5e-10, True),
        (None, 20, 1, None), (70, None, 1, None), (79.9, 10, 25, True),
    ],
)  # fmt: skip
def test_dawn_limits(age, nihss, core_ml, expected):
    assert dawn(age, nihss, core_ml) is expected

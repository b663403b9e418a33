"""The estimate after twenty steps: its arithmetic, and what it leaves out."""

import dataclasses

import pytest

from tf_hypoperfusion import config
from tf_hypoperfusion.training.outlook import MEASURED, SKIPPED, Outlook

pytestmark = pytest.mark.quick


def outlook(preset="paper", **changes):
    given = {"steps": 100, "validation_slabs": 960, "epochs_left": 80, "folds_after": 4}
    return Outlook(config.preset(preset), **(given | {"on_cpu": True} | changes))


def said(outlook, step_s=32.0):
    """Twenty steps, of which the first ones compile."""
    texts = [outlook.step_took(100.0 if k < SKIPPED else step_s) for k in range(MEASURED)]
    assert texts[:-1] == [None] * (MEASURED - 1)
    assert outlook.step_took(step_s) is None  # said once
    return texts[-1]


def test_an_epoch_is_its_steps_and_a_third_of_the_slabs_to_validate():
    # 100 steps of 32 s and 960 slabs of 1/3 s: 3520 s; 400 of them are 16.3 days.
    text = said(outlook())
    assert text.startswith(
        "about 59 min per epoch, 16 days for 5 folds (400 epochs, validation included), by 32 s "
        "per step"
    )


def test_a_validation_that_was_measured_counts_as_it_was():
    each = outlook(epochs_left=1, folds_after=0)
    each.validation_s = 400.0
    assert "about 60 min per epoch, 60 min for 1 fold (1 epoch," in said(each)


def test_smaller_presets_stand_beside_it_by_their_cost():
    """Of the paper's 16.3 days half is 8.3; 4 of 80 epochs at 0.063 of the cost are 74 minutes."""
    text = said(outlook())
    assert "--preset=paper_tight (80 epochs) takes about 8.3 days" in text
    assert "--preset=demonstration (4 epochs) takes about 1.2 h" in text
    assert "tiny" not in text and "few_patients" not in text


@pytest.mark.parametrize("changes", [{"on_cpu": False}, {"preset": "small"}])
def test_none_stand_beside_it_on_a_gpu_or_where_none_is_smaller(changes):
    assert "--preset=paper" not in said(outlook(**changes))


def test_a_network_of_no_preset_has_no_smaller_ones():
    configs = config.preset("paper", base_filters=20)
    each = Outlook(
        configs, steps=9, validation_slabs=0, epochs_left=1, folds_after=0, on_cpu=True
    )  # fmt: skip
    assert "--preset" not in said(each)


def test_an_early_stop_makes_it_a_bound():
    configs = config.preset("paper")
    configs = configs._replace(training=dataclasses.replace(configs.training, patience=5))
    each = Outlook(
        configs, steps=9, validation_slabs=0, epochs_left=1, folds_after=0, on_cpu=True
    )  # fmt: skip
    assert " at most for 1 fold" in said(each)

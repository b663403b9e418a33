"""The learning rate against the published decay."""

import pytest

from tf_hypoperfusion.config import preset
from tf_hypoperfusion.optimizers import build_optimizer

pytestmark = pytest.mark.core


def rates(training, steps):
    schedule = build_optimizer(training, steps)._learning_rate
    return [float(schedule(step)) for step in range(training.epochs * steps)]


def test_decay_starts_at_the_paper_and_ends_at_the_share():
    _, training = preset("paper")
    by_step = rates(training, 3)
    assert by_step[0] == pytest.approx(5e-4)
    assert by_step[-1] == pytest.approx(0.68 * 5e-4, rel=1e-4)
    assert by_step[0] == by_step[2]  # constant within an epoch
    ratios = [by_step[3 * (e + 1)] / by_step[3 * e] for e in range(79)]
    assert max(ratios) == pytest.approx(min(ratios), rel=1e-4)  # exponential


def test_one_epoch_keeps_the_rate():
    _, training = preset("paper", epochs=1, learning_rate=0.01)
    assert rates(training, 2) == pytest.approx([0.01, 0.01])

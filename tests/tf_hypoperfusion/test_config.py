"""Presets, ranges, and the rule that a number of the paper stands once."""

import ast
import dataclasses

import pytest
from helpers import PROJECT

from data_tools.runtime.errors import InputError
from tf_hypoperfusion.config import PRESETS, preset

pytestmark = pytest.mark.quick


def test_paper_preset_is_the_paper():
    model, training = preset("paper")
    assert dataclasses.astuple(model)[:4] == (32, 3, 0.25, "batch")
    assert (training.epochs, training.batch_size, training.learning_rate) == (80, 32, 5e-4)
    assert (training.bce_weight, training.dice_weight, training.volume_weight) == (1, 0.5, 0.25)
    assert not model.crop_margin


def test_changes_reach_the_right_config():
    model, training = preset("tiny", base_filters=5, epochs=7, seed=None)
    assert (model.base_filters, training.epochs, training.seed) == (5, 7, 1)


def test_unknown_preset_and_field():
    with pytest.raises(
        InputError, match="preset is 'huge'; expected one of paper, small, demonstration, tiny"
    ):
        preset("huge")
    with pytest.raises(TypeError):
        preset("tiny", colour="red")


@pytest.mark.parametrize(
    "change",
    [
        {"base_filters": 0}, {"poolings": 5}, {"batch_norm_momentum": 1.0}, {"dropout": 1.0},
        {"normalisation": "layer"},
        {"epochs": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"precision": "float8"},
        {"final_learning_rate_ratio": 1.5}, {"dice_weight": -1.0}, {"seed": -1},
    ],
    ids=str,
)  # fmt: skip
def test_values_out_of_range_are_refused_by_name(change):
    (name,) = change
    with pytest.raises(InputError, match=f"{name} is .*expected"):
        preset("tiny", **change)


def test_presets_are_all_valid():
    assert set(PRESETS) == {"paper", "small", "demonstration", "tiny"}


def test_numbers_of_the_paper_stand_in_one_place():
    """620, 1.8, 0.68... may be written in these three files only."""
    unmistakable = {620.0, 620e-6, 2000.0, 0.68, 5e-4}
    # The ratio of DWI that a core must somewhere have is no mismatch ratio.
    others = {("data_tools/labels.py", 1.8)}
    # Published percentages and image ratios of the simulator happen to be the same numbers.
    numbers = unmistakable | {21.0, 1.8, 70.0}
    allowed = {"data_tools/grid.py", "data_tools/criteria.py", "tf_hypoperfusion/config.py"}
    found = []
    for package in ("data_tools", "tf_hypoperfusion"):
        for path in sorted((PROJECT / package).rglob("*.py")):
            name = str(path.relative_to(PROJECT))
            wanted = unmistakable if "simulate" in name else numbers
            for node in ast.walk(ast.parse(path.read_text())):
                is_number = isinstance(node, ast.Constant) and isinstance(node.value, int | float)
                if not is_number or float(node.value) not in wanted:
                    continue
                if name not in allowed and (name, float(node.value)) not in others:
                    found.append(f"{name}:{node.lineno} {node.value}")
    assert not found

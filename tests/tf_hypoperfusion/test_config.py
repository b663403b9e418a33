"""Presets, ranges, and the rule that a number of the paper stands once."""

import ast
import dataclasses
import re
import runpy

import pytest
from helpers import PROJECT

from data_tools.runtime.errors import InputError
from tf_hypoperfusion.config import PRESETS, common_frame, from_json, model_config, preset

pytestmark = pytest.mark.quick


def test_paper_preset_is_the_paper():
    model, training = preset("paper")
    assert dataclasses.astuple(model)[:4] == (32, 3, 0.25, "batch")
    assert (training.epochs, training.batch_size, training.learning_rate) == (80, 32, 5e-4)
    assert (training.bce_weight, training.dice_weight, training.volume_weight) == (1, 0.5, 0.25)
    assert model.frame == "128x128"
    tight, as_published = preset("paper_tight")
    assert dataclasses.replace(tight, frame="128x128") == model
    assert as_published == training
    assert {name: each.model.frame for name, each in PRESETS.items() if name != "paper"} == {
        name: "80x104" for name in ("paper_tight", "small", "demonstration", "few_patients", "tiny")
    }


def test_changes_reach_the_right_config():
    model, training = preset("tiny", base_filters=5, epochs=7, seed=None)
    assert (model.base_filters, training.epochs, training.seed) == (5, 7, 1)


def test_unknown_preset_and_field():
    with pytest.raises(
        InputError,
        match="preset is 'huge'; expected one of paper, paper_tight, small, demonstration, few_pat",
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


@pytest.mark.parametrize(
    ("frame", "poolings", "message"),
    [
        ("80 x 104", 3, "expected columns x rows, as in 80x104"),
        ("080x104", 3, "expected columns x rows"),
        ("80x104x16", 3, "expected columns x rows"),
        ("72x104", 3, "expected 73x90, which just holds the template's brain, to 128x128"),
        ("80x88", 3, "expected 73x90"),
        ("136x128", 3, "to 128x128"),
        ("80x104", 4, "expected multiples of 16, which halve 4 times: 80x112"),
        ("73x90", 3, "expected multiples of 8, which halve 3 times: 80x96"),
    ],
)
def test_a_frame_that_does_not_fit_is_refused(frame, poolings, message):
    with pytest.raises(InputError, match=f"frame is '{frame}'; .*{re.escape(message)}"):
        preset("tiny", frame=frame, poolings=poolings)


@pytest.mark.parametrize(("cropped", "frame"), [(True, "96x112"), (False, "128x128")])
def test_a_run_from_before_the_frame_is_read(cropped, frame):
    configs = preset("small", frame=frame)
    before = {part: dataclasses.asdict(value) for part, value in configs._asdict().items()}
    assert from_json(before, "config.json") == configs
    del before["model"]["frame"]
    before["model"]["crop_margin"] = cropped
    assert from_json(before, "config.json") == configs
    for broken in (1, "True", None):
        before["model"]["crop_margin"] = broken
        with pytest.raises(InputError, match="unknown or missing values .crop_margin, frame"):
            from_json(before, "config.json")


def test_a_config_of_before_the_randomisations_is_read():
    configs = preset("tiny")
    before = {name: dataclasses.asdict(part) for name, part in configs._asdict().items()}
    del before["training"]["randomisation"]
    for augment, expected in ((False, "none"), (True, "place+contrast+noise")):
        before["training"]["augment"] = augment
        assert from_json(before, "config.json").training.randomisation == expected
    before["training"]["augment"] = "yes"
    with pytest.raises(InputError, match="unknown or missing values .augment, randomisation"):
        from_json(before, "config.json")


def test_a_network_s_settings_are_read_whole_or_not_at_all():
    for name in ("paper", "tiny"):
        model = PRESETS[name].model
        assert model_config(dataclasses.asdict(model)) == model
    whole = dataclasses.asdict(PRESETS["tiny"].model)
    for broken in (None, {}, {"base_filters": 2}, whole | {"poolings": 9}, whole | {"frame": 3}):
        assert model_config(broken) is None
    assert model_config(whole | {"colour": "red"}) is None


def test_the_frame_common_to_networks_is_known_if_each_is():
    known = [{"frame": "80x128"}, {"crop_margin": True}]
    assert common_frame(known) == "80x112"
    for unknown in (None, {}, {"frame": 3}, {"frame": "wide"}):
        assert common_frame([*known, unknown]) is None
    assert common_frame([]) is None


def test_presets_are_all_valid():
    assert set(PRESETS) == {
        "paper", "paper_tight", "small", "demonstration", "few_patients", "tiny"
    }  # fmt: skip


def test_numbers_of_the_paper_stand_in_one_place():
    """620, 1.8, 0.68... may be written in these three files only."""
    unmistakable = {620.0, 620e-6, 2000.0, 0.68, 5e-4}
    # The ratio of DWI that a core must somewhere have is no mismatch ratio.
    others = {("data_tools/labels.py", 1.8)}
    # So many voxels of an artery are no ADC of fluid.
    others.add(("data_tools/perfusion/arterial_input.py", 2000.0))
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


def test_the_page_of_settings_is_that_of_the_config():
    writer = runpy.run_path(str(PROJECT / "docs/reference/write_settings.py"))
    assert (PROJECT / "docs/reference/settings.md").read_text() == writer["settings"](), (
        "run python docs/reference/write_settings.py"
    )

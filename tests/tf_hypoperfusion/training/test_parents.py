"""What a training may begin with: found, named, its architecture taken; refused with a sentence."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from helpers.commands import call

from data_tools.runtime.errors import InputError
from tf_hypoperfusion import train
from tf_hypoperfusion.config import PRESETS, ModelConfig, preset
from tf_hypoperfusion.model import exported
from tf_hypoperfusion.model.export_files import CARD, CHECKSUMS, DEMO_MODEL, newest_version
from tf_hypoperfusion.training import parents

SMALL = ModelConfig(base_filters=2, poolings=1, frame="80x104")


@pytest.fixture
def run(tmp_path):
    """A run with a fold 2, of a network that began with another one."""
    fold = tmp_path / "run" / "fold-2"
    fold.mkdir(parents=True)
    (fold / "best.keras").write_bytes(b"weights")
    said = {
        "model": dataclasses.asdict(SMALL),
        "records": {"cohort": "Our hospital"},
        "parent": {"name": "before", "simulated": True},
    }
    (fold / "config.json").write_text(json.dumps(said))
    return tmp_path / "run"


@pytest.mark.quick
@pytest.mark.parametrize(("fold", "network"), [(0, 0), (2, 2), (4, 1), (None, 0)])
def test_a_fold_begins_with_the_export_s_network_of_its_number(fold, network):
    parent = parents.find("demo", fold)
    assert parent.reference == f"demo#{network}"
    assert parent == parents.find(parent.reference, 1)  # whatever fold asks
    card = json.loads((newest_version(DEMO_MODEL) / CARD).read_text())["models"][network]
    assert parent.sha256 == card["sha256"] and parent.cohort == card["records"]["cohort"]
    assert parent.simulated and parent.in_words() == (
        f"hypoperfusion_demo version 1, network {network}, trained on SIMULATED patients "
        "(Simulated acute stroke cohort)"
    )
    elsewhere = parents.find(str(DEMO_MODEL), fold)
    assert elsewhere.reference == f"{DEMO_MODEL}/1#{network}"
    assert dataclasses.replace(elsewhere, reference=parent.reference) == parent


@pytest.mark.quick
def test_a_run_gives_the_network_of_the_same_fold(run):
    file = run / "fold-2/best.keras"
    for init_from, fold in ((run, 2), (run / "fold-2", 0), (file, 0)):
        parent = parents.find(str(init_from), fold)
        assert parent.reference == str(file) and parent.model == SMALL
    assert parent.cohort == "Our hospital" and parent.simulated  # its parent was
    for fold in (0, None):
        assert parents.find(f"{run}#2", fold).reference == str(file)


@pytest.mark.quick
def test_an_empty_name_is_refused_and_not_taken_for_none(capsys):
    """As an unset variable of a shell leaves it."""
    assert call(train, "--fold=0", "--records=r", "--init_from=", "--preset=tiny") == 2
    assert "--init_from is empty; expected a trained network" in capsys.readouterr().err


@pytest.mark.quick
@pytest.mark.parametrize(
    ("init_from", "message"),
    [
        ("{run}", "neither a run's folder with a best.keras for fold 1 nor an export"),
        ("{run}/none", "is no .keras file or folder; expected a best.keras, .*or demo"),
        ("{run}/fold-2/config.json", "is no .keras file or folder"),
        ("{run}#0", "neither a run's folder with a best.keras for fold 0 nor an export"),
        ("{run}/fold-2/best.keras#2", "holds one network; expected it without #2"),
        ("{run}/fold-2#2", "nor an export"),
        ("demo#3", "has 3 networks, from 0; expected a smaller number after #"),
    ],
)
def test_what_is_no_network_is_refused(run, init_from, message):
    with pytest.raises(InputError, match=f"--init_from=.*{message}"):
        parents.find(init_from.format(run=run), 1)


@pytest.mark.quick
def test_the_architecture_is_the_parent_s_unless_it_is_contradicted():
    configs = preset("small", init_from="demo", epochs=3)
    taken = parents.with_architecture(configs, 0, ["init_from", "epochs"])
    assert taken.training == configs.training
    assert taken.model == parents.find("demo", 0).model
    assert (taken.model.base_filters, taken.model.core_output) == (12, True)
    asked = preset("small", init_from="demo", contrast_channels="local", base_filters=4)
    kept = parents.with_architecture(asked, 0, ["contrast_channels"]).model
    assert kept == dataclasses.replace(taken.model, contrast_channels="local")
    with pytest.raises(InputError, match="another network: base_filters is 12 there and 4 here"):
        parents.with_architecture(asked, 0, ["contrast_channels", "base_filters"])


@pytest.mark.quick
@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({"presence_flags": True}, {}),
        ({"core_output": True}, {}),
        ({}, {"side_channel": False}),
        ({"contrast_channels": "mirror"}, {"contrast_channels": "local+mirror"}),
    ],
    ids=str,
)
def test_what_a_parent_knows_may_not_be_left_out_or_moved(run, before, now):
    parent = parents.find(str(run), 2)
    parent = dataclasses.replace(parent, model=dataclasses.replace(SMALL, **before))
    with pytest.raises(InputError, match=f"{next(iter(before or now))} is .* there and"):
        parents.check(parent, dataclasses.replace(SMALL, **now))


@pytest.mark.quick
def test_a_parent_of_which_nothing_is_known_leaves_the_settings_alone(run):
    (run / "fold-2/config.json").write_text('{"model": {"base_filters": "2"}, "parent": 3}')
    parent = parents.find(str(run), 2)
    assert (parent.model, parent.cohort, parent.simulated) == (None, None, False)
    configs = preset("small", init_from=str(run))
    assert parents.with_architecture(configs, 2, []) == configs
    parents.check(parent, configs.model)


@pytest.mark.quick
def test_the_preset_for_few_patients_has_the_demonstration_model_s_network():
    model, training = PRESETS["few_patients"]
    assert training.init_from == "demo"
    assert model == parents.find("demo", 0).model


@pytest.mark.core
def test_a_fold_with_dropout_comes_out_of_its_export_as_it_went_in(trained_fold, tmp_path):
    """Keras 3 keeps seeds of dropout among the weights."""
    from tf_hypoperfusion.model import keras_file
    from tf_hypoperfusion.serving import saved_model

    file = trained_fold / "fold-0/best.keras"
    folder, _ = saved_model.export([file], "ours", tmp_path, onnx=False)
    parent, before = parents.find(str(tmp_path / "ours"), 3), parents.find(str(file), 3)
    assert parent.reference == f"{folder}#0" and parent.name == "ours version 1, network 0"
    for field in ("sha256", "cohort", "simulated", "model"):
        assert getattr(parent, field) == getattr(before, field)
    found = {layer.name: layer.get_weights() for layer in parents.read(parent.reference).layers}
    for layer in keras_file.load(file).layers:
        if layer.trainable_weights:
            for pair in zip(found[layer.name], layer.get_weights(), strict=True):
                np.testing.assert_array_equal(*pair, err_msg=layer.name)


@pytest.fixture
def export(tmp_path):
    """A copy of the demonstration model without its checksums."""
    folder = shutil.copytree(newest_version(DEMO_MODEL), tmp_path / "1")
    (folder / CHECKSUMS).unlink()
    return folder


def test_a_damaged_export_is_refused(export):
    weights = export / "variables/variables.data-00000-of-00001"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(InputError, match="network 1 cannot be taken out of it"):
        exported.read(export, 1)
    shutil.copy(newest_version(DEMO_MODEL) / CHECKSUMS, export)
    with pytest.raises(InputError, match="damaged or missing: variables/variables.data-0"):
        exported.read(export, 1)


@pytest.mark.core
def test_an_export_whose_card_describes_other_networks_is_refused(export):
    card = json.loads((export / CARD).read_text())
    for change, message in (
        ({"base_filters": 6}, "network 0 cannot be taken out of it"),
        ({"poolings": 2}, "it holds 462 weights, and by model_card.json"),
        ({"frame": 3}, "does not say what its networks are built of"),
    ):
        other = [each | {"model": each["model"] | change} for each in card["models"]]
        (export / CARD).write_text(json.dumps(card | {"models": other}))
        with pytest.raises(InputError, match=message):
            exported.read(export, 0)
    (export / CARD).unlink()
    with pytest.raises(InputError, match="model_card.json is missing or names no networks"):
        parents.find(str(export), 0)

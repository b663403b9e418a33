"""The card: built from its types it is the file that was shipped, byte for byte."""

import dataclasses
import json

import pytest
from helpers import PROJECT
from helpers.calibrations import calibration_of

from data_tools.runtime import atomic
from tf_hypoperfusion.inference import calibration, model_files
from tf_hypoperfusion.inference.model_files import ModelInfo
from tf_hypoperfusion.serving import model_card
from tf_hypoperfusion.serving.model_card import ModelCard, NetworkFacts, OnnxFacts
from tf_hypoperfusion.training import roles

SHIPPED = PROJECT / "saved_models/hypoperfusion_demo/1"


@pytest.fixture
def shipped(monkeypatch):
    """The card of the demonstration model, and its file's content."""
    facts = json.loads((SHIPPED / "model_card.json").read_text())
    monkeypatch.setattr(model_card, "__version__", facts["tf_hypoperfusion"])
    card = ModelCard(
        name=facts["name"],
        version=facts["version"],
        networks=tuple(NetworkFacts(**network) for network in facts["models"]),
        tests=tuple(model_card.TestFigures(**figures) for figures in facts["tests"]),
        stride_slices=facts["stride_slices"],
        precision=facts["precision"],
        with_core=facts.get("core", {}).get("networks", 0),
        onnx=OnnxFacts(**facts["onnx"]),
        calibration=calibration.of_card(facts, "card"),
        exported_with=facts["exported_with"],
    )
    return card, facts


def test_the_shipped_card_is_written_again(shipped, tmp_path):
    card, facts = shipped
    model_card.write(card, tmp_path)
    for name in ("model_card.json", "model_card.md"):
        assert (tmp_path / name).read_bytes() == (SHIPPED / name).read_bytes()
    assert model_card.markdown(facts) == (SHIPPED / "model_card.md").read_text()


def test_licence_and_what_was_derived_stand_beside_the_cohort(shipped):
    card, _ = shipped
    records = {
        "fingerprint": "0", "cohort": "ISLES 2017 (real patients, public data), imported",
        "licence": "CC BY 4.0; please confirm", "derived": {"DWI": 43, "side": 39},
    }  # fmt: skip
    network = dataclasses.replace(card.networks[0], records=records)
    facts = dataclasses.replace(card, networks=(network,)).to_json()
    assert facts["data"] == [{k: v for k, v in records.items() if k != "fingerprint"}]
    text = model_card.markdown(facts)
    assert f"Licence of {records['cohort']}: CC BY 4.0; please confirm.\n" in text
    assert "DWI (43 patients), side (39 patients).\n" in text
    assert not facts["simulated"]


def test_the_windows_of_the_tests_are_told_where_they_are_known(shipped):
    card, _ = shipped
    early = model_card.TestFigures(
        cohort="other",
        simulated=True,
        by="the average",
        patients=5,
        patients_with_dice=0,
        dice_quartiles=None,
        volume_difference_ml_quartiles=(-1.0, 0.0, 2.0),
        volume_concordance=None,
        target_mismatch_right=4,
    )
    known = dataclasses.replace(early, stride_slices=16)
    facts = dataclasses.replace(card, tests=(known, early)).to_json()
    assert facts["tests"][0]["stride_slices"] == 16 and "stride_slices" not in facts["tests"][1]
    said = model_card.markdown(facts)
    assert said.count("measured with windows every 16 slices |") == 1 == said.count("measured with")


def test_a_network_of_all_patients_is_labelled(shipped, tmp_path):
    """As its config.json says."""
    (tmp_path / "config.json").write_text(json.dumps({"fold": None, "note": roles.FINAL_NOTE}))
    known = ModelInfo(path=str(tmp_path / "best.keras"), sha256="0123456789abcdef", cohort="a")
    card = dataclasses.replace(shipped[0], networks=model_card.networks([known]))
    said = model_card.markdown(card.to_json())
    assert "| 0123456789ab | final |" in said
    assert "0123456789ab: trained on all patients; untested by itself" in said


def test_the_trained_network_that_another_began_with_is_named(shipped, tmp_path):
    parent = {
        "name": "hypoperfusion_demo version 1, network 0", "sha256": "ab" * 32,
        "cohort": "Simulated strokes", "simulated": True,
    }  # fmt: skip
    known = ModelInfo(path=str(tmp_path / "best.keras"), sha256="0123456789abcdef", cohort="a")
    for said, expected in (
        (parent, "(abababababab), trained on\n**SIMULATED patients** (Simulated strokes)."),
        (
            parent | {"sha256": None, "cohort": None, "simulated": False},
            "(checksum unknown), trained on\npatients (cohort unknown).",
        ),
    ):
        (tmp_path / "config.json").write_text(json.dumps({"parent": said}))
        card = dataclasses.replace(shipped[0], networks=model_card.networks([known]))
        assert card.to_json()["models"][0]["parent"] == said
        assert (
            "0123456789ab began with the weights of hypoperfusion_demo version 1, network 0 "
            + expected
        ) in model_card.markdown(card.to_json())
    assert "parent" not in shipped[0].to_json()["models"][0]


def test_an_onnx_file_comes_last(shipped):
    card, facts = shipped
    without = dataclasses.replace(card, onnx=None).to_json()
    assert list(facts) == [*without, "onnx"]
    assert "ONNX opset 18" in model_card.markdown(facts)
    assert "`probability_0` to `probability_2` are those of each network" in model_card.markdown(
        facts
    )
    assert "onnx" not in model_card.markdown(without)


def test_a_calibration_is_kept_whole_and_said(shipped, tmp_path):
    card, _ = shipped
    made = calibration_of(slope=0.53, intercept=-0.57, cut=0.3)
    model_card.write(dataclasses.replace(card, calibration=made), tmp_path)
    facts = json.loads((tmp_path / "model_card.json").read_text())
    assert calibration.of_card(facts, "card") == made and facts["probability_threshold"] == 0.3
    text = (tmp_path / "model_card.md").read_text()
    assert "calibrated on 19 patients of somewhere, answered by the networks' average" in text
    assert "its logit is 0.530 logit(p) -0.570" in text and "`answer`: yes, no or unsure" in text
    plain = model_card.markdown(dataclasses.replace(card, calibration=None).to_json())
    assert "## Calibration" not in plain


def test_networks_and_cohorts_are_those_of_the_folds_files(tmp_path):
    known = []
    for fold, cohort in enumerate(("Simulated A", "B")):
        folder = tmp_path / f"fold-{fold}"
        folder.mkdir()
        settings = {"fold": fold, "records": {"cohort": cohort}, "software": {"numpy": "2"}}
        atomic.write_json(folder / "config.json", settings)
        path = f"{folder}/best.keras"
        known.append(ModelInfo(path=path, sha256=str(fold), cohort=cohort, fold=fold))
    (tmp_path / "fold-0/history.csv").write_text(
        "epoch,dice,val_composite,val_dice\n1,0.1,0.5,0.2\n2,0.3,0.4,0.4\n3,0.4,0.6,0.5\n"
    )
    first, second = networks = model_card.networks(known)
    assert (first.epochs_done, first.best_epoch) == (3, 2)
    assert first.validation == {"composite": 0.4, "dice": 0.4}
    assert (second.epochs_done, second.best_epoch, second.validation) == (0, None, {})
    assert second.trained_with == {"numpy": "2"} and second.model is None
    assert model_card.cohort_of(networks) == "B, Simulated A"
    assert model_card.cohort_of([second]) == "B"
    assert model_files.describe(model_files.DEMO_MODEL).frame == "80x104"
    (tmp_path / "fold-1/config.json").write_text('{"records": 3}')
    assert model_card.cohort_of(model_card.networks(known[1:])) is None

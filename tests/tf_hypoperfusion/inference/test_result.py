"""The typed result: to JSON and back, and its published schema."""

import dataclasses
import json

import pytest
from helpers import results

from data_tools.runtime import atomic
from tf_hypoperfusion.clinical import ClinicalFacts
from tf_hypoperfusion.inference import result
from tf_hypoperfusion.inference.model_files import ModelInfo
from tf_hypoperfusion.inference.result import PatientResult

pytestmark = pytest.mark.quick


def criterion(value):
    return result.Criterion(value=value, required=">= 1.8", met=True)


@pytest.fixture
def made():
    registration = result.Registration(
        verdict="good", notes=("a note",), registration="affine", strategy="tissue",
        fitted_by="gauss-newton", brain_dice_with_template=0.96, tissue_correlation=0.45,
        template_brain_imaged=1.0, affine_determinant=1.7, turn_deg=9.0,
        end_slice_brain_share=0.0, brain_native_ml=1148.0,
        brain_mni_ml=1080.0, coverage_mni_ml=1080.0, b_value_s_per_mm2=None,
        adc_unit_in_file="mm2/s", adc_parenchyma_median_um2_per_s=1041.6, shape=(2, 2, 2),
        affine=((1.0, 0.0, 0.0, 0.0),) * 4, orientation="LAS", spacing_mm=(2.0, 2.0, 2.0),
    )  # fmt: skip
    return PatientResult(
        notice="research", patient="x", given=ClinicalFacts("left", None, 66.0),
        side="left", side_found=False, side_share=None, missing=None,
        hypoperfusion_ml=90.0, core_ml=10.0, hypoperfusion_mni_ml=91.0, core_mni_ml=9.0,
        core_by="learnt", core_rule_ml=4.0, core_learnt_ml=10.0,
        mismatch_ratio=9.0, mismatch_ml=80.0,
        defuse3=result.Defuse3(
            ratio=criterion(9.0), difference_ml=criterion(80.0), core_ml=criterion(10.0),
            target_mismatch=True,
        ),
        answer=result.Answer(
            target_mismatch="unsure", reasons=("it is far",), interval_ml=(10.0, 120.0),
            coverage=0.9, mismatch_with_errors_of=0.7, calibrated_on="20 patients",
        ),
        dawn=None,
        comparison=result.Comparison(
            source="Tmax", threshold_s=6.0, tmax="t", mask=None, truth_ml=70.0, predicted_ml=60.0,
            dice=0.8, covered_share=0.9, target_mismatch=True,
        ),
        uncertainty=result.Uncertainty(
            kind="mirror", opinions=2, hypoperfusion_ml=(90.0, 80.0), range_ml=(80.0, 90.0),
            decision_holds_in=2,
        ),
        warnings=("one", "two"), registration=registration, probability_threshold=0.5,
        seconds=result.Seconds(read=1.0, load_model=2.0, register=3.0, network=4.0, way_back=5.0),
        stride_slices=4, fast=False,
        input=result.InputImages(
            dwi="d", adc=None, adc_unit="mm2/s", b_value_s_per_mm2=None, notes=(),
            b0=None, core=None, overrides={"b_value": 800.0, "few_directions": True},
        ),
        models=(
            ModelInfo(path="a", sha256="0", cohort="Simulated", fold=1, precision="float32"),
            ModelInfo(path="b", sha256=("1", "2"), cohort=None, name="stroke", version=3),
        ),
        fingerprint=None, software={"numpy": "2", "keras": None},
    )  # fmt: skip


def test_it_comes_back_from_its_file_as_it_was(made, tmp_path):
    assert result.read_result(tmp_path) is None
    atomic.write_json(tmp_path / result.FILE, made.to_json())
    assert result.read_result(tmp_path) == made
    content = json.loads((tmp_path / "result.json").read_text())
    assert list(content) == [field.name for field in dataclasses.fields(PatientResult)]
    assert content["models"][0] == {
        "path": "a", "sha256": "0", "cohort": "Simulated", "fold": 1, "precision": "float32",
    }  # fmt: skip
    assert content["models"][1]["sha256"] == ["1", "2"]


@pytest.mark.parametrize(
    "change", [{"core_ml": "ten"}, {"given": {"side": "up", "nihss": 5}}, {"patient": None}]
)
def test_a_file_of_another_kind_is_no_result(made, tmp_path, change):
    (tmp_path / "result.json").write_text(json.dumps(made.to_json() | change))
    assert result.read_result(tmp_path) is None


def test_it_says_what_was_left_out_of_it(made):
    assert made.shortcut == ""
    fast = dataclasses.replace(made, fast=True, stride_slices=8)
    assert fast.shortcut == "computed with --fast: windows every 8 slices, float32"


def test_nobody_changes_a_result(made):
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.core_ml = 0.0


def test_the_published_schema_is_that_of_the_types():
    published = json.loads(results.SCHEMA.read_text())
    assert published == json.loads(json.dumps(result.schema())), (
        "run python docs/reference/write_schema.py"
    )


def test_every_field_is_described_in_the_schema():
    schema = result.schema()
    for described in (schema, *schema["$defs"].values()):
        for name, each in described["properties"].items():
            assert len(each["description"]) > 5, name


def test_the_schema_refuses_what_is_not_a_result(made):
    pytest.importorskip("jsonschema")
    good = json.loads(json.dumps(made.to_json()))
    assert results.faults(good) == ""
    assert "'ten' is not of type 'number'" in results.faults(good | {"hypoperfusion_ml": "ten"})
    assert "was unexpected" in results.faults(good | {"volume": 1})
    assert "'middle' is not one of" in results.faults(
        good | {"given": {"side": "middle", "nihss": 5, "age": None}}
    )
    assert "'total' is a required property" in results.faults(
        good | {"seconds": {k: v for k, v in good["seconds"].items() if k != "total"}}
    )
    del good["warnings"]
    assert "'warnings' is a required property" in results.faults(good)

"""Computing less: its figures by hand, on networks that answer what is known."""

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import compute_less
from benchmarks.compute_less import Answered, Patient
from data_tools.grid import GRID_SHAPE, SLAB_SHAPE
from data_tools.labels import Labels
from tf_hypoperfusion.clinical import ClinicalFacts
from tf_hypoperfusion.inference.onnx_runtimes import LoadedModel

pytestmark = pytest.mark.quick


@pytest.fixture
def patient():
    """A block of tissue in the middle slices, whose left part is the truth."""
    brain = np.zeros(GRID_SHAPE, bool)
    brain[20:70, 20:90, 20:40] = True
    truth = brain.copy()
    truth[45:] = False
    nothing = np.zeros_like(truth)
    values = np.where(brain, np.float32(800), np.float32(0))
    return Patient(
        name="sub-1",
        mni=SimpleNamespace(dwi=values, adc_um2_per_s=values, brain=brain),
        given=ClinicalFacts("left", 12),
        truth=Labels(
            core=nothing, core_truth=nothing, hypoperfusion=truth, truth=truth, coverage=brain
        ),
        voxel_ml=0.01,
    )


def network(probability):
    def predict(image, nihss):
        return np.full((len(image), *SLAB_SHAPE, 1), probability, np.float32)

    return LoadedModel(predict, "by hand", "float32")


def test_every_way_is_beside_the_first_and_the_truth(patient):
    loaded = {"float32": network(0.9), "int8": network(0.1)}
    found = compute_less.ask(["float32/4", "float32/16", "int8/4"], loaded, patient)
    first, wide, nothing = found.values()
    tissue, true = 50 * 70 * 20, 25 * 70 * 20
    assert first.ml == pytest.approx(tissue / 100) and first.dice == 1
    assert first.with_truth == pytest.approx(2 * true / (tissue + true)) == wide.with_truth
    assert first.mismatch and wide.mismatch and not nothing.mismatch
    # Windows without tissue are not asked: of 0, 4 ... 44 those from 8 to 36, of 0, 16, 32, 44 two.
    assert (first.windows, wide.windows, nothing.windows) == (8, 2, 8)
    assert (nothing.ml, nothing.dice, nothing.with_truth) == (0, 0, 0)


def answered(with_truth, ml=10.0, dice=1.0, cpu_s=4.0, mismatch=True):
    return Answered(
        cpu_s=cpu_s, windows=12, ml=ml, dice=dice, with_truth=with_truth, mismatch=mismatch
    )


def test_the_price_is_the_mean_of_what_patients_lose():
    found = [
        {"float32/4": answered(first), "bfloat16/8": answered(first - lost, 10 + lost, 0.9, 1.0)}
        for first, lost in ((0.6, 0.01), (0.7, 0.02), (0.8, 0.03))
    ]
    found.append({"float32/4": answered(None), "bfloat16/8": answered(None, 14.0, mismatch=False)})
    first, fast = compute_less.table(found)
    assert first["loss"] == "+0.0000" and first["of_first"] == 1 and first["ml_worst"] == 0
    assert fast["way"] == "bfloat16, stride 8" and fast["of_first"] == 0.25
    assert fast["loss"].startswith("+0.0200 (+0.01") and fast["with_truth"] == 0.68
    assert (fast["dice_worst"], fast["ml_worst"], fast["decision_kept"]) == (0.9, 4.0, "3/4")
    (_, own) = compute_less.own_table("mine", found[-1])
    assert (own["patient"], own["ml"], own["ml_more"]) == ("mine", 14.0, 4.0)

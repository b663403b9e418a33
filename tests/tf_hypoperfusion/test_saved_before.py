"""Networks saved before load, and answer the same: one of the flat package, and those that ship."""

from pathlib import Path

import numpy as np
import pytest
from helpers import PROJECT

pytestmark = pytest.mark.core
FLAT = Path(__file__).parent / "data" / "flat_package.keras"
PLACES = ((0, 64, 64, 8, 0), (0, 40, 50, 3, 0), (1, 70, 90, 12, 0), (1, 55, 30, 0, 0))
# For the slabs below: a fold of preset tiny, by the flat package, and the model that ships.
BEFORE = {
    FLAT: (0.274173, 0.062232, 0.356854, 0.222768),
    PROJECT / "saved_models/hypoperfusion_demo": (0.203159, 0.024807, 0.312843, 0.02548),
}


@pytest.mark.parametrize("runtime", ["tensorflow", "auto"])
@pytest.mark.parametrize("model", BEFORE, ids=lambda path: path.name)
def test_a_network_saved_before_answers_the_same(model, runtime):
    from tf_hypoperfusion.inference import predictors
    from tf_hypoperfusion.model.keras_compat import IS_KERAS_3

    if model == FLAT and runtime == "auto":
        pytest.skip("as in TensorFlow: a .keras file has no other form")
    if not IS_KERAS_3 and model == FLAT:
        pytest.skip("a .keras file of Keras 3; Keras 2.15 writes another format")
    image = np.random.default_rng(7).normal(size=(2, 128, 128, 16, 4)).astype(np.float32)
    loaded = predictors.load(model, runtime)
    answer = loaded.predict(image, np.asarray([[0.5], [-1]], np.float32))
    networks = np.asarray(answer)[..., : -1 if loaded.cores else None]
    probability = networks.mean(axis=-1, keepdims=True)
    found = [probability[place] for place in PLACES]
    # Sums in another order, or by another processor's instructions, differ far less than this.
    np.testing.assert_allclose(found, BEFORE[model], atol=2e-3)


def test_networks_taken_out_of_the_shipped_export_answer_as_it_does():
    """To be trained further; each line of Keras must find the weights of each layer."""
    from tf_hypoperfusion.model import exported
    from tf_hypoperfusion.model.export_files import DEMO_MODEL, newest_version

    image = np.random.default_rng(7).normal(size=(2, 128, 128, 16, 4)).astype(np.float32)
    given = {"image": image, "nihss": np.asarray([[0.5], [-1]], np.float32)}
    folder = newest_version(DEMO_MODEL)
    each = [np.asarray(exported.read(folder, k)(given)["probability"]) for k in range(3)]
    assert not np.allclose(each[0], each[1], atol=1e-2)
    found = [np.mean(each, axis=0)[place] for place in PLACES]
    np.testing.assert_allclose(
        found, BEFORE[PROJECT / "saved_models/hypoperfusion_demo"], atol=2e-3
    )

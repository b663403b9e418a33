"""The network as this project runs it: Keras on TensorFlow."""

from collections.abc import Callable
from typing import Any

import numpy as np


def prepare(way: dict[str, Any]) -> tuple[Callable[[], Any], dict[str, Any]]:
    """The call of one way: ``task`` infer, train or matmul, ``precision``, ``folder`` of slabs."""
    from data_tools import records  # noqa: F401  starts TensorFlow quietly

    task = {"infer": _infer, "train": _train, "matmul": _matmul}[way["task"]]
    return task(way, dict(np.load(f"{way['folder']}/slabs.npz")))


def _versions() -> str:
    import keras
    import tensorflow as tf

    return f"TensorFlow {tf.__version__}, Keras {keras.__version__}"


def _infer(way, slabs):
    import keras

    from benchmarks.ways.counting import convolution_gflop
    from tf_hypoperfusion import predictors

    model = keras.models.load_model(f"{way['folder']}/model.keras", compile=False)
    predict = predictors.of_keras(predictors.for_prediction(model, way["precision"]))
    image, nihss, together = slabs["image"], slabs["nihss"], way["together"]
    expected = np.load(f"{way['folder']}/probability.npy")
    facts = {
        "versions": _versions(),
        "gflop": convolution_gflop(model) * len(image),
        "difference": float(np.abs(predict(image[:1], nihss[:1]) - expected[:1]).max()),
    }

    def call():
        for first in range(0, len(image), together):
            predict(image[first : first + together], nihss[first : first + together])

    return call, facts


def _train(way, slabs):
    from benchmarks.ways.counting import convolution_gflop
    from tf_hypoperfusion import config, distribution, training_step

    count = way["together"]
    model_config, training = config.preset(
        way["preset"], crop_margin=False, precision=way["precision"], base_filters=way["filters"],
        batch_size=count, micro_batch=count,
    )  # fmt: skip
    step = training_step.build(distribution.choose_strategy(), model_config, training, 100)
    inputs = {"image": slabs["image"][:count], "nihss": slabs["nihss"][:count]}
    batch = inputs, slabs["truth"][:count], np.ones(count, np.float32)

    def call():
        step.train(iter([batch]), 0)[0].numpy()

    return call, {"versions": _versions(), "gflop": 3 * count * convolution_gflop(step.model)}


def _matmul(way, slabs):
    import tensorflow as tf

    size = 4096
    a = tf.cast(tf.random.normal((size, size)), way["precision"])
    product = tf.function(lambda a: tf.matmul(a, a))

    def call():
        tf.reduce_sum(tf.cast(product(a)[:1, :1], tf.float32)).numpy()

    return call, {"versions": _versions(), "gflop": 2e-9 * size**3}

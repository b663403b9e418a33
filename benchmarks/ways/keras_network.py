"""The network as this project runs it: Keras on TensorFlow."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np


def prepare(way: dict[str, Any]) -> tuple[Callable[[], Any], dict[str, Any]]:
    """The call of one way: ``task`` infer, train or matmul, ``precision``, ``folder`` of slabs."""
    from data_tools.runtime import tensorflow_start

    tensorflow_start.prepare()
    task = {"infer": _infer, "train": _train, "matmul": _matmul}[way["task"]]
    return task(way, dict(np.load(f"{way['folder']}/slabs.npz")))


def _versions() -> str:
    import keras
    import tensorflow as tf

    return f"TensorFlow {tf.__version__}, Keras {keras.__version__}"


def _infer(way, slabs):
    import keras

    from benchmarks.measuring.counting import convolution_gflop
    from tf_hypoperfusion.inference import predictors

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
    from benchmarks.measuring import turns
    from benchmarks.measuring.counting import convolution_gflop
    from benchmarks.ways import step_profile
    from tf_hypoperfusion import config
    from tf_hypoperfusion.model import fast_layers
    from tf_hypoperfusion.training import distribution, memory
    from tf_hypoperfusion.training import step as training_step

    if way.get("profile"):
        step_profile.take_one_thread()
    if way.get("layers") == "stock":
        fast_layers.on_cpu = lambda: False
    batch, micro = way["batch"], way["together"]
    model_config, training = config.preset(
        way["preset"], frame=way.get("frame", "128x128"), precision=way["precision"],
        batch_size=batch, micro_batch=micro,
    )  # fmt: skip
    step = training_step.build(distribution.choose_strategy(), model_config, training, 100)
    inputs = {"image": slabs["image"][:micro], "nihss": slabs["nihss"][:micro]}
    given = inputs, slabs["truth"][:micro], np.ones(micro, np.float32)

    def call():
        step.train(itertools.repeat(given), 0)[0].numpy()

    return call, {
        "versions": _versions(),
        "gflop": 3 * batch * convolution_gflop(step.model),
        "estimated_gib": memory.bytes_per_slab(model_config) * micro / 2**30,
        "before_gib": turns.peak_gib(),
        **(step_profile.shares(call) if way.get("profile") else {}),
    }


def _matmul(way, slabs):
    import tensorflow as tf

    size = 4096
    a = tf.cast(tf.random.normal((size, size)), way["precision"])
    product = tf.function(lambda a: tf.matmul(a, a))

    def call():
        tf.reduce_sum(tf.cast(product(a)[:1, :1], tf.float32)).numpy()

    return call, {"versions": _versions(), "gflop": 2e-9 * size**3}

"""The network on a GPU, through Keras's JAX backend: inference and training, by batch.

    KERAS_BACKEND=jax python -m benchmarks.accelerator [--preset=paper] [--out=accelerator.csv]

Needs keras, jax, absl-py and numpy, and no TensorFlow; runs unattended on whatever device JAX
finds, a CPU too (slowly: XLA's 3D convolutions there). Seconds are medians of --rounds calls after
two to compile, spread beside them; GFLOP are those of the convolutions, a training step's (Adam,
composite loss) three times the forward pass's. Memory is the device's peak so far (GiB), so a
line's own only where it is higher than all before. A batch that does not fit ends its column.
"""

import importlib.util
import os
import sys
import time
from statistics import median
from typing import Any

from absl import flags

from benchmarks.measuring import options
from benchmarks.measuring.tables import Tables, timing
from data_tools.runtime import command
from data_tools.runtime.errors import InputError

FLAGS = flags.FlagValues()
options.preset(FLAGS, "paper")
options.numbers("batches", [1, 4, 8, 16, 32], "Slabs a call.", FLAGS)
PRECISIONS = ("float32", "bfloat16")
options.choices("precisions", PRECISIONS, "In which.", FLAGS, known=PRECISIONS)
options.rounds(FLAGS)
options.out(FLAGS)


def calls(precision: str) -> tuple[dict[str, Any], float]:
    """Functions of a batch, compiled by JAX: inference and a training step; GFLOP of a slab."""
    import jax
    import keras

    from benchmarks.measuring.counting import convolution_gflop
    from tf_hypoperfusion import config
    from tf_hypoperfusion.model import attention_unet
    from tf_hypoperfusion.training import losses

    model_config, training = config.preset(FLAGS.preset)
    model = attention_unet.build_model(model_config, precision, seed=0)
    optimizer = keras.optimizers.Adam(training.learning_rate)
    optimizer.build(model.trainable_variables)
    loss = losses.CompositeLoss()
    state = [
        [v.value for v in variables]
        for variables in (
            model.trainable_variables, model.non_trainable_variables, optimizer.variables,
        )
    ]  # fmt: skip

    @jax.jit
    def infer(weights, moments, inputs):
        return model.stateless_call(weights, moments, inputs, training=False)[0]["probability"]

    def objective(weights, moments, inputs, truth):
        answer, moments = model.stateless_call(weights, moments, inputs, training=True)
        return loss.call(truth, answer["probability"]).mean(), moments

    @jax.jit
    def step(state, inputs, truth):
        weights, moments, moving = state
        (value, moments), gradients = jax.value_and_grad(objective, has_aux=True)(
            weights, moments, inputs, truth
        )
        weights, moving = optimizer.stateless_apply(moving, gradients, weights)
        return value, (weights, moments, moving)

    def call_infer(inputs, truth):
        infer(state[0], state[1], inputs).block_until_ready()

    def call_step(inputs, truth):
        value, now = step(state, inputs, truth)
        value.block_until_ready()
        state[:] = [list(part) for part in now]

    return {"infer": call_infer, "train": call_step}, convolution_gflop(model)


def measure(task: str, precision: str, call: Any, gflop: float) -> list[dict[str, Any]]:
    """A row for each batch that fits."""
    import jax
    import numpy as np

    rng, rows = np.random.default_rng(0), []
    for batch in sorted(FLAGS.batches):
        inputs = {
            "image": jax.device_put(rng.random((batch, 128, 128, 16, 4), np.float32)),
            "nihss": jax.device_put(np.ones((batch, 1), np.float32)),
        }
        truth = jax.device_put((rng.random((batch, 128, 128, 16, 2)) < 0.5).astype(np.float32))
        seconds = []
        try:
            for turn in range(FLAGS.rounds + 2):
                began = time.perf_counter()
                call(inputs, truth)
                if turn > 1:
                    seconds.append(time.perf_counter() - began)
        except jax.errors.JaxRuntimeError as fault:
            print(f"{task}, {precision}, {batch} slabs: {str(fault).splitlines()[0][:200]}")
            break
        taken = median(seconds)
        computed = gflop * batch * (3 if task == "train" else 1)
        peak = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
        rows.append(
            {
                "task": task,
                "precision": precision,
                "batch": batch,
                **timing(seconds, 4),
                "slabs_per_s": round(batch / taken, 2),
                "tflop_per_s": round(computed / taken / 1e3, 3),
                "peak_gib": round(peak / 2**30, 2) if peak else "",
            }
        )
    return rows


def main() -> None:
    """Measure and print."""
    if os.environ.get("KERAS_BACKEND") != "jax":
        raise InputError("KERAS_BACKEND is not jax; expected KERAS_BACKEND=jax python -m ...")
    if importlib.util.find_spec("jax") is None:
        raise InputError("jax is not installed; expected an environment with jax (and keras)")
    import jax

    device = f"{jax.devices()[0].device_kind} ({jax.default_backend()})"
    tables = Tables(FLAGS.out, ("jax", "keras"), f"on {device}, preset {FLAGS.preset}")
    for precision in FLAGS.precisions:
        made, gflop = calls(precision)
        for task, call in made.items():
            if rows := measure(task, precision, call, gflop):
                tables.show(f"{task}, {precision}", rows)


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))

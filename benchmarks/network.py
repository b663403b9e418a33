"""The network in TensorFlow beside PyTorch, MONAI, OpenVINO and onnxruntime: inference, training.

    python -m venv others && others/bin/pip install torch monai openvino onnxruntime
    python -m benchmarks.network --others=others/bin/python [--out=network.csv]

The same network with the same weights in each (the largest difference of a probability is shown),
MONAI's AttentionUnet of equal width beside it. A way is a process of its own; the ways take turns,
--rounds calls each after two to warm up, on all cores. GFLOP are those of the convolutions, a
training step's three times the forward pass's; "of product" is GFLOP/s over those of a 4096 matrix
product of the same precision in the same run. Training is a step of --micro slabs with Adam and
the composite loss. Memory is the process's largest, with its framework (GiB).

Ours with oneDNN off is what TensorFlow does by itself on CPUs without AVX-512 VNNI.

Without --others only our own lines are measured. Seen: see BUILD_NOTES.
"""

import itertools
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from absl import flags

from benchmarks.measuring import options, turns
from benchmarks.measuring.tables import Tables, timing
from data_tools.runtime import command
from data_tools.runtime.errors import InputError

FLAGS = flags.FlagValues()
options.others(FLAGS, ("torch", "monai", "openvino", "onnxruntime"))
options.preset(FLAGS, "paper")
options.count("slabs", 12, "Windows of one patient.", FLAGS)
options.count("together", 4, "Windows a call.", FLAGS)
options.count("micro", 1, "Slabs of a training step.", FLAGS)
options.rounds(FLAGS)
flags.DEFINE_bool("compile", False, "torch.compile too: minutes to warm up.", flag_values=FLAGS)
options.choices("tasks", ["infer", "train"], "What to measure.", FLAGS, known=("infer", "train"))
PRECISIONS = ("float32", "bfloat16")
options.choices("precisions", PRECISIONS, "In which.", FLAGS, known=PRECISIONS)
options.out(FLAGS)


def write_network(folder: Path) -> dict[str, Any]:
    """The network, its weights, slabs and answers where every way finds them; its shape."""
    import numpy as np

    from data_tools.runtime import tensorflow_start

    tensorflow_start.prepare()
    from tf_hypoperfusion import config
    from tf_hypoperfusion.inference import onnx_model, predictors
    from tf_hypoperfusion.model import attention_unet

    model_config, _ = config.preset(FLAGS.preset, frame="128x128")
    model = attention_unet.build_model(model_config, seed=0)
    rng = np.random.default_rng(0)
    for layer in model.layers:  # moments and scales of a trained network are not 0 and 1 either
        if type(layer).__name__ == "BatchNormalization":
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    weights = {
        f"{layer.name}/{k}": value
        for layer in model.layers
        for k, value in enumerate(layer.get_weights())
    }
    image = rng.random((FLAGS.slabs, *predictors.SLAB), np.float32)
    nihss = rng.random((FLAGS.slabs, 1), np.float32)
    truth = (rng.random((FLAGS.slabs, *predictors.SLAB[:3], 2)) < 0.5).astype(np.float32)
    model.save(folder / "model.keras")
    np.savez(folder / "weights.npz", **weights)
    np.savez(folder / "slabs.npz", image=image, nihss=nihss, truth=truth)
    answer = predictors.of_keras(model)(image[:1], nihss[:1])
    np.save(folder / "probability.npy", answer)
    onnx_model.write(
        [lambda image, nihss: model({"image": image, "nihss": nihss})],
        folder / "model.onnx",
        {},
    )
    names = ("base_filters", "poolings", "dropout")
    return {name: getattr(model_config, name) for name in names}


def ways(folder: Path, shape: dict[str, Any], task: str, precision: str) -> list[dict[str, Any]]:
    """The ways of one table: first a matrix product, then ours."""
    together = FLAGS.together if task == "infer" else FLAGS.micro
    common = {
        "precision": precision,
        "folder": str(folder),
        "preset": FLAGS.preset,
        "batch": together,
        "together": together,
        **shape,
    }
    ours = {"python": sys.executable, "module": "keras_network", **common}
    found = [
        {"way": "matrix product", "task": "matmul", **ours},
        {"way": "this project", "task": task, **ours},
    ]
    if precision == "float32":
        without = {"way": "this project, oneDNN off", "environment": {"TF_ENABLE_ONEDNN_OPTS": "0"}}
        found.append({**found[1], **without})
    if FLAGS.others is None:
        return found
    common |= {"python": options.interpreter(FLAGS.others), "task": task}
    for net, name in (("ours", "PyTorch"), ("monai", "MONAI AttentionUnet")):
        for layout in ("default", "channels_last"):
            way = {"way": f"{name}, {layout}", "module": "torch_network", "net": net, **common}
            found.append(way | {"layout": layout})
            if FLAGS.compile and net == "ours":
                found.append({**found[-1], "way": f"{way['way']}, compiled", "compiled": True})
    if task == "infer":
        for runtime in ("openvino", "onnxruntime"):
            if runtime == "openvino" or precision == "float32":
                found.append({"way": runtime, "module": "runtimes", "runtime": runtime, **common})
    return found


def table(asked: list[dict[str, Any]], found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for every way but the matrix product; ratios against ours, where both were measured."""
    product, own = found[:2]
    ours = None if "failed" in own else median(own["seconds"])
    limit = None if "failed" in product else product["gflop"] / median(product["seconds"])
    rows = []
    for way, seen in zip(asked[1:], found[1:], strict=True):
        row = {key: way[key] for key in ("task", "precision", "way")}
        if "failed" in seen:
            rows.append(row | {"versions": f"failed: {seen['failed']}"})
            continue
        taken = median(seen["seconds"])
        gflop = seen.get("gflop", own.get("gflop", 0.0))
        rows.append(
            row
            | timing(seen["seconds"])
            | {
                "ours_is_x_as_fast": round(taken / ours, 2) if ours else "",
                "gflop": round(gflop, 2),
                "gflop_per_s": round(gflop / taken, 1),
                "of_product": round(gflop / taken / limit, 2) if limit else "",
                "peak_gib": round(seen["peak_gib"], 2),
                "difference": f"{seen['difference']:.0e}" if "difference" in seen else "",
                "versions": seen["versions"],
            }
        )
    return rows


def main() -> None:
    """Measure and print."""
    for name in ("together", "micro"):
        if getattr(FLAGS, name) > FLAGS.slabs:
            raise InputError(
                f"--{name} is {getattr(FLAGS, name)}, more than --slabs={FLAGS.slabs}; expected no "
                "more slabs at once than there are"
            )
    note = f"{FLAGS.preset}, {FLAGS.slabs} windows or a step of {FLAGS.micro} slab(s)"
    tables = Tables(FLAGS.out, ("tensorflow", "keras"), f"{note}, {FLAGS.rounds} rounds")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shape = write_network(folder)
        for task, precision in itertools.product(FLAGS.tasks, FLAGS.precisions):
            asked = ways(folder, shape, task, precision)
            found = turns.measure(asked, FLAGS.rounds, folder / "log")
            tables.show(f"{task}, {precision}", table(asked, found))


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))

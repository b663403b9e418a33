"""The network in TensorFlow beside PyTorch, MONAI, OpenVINO and onnxruntime: inference, training.

    python -m venv others && others/bin/pip install torch monai openvino onnxruntime
    python -m benchmarks.network --others=others/bin/python [--out=network.csv]

The same network with the same weights in each (the largest difference of a probability is shown),
MONAI's AttentionUnet of equal width beside it. A way is a process of its own; the ways take turns,
--rounds calls each after two to warm up, on all cores. GFLOP are those of the convolutions, a
training step's three times the forward pass's; "of product" is GFLOP/s over those of a 4096 matrix
product of the same precision in the same run. Training is a step of --micro slabs with Adam and
the composite loss. Memory is the process's largest, with its framework (GiB).

Without --others only our own lines are measured. Seen: see BUILD_NOTES.
"""

import itertools
import os
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from absl import flags

from benchmarks.ways import turns
from data_tools import atomic, command

FLAGS = flags.FlagValues()
flags.DEFINE_string("others", None, "Python with torch, monai...", flag_values=FLAGS)
flags.DEFINE_string("preset", "paper", "Preset.", flag_values=FLAGS)
flags.DEFINE_integer("slabs", 12, "Windows of one patient.", flag_values=FLAGS)
flags.DEFINE_integer("together", 4, "Windows a call.", flag_values=FLAGS)
flags.DEFINE_integer("micro", 1, "Slabs of a training step.", flag_values=FLAGS)
flags.DEFINE_integer("rounds", 5, "Measured calls of each way.", flag_values=FLAGS)
flags.DEFINE_bool("compile", False, "torch.compile too: minutes to warm up.", flag_values=FLAGS)
flags.DEFINE_list("tasks", ["infer", "train"], "What to measure.", flag_values=FLAGS)
flags.DEFINE_list("precisions", ["float32", "bfloat16"], "In which.", flag_values=FLAGS)
flags.DEFINE_string("out", None, "CSV of the table.", flag_values=FLAGS)


def write_network(folder: Path) -> int:
    """The network, its weights, slabs and answers where every way finds them; its filters."""
    import numpy as np

    from data_tools import records  # noqa: F401  starts TensorFlow quietly
    from tf_hypoperfusion import attention_unet, config, onnx_model, predictors

    model_config, _ = config.preset(FLAGS.preset, crop_margin=False)
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
    shape = (max(FLAGS.slabs, FLAGS.micro), *predictors.SLAB)
    slabs = {
        "image": rng.random(shape, np.float32),
        "nihss": rng.random((shape[0], 1), np.float32),
        "truth": (rng.random((FLAGS.micro, *shape[1:4], 2)) < 0.5).astype(np.float32),
    }
    model.save(folder / "model.keras")
    np.savez(folder / "weights.npz", **weights)
    np.savez(folder / "slabs.npz", **slabs)
    answer = predictors.of_keras(model)(slabs["image"][:1], slabs["nihss"][:1])
    np.save(folder / "probability.npy", answer)
    onnx_model.write(
        lambda image, nihss: model({"image": image, "nihss": nihss})["probability"],
        folder / "model.onnx",
        {},
    )
    return model_config.base_filters


def ways(folder: Path, filters: int, task: str, precision: str) -> list[dict[str, Any]]:
    """The ways of one table: first a matrix product, then ours."""
    together = FLAGS.together if task == "infer" else FLAGS.micro
    common = {
        "precision": precision,
        "folder": str(folder),
        "preset": FLAGS.preset,
        "filters": filters,
        "together": together,
    }
    ours = {"python": sys.executable, "module": "keras_network", **common}
    found = [
        {"way": "matrix product", "task": "matmul", **ours},
        {"way": "this project", "task": task, **ours},
    ]
    if FLAGS.others is None:
        return found
    common |= {"python": FLAGS.others, "task": task}
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
    """A row for every way but the matrix product; ratios against ours."""
    product, own = found[:2]
    limit = product["gflop"] / median(product["seconds"])
    rows = []
    for way, seen in zip(asked[1:], found[1:], strict=True):
        row = {key: way[key] for key in ("task", "precision", "way")}
        if "failed" in seen:
            rows.append(row | {"versions": seen["failed"]})
            continue
        taken = median(seen["seconds"])
        gflop = seen.get("gflop", own["gflop"])
        row |= {
            "seconds": round(taken, 3),
            "spread": round(max(seen["seconds"]) - min(seen["seconds"]), 3),
            "ours_is_x_as_fast": round(taken / median(own["seconds"]), 2),
            "gflop": round(gflop),
            "gflop_per_s": round(gflop / taken),
            "of_product": round(gflop / taken / limit, 2),
            "peak_gib": round(seen["peak_gib"], 2),
            "difference": f"{seen['difference']:.0e}" if "difference" in seen else "",
            "versions": seen["versions"],
        }
        rows.append(row)
    return rows


def main() -> None:
    """Measure and print."""
    if FLAGS.others is not None:
        turns.check_python(FLAGS.others)
    print(
        f"{FLAGS.preset}, {FLAGS.slabs} windows or a step of {FLAGS.micro} slab(s), "
        f"{os.cpu_count()} threads, {FLAGS.rounds} rounds"
    )
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        filters = write_network(folder)
        for task, precision in itertools.product(FLAGS.tasks, FLAGS.precisions):
            asked = ways(folder, filters, task, precision)
            found = turns.measure(asked, FLAGS.rounds, folder / "log")
            rows += table(asked, found)
            show(rows[-len(asked) + 1 :])
    if FLAGS.out:
        columns = list(max(rows, key=len))
        atomic.write_csv(FLAGS.out, [{c: row.get(c, "") for c in columns} for row in rows])


def show(rows: list[dict[str, Any]]) -> None:
    """Print one table."""
    columns = list(max(rows, key=len))
    widths = [max(len(str(row.get(c, ""))) for row in [*rows, {c: c}]) + 2 for c in columns]
    for row in [{c: c for c in columns}, *rows]:
        print("".join(f"{row.get(c, '')!s:<{w}}" for c, w in zip(columns, widths, strict=True)))
    print(flush=True)


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))

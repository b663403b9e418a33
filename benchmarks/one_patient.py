"""What the seconds of one prediction are spent on, and what other ways of running it change.

    python -m benchmarks.one_patient [--model=best.keras] [--out=one_patient.csv]

Three tables. The network part of a 60-slice patient at stride 4 (12 windows) by precision and
windows a call, for the `paper` preset with random weights (they do not bear on it), interleaved,
medians of --rounds. With --model, how far bfloat16's and each stride's answers are from float32's
at stride 1, on simulated patients. And the whole of predict, cold and warm, by step.

Seen (2 cores of an AMD EPYC with AVX512-BF16, 24 GiB, TensorFlow 2.21): see BUILD_NOTES.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from absl import flags

from data_tools import atomic, command

FLAGS = flags.FlagValues()
flags.DEFINE_string("preset", "paper", "Preset that is timed.", flag_values=FLAGS)
flags.DEFINE_string("model", None, "A trained best.keras, for the answers.", flag_values=FLAGS)
flags.DEFINE_integer("rounds", 5, "Of which the median is taken.", flag_values=FLAGS)
flags.DEFINE_integer("patients", 8, "Simulated ones, for the answers.", flag_values=FLAGS)
flags.DEFINE_integer("seed", 31, "Of the simulated patients.", flag_values=FLAGS)
flags.DEFINE_list("windows", ["1", "2", "4", "6", "12"], "Windows a call.", flag_values=FLAGS)
flags.DEFINE_string("out", None, "CSV of the first table.", flag_values=FLAGS)

STRIDES = (16, 8, 4, 1)


def matrix_gflop_per_s(precision: str, size: int = 4096) -> float:
    """What this machine reaches in one large matrix product: the limit of any network on it."""
    import numpy as np
    import tensorflow as tf

    a = tf.cast(tf.random.normal((size, size)), precision)
    product = tf.function(lambda a: tf.matmul(a, a))
    product(a)
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        tf.reduce_sum(tf.cast(product(a)[:1, :1], tf.float32)).numpy()
        seconds.append(time.perf_counter() - began)
    return 2e-9 * size**3 / float(np.median(seconds))


def network_times() -> list[dict[str, Any]]:
    """Seconds for 12 windows by precision and windows a call."""
    import numpy as np

    from benchmarks.ways.counting import convolution_gflop
    from data_tools import records  # noqa: F401  starts TensorFlow quietly
    from tf_hypoperfusion import attention_unet, config, predictors

    rng = np.random.default_rng(0)
    image = rng.random((12, *predictors.SLAB), np.float32)
    nihss = np.ones((12, 1), np.float32)
    model_config, _ = config.preset(FLAGS.preset)
    model = attention_unet.build_model(model_config, seed=0)
    ways = {}
    for precision in ("float32", "bfloat16"):
        predict = predictors.of_keras(predictors.for_prediction(model, precision))
        for together in map(int, FLAGS.windows):
            ways[precision, together] = predict
    seconds: dict[tuple[str, int], list[float]] = {way: [] for way in ways}
    for turn in range(FLAGS.rounds + 1):
        for (precision, together), predict in ways.items():
            began = time.perf_counter()
            for first in range(0, 12, together):
                predict(image[first : first + together], nihss[first : first + together])
            if turn:  # the first is for warming up
                seconds[precision, together].append(time.perf_counter() - began)
    gflop = 12 * convolution_gflop(model)
    limit = {precision: matrix_gflop_per_s(precision) for precision in ("float32", "bfloat16")}
    usual = float(np.median(seconds["float32", 4])) if ("float32", 4) in seconds else None
    return [
        {
            "precision": precision,
            "windows_a_call": together,
            "seconds": round(float(np.median(taken)), 2),
            "spread": round(max(taken) - min(taken), 2),
            "times_as_fast": round(usual / float(np.median(taken)), 2) if usual else None,
            "gflop_per_s": round(gflop / float(np.median(taken))),
            "of_matrix_product": round(gflop / float(np.median(taken)) / limit[precision], 2),
        }
        for (precision, together), taken in seconds.items()
    ]


def answers() -> list[dict[str, Any]]:
    """Dice and mL against float32 at stride 1, medians and worst over simulated patients."""
    import numpy as np

    from data_tools import intensity
    from data_tools.grid import VOXEL_ML
    from data_tools.simulate import simulate_patient
    from tf_hypoperfusion import predictors, sliding_window

    loaded = {p: predictors.load_predictor(FLAGS.model, p) for p in ("float32", "bfloat16")}
    found: dict[tuple[str, int], list[tuple[float, float, float]]] = {}
    for number in range(1, FLAGS.patients + 1):
        patient = simulate_patient(FLAGS.seed, number)
        mni, row = patient.mni(), patient.row()
        image = sliding_window.model_image(mni.dwi, mni.adc_um2_per_s, mni.brain, row["side"])
        tissue = intensity.parenchyma(mni.adc_um2_per_s, mni.brain)
        nihss = intensity.nihss_feature(None if row["nihss"] == "n/a" else float(row["nihss"]))
        exact = None
        for precision, stride in [("float32", 1), *((p, s) for p in loaded for s in STRIDES)]:
            began = time.perf_counter()
            p = sliding_window.predict_volume(loaded[precision], image, nihss, stride, tissue)
            took = time.perf_counter() - began
            exact = p if exact is None else exact
            a, b = p >= 0.5, exact >= 0.5
            dice = 2 * (a & b).sum() / max(a.sum() + b.sum(), 1) if (a | b).any() else 1.0
            ml = abs(int(a.sum()) - int(b.sum())) * VOXEL_ML
            found.setdefault((precision, stride), []).append((took, float(dice), ml))
    return [
        {
            "precision": precision,
            "stride": stride,
            "seconds": round(float(np.median([t for t, _, _ in each])), 2),
            "dice_median": round(float(np.median([d for _, d, _ in each])), 4),
            "dice_worst": round(min(d for _, d, _ in each), 4),
            "ml_worst": round(max(m for _, _, m in each), 2),
        }
        for (precision, stride), each in found.items()
    ]


def whole(folder: Path) -> list[dict[str, Any]]:
    """predict as a command, in two processes: what its steps take."""
    from data_tools.simulate import __main__ as simulate

    with tempfile.TemporaryDirectory() as raw:
        command.run(
            simulate.main, simulate.FLAGS, "", [f"--out={raw}/c", "--patients=1", "--seed=2"]
        )
        images = Path(raw) / "c/sub-0001/dwi"
        rows = []
        for turn in ("cold", "again"):
            began = time.perf_counter()
            subprocess.run(
                [
                    sys.executable, "-m", "tf_hypoperfusion.predict", f"--model={FLAGS.model}",
                    f"--dwi={images}/sub-0001_dwi.nii.gz", f"--adc={images}/sub-0001_ADC.nii.gz",
                    "--nihss=12", "--side=left", f"--out={folder}/result", "--nosecond_opinion",
                ],
                check=True, capture_output=True,
            )  # fmt: skip
            wall = time.perf_counter() - began
            seconds = json.loads((folder / "result/result.json").read_text())["seconds"]
            start = {"start_up": round(wall - seconds["total"], 2)}
            rows.append({"run": turn, **start, **seconds, "wall": round(wall, 2)})
    return rows


def show(title: str, rows: list[dict[str, Any]]) -> None:
    """Print a table."""
    print(f"\n{title}")
    width = max(len(name) for row in rows for name in row) + 2
    print("".join(f"{name:>{width}}" for name in rows[0]))
    for row in rows:
        print("".join(f"{value!s:>{width}}" for value in row.values()), flush=True)


def main() -> None:
    """Measure and print."""
    import os

    import tensorflow as tf

    print(f"TensorFlow {tf.__version__}, {os.cpu_count()} cores, preset {FLAGS.preset}")
    rows = network_times()
    show("network part, 12 windows; times as fast as float32 with 4 a call", rows)
    if FLAGS.out:
        atomic.write_csv(FLAGS.out, rows)
    if FLAGS.model:
        show(f"answers of {FLAGS.model} against float32, stride 1", answers())
        with tempfile.TemporaryDirectory() as folder:
            show("predict, seconds by step", whole(Path(folder)))


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))

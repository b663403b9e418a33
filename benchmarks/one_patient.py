"""What the seconds of one prediction are spent on, and what other ways of running it change.

    python -m benchmarks.one_patient [--model=best.keras] [--out=one_patient.csv]

Three tables, the last two with --model. The network part of a 60-slice patient at stride 4 (12
windows) by precision and windows a call, for the `paper` preset with random weights (they do not
bear on it), interleaved, medians of --rounds; without normalisation too, which is the most that
folding it into the convolutions could give. How far bfloat16's and each stride's answers are from
float32's at stride 1, on simulated patients. And the whole of predict by step, as a new process
(cold) and in one that has the model (warm).

Seen (2 cores of an AMD EPYC with AVX512-BF16, 24 GiB, TensorFlow 2.21): see BUILD_NOTES.
"""

import functools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from absl import flags

from benchmarks.measuring import options, turns
from benchmarks.measuring.tables import Tables, timing
from data_tools.runtime import command
from data_tools.runtime.errors import InputError

FLAGS = flags.FlagValues()
options.preset(FLAGS, "paper")
flags.DEFINE_string(
    "model", None, "A trained best.keras, for the other two tables.", flag_values=FLAGS
)
options.rounds(FLAGS)
options.count("patients", 8, "Simulated ones, for the answers.", FLAGS)
options.count("seed", 31, "Of the simulated patients.", FLAGS, lowest=0)
options.numbers("windows", [4, 1, 2, 6, 12], "Windows a call.", FLAGS)
options.out(FLAGS)

PRECISIONS, STRIDES, WINDOWS = ("float32", "bfloat16"), (16, 8, 4, 1), 12


def network_times() -> list[dict[str, Any]]:
    """Seconds for 12 windows by precision and windows a call, beside a large matrix product."""
    import numpy as np

    from benchmarks.measuring.counting import convolution_gflop
    from data_tools.runtime import tensorflow_start

    tensorflow_start.prepare()
    from tf_hypoperfusion import config
    from tf_hypoperfusion.inference import predictors
    from tf_hypoperfusion.model import attention_unet

    import tensorflow as tf  # isort: skip

    rng = np.random.default_rng(0)
    image = rng.random((WINDOWS, *predictors.SLAB), np.float32)
    nihss = np.ones((WINDOWS, 1), np.float32)
    size = 4096

    def network(predict: Any, together: int) -> None:
        for first in range(0, WINDOWS, together):
            predict(image[first : first + together], nihss[first : first + together])

    def product(a: Any) -> None:
        tf.reduce_sum(tf.cast(tf.matmul(a, a)[:1, :1], tf.float32)).numpy()

    calls: dict[tuple[str, str, int], Any] = {}
    for precision in PRECISIONS:
        a = tf.cast(tf.random.normal((size, size)), precision)
        calls[precision, "product", 0] = functools.partial(product, a)
        for normalisation, windows in (("batch", FLAGS.windows), ("none", FLAGS.windows[:1])):
            model_config, _ = config.preset(FLAGS.preset, normalisation=normalisation)
            model = attention_unet.build_model(model_config, seed=0)
            predict = predictors.of_keras(predictors.for_prediction(model, precision))
            for together in windows:
                call = functools.partial(network, predict, together)
                calls[precision, normalisation, together] = call
    seconds = turns.in_process(calls, FLAGS.rounds, "network")
    limit = {p: 2e-9 * size**3 / median(seconds.pop((p, "product", 0))) for p in PRECISIONS}
    gflop = WINDOWS * convolution_gflop(model)
    first = median(next(iter(seconds.values())))
    return [
        {
            "precision": precision,
            "normalisation": normalisation,
            "windows_a_call": together,
            **timing(taken, 2),
            "times_as_fast": round(first / median(taken), 2),
            "gflop_per_s": round(gflop / median(taken)),
            "of_matrix_product": round(gflop / median(taken) / limit[precision], 2),
        }
        for (precision, normalisation, together), taken in seconds.items()
    ]


def answers() -> list[dict[str, Any]]:
    """Dice and mL against float32 at stride 1, medians and worst over simulated patients."""
    import numpy as np

    from data_tools import intensity
    from data_tools.grid import VOXEL_ML
    from data_tools.simulate import simulate_patient
    from tf_hypoperfusion.inference import predictors, sliding_window

    loaded = {p: predictors.load(FLAGS.model, precision=p) for p in PRECISIONS}
    found: dict[tuple[str, int], list[tuple[float, float, float]]] = {}
    for number in turns.progress(range(1, FLAGS.patients + 1), "answers"):
        patient = simulate_patient(FLAGS.seed, number)
        mni, row = patient.mni(), patient.row()
        image = sliding_window.model_image(mni.dwi, mni.adc_um2_per_s, mni.brain, row["side"])
        tissue = intensity.parenchyma(mni.adc_um2_per_s, mni.brain)
        nihss = intensity.nihss_feature(None if row["nihss"] == "n/a" else float(row["nihss"]))
        exact = None
        for precision, stride in [("float32", 1), *((p, s) for p in loaded for s in STRIDES)]:
            began = time.perf_counter()
            model = loaded[precision]
            p = sliding_window.predict_volume(
                model.predict, image,
                nihss=nihss, stride=stride, tissue=tissue, cores=model.cores,
            ).mean  # fmt: skip
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
            **timing([t for t, _, _ in each], 2),
            "dice_median": round(float(np.median([d for _, d, _ in each])), 4),
            "dice_worst": round(min(d for _, d, _ in each), 4),
            "ml_worst": round(max(m for _, _, m in each), 2),
        }
        for (precision, stride), each in found.items()
    ]


def whole(folder: Path) -> list[dict[str, Any]]:
    """predict by its steps: cold, a new process for a patient; warm, one that has the model."""
    from data_tools.simulate import __main__ as simulate

    count = FLAGS.rounds + 1
    command.run(
        simulate.main, simulate.FLAGS, "", [f"--out={folder}/c", f"--patients={count}", "--seed=2"]
    )

    def predict(*given: str) -> float:
        began = time.perf_counter()
        model = f"--model={FLAGS.model}"
        program = [sys.executable, "-m", "tf_hypoperfusion.predict", model, "--nosecond_opinion"]
        subprocess.run([*program, *given], check=True, capture_output=True)
        return time.perf_counter() - began

    def steps(result: Path) -> dict[str, float]:
        return json.loads((result / "result.json").read_text())["seconds"]

    images, cold = folder / "c/sub-0001/dwi", []
    for _ in turns.progress(range(count), "predict"):
        wall = predict(
            f"--dwi={images}/sub-0001_dwi.nii.gz", f"--adc={images}/sub-0001_ADC.nii.gz",
            "--nihss=12", "--side=left", f"--out={folder}/result",
        )  # fmt: skip
        inside = steps(folder / "result")
        cold.append({"start_up": wall - inside["total"], **inside})
    predict(f"--cohort={folder}/c", f"--out={folder}/results")
    warm = [steps(folder / f"results/sub-{k:04d}") for k in range(1, count + 1)]
    rows: list[dict[str, Any]] = []
    for run, measured in (("cold", cold[1:]), ("warm", warm[1:])):  # the first warms the disk up
        names = list(measured[0])
        found = {name: timing([each.get(name, 0.0) for each in measured], 2) for name in names}
        rows.append({"run": run, **{name: each["seconds"] for name, each in found.items()}})
        spread = {name: each["spread"] for name, each in found.items()}
        rows.append({"run": f"{run}, spread", **spread})
    return rows


def main() -> None:
    """Measure and print."""
    if max(FLAGS.windows) > WINDOWS:
        raise InputError(f"--windows={max(FLAGS.windows)}; a patient has {WINDOWS}")
    if FLAGS.model:
        from tf_hypoperfusion.inference import predictors

        if not FLAGS.model.endswith(".keras"):  # others keep the precision that they have
            raise InputError(f"--model={FLAGS.model}; expected a best.keras")
        predictors.load_predictor(FLAGS.model)  # refuses what is none
    note = f"{FLAGS.preset}, {FLAGS.rounds} rounds"
    tables = Tables(FLAGS.out, ("tensorflow", "keras", "antspyx"), note)
    tables.show(f"network part, {WINDOWS} windows; times as fast as the first", network_times())
    if FLAGS.model:
        title = f"{FLAGS.patients} simulated patients: answers against float32 at stride 1"
        tables.show(title, answers())
        with tempfile.TemporaryDirectory() as folder:
            tables.show("predict, seconds by step", whole(Path(folder)))


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))

"""What does a patient's answer cost when less is computed, and what does that change of it?

    python -m benchmarks.compute_less [--model=saved_models/NAME] [--patients=24] [--look=first]
        [--dwi=... --adc=... --side=...] [--ways=bfloat16/8,int8/4] [--out=CSV]

Each way of asking gets a row: CPU seconds of the network part (cutting, asking, merging), by turns
on each patient; Dice and mL beside what the first way, float32 every 4 slices, answers; Dice with
the truth of simulated patients, and how much of it the way costs on average, with a paired
bootstrap interval. A second table holds patients of your own, given by --dwi, --adc and --side once
for each; they have no truth. A way is an arithmetic and the slices from one window to the next.

int8 is quantised by calibration on simulated patients of another seed: by NNCF for OpenVINO
(pip install nncf), by its own tools for onnxruntime. What is not installed is left out. Windows
without tissue are never asked, in any of the ways: that changes no answer.
"""

import dataclasses
import importlib.util
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from absl import flags
from numpy.typing import NDArray

from benchmarks.measuring import int8, options, turns
from benchmarks.measuring.tables import Tables
from data_tools import labels, patient
from data_tools.grid import VOXEL_ML
from data_tools.runtime import command
from data_tools.runtime.errors import InputError
from data_tools.simulate import simulate_patient
from tf_hypoperfusion import clinical, config
from tf_hypoperfusion.clinical import ClinicalFacts
from tf_hypoperfusion.evaluation import patient_metrics, statistics
from tf_hypoperfusion.inference import (
    model_files,
    onnx_runtimes,
    prediction,
    predictors,
)
from tf_hypoperfusion.inference.onnx_runtimes import LoadedModel

ARITHMETICS = ("float32", "bfloat16", "int8", "onnxruntime-float32", "onnxruntime-int8")
STRIDES = (4, 6, 8, 11, 16)
FIRST = f"float32/{config.TEST_STRIDE}"

FLAGS = flags.FlagValues()
flags.DEFINE_string(
    "model", None, "An export, or its ONNX file; without it, the demonstration model.",
    flag_values=FLAGS,
)  # fmt: skip
options.choices(
    "ways",
    [f"{each}/{stride}" for each in ARITHMETICS[:2] for stride in STRIDES] + ["int8/4", "int8/8"],
    f"Arithmetic and slices between windows; {FIRST} is always there, and first.",
    FLAGS,
    known=[f"{each}/{stride}" for each in ARITHMETICS for stride in STRIDES],
)
options.count("patients", 24, "Simulated ones.", FLAGS)
options.count("seed", 77, "Of the simulated patients; not that of training.", FLAGS, lowest=0)
flags.DEFINE_enum("look", "first", ["first", "wide"], "Of the simulated.", flag_values=FLAGS)
options.count("calibration", 6, "Simulated patients of the next seed, for int8.", FLAGS)
flags.DEFINE_multi_string("dwi", [], "DWI of a patient of your own.", flag_values=FLAGS)
flags.DEFINE_multi_string("adc", [], "The ADC map.", flag_values=FLAGS)
flags.DEFINE_multi_enum(
    "side", [], ["left", "right", "bilateral"], "The side of the stroke.", flag_values=FLAGS
)
options.out(FLAGS)

REAL_NIHSS = 12
WORD = {"int8": "int8, NNCF", "onnxruntime-int8": "onnxruntime int8"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Patient:
    """One patient on the MNI grid.

    Attributes:
        name: for the tables.
        mni: images.
        given: clinical facts.
        truth: hypoperfusion and core, where they are known.
        voxel_ml: mL of a voxel.
    """

    name: str
    mni: Any
    given: ClinicalFacts
    truth: labels.Labels | None
    voxel_ml: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answered:
    """What a way answered about a patient.

    Attributes:
        cpu_s: of the network part.
        windows: that were asked.
        ml: hypoperfused.
        dice: with the first way's answer.
        with_truth: Dice; None where nobody knows or there is no lesion.
        mismatch: target mismatch by this volume and the true core; None where nobody knows.
    """

    cpu_s: float
    windows: int
    ml: float
    dice: float
    with_truth: float | None
    mismatch: bool | None


def simulated(seed: int, count: int, look: str) -> Iterator[Patient]:
    """Simulated patients on the MNI grid, one after the other."""
    for number in turns.progress(range(1, count + 1), "simulated patients"):
        made = simulate_patient(seed, number, look=look)
        mni, row = made.mni(), made.row()
        truth = labels.make_labels(
            mni.dwi, mni.adc_um2_per_s, mni.tmax_s,
            brain=mni.brain, coverage=mni.coverage, voxel_ml=VOXEL_ML,
        )  # fmt: skip
        nihss = None if row["nihss"] == "n/a" else int(row["nihss"])
        given = ClinicalFacts(row["side"], nihss)
        yield Patient(
            name=row["participant_id"], mni=mni, given=given, truth=truth, voxel_ml=VOXEL_ML
        )


def real() -> Iterator[Patient]:
    """The patients of --dwi, --adc and --side."""
    for dwi, adc, side in zip(FLAGS.dwi, FLAGS.adc, FLAGS.side, strict=True):
        mni, _ = patient.to_mni(patient.load_native(dwi, adc))
        yield Patient(
            name=Path(dwi).name.split(".")[0],
            mni=mni,
            given=ClinicalFacts(side, REAL_NIHSS),
            truth=None,
            voxel_ml=mni.voxel_ml,
        )


def load(ways: Sequence[str], path: Path, folder: Path) -> dict[str, LoadedModel]:
    """The program of each arithmetic; what cannot be had here is said and left out.

    Args:
        ways: whose.
        path: of the model.
        folder: for quantised networks.

    Raises:
        InputError: the model has no ONNX form to be quantised.
    """
    form = predictors.onnx_form(model_files.check_undamaged(path))
    loaded, slabs = {}, None
    for arithmetic in dict.fromkeys(way.split("/")[0] for way in ways):
        program = "onnxruntime" if arithmetic.startswith("onnxruntime") else "openvino"
        needs = ["nncf"] if arithmetic == "int8" else []
        missing = [name for name in (program, *needs) if not importlib.util.find_spec(name)]
        if missing:
            print(f"{arithmetic} is left out: it needs {', '.join(missing)}", file=sys.stderr)
            continue
        if form is None:
            raise InputError(f"model {path}: it has no ONNX form; expected an export")
        if arithmetic.endswith("int8"):
            slabs = slabs or [
                slab
                for each in simulated(FLAGS.seed + 1, FLAGS.calibration, FLAGS.look)
                for slab in _slabs(each)
            ]
            quantised = int8.QUANTISERS[program](form, folder, slabs)
            loaded[arithmetic] = onnx_runtimes.load(quantised, program)
        else:
            precision = arithmetic.split("-")[-1]
            loaded[arithmetic] = found = onnx_runtimes.load(form, program, precision)
            if found.precision != precision:
                print(f"{arithmetic} is left out: this processor has none", file=sys.stderr)
                del loaded[arithmetic]
    return loaded


def _slabs(one: Patient) -> list[dict[str, NDArray[np.float32]]]:
    """The windows of a patient that do not overlap, as a network is asked."""
    asked: list[dict[str, NDArray[np.float32]]] = []

    def keep(image: NDArray[np.float32], nihss: NDArray[np.float32]) -> NDArray[np.float32]:
        for k in range(len(image)):
            asked.append({"image": image[k : k + 1], "nihss": nihss[k : k + 1]})
        return np.zeros((*image.shape[:-1], 1), np.float32)

    prediction.volume_predictor(keep, 16)(one.mni, one.given)
    return asked


def ask(
    ways: Sequence[str], loaded: Mapping[str, LoadedModel], one: Patient
) -> dict[str, Answered]:
    """One patient by every way, the first before the others."""
    first = None
    found = {}
    for way in ways:
        arithmetic, stride = way.split("/")
        windows: list[int] = []

        def counted(image, nihss, predict=loaded[arithmetic].predict, windows=windows):
            windows.append(len(image))
            return predict(image, nihss)

        answer = prediction.volume_predictor(counted, int(stride))
        began = time.process_time()
        probability = answer(one.mni, one.given).mean
        cpu_s = time.process_time() - began
        mask = probability >= config.PROBABILITY_THRESHOLD
        first = mask if first is None else first
        found[way] = measured(mask, first, one, cpu_s=cpu_s, windows=sum(windows))
    return found


def measured(
    mask: NDArray[np.bool_], first: NDArray[np.bool_], one: Patient, *, cpu_s: float, windows: int
) -> Answered:
    """A mask beside the first way's and the truth."""
    same = patient_metrics.dice(mask, truth=first)
    with_truth = mismatch = None
    if one.truth is not None:
        inside = mask & one.truth.coverage
        with_truth = patient_metrics.dice(inside, truth=one.truth.truth & one.truth.coverage)
        volumes = (np.count_nonzero(each) * one.voxel_ml for each in (inside, one.truth.core))
        mismatch = clinical.defuse3(*volumes).target_mismatch
    return Answered(
        cpu_s=cpu_s,
        windows=windows,
        ml=float(np.count_nonzero(mask) * one.voxel_ml),
        dice=float(not mask.any()) if same is None else same,
        with_truth=with_truth,
        mismatch=mismatch,
    )


def table(found: Sequence[dict[str, Answered]]) -> list[dict[str, Any]]:
    """A line for each way over patients with a truth."""
    lines = []
    for way in found[0]:
        pairs = [(each[way], next(iter(each.values()))) for each in found]
        moved = [abs(a.ml - b.ml) for a, b in pairs]
        both = [
            (a.with_truth, b.with_truth)
            for a, b in pairs
            if a.with_truth is not None and b.with_truth is not None
        ]
        loss = statistics.bootstrap([[b - a for a, b in both]], np.mean)
        interval = "" if loss.low is None else f" ({loss.low:+.4f} to {loss.high:+.4f})"
        lines.append(
            {
                **_costs(way, pairs),
                "dice_median": round(median(a.dice for a, _ in pairs), 4),
                "dice_worst": round(min(a.dice for a, _ in pairs), 4),
                "ml_mean": round(float(np.mean(moved)), 2),
                "ml_worst": round(max(moved), 2),
                "with_truth": round(float(np.mean([a for a, _ in both])), 4) if both else "n/a",
                "loss": "n/a" if loss.value is None else f"{loss.value:+.4f}{interval}",
                "decision_kept": f"{sum(a.mismatch == b.mismatch for a, b in pairs)}/{len(pairs)}",
            }
        )
    return lines


def own_table(name: str, found: dict[str, Answered]) -> list[dict[str, Any]]:
    """A line for each way about one patient without a truth."""
    first = next(iter(found.values()))
    return [
        {
            "patient": name,
            **_costs(way, [(each, first)]),
            "dice": round(each.dice, 4),
            "ml": round(each.ml, 1),
            "ml_more": round(each.ml - first.ml, 1),
        }
        for way, each in found.items()
    ]


def _costs(way: str, pairs: Sequence[tuple[Answered, Answered]]) -> dict[str, Any]:
    arithmetic, stride = way.split("/")
    return {
        "way": f"{WORD.get(arithmetic, arithmetic)}, stride {stride}",
        "windows": round(median(a.windows for a, _ in pairs)),
        "cpu_s": round(median(a.cpu_s for a, _ in pairs), 2),
        "of_first": round(median(a.cpu_s / b.cpu_s for a, b in pairs), 2),
    }


def main() -> None:
    """Quantise, ask, print."""
    if not len(FLAGS.dwi) == len(FLAGS.adc) == len(FLAGS.side):
        raise InputError(
            f"--dwi, --adc and --side are given {len(FLAGS.dwi)}, {len(FLAGS.adc)} and "
            f"{len(FLAGS.side)} times; expected each once for every patient"
        )
    if "openvino" not in onnx_runtimes.installed():
        raise InputError("openvino is not installed; every way is compared with its float32")
    path = Path(FLAGS.model or model_files.demo_model())
    wanted = list(dict.fromkeys([FIRST, *FLAGS.ways]))
    packages = ("openvino", "nncf", "onnxruntime")
    with tempfile.TemporaryDirectory() as folder:
        loaded = load(wanted, model_files.check_path(path), Path(folder))
        ways = [way for way in wanted if way.split("/")[0] in loaded]
        tables = Tables(FLAGS.out, packages, f"{FLAGS.look}, seed {FLAGS.seed}")
        warm = next(simulated(FLAGS.seed + 1, 1, FLAGS.look))
        ask(ways, loaded, warm)
        cases = simulated(FLAGS.seed, FLAGS.patients, FLAGS.look)
        found = [ask(ways, loaded, each) for each in cases]
        tables.show(f"{FLAGS.patients} simulated patients, beside {FIRST}", table(found))
        if rows := [
            line for each in real() for line in own_table(each.name, ask(ways, loaded, each))
        ]:
            tables.show("patients of your own", rows)


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))

"""How long a study would take on this machine, and what it would keep on disk.

A patient and an optimizer step are measured here; the rest is arithmetic with the settings. Time
to read files, and for pictures and reports, is not in it.
"""

import dataclasses
import itertools
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from data_tools import slabs
from data_tools.grid import SLAB_SHAPE
from data_tools.runtime import progress
from data_tools.splits import SUBSETS
from tf_hypoperfusion.config import Configs
from tf_hypoperfusion.training import roles

GB = 1e9
# The first one compiles.
STEPS_MEASURED = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rates:
    """What was measured.

    Attributes:
        patient_s: one patient registered and written in MNI space.
        step_s: one optimizer step.
        slab_s: one slab through the network, nothing learnt.
        mni_gb: of a patient in MNI space.
        records_gb: of a patient's slabs.
        network_gb: of a trained network with the state that a resumed training needs.
    """

    patient_s: float
    step_s: float
    slab_s: float
    mni_gb: float
    records_gb: float
    network_gb: float


@dataclasses.dataclass(frozen=True)
class Station:
    """A part of the study.

    Attributes:
        name: of its command.
        hours: at most; a fold that stops early takes less.
        disk_gb: what it leaves.
    """

    name: str
    hours: float
    disk_gb: float


def stations(
    patients: int, rates: Rates, configs: Configs, *, stride: int, workers: int = 1
) -> list[Station]:
    """Hours and disk of each part.

    Args:
        patients: with truth.
        rates: of this machine.
        configs: what a fold is trained with.
        stride: slices from one slab of the records to the next.
        workers: patients preprocessed at once.

    >>> rates = Rates(patient_s=36, step_s=1, slab_s=0.5, mni_gb=0.01, records_gb=0.02,
    ...               network_gb=0.1)
    >>> from tf_hypoperfusion.config import preset
    >>> found = stations(100, rates, preset("tiny", epochs=2, batch_size=4), stride=4)
    >>> for each in found:
    ...     print(each.name, round(each.hours, 2), round(each.disk_gb, 2))
    preprocess 1.0 1.0
    build_records 0.1 2.0
    train 0.83 0.5
    evaluate 0.17 0.0
    """
    slabs_each = len(slabs.slab_starts(stride))
    shares = roles.of(0, SUBSETS)
    training, validation = (
        slabs_each * math.ceil(patients * len(shares[role]) / SUBSETS)
        for role in ("train", "validation")
    )
    steps = math.ceil(training / configs.training.batch_size)
    epoch_s = steps * rates.step_s + validation * rates.slab_s
    return [
        Station("preprocess", patients * rates.patient_s / 3600 / workers, patients * rates.mni_gb),
        # A tenth of registering, as it was measured.
        Station(
            "build_records",
            patients * rates.patient_s / 36000 / workers,
            patients * rates.records_gb,
        ),
        Station(
            "train",
            SUBSETS * configs.training.epochs * epoch_s / 3600,
            SUBSETS * rates.network_gb,
        ),
        Station("evaluate", patients * slabs_each * rates.slab_s / 3600, 0.0),
    ]


def measure(configs: Configs, stride: int, log: Callable[[str], None]) -> Rates:
    """Preprocess a simulated patient and take a few optimizer steps; a minute or so.

    Args:
        configs: what a fold is trained with.
        stride: slices from one slab of the records to the next.
        log: gets what is being done.
    """
    log("measuring this machine: one simulated patient is registered")
    patient_s, mni_gb, records_gb = _measured_patient(stride)
    log(f"measuring this machine: {STEPS_MEASURED} steps of training")
    progress.now("compiling and training")
    step_s, slab_s, network_gb = _measured_steps(configs)
    return Rates(
        patient_s=patient_s,
        step_s=step_s,
        slab_s=slab_s,
        mni_gb=mni_gb,
        records_gb=records_gb,
        network_gb=network_gb,
    )


def _measured_patient(stride: int) -> tuple[float, float, float]:
    from data_tools import cohort as cohorts
    from data_tools import mni_cohort, records_builder
    from data_tools.simulate import simulate_cohort

    with tempfile.TemporaryDirectory() as folder:
        raw, mni = f"{folder}/raw", f"{folder}/mni"
        simulate_cohort(raw, 1, seed=1)
        rows = [
            cohorts.clinical_record(row) for _, row in cohorts.read_participants(raw).iterrows()
        ]
        began = time.monotonic()
        mni_cohort.preprocess(raw, mni)
        taken = time.monotonic() - began
        serialised, _, _ = records_builder.patient_slabs(mni, rows[0], stride)
        size = sum(path.stat().st_size for path in Path(mni).rglob("*") if path.is_file())
        return taken, size / GB, sum(map(len, serialised)) / GB


def _measured_steps(configs: Configs) -> tuple[float, float, float]:
    from tf_hypoperfusion.training import distribution, memory, precision
    from tf_hypoperfusion.training import step as training_step

    model, training = configs
    strategy = distribution.choose_strategy()
    chosen, _ = precision.choose_precision(training.precision)
    micro = distribution.choose_micro_batch(
        training.micro_batch, training.batch_size, strategy,
        memory.fitting_slabs(memory.bytes_per_slab(model)),
    )  # fmt: skip
    # Weights do not matter for the time.
    plain = dataclasses.replace(
        training, precision=chosen, micro_batch=micro, init_from="", freeze=False,
        fixed_moments=False,
    )  # fmt: skip
    step = training_step.build(strategy, model, plain, STEPS_MEASURED)
    rng = np.random.default_rng(0)
    image = rng.random((micro, *SLAB_SHAPE, 4), np.float32)
    nihss = np.ones((micro, 1), np.float32)
    truth = (rng.random((micro, *SLAB_SHAPE, 3)) < 0.1).astype(np.float32)
    given: Any = {"image": image, "nihss": nihss}, truth, np.ones(micro, np.float32)
    step_s = _fastest(lambda: step.train(itertools.repeat(given), 0)[0].numpy())
    slab_s = _fastest(lambda: step.predict(image, nihss)) / micro
    # Weights, two moments of Adam, the average, and best.keras twice.
    return step_s, slab_s, 6 * 4 * step.parameters / GB


def _fastest(call: Callable[[], Any]) -> float:
    seconds = []
    for _ in range(STEPS_MEASURED):
        began = time.monotonic()
        call()
        seconds.append(time.monotonic() - began)
    return min(seconds)

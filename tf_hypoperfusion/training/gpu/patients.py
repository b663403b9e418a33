"""Simulated patients in memory, as records would give them to a network, and no file of them.

Only what cannot be computed again is held: DWI, ADC and four masks, 3 MB a patient, so that a
thousand of them lie in the memory of a GPU. No TensorFlow, Keras or JAX here.
"""

import dataclasses
import functools
import itertools
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools import intensity, labels
from data_tools.grid import SIDES, VOXEL_ML, to_frame, window_about_brain
from data_tools.network_volumes import network_volumes
from data_tools.patient import MniPatient
from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError
from data_tools.runtime.executors import map_patients
from data_tools.simulate.cohort import SIMULATION_VERSION
from data_tools.simulate.images import MniImages
from data_tools.simulate.patient import simulate_patient

# Columns and rows that are held: all of the 91 x 109 grid.
HELD = (96, 112)
# Bits of ``flags``.
BRAIN, TRUTH, COVERAGE, CORE = 1, 2, 4, 8
# Raised whenever a file of a patient holds something else than before.
HELD_VERSION = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Patients:
    """Several patients; the images are of the :data:`HELD` window of the padded frame.

    Attributes:
        dwi: float16 (n, 96, 112, 60), ratio to the parenchymal mean.
        adc: uint16, the same shape, 1e-6 mm2/s; 0 outside the brain, CSF kept.
        flags: uint8, the same shape: :data:`BRAIN`, :data:`TRUTH`, :data:`COVERAGE` and
            :data:`CORE` added up.
        adc_mean: float32 (n,), mean of the parenchyma, 1e-6 mm2/s.
        nihss: float32 (n,), NIHSS / 21, or -1.
        side: int32 (n,), index into SIDES.
    """

    dwi: NDArray[np.float16]
    adc: NDArray[np.uint16]
    flags: NDArray[np.uint8]
    adc_mean: NDArray[np.float32]
    nihss: NDArray[np.float32]
    side: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.dwi)

    def arrays(self) -> dict[str, NDArray]:
        """All of them, by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


def held(
    images: MniImages | MniPatient,
    side: str,
    nihss: int | None,
    core: NDArray[np.bool_] | None = None,
) -> Patients:
    """One patient.

    Args:
        images: on the MNI grid.
        side: of the lesion.
        nihss: None if unknown.
        core: as known, bool (91, 109, 60); None takes the rule's.

    Raises:
        InputError: as :func:`data_tools.network_volumes.network_volumes`.
    """
    label = labels.make_labels(
        images.dwi, images.adc_um2_per_s, images.tmax_s,
        brain=images.brain, coverage=images.coverage, voxel_ml=VOXEL_ML, known_core=core,
    )  # fmt: skip
    volumes = network_volumes(images.dwi, images.adc_um2_per_s, images.brain, label)
    window = window_about_brain(HELD)
    adc = np.where(images.brain, np.clip(np.round(images.adc_um2_per_s), 0, 65535), 0)
    flags = (
        images.brain * BRAIN
        + volumes.truth * TRUTH
        + volumes.coverage * COVERAGE
        + volumes.core * CORE
    )

    def one(volume: NDArray, dtype: type) -> NDArray:
        return to_frame(volume.astype(dtype))[window][np.newaxis]

    return Patients(
        dwi=one(volumes.dwi, np.float16),
        adc=one(adc, np.uint16),
        flags=one(flags, np.uint8),
        adc_mean=np.array([volumes.adc_mean_um2_per_s], np.float32),
        nihss=np.array([intensity.nihss_feature(nihss)], np.float32),
        side=np.array([SIDES.index(side)], np.int32),
    )


def simulated(
    seed: int,
    numbers: Iterable[int],
    folder: str | os.PathLike,
    *,
    looks: Sequence[str] = ("first",),
    shift: str | None = None,
    workers: int = 1,
    minutes: float = np.inf,
) -> Patients:
    """Simulated patients, each computed once and kept as a file for the next time.

    Args:
        seed: of the cohort.
        numbers: of the patients, from 1.
        folder: for the files.
        looks: of the patients by turns; see :mod:`data_tools.simulate.looks`.
        shift: of all; see :mod:`data_tools.simulate.shifts`.
        workers: processes.
        minutes: begin no patient after so long; those that are done are given back.

    Raises:
        InputError: no patient was simulated in the time.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    look_of = {number: look_of_patient(number, looks) for number in numbers}
    files = {
        number: _file(folder, seed=seed, number=number, look=look, shift=shift)
        for number, look in look_of.items()
    }
    end = time.monotonic() + 60 * minutes
    todo = [(number, look_of[number]) for number, file in files.items() if not file.is_file()]
    in_time = itertools.takewhile(lambda _: time.monotonic() < end, todo)
    write = functools.partial(_simulate, seed=seed, shift=shift, folder=str(folder))
    results = map_patients(write, in_time, workers, "simulating", total=len(todo))
    for task, failure in results if todo else ():
        if isinstance(failure, InputError):  # the others are enough
            print(f"patient {task[0]} of seed {seed} is left out: {failure}", flush=True)
    done = [file for file in files.values() if file.is_file()]
    if not done:
        raise InputError(f"no patient was simulated in {minutes:g} minutes; give more")
    return together([_read(file) for file in done])


def look_of_patient(number: int, looks: Sequence[str]) -> str:
    """The look of patient ``number``, from 1: they have them by turns."""
    return looks[number % len(looks)]


def together(parts: Sequence[Patients]) -> Patients:
    """Several patients as one."""
    arrays = [part.arrays() for part in parts]
    return Patients(**{name: np.concatenate([a[name] for a in arrays]) for name in arrays[0]})


def _file(
    folder: str | os.PathLike, *, seed: int, number: int, look: str, shift: str | None
) -> Path:
    versions = f"version-{SIMULATION_VERSION}_held-{HELD_VERSION}"
    seen = f"look-{look}" + (f"_shift-{shift}" if shift else "")
    name = f"{versions}_seed-{seed}_{seen}_patient-{number:05d}.npz"
    return Path(folder) / name


def _simulate(number: int, look: str, *, seed: int, shift: str | None, folder: str) -> None:
    made = simulate_patient(seed, number, look=look, shift=shift)
    patient = held(made.mni(), made.plan.side, made.nihss, made.mni_core())
    file = _file(folder, seed=seed, number=number, look=look, shift=shift)
    with (
        atomic.replacing(file) as temporary,
        open(temporary, "wb") as stream,
    ):
        arrays: dict[str, Any] = patient.arrays()
        np.savez(stream, **arrays)


def _read(file: Path) -> Patients:
    with np.load(file) as arrays:
        return Patients(**arrays)

"""How near the fit to the template comes to the truth, and what a lesion loses on the way.

    python -m benchmarks.preprocess [--patients=12] [--seed=99] [--fits=affine,ants] [--cohort=4]

Simulated patients in their own space: random pose, anisotropic voxels, skull, noise. Their way to
the template is known for every voxel: an affine for heads of the template's own shape (straight),
an affine and a deformation for bent ones. mm are distances between where a voxel of brain tissue is
brought and where it belongs, over all patients; "best affine" is the least-squares affine of the
true way, which no affine fit can better. Dice of grey and white matter is with the template's;
of the lesion (Tmax >= 6 s or core, over 5 mL) after native -> MNI -> native, beside its change of
volume. "affine" is the project's own fit, "ants" the same by ANTs, "syn" with ANTs' deformation.
ANTs' defaults: its affine of the DWI on the template's T1, within our brain mask and without one.
CPU seconds of one core; by turns, so that a busy minute burdens all alike.

The second table is of ``--cohort`` raw patients, preprocessed whole by the own fit and by ANTs' in
turns: CPU seconds of a patient's steps, pictures of quality control apart, after a first patient
that nobody counts.
"""

import contextlib
import dataclasses
import functools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

from absl import flags

from benchmarks.measuring import options, turns
from benchmarks.measuring.tables import Tables
from data_tools.runtime import command

FITS = ("affine", "ants", "syn", "ANTs, masked", "ANTs, skull on")
FLAGS = flags.FlagValues()
options.count("patients", 12, "Of each kind of head.", FLAGS)
options.count("seed", 99, "Of the cohort.", FLAGS, lowest=0)
options.choices("fits", FITS, "Fits to compare.", FLAGS, known=FITS)
options.count("cohort", 4, "Raw patients preprocessed whole; 0 leaves it out.", FLAGS, lowest=0)
options.out(FLAGS)

POINTS = 4000
MIN_LESION_ML = 5.0


def main() -> None:
    """Simulate, fit in every way, print the table."""
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"
    note = f"{FLAGS.patients} simulated patients of seed {FLAGS.seed}, one core"
    tables = Tables(FLAGS.out, ("antspyx", "scipy"), note)
    rows = []
    for head, bend in (("straight", 0.0), ("bent", 1.0)):
        cases = [simulate(FLAGS.seed, k, bend) for k in range(1, FLAGS.patients + 1)]
        done: dict[str, list[dict]] = {name: [] for name in FLAGS.fits}
        for case in turns.progress(cases, f"{head} heads"):
            for name in FLAGS.fits:
                began = time.process_time()
                transform = WAYS[name](case)
                done[name].append(measure(case, transform, time.process_time() - began))
        rows += [summary(head, name, measured) for name, measured in done.items()]
        best = [measure(case, case.best_affine, 0.0) for case in cases]
        rows.append(summary(head, "best affine", best) | {"cpu_s": ""})
    tables.show("fits against the truth", rows)
    if FLAGS.cohort:
        tables.show("a patient of a cohort, CPU seconds", whole_patients(FLAGS.cohort, FLAGS.seed))


@dataclasses.dataclass(frozen=True)
class Case:
    """A simulated patient: images, and where each of some points of tissue belongs."""

    dwi: Any
    adc: Any
    brain: Any
    native_mm: Any
    template_mm: Any
    lesion: Any
    maps: tuple[Any, Any]

    @functools.cached_property
    def best_affine(self) -> Any:
        """Least-squares affine of the true way."""
        import numpy as np

        from data_tools.transform import Transform

        ones = np.ones((len(self.native_mm), 1))
        solved, *_ = np.linalg.lstsq(
            np.hstack([self.native_mm, ones]), self.template_mm, rcond=None
        )  # fmt: skip
        matrix = np.eye(4)
        matrix[:3] = solved.T
        return Transform(matrix)


def simulate(seed: int, index: int, bend: float) -> Case:
    """Patient ``index``; the same lesion and pose whatever the bend."""
    import numpy as np

    from data_tools import brain_of_dwi
    from data_tools.simulate import anatomy, clinical, images, lesion
    from data_tools.transform import resample
    from data_tools.volumes import Volume

    children = np.random.SeedSequence([seed, index]).spawn(4)
    for_anatomy, for_lesion, for_images, _ = map(np.random.default_rng, children)
    plan = clinical.make_plan(seed, index)
    head = anatomy.make_anatomy(for_anatomy, plan.age, bend)
    stroke = lesion.make_lesion(for_lesion, head, plan, None)
    native = images.acquire(for_images, head, stroke, plan)
    to_native = np.linalg.inv(native.native_to_mni)

    def there(field):
        volume = Volume(field.astype(np.float32), anatomy.MODEL_AFFINE)
        return resample(volume, to_native, native.dwi.shape, native.affine)

    index_of = np.argwhere(head.tissue)
    chosen = np.random.default_rng(0).choice(len(index_of), POINTS, replace=False)
    at = tuple(index_of[chosen].T)
    posed = index_of[chosen] * anatomy.VOXEL_MM + np.array(anatomy.MODEL_ORIGIN_MM)
    dwi = Volume(native.dwi, native.affine)
    adc = native.adc_um2_per_s
    return Case(
        dwi,
        adc,
        brain_of_dwi.brain_mask(dwi, adc) & (adc > 0),
        posed @ to_native[:3, :3].T + to_native[:3, 3],
        np.stack([head.template_mm[axis][at] for axis in range(3)], axis=1),
        there((stroke.tmax_s >= 6) | (stroke.core > 0)) > 0.5,
        (there(head.grey), there(head.white)),
    )


def ours(case: Case, kind: str) -> Any:
    """As preprocessing fits."""
    from data_tools import labels, registration

    lesion = labels.core_mask(case.dwi.data, case.adc, case.brain, case.dwi.voxel_ml)
    fit = registration.register(case.dwi, case.adc, case.brain, lesion=lesion, kind=kind)
    return fit.transform


def ants_default(case: Case, masked: bool) -> Any:
    """``ants.registration`` of the DWI on the T1 as it comes."""
    import numpy as np

    from data_tools import ants_bridge, brain_of_dwi
    from data_tools.template import template
    from data_tools.transform import Transform

    data = np.where(brain_of_dwi.brain_mask(case.dwi), case.dwi.data, 0)
    moving = dataclasses.replace(case.dwi, data=data) if masked else case.dwi
    return Transform(ants_bridge.fit_linear(template()["t1"], moving, "Affine"))


WAYS: dict[str, Callable[[Case], Any]] = {
    "affine": lambda case: ours(case, "affine"),
    "ants": lambda case: ours(case, "ants"),
    "syn": lambda case: ours(case, "syn"),
    "ANTs, masked": lambda case: ants_default(case, True),
    "ANTs, skull on": lambda case: ants_default(case, False),
}


def measure(case: Case, transform: Any, seconds: float) -> dict[str, Any]:
    """Figures of one fit."""
    import numpy as np

    from data_tools.grid import GRID_AFFINE, GRID_SHAPE
    from data_tools.simulate import anatomy
    from data_tools.transform import resample
    from data_tools.volumes import Volume

    error = np.linalg.norm(transform.to_mni(case.native_mm) - case.template_mm, axis=1)
    tissue = []
    for mine, theirs in zip(case.maps, anatomy.template()[:2], strict=True):
        there = transform.bring(dataclasses.replace(case.dwi, data=mine)) > 0.5
        template = resample(
            Volume(theirs, anatomy.MODEL_AFFINE), np.eye(4), GRID_SHAPE, GRID_AFFINE
        )
        tissue.append(dice(there, template > 0.5))
    on_grid = transform.bring_mask(case.lesion, case.dwi)
    back = transform.back(on_grid, case.dwi) > 0.5
    lesion_ml = case.lesion.sum() * case.dwi.voxel_ml
    judged = lesion_ml > MIN_LESION_ML
    mirrored = np.corrcoef(case.native_mm[:, 0], transform.to_mni(case.native_mm)[:, 0])[0, 1] < 0
    return {
        "error": error,
        "grey": tissue[0],
        "white": tissue[1],
        "lesion": dice(back, case.lesion) if judged else np.nan,
        "volume": 100 * (back.sum() / case.lesion.sum() - 1) if judged else np.nan,
        "mirrored": mirrored,
        "seconds": seconds,
    }


def whole_patients(count: int, seed: int) -> list[dict[str, Any]]:
    """A line of medians for each fit: raw files -> MNI files."""
    from data_tools import mni_cohort, patient, qc_picture
    from data_tools.cohort import read_participants
    from data_tools.simulate import simulate_cohort

    steps = {
        "read": (patient, "load_native"), "to_mni": (patient, "to_mni"),
        "picture": (qc_picture, "draw"),
    }  # fmt: skip
    found: dict[str, list[dict[str, float]]] = {"affine": [], "ants": []}
    with tempfile.TemporaryDirectory() as folder:
        raw = str(simulate_cohort(Path(folder) / "raw", count + 1, seed=seed))
        sides = read_participants(raw).set_index("participant_id")["side"]
        for participant, side in turns.progress(sides.items(), "whole patients"):
            for kind, measured in found.items():
                with contextlib.ExitStack() as stack:
                    spent = {
                        name: stack.enter_context(_clocked(*where)) for name, where in steps.items()
                    }
                    began = time.process_time()
                    mni_cohort.preprocess_patient(
                        participant, side, cohort=raw, out=f"{folder}/{kind}", kind=kind
                    )
                    whole = time.process_time() - began
                row = {name: sum(seconds) for name, seconds in spent.items()}
                measured.append(row | {"whole": whole, "without picture": whole - row["picture"]})
    return [
        {"fit": kind, "patients": count}
        | {name: round(median(row[name] for row in rows[1:]), 2) for name in rows[0]}
        for kind, rows in found.items()
    ]


@contextlib.contextmanager
def _clocked(module: Any, name: str) -> Iterator[list[float]]:
    """CPU seconds of every call of a module's function meanwhile."""
    function, seconds = getattr(module, name), []

    @functools.wraps(function)
    def clocked(*arguments: Any, **options: Any) -> Any:
        began = time.process_time()
        try:
            return function(*arguments, **options)
        finally:
            seconds.append(time.process_time() - began)

    with mock.patch.object(module, name, clocked):
        yield seconds


def dice(a: Any, b: Any) -> float:
    """Dice of two masks."""
    return float(2 * (a & b).sum() / max(a.sum() + b.sum(), 1))


def summary(head: str, way: str, measured: list[dict[str, Any]]) -> dict[str, Any]:
    """A line of the table."""
    import numpy as np

    every = np.concatenate([each["error"] for each in measured])
    lesion = np.array([each["lesion"] for each in measured])
    volume = np.array([each["volume"] for each in measured])
    judged = np.isfinite(lesion).any()
    return {
        "head": head,
        "fit": way,
        "median_mm": round(float(np.median(every)), 2),
        "p95_mm": round(float(np.percentile(every, 95)), 2),
        "worst_mm": round(float(every.max()), 2),
        "grey_dice": round(float(np.median([each["grey"] for each in measured])), 3),
        "white_dice": round(float(np.median([each["white"] for each in measured])), 3),
        "lesion_dice": round(float(np.nanmedian(lesion)), 3) if judged else "",
        "worst_lesion": round(float(np.nanmin(lesion)), 3) if judged else "",
        "volume_pct": round(float(np.nanmedian(volume)), 1) if judged else "",
        "worst_volume": round(float(volume[np.nanargmax(np.abs(volume))]), 1) if judged else "",
        "mirrored": sum(bool(each["mirrored"]) for each in measured),
        "cpu_s": round(float(np.median([each["seconds"] for each in measured])), 2),
    }


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))

"""A raw cohort -> every fault of its table, folders and images at once, or a summary of it."""

import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data_tools import cohort as cohorts
from data_tools import patient
from data_tools.cohort import Fault
from data_tools.grid import TMAX_HYPOPERFUSION_S
from data_tools.overrides import NONE, Overrides
from data_tools.patient import NativePatient
from data_tools.runtime import executors

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageFigures:
    """What the images of a patient without faults show.

    Attributes:
        voxels: checksum of the DWI's data.
        core_ml: core on the DWI's grid.
        tmax_over_6_ml: Tmax of 6 s and more, as in the file; None without a Tmax image.
        adc_unit: the unit found in the file.
        brain_ml: brain on the DWI's grid.
        orientation: of the DWI, ``RAS`` for instance.
        truth: what the labels will come from.
    """

    voxels: str
    core_ml: float
    tmax_over_6_ml: float | None
    adc_unit: str
    brain_ml: float
    orientation: str
    truth: str


@dataclasses.dataclass(frozen=True)
class Checked:
    """One patient: faults, or figures if there are none."""

    faults: tuple[Fault, ...] = ()
    figures: ImageFigures | None = None


def check(cohort: str, workers: int = 1, overrides: Overrides = NONE) -> str:
    """Check a cohort.

    Args:
        cohort: folder of the raw cohort.
        workers: processes that read patients.
        overrides: what a person says of every patient's images.

    Returns:
        The summary, as text.

    Raises:
        CohortError: with every fault of the table, the folders and the images.
    """
    faults: list[Fault] = []
    table = None
    try:
        table = cohorts.read_participants(cohort)
        participants = list(table["participant_id"])
    except cohorts.CohortError as error:
        # The table has faults; the images of those it names can be checked all the same.
        faults += error.faults
        participants = sorted(_named_in_table(cohort))
    faults += cohorts.unlisted_folders(cohort, participants)
    figures: dict[str, ImageFigures] = {}
    one = functools.partial(check_patient, overrides=overrides)
    tasks = [(participant, cohort) for participant in participants]
    for task, checked in executors.map_patients(one, tasks, workers, "check"):
        faults += checked.faults
        if checked.figures is not None:
            figures[task[0]] = checked.figures
    faults += _same_images(figures)
    if faults or table is None:
        order = {name: i for i, name in enumerate(participants)}
        raise cohorts.CohortError(sorted(faults, key=lambda f: order.get(f.participant, -1)))
    return _summary(cohort, table, [figures[name] for name in participants])


def check_patient(participant: str, cohort: str, *, overrides: Overrides = NONE) -> Checked:
    """Faults of one patient's files, and the figures for the summary if there are none."""
    files, faults = cohorts.find_raw_files(cohort, participant)
    if files is None:
        return Checked(tuple(faults))
    native, messages = patient.examine(
        files.dwi, files.adc, files.tmax, files.truth,
        b0=files.b0, overrides=files.overrides(overrides),
    )  # fmt: skip
    if native is None:
        return Checked(tuple(Fault(participant, "images", message) for message in messages))
    return Checked(figures=_measure(native))


def _measure(native: NativePatient) -> ImageFigures:
    dwi, tmax = native.dwi, native.tmax
    delayed_ml = None
    if tmax is not None:
        delayed_ml = float((tmax.data >= TMAX_HYPOPERFUSION_S).sum() * tmax.voxel_ml)
    return ImageFigures(
        voxels=hashlib.sha256(dwi.data.tobytes()).hexdigest(),
        core_ml=float(patient.core_of(native).sum() * dwi.voxel_ml),
        tmax_over_6_ml=delayed_ml,
        adc_unit=native.adc_unit,
        brain_ml=float(native.brain.sum() * dwi.voxel_ml),
        orientation=dwi.orientation,
        truth="edited mask" if native.truth else "Tmax" if tmax else "none",
    )


def _same_images(figures: Mapping[str, ImageFigures]) -> list[Fault]:
    """Patients whose DWI is that of another one: a file copied to the wrong place."""
    first: dict[str, str] = {}
    faults = []
    for participant, known in sorted(figures.items()):
        other = first.setdefault(known.voxels, participant)
        if other != participant:
            what = f"DWI holds the same voxels as that of {other}; expected each patient's own"
            faults.append(Fault(participant, "DWI", what))
    return faults


def _named_in_table(cohort: str) -> set[str]:
    import pandas as pd

    table = pd.read_csv(Path(cohort) / "participants.tsv", sep="\t", dtype=str)
    return {name for name in table["participant_id"].dropna() if (Path(cohort) / name).is_dir()}


def _summary(cohort: str, table: "pd.DataFrame", figures: Sequence[ImageFigures]) -> str:
    import pandas as pd

    images = pd.DataFrame([dataclasses.asdict(each) for each in figures])
    nihss, brain_ml = table["nihss"], images["brain_ml"]
    return "\n".join(
        [
            f"{cohort}: {len(table)} patients, no faults",
            f"  side          {_counts(table['side'])}",
            f"  NIHSS         median {nihss.median():g} (IQR {nihss.quantile(0.25):g}-"
            f"{nihss.quantile(0.75):g}), missing in {int(nihss.isna().sum())}",
            f"  brain volume  median {brain_ml.median():.0f} mL "
            f"({brain_ml.min():.0f}-{brain_ml.max():.0f})",
            f"  core          {_spread_ml(images['core_ml'])}",
            f"  Tmax >= 6 s   {_spread_ml(images['tmax_over_6_ml'])}, as in the file, not cleaned",
            f"  ADC unit      {_counts(images['adc_unit'])}",
            f"  orientation   {_counts(images['orientation'])}",
            f"  truth from    {_counts(images['truth'])}",
        ]
    )


def _counts(values: "pd.Series") -> str:
    return ", ".join(f"{name} {n}" for name, n in values.value_counts().items())


def _spread_ml(values: "pd.Series") -> str:
    import pandas as pd

    known = pd.to_numeric(values).dropna()
    if known.empty:
        return "n/a (n=0)"
    low, middle, high = known.quantile([0.25, 0.5, 0.75])
    return f"median {middle:.0f} mL (IQR {low:.0f}-{high:.0f}, n={len(known)})"

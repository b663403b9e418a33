"""A cohort -> every fault of its table, folders and images at once, or a summary of it.

Raw or in MNI space; which it is, the names of the files say.
"""

import dataclasses
import functools
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data_tools import cohort as cohorts
from data_tools import flow, groups, labels, mni_faults, patient
from data_tools.checked import Checked, ImageFigures
from data_tools.cohort import Fault
from data_tools.dicom.dynamic import NoScanOverTime
from data_tools.flow import LeftOut
from data_tools.given_core import load_given_core
from data_tools.grid import SPACE, TMAX_HYPOPERFUSION_S
from data_tools.overrides import NONE, Overrides
from data_tools.patient import NativePatient
from data_tools.perfusion import calibration, examination, patient_maps, series
from data_tools.quartiles import quartiles
from data_tools.runtime import executors
from data_tools.runtime.errors import InputError, counted
from data_tools.runtime.patient_failure import attempt
from data_tools.volumes import Volume

if TYPE_CHECKING:
    import pandas as pd

LAYOUTS = (cohorts.RAW, cohorts.MNI)
# Of which preprocess makes Tmax.
RAW_SERIES = "raw perfusion series"
NO_TRUTH = "none"
CALIBRATION = calibration.RESULT
_IN_WORDS = {cohorts.RAW: "raw images", cohorts.MNI: "volumes in MNI space"}


def check(
    cohort: str,
    workers: int = 1,
    overrides: Overrides = NONE,
    *,
    other_territories: bool = False,
) -> str:
    """Check a cohort. Of patients whom its table leaves out only the row is looked at.

    Args:
        cohort: folder of the raw cohort, or of the MNI cohort.
        workers: processes that read patients.
        overrides: what a person says of every patient's images.
        other_territories: do not leave out strokes outside the paper's population.

    Returns:
        The summary, as text.

    Raises:
        CohortError: with every fault of the table, the folders and the images.
        InputError: there is no table, it leaves out everybody, or there are no images of either
            kind.
    """
    faults: list[Fault] = []
    notes: list[str] = []
    table = None
    left_out: dict[str, LeftOut] = {}
    try:
        table = cohorts.read_participants(cohort, notes.append)
        rows = [cohorts.clinical_record(row) for _, row in table.iterrows()]
        participants = [row["participant_id"] for row in rows]
        left_out = flow.by_table(rows, other_territories=other_territories)
        flow.require_somebody(rows, left_out)
    except cohorts.CohortError as error:
        # The table has faults; the images of those it names can be checked all the same.
        faults += error.faults
        named = cohorts.named_in_table(cohort)
        participants = [name for name in named if cohorts.patient_folder(cohort, name).is_dir()]
    faults += cohorts.unlisted_folders(cohort, participants)
    participants = [name for name in participants if name not in left_out]
    layout, misplaced = _layout(cohort, participants)
    faults += misplaced
    alone = {fault.participant for fault in misplaced}
    lacking = set() if table is None else set(table["participant_id"][table["lacks"].notna()])
    tasks: list[tuple] = [
        (name, cohort, name in lacking) for name in participants if name not in alone
    ]
    one: Callable[..., Checked] = functools.partial(check_patient, overrides=overrides)
    if layout == cohorts.MNI:
        tasks = [(name, cohort) for name, *_ in tasks]
        one = mni_faults.check_patient
        faults += mni_faults.check_cohort_files(cohort)
    figures: dict[str, ImageFigures] = {}
    for (participant, *_), checked in executors.map_patients(one, tasks, workers, "check"):
        if isinstance(checked, InputError):
            faults.append(Fault(participant, "images", str(checked)))
            continue
        faults += checked.faults
        if checked.figures is not None:
            figures[participant] = checked.figures
    faults = _said_once(faults) + _same_images(figures)
    if faults or table is None:
        order = {name: i for i, name in enumerate(participants)}
        raise cohorts.CohortError(sorted(faults, key=lambda f: order.get(f.participant, -1)))
    found = [figures[name] for name in participants]
    kept = table[table["participant_id"].isin(participants)].reset_index(drop=True)
    lines = [_summary(cohort, layout, kept, found), *(f"  note: {n}" for n in notes)]
    if without := [name for name in participants if figures[name].truth == NO_TRUTH]:
        lines.append(
            f"  note: {counted(len(without), 'patient has')} {flow.STEPS[flow.TRUTH]}, nor a raw "
            f"perfusion series; build_records will leave out: {', '.join(without)}"
        )
    if left_out:
        will = counted(len(left_out), "more patient")
        lines.append(f"  {will} will be left out: {flow.in_words(left_out.values())}")
    return "\n".join(lines)


def _said_once(faults: Sequence[Fault]) -> list[Fault]:
    """The fault of a calibration that several patients share as one of all."""
    shared = Counter(fault.what for fault in faults if fault.file == CALIBRATION)
    kept: dict[str, Fault] = {}
    for fault in faults:
        count = shared[fault.what] if fault.file == CALIBRATION else 1
        if count > 1:
            what = f"{fault.what} (maps of {count} patients)"
            fault = Fault("(all)", CALIBRATION, what)
        kept.setdefault(str(fault), fault)
    return list(kept.values())


def _layout(cohort: str, participants: Sequence[str]) -> tuple[str, list[Fault]]:
    """Raw or in MNI space, as most patients are, and the patients that are not so.

    Raises:
        InputError: no patient has images of either layout.
    """
    looked = {name: attempt(cohorts.layouts, cohort, name) for name in participants}
    faults = [
        Fault(name, "folder", str(each))
        for name, each in looked.items()
        if isinstance(each, InputError)
    ]
    found = {name: each for name, each in looked.items() if not isinstance(each, InputError)}
    raw, mni = (sum(each == {kind} for each in found.values()) for kind in LAYOUTS)
    folders = [path for name in found if (path := cohorts.patient_folder(cohort, name)).is_dir()]
    if folders and not any(found.values()):
        raise InputError(
            f"{cohort}: holds no patient's images; expected raw ones (sub-*/dwi/ or sub-*/dicom/) "
            f"or what preprocess writes (sub-*/sub-*_space-{SPACE}_dwi.nii.gz). Found in "
            f"{folders[0].relative_to(cohort)}: {_listed(folders[0])}"
        )
    layout = cohorts.MNI if mni > raw else cohorts.RAW
    for name, kinds in found.items():
        if not kinds or kinds == {layout}:
            continue
        what = "raw images and volumes in MNI space" if len(kinds) > 1 else _IN_WORDS[min(kinds)]
        faults.append(
            Fault(
                name,
                "folder",
                f"holds {what}, in a cohort that is {layout} ({max(raw, mni)} patients); expected "
                "one or the other in all of a cohort. Move what does not belong here",
            )
        )
    return layout, faults


def _listed(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{', '.join(names[:5])}{more}" if names else "nothing"


def check_patient(
    participant: str, cohort: str, lacks_adc: bool = False, *, overrides: Overrides = NONE
) -> Checked:
    """Faults of one raw patient's files, and the figures for the summary if there are none.

    Args:
        participant: ``sub-0001``.
        cohort: folder of the raw cohort.
        lacks_adc: the table says that there is no ADC map.
        overrides: what a person says of the images.
    """
    files, faults = cohorts.find_raw_files(cohort, participant, may_lack_one=lacks_adc)
    if files is None:
        return Checked(tuple(faults))
    native, messages = patient.examine(
        files.dwi, files.adc, files.tmax, files.truth,
        b0=files.b0, overrides=files.overrides(overrides), may_lack_one=lacks_adc,
    )  # fmt: skip
    if native is None:
        return Checked(tuple(Fault(participant, "images", message) for message in messages))
    has_series = False
    core_ml = None
    if not native.missing:
        core_ml = float(patient.core_of(native).sum() * native.dwi.voxel_ml)
    elif files.core is not None:  # which preprocess then takes
        try:
            given = load_given_core(files.core, native, may_be_empty=True)
        except InputError as error:
            return Checked((Fault(participant, "core mask", str(error)),))
        core_ml = float(given.mask.sum() * native.dwi.voxel_ml)
    try:
        patient_maps.check_current(cohort, participant, files.tmax)
    except InputError as error:
        return Checked((Fault(participant, "perfusion", str(error)),))
    try:
        at_s = calibration.threshold_of_map((cohort,), files.tmax)
    except InputError as error:
        return Checked((Fault(participant, CALIBRATION, str(error)),))
    if files.tmax is None and files.truth is None:
        try:
            has_series = _check_series(participant, cohort, native)
        except InputError as error:
            return Checked(
                tuple(Fault(participant, "perfusion", line) for line in str(error).splitlines())
            )
    figures = _measure(native, core_ml, has_series=has_series, threshold_s=at_s)
    return Checked(figures=figures)


def _check_series(participant: str, cohort: str, native: NativePatient) -> bool:
    """Whether there is a raw perfusion series, of which preprocess makes Tmax.

    Raises:
        InputError: it cannot be used.
    """
    files, faults = cohorts.find_perfusion_files(cohort, participant)
    if faults:
        raise InputError("\n".join(fault.what for fault in faults))
    if files is None:
        return False
    try:
        found = series.load_series(files.series)
    except NoScanOverTime:
        return False
    image = Volume(found.signal[..., 0], found.affine, str(files.series))
    patient.check_overlap(image, "perfusion series", native.dwi, native.brain)
    examination.check_bolus(found)
    return True


def _measure(
    native: NativePatient,
    core_ml: float | None,
    *,
    has_series: bool = False,
    threshold_s: float | None = None,
) -> ImageFigures:
    dwi, tmax = native.dwi, native.tmax
    delayed_ml = site_ml = None
    if tmax is not None:
        delayed_ml = float((tmax.data >= TMAX_HYPOPERFUSION_S).sum() * tmax.voxel_ml)
        if threshold_s is not None:
            site_ml = float((tmax.data >= threshold_s).sum() * tmax.voxel_ml)
    return ImageFigures(
        voxels=hashlib.sha256(dwi.data.tobytes()).hexdigest(),
        core_ml=core_ml,
        tmax_over_6_ml=delayed_ml,
        tmax_threshold_s=threshold_s,
        tmax_over_threshold_ml=site_ml,
        adc_unit=native.adc_unit or "none",
        brain_ml=float(native.brain.sum() * dwi.voxel_ml),
        orientation=dwi.orientation,
        truth=labels.truth_from(bool(native.truth), native.truth_is_whole)
        if native.truth or tmax
        else RAW_SERIES
        if has_series
        else NO_TRUTH,
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


def _summary(
    cohort: str, layout: str, table: "pd.DataFrame", figures: Sequence[ImageFigures]
) -> str:
    import pandas as pd

    images = pd.DataFrame([dataclasses.asdict(each) for each in figures])
    nihss, brain_ml = table["nihss"], images["brain_ml"]
    where = f" {layout}" if layout == cohorts.MNI else ""
    return "\n".join(
        [
            f"{cohort}: {groups.counted_patients(list(table['participant_id']))}{where}, no faults",
            *_together(table),
            f"  side          {_counts(table['side'])}",
            f"  NIHSS         {_spread(nihss)}, missing in {int(nihss.isna().sum())}",
            f"  brain volume  median {brain_ml.median():.0f} mL "
            f"({brain_ml.min():.0f}-{brain_ml.max():.0f})",
            f"  core          {_spread(images['core_ml'], ' mL')}",
            f"  Tmax >= 6 s   {_spread(images['tmax_over_6_ml'], ' mL')}, as in the file, "
            "not cleaned",
            *_by_site(images),
            f"  ADC unit      {_counts(images['adc_unit'])}",
            f"  orientation   {_counts(images['orientation'])}",
            f"  truth from    {_counts(images['truth'])}",
        ]
    )


def _by_site(images: "pd.DataFrame") -> list[str]:
    """A line for each threshold that a site's calibration found; none without."""
    return [
        f"  Tmax >= {at_s:g} s   {_spread(some['tmax_over_threshold_ml'], ' mL')}, by the site's "
        "calibration, not cleaned"
        for at_s, some in images.groupby("tmax_threshold_s")
    ]


def _together(table: "pd.DataFrame") -> list[str]:
    """Lines about rows that belong together; none where each stands alone."""
    rows = {row["participant_id"]: cohorts.clinical_record(row) for _, row in table.iterrows()}
    sizes = Counter(groups.groups_of(rows).values())
    if len(sizes) == len(rows):
        return []
    largest = max(sizes.values())
    lines = [
        f"  together      {counted(len(sizes), 'group')} by visits and the column group; the "
        f"largest has {counted(largest, 'row')}"
    ]
    if largest > len(rows) / 2:
        lines.append(
            "  note: more than half of the rows are in one group. The column group names rows that "
            "belong together; if yours is something else (patient or control), rename it"
        )
    return lines


def _counts(values: "pd.Series") -> str:
    return ", ".join(f"{name} {n}" for name, n in values.value_counts().items())


def _spread(values: "pd.Series", unit: str = "") -> str:
    import pandas as pd

    known = pd.to_numeric(values).dropna()
    found = quartiles(known)
    if found is None:
        return "n/a (n=0)"
    low, middle, high = found
    digits = ".0f" if unit else "g"  # scores are whole, and their medians halves at most
    return f"median {middle:{digits}}{unit} (IQR {low:{digits}}-{high:{digits}}, n={len(known)})"

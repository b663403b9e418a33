"""Raw perfusion series of a cohort -> ``derivatives/perfusion`` of the same or another folder."""

import contextlib
import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

from data_tools import cohort as cohorts
from data_tools import flow
from data_tools.dicom.dynamic import NoScanOverTime
from data_tools.flow import LeftOut
from data_tools.perfusion import calibration, page, record
from data_tools.perfusion.patient_maps import (
    Made,
    Options,
    count_at,
    make_maps,
    settle_older,
    tmax_path,
)
from data_tools.perfusion.record import GENERATED_BY, PERFUSION_VERSION, convention_of
from data_tools.runtime import atomic, executors
from data_tools.runtime.errors import InputError, counted
from data_tools.runtime.patient_failure import attempt


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What became of a cohort.

    Attributes:
        made: patients with maps.
        failed: patients whose series cannot be used, and why.
        excluded: those whom the table leaves out.
        foreign: those who have a Tmax map of another program, which stays.
        without: those without a perfusion series.
        other_settings: those whose maps are of an earlier run with other settings, and not used.
        calibration: what is to be said of the site's own threshold; None without one.
    """

    made: tuple[Made, ...]
    failed: tuple[LeftOut, ...] = ()
    excluded: tuple[LeftOut, ...] = ()
    foreign: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    other_settings: tuple[str, ...] = ()
    calibration: str | None = None

    @property
    def equivalence(self) -> str:
        """What the maps are worth beside a commercial program's."""
        known = (made.quality.equivalence for made in self.made)
        return next(known, record.NOT_EQUIVALENT)


def make_cohort(
    cohort: str,
    out: str,
    *,
    options: Options | None = None,
    workers: int | str = 1,
    overwrite: bool = False,
) -> Result:
    """Make the maps of every patient with a raw series, and the page of them.

    Args:
        cohort: folder of the raw cohort.
        out: folder whose ``derivatives/perfusion`` gets the maps; may be ``cohort``.
        options: of all patients; without a voxel of the artery.
        workers: as :func:`data_tools.runtime.executors.map_patients` takes them.
        overwrite: also of patients who are done, and in place of maps that a person changed.

    Raises:
        InputError: if the table is faulty or leaves out everybody, or nobody has a series.
    """
    rows = [cohorts.clinical_record(row) for _, row in cohorts.read_participants(cohort).iterrows()]
    excluded = flow.by_table(rows, other_territories=True)
    flow.require_somebody(rows, excluded)
    names = [row["participant_id"] for row in rows if row["participant_id"] not in excluded]
    foreign = [name for name in names if has_foreign_tmax(out, name)]
    one = functools.partial(
        make_one, cohort=cohort, out=out, options=options or Options(), overwrite=overwrite
    )
    tasks = [(name,) for name in names if name not in foreign]
    found: dict[str, Made | InputError | None] = {}
    for (name,), result in executors.map_patients(one, tasks, workers, "perfusion"):
        found[name] = result
    if not foreign and not any(found.values()):
        raise InputError(
            f"{cohort}: no patient has a raw perfusion series; expected "
            "sub-*/perf/sub-*_dsc.nii.gz with its .json, or the scanner's files in sub-*/dicom"
        )
    result = Result(
        made=tuple(each for name in names if isinstance(each := found.get(name), Made)),
        failed=tuple(
            LeftOut(participant_id=name, step=flow.PREPROCESS, reason=str(each))
            for name in names
            if isinstance(each := found.get(name), InputError)
        ),
        excluded=tuple(excluded.values()),
        foreign=tuple(foreign),
        without=tuple(name for name, each in found.items() if each is None),
        calibration=_in_words(
            cohort, out, [each for each in found.values() if isinstance(each, Made)]
        ),
    )
    failed = []
    for lost in result.failed:
        said = after_failure(
            lost.participant_id, cohort=cohort, out=out, options=options or Options()
        )
        failed.append(
            dataclasses.replace(lost, reason="\n".join(filter(None, (lost.reason, said))))
        )
    result = dataclasses.replace(result, failed=tuple(failed))
    write_page(cohort, out, result)
    return result


def after_failure(participant: str, *, cohort: str, out: str, options: Options) -> str:
    """Settle what becomes of a patient's older maps, as :func:`settle_older` does; what to say.

    Args:
        participant: ``sub-0001``.
        cohort: folder of the raw cohort.
        out: whose ``derivatives/perfusion`` holds the maps.
        options: that failed.
    """
    found = attempt(cohorts.find_perfusion_files, cohort, participant)
    files = None if isinstance(found, InputError) else found[0]
    folder = cohorts.perfusion_folder(out, participant)
    said = attempt(settle_older, participant, files, folder, options)
    return said if isinstance(said, str) else ""


def make_one(
    name: str, *, cohort: str, out: str, options: Options, overwrite: bool = False
) -> Made | None:
    """Make the maps of one patient of a cohort; None where there is no raw series.

    Args:
        name: ``sub-0001``, or a visit, ``sub-0001_ses-1``.
        cohort: folder of the raw cohort.
        out: folder whose ``derivatives/perfusion`` gets the maps.
        options: how.
        overwrite: as :func:`make_maps` takes it.

    Raises:
        InputError: files that cannot be found or used.
    """
    files, faults = cohorts.find_perfusion_files(cohort, name)
    if faults:
        raise InputError("\n".join(fault.what for fault in faults))
    if files is None:
        return None
    folder = cohorts.perfusion_folder(out, name)
    try:
        made = make_maps(name, files, folder, options=options, overwrite=overwrite)
    except NoScanOverTime:
        return None
    at_s = None
    with contextlib.suppress(InputError):  # one of other maps counts for none of these
        at_s = calibration.threshold_in((cohort, out), made.quality.convention)
    return count_at(made, folder, at_s)


def has_foreign_tmax(cohort: str, name: str) -> bool:
    """Whether a patient has a Tmax map that this program did not make."""
    return any(convention_of(path) is None for path in cohorts.tmax_files(cohort, name))


def write_page(cohort: str, out: str, result: Result) -> None:
    """Write ``qc.html`` and, where there is none, the description of the derivative."""
    folder = Path(out, "derivatives", cohorts.PERFUSION)
    name = cohorts.described_name(cohort)
    description = folder / cohorts.DESCRIPTION
    if not description.exists():
        write_description(description, name)
    remarks = [
        f"{counted(len(names), 'patient')} {what}: {', '.join(names)}."
        for names, what in (
            (result.foreign, "with a Tmax map of another program, which was left as it is"),
            (result.without, "without a raw perfusion series"),
            (result.other_settings, "with maps of other settings, which were not used"),
        )
        if names
    ]
    page.write(
        folder,
        name,
        qualities=[each.quality for each in result.made],
        lost=(*result.failed, *result.excluded),
        remarks=[result.calibration, *remarks] if result.calibration else remarks,
    )


def write_page_of(cohort: str, out: str, names: Sequence[str]) -> None:
    """Write the page of those patients whose maps lie in a cohort; none where nobody has any.

    Args:
        cohort: the raw one, for the name.
        out: whose ``derivatives/perfusion`` is looked at.
        names: of the patients.
    """
    known = [record.of_map(tmax_path(out, name)) for name in names]
    made = tuple(Made(each, kept=True) for each in known if each is not None)
    other = tuple(each.quality.participant_id for each in made if each.quality.settings)
    if made:
        said = _in_words(cohort, out, made)
        write_page(cohort, out, Result(made=made, other_settings=other, calibration=said))


def _in_words(cohort: str, out: str, made: Sequence[Made]) -> str | None:
    """What is to be said of a site's own threshold; None without one.

    Maps of a cohort are made alike, so the first speaks for all.
    """
    try:
        known = [
            calibration.threshold_in((cohort, out), each.quality.convention) for each in made[:1]
        ]
    except InputError as error:
        return f"The calibration was not used. {error}."
    return next(
        (
            f"By this site's calibration, hypoperfusion is Tmax >= {each:g} s."
            for each in known
            if each is not None
        ),
        None,
    )


def write_description(path: Path, name: str) -> None:
    """What BIDS wants beside a derivative."""
    atomic.write_json(
        path,
        {
            "Name": f"{name} - perfusion maps",
            "BIDSVersion": "1.10.0",
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": GENERATED_BY, "Version": str(PERFUSION_VERSION)}],
        },
    )

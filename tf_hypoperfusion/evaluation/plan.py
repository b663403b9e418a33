"""What an evaluation is to do: which patients, by which models, and what it refuses.

All that needs no network; also the keys by which a result that is kept is known again.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from data_tools import cohort as cohorts
from data_tools import flow, mni_patient, qc_decisions
from data_tools.flow import LeftOut
from data_tools.manifest import Manifest
from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError
from data_tools.splits import fold_roles, parse_folds
from tf_hypoperfusion.config import TEST_STRIDE
from tf_hypoperfusion.evaluation import trained_folds
from tf_hypoperfusion.evaluation.patient_metrics import STEPS
from tf_hypoperfusion.evaluation.patient_row import Cell, PatientFacts
from tf_hypoperfusion.training import roles

# Raise it when a figure of a patient changes its meaning.
EVALUATION_VERSION = 5
VALIDATION = "validation"
OF_VALIDATION = (
    "these are validation patients, on which the weights were chosen: figures to choose settings "
    "by, not results"
)

Volumes = tuple[float, float, float, float]  # brain, coverage, core, voxel
Keys = dict[tuple[str, str], str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What is evaluated, and how.

    Attributes:
        run: folder of ``tf_hypoperfusion.train``.
        records: folder of ``build_records``.
        fold: a number, or ``all`` that are trained; ``final`` only of external patients.
        cohort: MNI cohort of the same patients; None uses the windows in the records.
        external: MNI cohort that no fold has seen; the folds' models are averaged over it.
        stride: slices between windows; only where volumes are read.
        workers: processes that measure, or a Dask scheduler.
        maps: write probability, truth and DWI as NIfTI.
        choose_threshold: also choose each fold's threshold on its validation patients.
        validation: measure each fold's validation patients in place of its test patients, to
            choose between settings without a look at the test patients.
        other_territories: of ``external``: do not leave out strokes outside the paper's
            population. Patients of records are in or out as the records were built.
    """

    run: str
    records: str
    fold: str = "all"
    cohort: str | None = None
    external: str | None = None
    stride: int = TEST_STRIDE
    workers: int | str = 1
    maps: bool = True
    choose_threshold: bool = False
    validation: bool = False
    other_territories: bool = False

    @property
    def volumes(self) -> str | None:
        """The MNI cohort whose volumes are read; None for the windows in the records."""
        return self.external or self.cohort


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """Patients whom one predictor answers for.

    Attributes:
        name: of the folder of their results.
        fold: that answers; None for the average of all.
        models: files of the networks; several are averaged.
        participants: in the order of the records or of the cohort.
        subset: of the records that holds them; None for an external cohort.
        asked: predict those who are not kept.
        reported: they are rows of the table, and no mere means of choosing a threshold.
    """

    name: str
    fold: int | None
    models: tuple[Path, ...]
    participants: tuple[str, ...]
    subset: int | None = None
    asked: bool = True
    reported: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """An evaluation before its first prediction.

    Attributes:
        settings: what is asked for.
        folder: of ``patients.csv``.
        parts: the patients, and who answers for them.
        clinical_rows: of the cohort whose volumes are read, by patient.
        manifest: of the records; None for an external cohort.
        trained_on: patients that the folds know, by their volumes; none may be external.
        left_out: patients of the cohort whom the steps before left out, by name.
        warnings: of the whole.
    """

    settings: Settings
    folder: Path
    parts: tuple[Part, ...]
    clinical_rows: dict[str, dict[str, Cell]]
    manifest: Manifest | None = None
    trained_on: dict[Volumes, str] = dataclasses.field(default_factory=dict)
    left_out: dict[str, LeftOut]
    warnings: tuple[str, ...]

    def keys(self) -> Keys:
        """(part, patient) -> hash of the models, data and settings that make the result."""
        keys = {}
        for part in self.parts:
            part_key = self._part_key(part)
            for name in part.participants:
                keys[part.name, name] = self._patient_key(part_key, name)
        return keys

    def draws(self, part: Part) -> bool:
        """Whether maps, pictures and pages of these patients are wanted."""
        return self.settings.maps and part.reported

    def refusal(self, facts: PatientFacts) -> InputError | None:
        """Why a patient may not be evaluated: a fold was trained on the same one."""
        known = self.trained_on.get(_volumes_of(facts))
        if known is None:
            return None
        return InputError(f"is {known} of the records that the folds were trained on")

    def _part_key(self, part: Part) -> list:
        volumes = self.settings.volumes
        return [
            EVALUATION_VERSION,
            STEPS,
            [atomic.sha256(path) for path in part.models],
            self.manifest.fingerprint if self.manifest else None,
            [str(Path(volumes).resolve()), self.settings.stride, *_label_settings(volumes)]
            if volumes
            else None,
        ]

    def _patient_key(self, part_key: list, name: str) -> str:
        files = []
        if self.settings.volumes:
            paths = sorted((Path(self.settings.volumes) / name).glob("*"))
            files = [[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in paths if p.is_file()]
        of_patient = [part_key, name, self.clinical_rows.get(name), files]
        return hashlib.sha256(json.dumps(of_patient).encode()).hexdigest()


def make_plan(settings: Settings) -> Plan:
    """Find the patients and the models that answer for them.

    Raises:
        InputError: no trained fold, no records, records other than those trained on, or a cohort
            without volumes.
    """
    if settings.fold == roles.FINAL and not settings.external:
        raise InputError(
            "the final network was trained on every patient of the records, so its answers about "
            "them say nothing; expected --external=MNI, a cohort that it has not seen, or "
            "--fold=all for the folds, each of which leaves patients out"
        )
    if settings.external:
        return _external_plan(settings, settings.external)
    return _records_plan(settings)


def _external_plan(settings: Settings, external: str) -> Plan:
    run = Path(settings.run)
    folds = trained_folds.asked(run, settings.fold, settings.records)
    warnings = trained_folds.unfinished(run, folds)
    rows, without = clinical_rows(external, other_territories=settings.other_territories)
    trained_on = _trained_patients(run, folds, settings.records)
    if not trained_on:
        warnings = [
            *warnings,
            f"the records that the folds were trained on are not in {settings.records}, so "
            f"nobody checked that the patients of {external} are others",
        ]
    everybody = Part(
        name="external",
        fold=None,
        models=tuple(trained_folds.network(run, k) for k in folds),
        participants=tuple(rows),
    )
    return Plan(
        settings=settings,
        folder=run / _external_folder(settings.fold, external),
        parts=(everybody,),
        clinical_rows=rows,
        trained_on=trained_on,
        left_out=without,
        warnings=tuple(warnings),
    )


def _external_folder(fold: str, external: str) -> str:
    """Name of the folder; that of one network is its own, so that it replaces no average's."""
    name = f"external-{Path(external).resolve().name}"
    if fold == "all":
        return name
    return f"{name}-{roles.name(None if fold == roles.FINAL else int(fold))}"


def _records_plan(settings: Settings) -> Plan:
    from data_tools import records

    run = Path(settings.run)
    manifest = records.load_manifest(settings.records)
    subsets = len(manifest.subsets)
    parse_folds(settings.fold, subsets)  # refuses an unknown fold
    asked = trained_folds.asked(run, settings.fold, settings.records)
    warnings = trained_folds.unfinished(run, asked)
    trained_folds.refuse_other_records(run, asked, settings.records, manifest)
    if not settings.cohort and manifest.settings:  # the windows are those of the records
        settings = dataclasses.replace(settings, stride=manifest.settings.stride)
    rows: dict[str, dict[str, Cell]] = {}
    left_out = {each.participant_id: each for each in manifest.left_out}
    if settings.cohort:
        # Whose stroke is of another territory was asked when the records were built.
        rows, by_cohort = clinical_rows(settings.cohort, other_territories=True)
        # Excluded or rejected since the records were built.
        since = flow.EXCLUDED, flow.QUALITY
        left_out |= {name: each for name, each in by_cohort.items() if each.step in since}
    reported = VALIDATION if settings.validation else "test"
    parts = [
        Part(
            name=f"{role}-{k}",
            fold=k,
            models=(trained_folds.network(run, k),),
            participants=tuple(
                name for name in manifest.subsets[subset].participants if name not in left_out
            ),
            subset=subset,
            asked=k in asked,
            reported=role == reported,
        )
        # The table also keeps what other folds' evaluations left; only the asked are predicted.
        for k in trained_folds.trained(run)
        if k < subsets
        for role in ([reported, VALIDATION] if settings.choose_threshold else [reported])
        for subset in fold_roles(k, subsets)[role]
    ]
    return Plan(
        settings=settings,
        folder=run / VALIDATION if settings.validation else run,
        parts=tuple(parts),
        clinical_rows=rows,
        manifest=manifest,
        left_out=left_out,
        warnings=(*warnings, *([OF_VALIDATION] if settings.validation else [])),
    )


def clinical_rows(
    cohort: str, *, other_territories: bool = False
) -> tuple[dict[str, dict[str, Cell]], dict[str, LeftOut]]:
    """The patients of an MNI cohort.

    Args:
        cohort: its folder.
        other_territories: do not leave out strokes outside the paper's population.

    Returns:
        Clinical rows of those with a truth, by name, and the others, with those whom a person
        rejected in qc.html or the steps before left out.

    Raises:
        InputError: no cohort, one without volumes in MNI space, or decisions that cannot be used.
    """
    table = cohorts.read_participants(cohort)
    rows = {row["participant_id"]: cohorts.clinical_record(row) for _, row in table.iterrows()}
    if not any(cohorts.mni_file(cohort, name, "dwi").is_file() for name in rows):
        raise InputError(
            f"{cohort} holds no volumes in MNI space; if it is a raw cohort, run\n"
            f"  python -m data_tools.preprocess --cohort={cohort} --out=MNI\nand give MNI"
        )
    before = {each.participant_id: each for each in cohorts.left_out_before(cohort)}
    left_out = {name: each for name, each in before.items() if name not in rows}
    left_out |= {
        name: each
        for name, each in qc_decisions.rejected(cohort, {*rows, *before}).items()
        if name in rows
    }
    left_out |= flow.by_table(rows.values(), other_territories=other_territories)
    for name in rows:
        if name not in left_out and (found := _cannot_be_compared(cohort, name)):
            left_out[name] = found
    return {name: row for name, row in rows.items() if name not in left_out}, left_out


def _cannot_be_compared(cohort: str, name: str) -> LeftOut | None:
    dwi = cohorts.mni_file(cohort, name, "dwi")
    if not dwi.is_file():
        what = f"no volumes: {dwi} is missing"
        return LeftOut(participant_id=name, step=flow.EVALUATE, reason=what)
    if cohorts.has_truth(cohort, name):
        return None
    return flow.without_truth(name)


def _trained_patients(
    run: Path, folds: Iterable[int | None], records_dir: str
) -> dict[Volumes, str]:
    """Volumes -> participant, of all patients that the folds know; {} without their records.

    Three volumes to the microlitre and the size of a voxel are a fingerprint, whatever the patient
    is called elsewhere, however old, and whoever drew the truth.
    """
    from data_tools import records

    try:
        manifest = records.load_manifest(records_dir)
        trained_folds.refuse_other_records(run, folds, records_dir, manifest)
    except InputError:
        return {}
    known = [PatientFacts.from_json(patient) for patient in manifest.patients]
    return {_volumes_of(facts): facts.participant_id for facts in known}


def _volumes_of(facts: PatientFacts) -> Volumes:
    # Records of earlier versions hold the volumes rounded.
    brain_ml, coverage_ml, core_ml = (
        round(volume_ml, 3) for volume_ml in (facts.brain_ml, facts.coverage_ml, facts.core_ml)
    )
    return brain_ml, coverage_ml, core_ml, facts.voxel_ml


def _label_settings(cohort: str) -> list[str]:
    """What changes a cohort's truth besides its volumes."""
    return [mni_patient.WITHIN_SIDE] if mni_patient.within_side_only(cohort) else []

"""Each patient's files in a raw cohort, and what is wrong with finding them."""

import dataclasses
import os
import re
from collections.abc import Iterable
from pathlib import Path

from data_tools import file_names
from data_tools.cohort.faults import Fault
from data_tools.cohort.layout import DICOM_FOLDER, PARTICIPANTS, PERFUSION, patient_folder
from data_tools.grid import LOW_B_MAX_S_PER_MM2
from data_tools.groups import VISIT, patient_of
from data_tools.overrides import Overrides

# What links to nothing are named of: what would be read.
_READ_ENDINGS = (*file_names.IMAGE_ENDINGS, ".bval", ".bvec", ".json")
_READ_NAMES = (
    "_dwi", "_adc", "_trace", "_b0", "_tmax", "brain_mask", "core_mask", *file_names.EDITED_MASKS
)  # fmt: skip
_PERFUSION_NAMES = ("_dsc", "_pwi")
_ARTERY_NAME = "_desc-aif_mask"
_READ_FOLDER = re.compile(f"{DICOM_FOLDER}|dwi|ses-.*")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RawFiles:
    """A patient's files in a raw cohort; all but ``dwi`` may be absent (None).

    ``dwi`` may be a folder of DICOM files; without ``adc`` it must be that, or a series with its
    b-values, of which ADC is computed, or have ``b0`` beside it. Where a patient may lack one of
    the two, either may stand alone.
    """

    dwi: Path | None
    adc: Path | None = None
    tmax: Path | None = None
    truth: Path | None = None
    b0: Path | None = None
    brain_mask: Path | None = None
    core: Path | None = None

    def existing(self) -> list[Path]:
        """Every file that is read, in a fixed order: sidecars and DICOM files too."""
        found: list[Path] = []
        for path in (
            self.dwi, self.adc, self.tmax, self.truth, self.b0, self.brain_mask, self.core
        ):  # fmt: skip
            ends = [".bval", ".bvec", ".json"] if path in (self.dwi, self.b0) else [".json"]
            found += _with_parts(path, ends)
        return found

    def overrides(self, said: Overrides) -> Overrides:
        """What a person says of these files: of all patients, and the mask of this one."""
        if self.brain_mask is None:
            return said
        return dataclasses.replace(said, brain_mask=str(self.brain_mask))


@dataclasses.dataclass(frozen=True, kw_only=True)
class PerfusionFiles:
    """A patient's raw perfusion scan.

    Attributes:
        series: 4D image file, or a folder of DICOM files, which may hold no such scan.
        artery: mask of the arterial input's voxels, chosen by a person; None if there is none.
    """

    series: Path
    artery: Path | None = None

    def existing(self) -> list[Path]:
        """Every file that is read, in a fixed order."""
        return _with_parts(self.series, [".json"]) + _with_parts(self.artery, [])


def find_raw_files(
    cohort: str | os.PathLike, participant: str, *, may_lack_one: bool = False
) -> tuple[RawFiles | None, list[Fault]]:
    """A patient's files in a raw cohort, and what is wrong with finding them.

    Reads BIDS names in any case, with or without ``ses-*`` folders, through links, ISLES'22's
    ``_adc``, and ``sub-*/dicom``; a b = 0 image of its own by ``_b0``, ``acq-b0`` or its b-value.
    A patient with images in several ``ses-*`` folders is a fault: each visit wants its own row.

    Args:
        cohort: folder of the raw cohort.
        participant: ``sub-0001``, or a visit, ``sub-0001_ses-1``.
        may_lack_one: a patient with a DWI or an ADC map alone is taken too.
    """
    root = Path(cohort)
    folder = patient_folder(root, participant)
    if faults := _faults_of_folder(root, participant):
        return None, faults
    search = _Search(root, participant)
    visits = [] if VISIT in participant else _visits(folder)
    if len(visits) > 1:
        rows = ", ".join(f"{participant}_{visit}" for visit in visits)
        what = (
            f"holds images of {len(visits)} visits, {', '.join(visits)}; expected a row for each "
            f"in {PARTICIPANTS}: {rows}, and none of {participant}. A visit that is not wanted: "
            "remove its folder"
        )
        return None, [Fault(participant, str(folder), what)]
    own = dict.fromkeys((patient_of(participant), participant))
    search.complain_of_links(
        folder, *(path for name in own for path in (root / "derivatives").glob(f"*/{name}"))
    )
    scanners = [each / DICOM_FOLDER for each in (folder, *(folder / visit for visit in visits))]
    scanner = next((each for each in scanners if each.is_dir()), scanners[0])
    diffusion = [path for path in search.named(folder, "_dwi", "_trace") if not _is_adc(path)]
    b0s = [path for path in diffusion if _is_b0(path)]
    if len(b0s) == len(diffusion):  # of a single image that says b = 0 its reader complains
        b0s = []
    b0s += search.named(folder, "_b0")
    derived = root / "derivatives"
    maps = [path for path in search.named(folder, "_adc", "_dwi", "_trace") if _is_adc(path)]
    maps = maps or search.named(derived, "_adc", of_patient=True)
    images = [path for path in diffusion if path not in b0s]
    dwi = search.only(
        "DWI", folder, images,
        required=not (scanner.is_dir() or (may_lack_one and maps)), name="_dwi",
    )  # fmt: skip
    # A series with its b-values needs no ADC map, nor an image with that of b = 0.
    series = any(len(file_names.said_b_values(path)) > 1 for path in diffusion)
    adc = search.only(
        "ADC", folder, maps,
        required=not (series or scanner.is_dir() or b0s or may_lack_one), name="_ADC",
    )  # fmt: skip
    b0 = None
    if adc is None and not series:
        b0 = search.only("b = 0 image", folder, b0s)
    if dwi is None and scanner.is_dir() and not search.faults:
        dwi = scanner

    def derivative(what: str, kind: str, *endings: str) -> Path | None:
        found = [path for name in own for path in search.named(derived / kind / name, *endings)]
        return search.only(what, derived / kind, found)

    tmax = search.only("Tmax", derived / PERFUSION, tmax_files(root, participant))
    edited = {
        name: path
        for name in file_names.EDITED_MASKS
        if (path := derivative("edited mask", "labels", f"_{name}"))
    }
    if len(edited) > 1:
        what = (
            f"has {' and '.join(edited)}; expected one of them: the first is united with the core, "
            "the second is the whole truth as it is"
        )
        search.faults.append(Fault(participant, "edited mask", what))
    truth = next(iter(edited.values()), None)
    brain = derivative("brain mask", "masks", "_desc-brain_mask", "_brain_mask")
    core = derivative("core mask", "masks", "_desc-core_mask")
    if search.faults:
        return None, search.faults
    return RawFiles(
        dwi=dwi, adc=adc, tmax=tmax, truth=truth, b0=b0, brain_mask=brain, core=core
    ), []


def _with_parts(path: Path | None, ends: list[str]) -> list[Path]:
    """A file with those beside it that are read with it, or all of a folder; nothing of None."""
    if path is None:
        return []
    if path.is_dir():
        return [*file_names.files_below(path)]
    if file_names.ending(path.name) not in (".nii", ".nii.gz"):
        ends = [*ends, *file_names.OTHER_PARTS]
    beside = [file_names.beside(path, end) for end in ends]
    return [path, *(each for each in beside if each.is_file() and each != path)]


def find_perfusion_files(
    cohort: str | os.PathLike, participant: str
) -> tuple[PerfusionFiles | None, list[Fault]]:
    """A patient's raw perfusion series, and what is wrong with finding it.

    ``sub-*/[ses-*/]perf/sub-*_dsc`` or ``_pwi``, in any case; else the scanner's files in
    ``dicom/``, of which only reading them shows whether they hold such a scan.

    Args:
        cohort: folder of the raw cohort.
        participant: ``sub-0001``, or a visit, ``sub-0001_ses-1``.

    Returns:
        None without faults where there is nothing of the kind.
    """
    root = Path(cohort)
    if faults := _faults_of_folder(root, participant):
        return None, faults
    search = _Search(root, participant, (*_PERFUSION_NAMES, _ARTERY_NAME))
    folder, masks = patient_folder(root, participant), root / "derivatives" / "masks"
    own = dict.fromkeys((patient_of(participant), participant))
    search.complain_of_links(folder, *(masks / name for name in own))
    series = search.only("perfusion series", folder, search.named(folder, *_PERFUSION_NAMES))
    found = [path for name in own for path in search.named(masks / name, _ARTERY_NAME)]
    artery = search.only("arterial mask", masks, found)
    if search.faults:
        return None, search.faults
    if series is None:
        scanners = [folder / DICOM_FOLDER, *sorted(folder.glob(f"{VISIT[1:]}*/{DICOM_FOLDER}"))]
        series = next((each for each in scanners if each.is_dir()), None)
    return (None if series is None else PerfusionFiles(series=series, artery=artery)), []


def tmax_files(cohort: str | os.PathLike, participant: str) -> list[Path]:
    """Every Tmax map of a patient in ``derivatives/perfusion``; one is expected at most.

    Args:
        cohort: folder of the cohort.
        participant: ``sub-0001``, or a visit, ``sub-0001_ses-1``.
    """
    root = Path(cohort)
    search = _Search(root, participant)
    own = dict.fromkeys((patient_of(participant), participant))
    derived = root / "derivatives" / PERFUSION
    return [path for name in own for path in search.named(derived / name, "_tmax")]


def _faults_of_folder(root: Path, participant: str) -> list[Fault]:
    """That the folder of a row of the table is not there, or is there twice."""
    nested, flat = Path(root, *participant.split("_")), root / participant
    folder = patient_folder(root, participant)
    if not folder.is_dir():
        above = root / patient_of(participant)
        missing = next(filter(None, map(file_names.broken_link, (above, folder))), "no such folder")
        other = f", or in {flat}" if flat != folder else ""
        whose = "visit" if VISIT in participant else "patient"
        what = f"{missing}; expected the {whose}'s files there{other}, or no row in {PARTICIPANTS}"
        return [Fault(participant, str(folder), what)]
    if nested != flat and nested.is_dir() and flat.is_dir():
        what = f"{flat} is there too; expected the visit's files in one of the two"
        return [Fault(participant, str(nested), what)]
    return []


def _visits(folder: Path) -> list[str]:
    """Names of the ``ses-*`` folders of a patient with images that would be read."""
    search = _Search(folder.parent, folder.name)
    return [
        path.name
        for path in sorted(folder.iterdir())
        if path.name.lower().startswith(VISIT[1:])
        and path.is_dir()
        and ((path / DICOM_FOLDER).is_dir() or search.named(path, "_dwi", "_trace", "_adc"))
    ]


def _is_adc(path: Path) -> bool:
    """An ADC map by its name: ``_ADC``, or ``_rec-ADC_dwi`` and the like."""
    name = file_names.stem(path.name).lower()
    return name.endswith("_adc") or bool(re.search(r"_(acq|rec|desc)-[a-z0-9]*adc_", name))


def _is_b0(path: Path) -> bool:
    """An image of b = 0 by what lies beside it, or by its name: ``_acq-b0_dwi``."""
    values = file_names.said_b_values(path)
    if values:
        return max(values) <= LOW_B_MAX_S_PER_MM2
    return bool(re.search(r"_(acq|rec|desc)-b0*_", file_names.stem(path.name).lower()))


@dataclasses.dataclass
class _Search:
    """Looks for a patient's files and keeps what is wrong with them.

    Attributes:
        root: folder of the cohort.
        participant: a patient or a visit.
        read_names: how names end of links that must not lead to nothing.
        faults: so far.
    """

    root: Path
    participant: str
    read_names: tuple[str, ...] = _READ_NAMES
    faults: list[Fault] = dataclasses.field(default_factory=list)

    def named(self, base: Path, *endings: str, of_patient: bool = False) -> list[Path]:
        """Images of the patient below ``base`` whose names end so, in any case.

        Of a pair of files only the first is named. ``of_patient``: below folders of the patient's
        name only.
        """
        found: dict[str, Path] = {}
        for path in file_names.files_below(base):
            if (
                file_names.ending(path.name)
                and path.name.lower().startswith(f"{self.participant.lower()}_")
                and file_names.stem(path.name).lower().endswith(endings)
                and (not of_patient or self._is_own(path.relative_to(base)))
            ):
                pair = file_names.ending(path.name) in (".img", ".hdr", ".img.gz", ".hdr.gz")
                key = file_names.stem(str(path)) if pair else str(path)
                found[key] = path  # .img after .hdr
        return sorted(found.values())

    def _is_own(self, path: Path) -> bool:
        """Whether a derivative is this patient's, in the patient's own space."""
        folders = {self.participant, patient_of(self.participant)}
        return not folders.isdisjoint(path.parts) and "_space-" not in path.name

    def only(
        self, what: str, base: Path, found: list[Path], *, required: bool = False, name: str = ""
    ) -> Path | None:
        """The one file that was found, or a fault and None."""
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(str(path.relative_to(self.root)) for path in found)
            self._complain(
                what,
                f"found {names}; expected one file. Keep the baseline scan, remove the others. If "
                "they are visits, each wants a folder ses-* and a row of its own, such as "
                f"{patient_of(self.participant)}{VISIT}1.",
            )
        elif required:
            self._complain(what, f"no {self.participant}_*{name}.nii.gz below {base}; expected one")
        return None

    def complain_of_links(self, *folders: Path) -> None:
        """Name what would be read and is a link to nothing, or to itself."""
        for base in folders:
            found = [base] if base.is_symlink() else []
            for here, inner, names in os.walk(base):
                found += [Path(here, name) for name in sorted({*inner, *names})]
            for path in found:
                broken = file_names.broken_link(path) if self._is_wanted(path) else ""
                if broken:
                    what = f"{broken}; expected the file or folder. Fetch or copy what it names."
                    self._complain(str(path.relative_to(self.root)), what)

    def _is_wanted(self, path: Path) -> bool:
        """Whether the name is one of those that are read: other images may be absent."""
        name = path.name.lower()
        end = next((each for each in _READ_ENDINGS if name.endswith(each)), "")
        if not end:
            own = {self.participant.lower(), patient_of(self.participant).lower()}
            return name in own or (
                bool(_READ_FOLDER.fullmatch(name)) and not self._is_of_other_visit(path)
            )
        return name.startswith(f"{self.participant.lower()}_") and name[: -len(end)].endswith(
            self.read_names
        )

    def _is_of_other_visit(self, path: Path) -> bool:
        """Whether a path of the patient's lies in the folder of a visit that is not this one."""
        visits = [part for part in path.relative_to(self.root).parts if part.startswith("ses-")]
        return VISIT in self.participant and any(
            not self.participant.endswith(f"_{visit}") for visit in visits
        )

    def _complain(self, file: str, what: str) -> None:
        self.faults.append(Fault(self.participant, file, what))


def unlisted_folders(cohort: str | os.PathLike, participants: Iterable[str]) -> list[Fault]:
    """Folders of patients and visits without a row: they would be left out silently."""
    listed = set(participants)
    patients = {patient_of(name) for name in listed}
    faults = []
    for folder in sorted(Path(cohort).glob("sub-*")):
        name = folder.name
        if not folder.is_dir() or name in listed:
            continue
        if name not in patients or not any(folder.glob(f"{VISIT[1:]}*")):
            what = "no row for this folder; add one or remove the folder"
            faults.append(Fault(name, PARTICIPANTS, what))
            continue
        for visit in _visits(folder):
            if f"{name}_{visit}" not in listed:
                what = f"no row for this visit; add one or remove the folder {name}/{visit}"
                faults.append(Fault(f"{name}_{visit}", PARTICIPANTS, what))
        for inner in ("dwi", DICOM_FOLDER):
            if (folder / inner).is_dir():
                what = "belongs to no visit; move it into the ses-* folder of one, or remove it"
                faults.append(Fault(name, f"{name}/{inner}", what))
    return faults

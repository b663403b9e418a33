"""A patient of an MNI cohort -> every fault of its files, or their figures.

``preprocess`` leaves a checksum of each file in ``qc.json``; a simulated cohort has none, so what
the files hold is looked at in both.
"""

import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools import agreement, brain_of_dwi, flow, labels, mni_patient
from data_tools import cohort as cohorts
from data_tools.agreement import BRAIN_RANGE_ML
from data_tools.checked import Checked, ImageFigures
from data_tools.cohort import Fault, mni_file
from data_tools.file_names import EDITED_MASKS
from data_tools.grid import GRID_AFFINE, TMAX_HYPOPERFUSION_S, VOXEL_MM
from data_tools.intensity import is_given
from data_tools.patient import MIN_ADC_SHARE, MniPatient, core_on_grid
from data_tools.plausibility import (
    check_kind_alone,
    check_not_swapped,
    check_tmax_of_tissue,
)
from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError
from data_tools.volumes import Volume, load_mask, load_volume, require_grid

IMAGES = ("dwi", "adc")
MASKS = ("desc-brain_mask", "desc-coverage_mask")
# Of patients with a truth.
OPTIONAL = {
    "tmax": load_volume,
    **dict.fromkeys(EDITED_MASKS, load_mask),
    mni_patient.KNOWN_CORE: load_mask,
}
AGAIN = mni_patient.PREPROCESS_AGAIN


def check_cohort_files(cohort: str) -> list[Fault]:
    """What is wrong with the files of the whole cohort."""
    faults = []
    path = Path(cohort) / cohorts.DESCRIPTION
    if os.path.lexists(path) and not atomic.read_json(path):
        faults.append(Fault("(all)", path.name, f"is no readable JSON object; {AGAIN}"))
    settings = cohorts.label_settings_file(cohort)
    for file, read in (
        (settings.name, mni_patient.within_side_only),
        (flow.FILE, cohorts.left_out_before),
    ):
        try:
            read(cohort)
        except InputError as error:
            faults.append(Fault("(all)", file, str(error)))
    if cohorts.is_preprocessed(cohort) and not os.path.lexists(settings):
        what = f"is missing, so nobody knows whether labels end at the midline; {AGAIN}"
        faults.append(Fault("(all)", settings.name, what))
    return faults


def check_patient(participant: str, cohort: str) -> Checked:
    """Faults of one patient's files, and the figures for the summary if there are none."""
    folder = Path(cohort) / participant
    if not folder.is_dir():
        what = f"no such folder, {folder}; expected the patient's volumes there, or no row"
        return Checked((Fault(participant, "folder", what),))
    files = _Files(cohort, participant)
    has_adc = mni_patient.has_adc_map(cohort, participant)
    files.read("dwi", load_volume)
    files.read("adc", functools.partial(load_volume, may_be_constant=not has_adc))
    for name in MASKS:
        files.read(name, load_mask)
    for name, loader in OPTIONAL.items():
        if os.path.lexists(mni_file(cohort, participant, name)):
            files.read(name, loader)
    files.check("transform", mni_patient.read_transform, cohort, participant)
    files.check_names()
    files.check_quality()
    if files.faults:
        return Checked(tuple(files.faults))
    patient = files.check("images", mni_patient.load_mni, cohort, participant)
    if patient is None:
        return Checked(tuple(files.faults))
    core = mni_patient.load_core(cohort, participant)
    files.check("images", _check_contents, patient, core, str(mni_file(cohort, participant, "dwi")))
    if files.faults:
        return Checked(tuple(files.faults))
    return Checked(figures=_measure(patient, core))


class _Files:
    """The files of a patient, looked at one after another; the faults of each are kept.

    Attributes:
        faults: so far.
    """

    def __init__(self, cohort: str, participant: str) -> None:
        self.faults: list[Fault] = []
        self._cohort, self._participant = cohort, participant
        self._folder = Path(cohort) / participant

    def complain(self, file: str, what: str) -> None:
        """Keep a fault."""
        self.faults.append(Fault(self._participant, file, what))

    def check(self, file: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a function returns; None, and one more fault, if it raises an InputError."""
        try:
            return function(*arguments)
        except InputError as error:
            self.complain(file, str(error))
            return None

    def read(self, name: str, loader: Callable[[Path, str], Volume]) -> None:
        """Read a volume that must lie on the MNI grid."""
        path = mni_file(self._cohort, self._participant, name)
        volume = self.check(path.name, loader, path, name)
        if volume is not None:
            self.check(path.name, require_grid, volume, name)

    def check_names(self) -> None:
        """Find files that are those of a patient but for the spelling: they would not be read."""
        known = {
            mni_file(self._cohort, self._participant, name).name
            for name in (*IMAGES, *MASKS, *OPTIONAL)
        }
        stems = {name.removesuffix(".nii.gz").lower(): name for name in known}
        for path in sorted(self._folder.iterdir()):
            stem = path.name.lower().removesuffix(".gz").rsplit(".", 1)[0]
            if path.name not in known and stem in stems:
                self.complain(path.name, f"is not read: expected the name {stems[stem]}")

    def check_quality(self) -> None:
        """Compare each file with its checksum in qc.json."""
        path = self._folder / "qc.json"
        if not os.path.lexists(path):
            if cohorts.is_preprocessed(self._cohort):
                self.complain(path.name, f"is missing, although preprocess writes one; {AGAIN}")
            return
        said = atomic.read_json(path)
        written = said.get("files")
        if said.get("participant_id") != self._participant or not written:
            self.complain(path.name, f"is damaged or of another patient; {AGAIN}")
            return
        if not isinstance(written, dict):  # names only, by an earlier version
            written = dict.fromkeys(written)
        complained = {fault.file for fault in self.faults}
        for name, checksum in sorted(written.items()):
            if name not in complained:
                self._compare(name, checksum)

    def _compare(self, name: str, checksum: str | None) -> None:
        path = self._folder / name
        if not path.is_file():
            self.complain(name, f"is missing, although qc.json names it; {AGAIN}")
        elif checksum and atomic.sha256(path) != checksum:
            self.complain(
                name,
                "is not as preprocess wrote it (its checksum in qc.json is another): damaged, "
                f"exchanged or edited; copy it again, or {AGAIN}. A mask edited by hand belongs "
                "into derivatives/labels of the raw cohort",
            )


def _check_contents(patient: MniPatient, core: NDArray[np.bool_] | None, dwi_path: str) -> None:
    """Whether volumes that can be read are what they are said to be.

    Raises:
        InputError: each thing that is wrong, one a line.
    """
    faults = []
    brain = patient.brain
    volume_ml = float(brain.sum() * patient.voxel_ml)
    if not BRAIN_RANGE_ML[0] <= volume_ml <= BRAIN_RANGE_ML[1]:
        faults.append(
            f"desc-brain_mask has {volume_ml:.0f} mL; expected {BRAIN_RANGE_ML[0]:.0f} to "
            f"{BRAIN_RANGE_ML[1]:.0f} mL"
        )
    has_adc = is_given(patient.adc_um2_per_s)
    images = (("dwi", patient.dwi), *([("adc", patient.adc_um2_per_s)] if has_adc else []))
    for name, data in images:
        share = float((data[brain] > 0).mean()) if brain.any() else 1.0
        if share < MIN_ADC_SHARE:
            faults.append(
                f"{name} is above 0 in {share:.0%} of desc-brain_mask; expected at least "
                f"{MIN_ADC_SHARE:.0%}. Is the mask this patient's, and not mirrored?"
            )
    for name, mask in (("desc-coverage_mask", patient.coverage),
                       (EDITED_MASKS[patient.truth_is_whole], patient.truth),
                       (mni_patient.KNOWN_CORE, core)):  # fmt: skip
        if mask is not None and mask.any() and (mask & brain).sum() < mask.sum() / 2:
            faults.append(f"{name} lies outside desc-brain_mask for the most part")
    dwi, adc = (Volume(each, GRID_AFFINE, f"{dwi_path} (in MNI space)")
                for each in (patient.dwi, patient.adc_um2_per_s))  # fmt: skip
    checks: list[tuple[Callable[..., Any], tuple]] = [
        (check_not_swapped, (dwi, adc, brain)),
        (_check_brain, (dwi, adc, brain)),
    ]
    if not has_adc:
        checks = [(check_kind_alone, (dwi, brain, "DWI"))]
    if patient.tmax_s is not None:
        covered = Volume(patient.tmax_s, GRID_AFFINE, "in MNI space"), patient.coverage
        checks += [(check_tmax_of_tissue, covered), (_check_tmax_place, covered)]
    for check, arguments in checks:
        try:
            check(*arguments)
        except InputError as error:
            faults.append(str(error))
    if faults:
        raise InputError("\n".join(faults))


def _check_brain(dwi: Volume, adc: Volume, brain: NDArray[np.bool_]) -> None:
    """Whether the mask lies on the brain that the images show, and they on each other."""
    found = brain_of_dwi.brain_mask(dwi, adc.data) & (adc.data > 0)
    dice = agreement.dice_of(found, brain)
    elsewhere = agreement.better_elsewhere(brain, found, VOXEL_MM)
    if elsewhere or dice < agreement.SAME_BRAIN_DICE:
        raise InputError(
            f"desc-brain_mask does not lie on the brain that DWI and ADC show: "
            f"{elsewhere or f'Dice {dice:.2f}'}. Is it this patient's, and not mirrored?"
        )
    # In a mask of another place both would seem not to agree.
    warnings = (*agreement.check_place(dwi, adc, brain), *agreement.check_holes(dwi, adc, brain))
    if warnings:
        raise InputError("\n".join(warnings))


def _check_tmax_place(tmax: Volume, coverage: NDArray[np.bool_]) -> None:
    """Whether Tmax is above 0 where brain was covered, and not in another place."""
    slices = coverage.any(axis=(0, 1))
    if elsewhere := agreement.better_elsewhere((tmax.data > 0) & slices, coverage, VOXEL_MM):
        raise InputError(
            f"tmax does not lie on desc-coverage_mask: {elsewhere}. Is it this patient's, and not "
            "mirrored?"
        )


def _measure(patient: MniPatient, known_core: NDArray[np.bool_] | None) -> ImageFigures:
    tmax = patient.tmax_s
    delayed_ml = site_ml = None
    at_s = patient.tmax_threshold_s
    has_adc = is_given(patient.adc_um2_per_s)
    core = core_on_grid(patient) if has_adc else known_core
    if tmax is not None:
        delayed_ml = float((tmax >= TMAX_HYPOPERFUSION_S).sum() * patient.voxel_ml)
        if at_s != TMAX_HYPOPERFUSION_S:
            site_ml = float((tmax >= at_s).sum() * patient.voxel_ml)
    return ImageFigures(
        voxels=hashlib.sha256(np.ascontiguousarray(patient.dwi).tobytes()).hexdigest(),
        core_ml=None if core is None else float(core.sum() * patient.voxel_ml),
        tmax_over_6_ml=delayed_ml,
        tmax_threshold_s=None if site_ml is None else at_s,
        tmax_over_threshold_ml=site_ml,
        adc_unit="1e-6 mm2/s" if has_adc else "none",
        brain_ml=float(patient.brain.sum() * patient.voxel_ml),
        orientation="RAS",
        truth="none"
        if patient.truth is None and tmax is None
        else labels.truth_from(patient.truth is not None, patient.truth_is_whole),
    )

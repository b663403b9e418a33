"""Simulated patients -> a folder as a public data set's archive has it, and what is true of them.

``OUT/truth`` lies beside the archive's folder: each patient's images as NIfTI in one orientation,
and ``truth.json`` with the side.
"""

import functools
import os
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.import_public.sources import SIMULATED_MARK
from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError
from data_tools.runtime.executors import map_patients
from data_tools.simulate.layouts import files, volumes
from data_tools.simulate.layouts.files import Quirks
from data_tools.volumes import save_volume

LAYOUTS = ("spes", "isles2016", "isles2017", "isles2022")
LARGEST_COARSER = 6
# In the training folder of each, and in the testing folder.
SPES_TRAINING, SPES_TESTING = range(1, 31), range(1, 21)
ISLES2017_TRAINING = tuple(k for k in range(1, 49) if k not in (3, 17, 25, 29, 34))
ISLES2017_TESTING = range(1, 33)
ISLES2016_TRAINING, ISLES2016_TESTING = range(1, 36), range(1, 20)
ISLES2022_ALL = range(1, 251)
# From this folder number on ISLES 2017 has another prefix.
SMIR_FROM = 30
# Of ISLES 2016 every patient but each third one is a patient of 2017.
OTHER_EVERY, OTHER_FROM = 3, 5000
README = (
    "Simulated patients in the layout of a public data set: made by data_tools.simulate.\n"
    "Nothing here was measured in anyone.\n"
)


def write_layout(
    out: str | os.PathLike,
    layout: str,
    patients: int,
    seed: int,
    *,
    testing: int = 0,
    coarser: int = 1,
    zipped: bool = False,
    workers: int = 1,
) -> Path:
    """Write patients as one of the public data sets has them.

    Args:
        out: new or empty folder.
        layout: one of :data:`LAYOUTS`.
        patients: how many, those of the testing folder included.
        seed: the same seed gives the same patients.
        testing: how many of them go to the testing folder; ISLES 2022 has none.
        coarser: voxels so many times as large as the archive's, 1 to 6.
        zipped: also write a zip file of each folder beside it.
        workers: processes.

    Returns:
        The folder of the training patients.

    Raises:
        InputError: a bad argument, or a folder that holds something.
    """
    out = Path(out)
    tasks = _tasks(layout, patients, testing)
    if not 1 <= coarser <= LARGEST_COARSER:
        raise InputError(f"coarser is {coarser}; expected 1 to {LARGEST_COARSER}")
    if seed < 0:
        raise InputError(f"seed is {seed}; expected 0 or a positive whole number")
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out} is not empty; expected a new folder for a layout")
    atomic.check_writable(out)
    with atomic.one_writer(out):
        write = functools.partial(
            _write_patient, out=str(out), layout=layout, seed=seed, coarser=coarser
        )
        truth: dict[str, Any] = {}
        for (name, *_), made in map_patients(write, tasks, workers, "simulating"):
            if isinstance(made, InputError):
                raise made
            truth[name] = made
        atomic.write_json(out / "truth" / "truth.json", {name: truth[name] for name, *_ in tasks})
        atomic.write_text(out / "README", README)
        if layout == "isles2017":
            _write_table(out / "ISLES2017_Training.csv", [name for name, *_ in tasks])
        roots = sorted({Path(folder).parts[0] for _, folder, *_ in tasks})
        for root in roots:
            atomic.write_text(out / root / SIMULATED_MARK, README)
        for root in roots if zipped else ():
            _zip(out, root)
    return out / roots[0] if len(roots) == 1 else out / _root(layout, testing=False)


def _root(layout: str, *, testing: bool) -> str:
    if layout == "isles2022":
        return "ISLES-2022"
    name = {"spes": "SPES2015", "isles2016": "ISLES2016", "isles2017": "ISLES2017"}[layout]
    return f"{name}_{'Testing' if testing else 'Training'}"


def _tasks(layout: str, patients: int, testing: int) -> list[tuple[str, str, int, int]]:
    """Of each patient: name, folder, place in the set, number of the simulated patient."""
    if layout not in LAYOUTS:
        raise InputError(f"layout is {layout!r}; expected one of {', '.join(LAYOUTS)}")
    training_numbers, testing_numbers = {
        "spes": (SPES_TRAINING, SPES_TESTING),
        "isles2016": (ISLES2016_TRAINING, ISLES2016_TESTING),
        "isles2017": (ISLES2017_TRAINING, ISLES2017_TESTING),
        "isles2022": (ISLES2022_ALL, range(0)),
    }[layout]
    training = patients - testing
    if not (0 <= testing <= len(testing_numbers) and 0 <= training <= len(training_numbers)):
        raise InputError(
            f"patients is {patients}, {testing} of them in the testing folder; {layout} has "
            f"{len(training_numbers)} training and {len(testing_numbers)} testing patients"
        )
    if patients < 1:
        raise InputError(f"patients is {patients}; expected 1 or more")
    known = [(number, False) for number in training_numbers[:training]]
    known += [(number, True) for number in testing_numbers[:testing]]
    tasks = []
    for place, (number, is_test) in enumerate(known):
        folder = {
            "spes": f"Nr{number}" if is_test else f"{number}",
            "isles2022": f"sub-strokecase{number:04d}",
        }.get(layout, f"{'test' if is_test else 'training'}_{number}")
        index = place + 1
        if layout == "isles2016" and place % OTHER_EVERY == OTHER_EVERY - 1:
            index += OTHER_FROM
        root = _root(layout, testing=is_test)
        tasks.append((f"{root}-{folder}", f"{root}/{folder}", place, index))
    return tasks


def _write_patient(
    name: str, folder: str, place: int, index: int, *, out: str, layout: str, seed: int,
    coarser: int,
) -> dict[str, Any]:  # fmt: skip
    # Patients of 2017 that are in 2016 too are stored there in another way.
    quirks = Quirks.of(place + (layout == "isles2016"))
    adc_factor = 1e-3 if layout == "isles2022" else quirks.adc_factor
    make = {"spes": volumes.spes, "isles2022": volumes.isles2022}.get(layout, volumes.isles)
    # The grid is the patient's own, in 2016 as in 2017.
    made = make(seed, index, coarser=coarser, turned=index % 3 == 1)
    known: dict[str, Any] = {"folder": folder, "side": made.side, "simulated": index}
    for kind, data in made.images.items():
        if data.ndim == 3:
            save_volume(Path(out, "truth", f"{name}_{kind}.nii.gz"), data, made.affine, "simulated")
    place_of = {"spes": _spes_files, "isles2022": _isles2022_files}.get(layout, _isles_files)
    paths = place_of(Path(out), folder, list(made.images), quirks)
    for path, kind in paths:
        if kind == "mergedlabels":
            data = made.images["label"].astype(np.float32) + made.images["corelabel"]
        elif kind.upper() == "ADC":
            data = made.images[kind] * np.float32(adc_factor)
        else:
            data = made.images[kind]
        files.write(path, data, made.affine, quirks)
    return known


def _isles_files(
    out: Path, folder: str, kinds: list[str], quirks: Quirks
) -> Iterable[tuple[Path, str]]:
    here, is_test = out / folder, "_Testing/" in folder
    number = int(folder.rsplit("_", 1)[1])
    prefix = "SMIR" if number >= SMIR_FROM else "VSD"
    for position, kind in enumerate(kinds):
        if kind == "OT" and is_test:
            continue
        word = kind if kind == "OT" else f"MR_{kind}"
        if quirks.flat:
            yield here / f"{word}.nii.gz", kind
            continue
        # Numbers of the archive's database: any that differ.
        name = f"{prefix}.Brain.XX.O.{word}.{127000 + 10 * number + position}"
        inner = here / name
        end = ".mha" if quirks.itk_one and kind == "Tmax" else ".nii"
        yield inner / f"{name}{end}", kind
        if kind == "ADC":
            atomic.write_text(inner / "license.txt", "simulated\n")
            atomic.write_text(inner / ".DS_Store", "")


def _spes_files(
    out: Path, folder: str, kinds: list[str], quirks: Quirks
) -> Iterable[tuple[Path, str]]:
    here, is_test = out / folder, "_Testing/" in folder
    number = int(folder.rsplit("/", 1)[1].removeprefix("Nr"))
    for position, kind in enumerate(kinds):
        if "label" in kind:
            continue
        name = f"VSD.Brain.XX.O.MR_{kind}.{70000 + 20 * number + position}"
        end = ".mha" if quirks.itk_one and kind == "DWI" else ".nii"
        yield here / name / f"{name}{end}", kind
    if is_test:
        return
    for position, (kind, extra) in enumerate(
        (("label", ""), ("corelabel", "_corelabel"), ("mergedlabels", "_mergedlabels"))
    ):
        name = f"VSD.Brain_3more.XX.XX.OT.{70000 + 20 * number + 15 + position}{extra}"
        yield here / name / f"{name}{'.mha' if quirks.itk_one else '.nii'}", kind


def _isles2022_files(
    out: Path, folder: str, kinds: list[str], quirks: Quirks
) -> Iterable[tuple[Path, str]]:
    root, name = folder.split("/")
    for kind in kinds:
        stem = f"{name}_ses-0001_{kind}.nii.gz"
        middle = ("derivatives", name, "ses-0001")
        if kind != "msk":
            middle = (name, "ses-0001", "anat" if kind == "FLAIR" else "dwi")
        yield out.joinpath(root, *middle, stem), kind


def _write_table(path: Path, names: list[str]) -> None:
    """The table of outcomes, of training patients; its columns go by their position."""
    lines = ["ID,mRS,days of mRS,TICI,time since stroke,time to treatment"]
    lines += [f"{name.split('-')[1]},3,90,2b,210,65" for name in names if "_Training-" in name]
    atomic.write_text(path, "\n".join(lines) + "\n")


def _zip(out: Path, root: str) -> None:
    """The archive as a Mac packs it."""
    with (
        atomic.replacing(out / f"{root}.zip") as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        for path in sorted((out / root).rglob("*")):
            if path.is_file():
                inside = path.relative_to(out)
                archive.write(path, inside)
                archive.writestr(f"__MACOSX/{inside.parent}/._{inside.name}", b"\0\5\26\7")

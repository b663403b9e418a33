"""A result's files: everything is drawn in memory first, then written, ``result.json`` last."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_tools import volumes
from data_tools.runtime import atomic
from tf_hypoperfusion.inference import dicom_objects, page
from tf_hypoperfusion.inference.page import pdf, pictures
from tf_hypoperfusion.inference.prediction import Clock, Prediction
from tf_hypoperfusion.inference.result import FILE, PatientResult

MAPS = (
    "probability", "hypoperfusion_mask", "core_mask", "core_probability", "disagreement",
    "truth_mask",
)  # fmt: skip
OVERVIEW, PAGE, PDF = "overview.png", "report.html", "report.pdf"
THUMBNAIL = "thumbnail.webp"


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """How it is predicted, and what is made besides.

    Attributes:
        second_opinion: ask a single network about the mirror image too.
        dicom: write DICOM objects into ``OUT/dicom``; the images must be DICOM files.
        pdf: print the page too.
        core_by: whose core decides, as :class:`deciding_core.CoreWish` has it.
        compare: hold patients of a cohort against their Tmax map or edited mask.
        index: path of the page of all patients, from the patient's folder; None without one.
            A patient with one has a picture for it.
    """

    second_opinion: bool = True
    dicom: bool = False
    pdf: bool = False
    core_by: str | None = None
    compare: bool = False
    index: str | None = None


DEFAULT = OutputOptions()


def draw(
    done: Prediction, result: PatientResult, options: OutputOptions = DEFAULT, *,
    dicom_sources: Sequence[Any] = (), clock: Clock | None = None,
) -> dict[str, bytes]:  # fmt: skip
    """Every file of a result but ``result.json``, by its name in the patient's folder.

    Args:
        done: the measured patient.
        result: built from it.
        options: what else is made.
        dicom_sources: of :func:`dicom_objects.sources_of`; needed for DICOM objects.
        clock: gets the laps ``write`` (volumes, overview) and ``report`` (the rest).

    Raises:
        InputError: the page could not be printed, or the DICOM slices lie on another grid.
    """
    clock = clock or Clock()
    html = page.render(done, result, index=options.index)
    files = {PAGE: html.encode(errors="backslashreplace")}
    if options.pdf:
        files[PDF] = pdf.printed(html)
    if options.dicom:
        files |= {
            f"{dicom_objects.FOLDER}/{name}": content
            for name, content in dicom_objects.draw(done, result, dicom_sources).items()
        }
    clock.lap("report")
    files[OVERVIEW] = pictures.overview(done, result)
    if options.index is not None:
        files[THUMBNAIL] = pictures.thumbnail(done)
    affine = done.native.dwi.affine
    maps = (
        done.probability,
        done.hypoperfusion,
        done.core.native,
        done.cores.probability,
        done.disagreement,
        None if done.truth is None else done.truth.mask,
    )
    files |= {
        f"{name}.nii.gz": volumes.to_nifti_bytes(data, affine, _described(name))
        for name, data in zip(MAPS, maps, strict=True)
        if data is not None
    }
    clock.lap("write")
    return files


def _described(name: str) -> str:
    return f"{'measured' if name == 'truth_mask' else 'predicted'}; research use only"


def write(files: dict[str, bytes], result: PatientResult, out: str | Path) -> None:
    """Replace what a folder holds of an earlier result; where ``result.json`` stands, all is there.

    Args:
        files: of :func:`draw`.
        result: written last, as ``result.json``.
        out: the patient's folder.
    """
    last = result.to_json()
    clear(out)
    for name, content in files.items():
        atomic.write_bytes(Path(out) / name, content)
    atomic.write_json(Path(out) / FILE, last)


def clear(out: str | Path) -> None:
    """Remove what an earlier prediction wrote into a folder, ``result.json`` first.

    Args:
        out: the patient's folder; what others put there stays.
    """
    names = [FILE, PAGE, PDF, OVERVIEW, THUMBNAIL, *(f"{name}.nii.gz" for name in MAPS)]
    names += [f"{dicom_objects.FOLDER}/{name}" for name in dicom_objects.FILES]
    for name in names:
        (Path(out) / name).unlink(missing_ok=True)

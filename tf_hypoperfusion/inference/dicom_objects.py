"""A result as DICOM objects for the PACS (extra ``dicom``): segmentations, report and picture.

They refer to the DWI series that they were made of: its patient, study and frame of reference.
Every series description says "research use only".
"""

import dataclasses
import functools
import io
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools.dicom.study import Source
from data_tools.grid import ADC_CORE_UM2_PER_S
from data_tools.runtime.errors import InputError
from tf_hypoperfusion import __version__
from tf_hypoperfusion.inference import dicom_capture, dicom_identity, dicom_report
from tf_hypoperfusion.inference.deciding_core import By
from tf_hypoperfusion.inference.dicom_identity import (
    MAKER,
    RESEARCH,
    SERIES_NUMBERS,
    Uids,
    model_words,
)
from tf_hypoperfusion.inference.model_files import ModelInfo
from tf_hypoperfusion.inference.prediction import Prediction
from tf_hypoperfusion.inference.result import PatientResult

FOLDER = "dicom"
FILES = ("segmentation.dcm", "probability.dcm", "report.dcm", "capture.dcm")
# Of probability.dcm: even, so that 0.5 is one of its steps.
PROBABILITY_STEPS = 200
MAY_BE_EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID",
    "StudyDate", "StudyTime",
    "ReferringPhysicianName",
)  # fmt: skip
# Others, such as two at once in Japan, are written as UTF-8: not every library writes them.
UTF_8 = "ISO_IR 192"
PLAIN_CHARACTER_SETS = ("ISO_IR 6", "ISO_IR 100", UTF_8)
DATES = {
    "PatientBirthDate": r"(\d{8})?", "StudyDate": r"(\d{8})?", "StudyTime": r"(\d{6}(\.\d{1,6})?)?"
}  # fmt: skip


def sources_of(folder: str | Path | None, source: Source | None) -> list[Any]:
    """The scanner's images that results will refer to; asked for before anything is computed.

    Args:
        folder: of the DICOM files, for messages.
        source: the files of the DWI; None if it was no DICOM.

    Returns:
        pydicom datasets without pixels: one for each slice, or one that holds all of them.

    Raises:
        InputError: no DICOM files, the extra is missing, or the series cannot be referred to.
    """
    if source is None or folder is None:
        raise InputError(
            "--dicom_out refers to the scanner's images; expected a folder of DICOM files as --dwi"
        )
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"--dicom_out needs more packages ({error}); install the extra `dicom`"
        ) from error
    from pydicom import dcmread

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # on how texts are written
        sources = [dcmread(path, stop_before_pixels=True, force=True) for path in source.files]
    if int(sources[0].get("NumberOfFrames", 1) or 1) > 1:
        sources = sources[:1]  # a segmentation refers to one file of many frames
        _share(sources[0])
    if "FrameOfReferenceUID" not in sources[0]:
        raise InputError(
            f"DICOM {folder} ({source.name}): has no frame of reference (an anonymiser took it?), "
            "so no result can refer to its places; leave out --dicom_out, or export it again"
        )
    for each in sources:
        _mend(each)
    _try(folder, source, sources)
    return sources


def _share(data: Any) -> None:
    """Say once for all frames what a scanner says of each: voxel size and orientation of slices.

    The standard allows both (PS3.3 C.7.6.16); highdicom looks in the shared groups only, and copies
    numbers as they are, too long ones too.
    """
    from pydicom.dataset import Dataset
    from pydicom.valuerep import DSfloat

    frames = data.get("PerFrameFunctionalGroupsSequence", ())
    if not data.get("SharedFunctionalGroupsSequence"):
        data.SharedFunctionalGroupsSequence = [Dataset()]
    shared = data.SharedFunctionalGroupsSequence[0]
    for keyword in ("PixelMeasuresSequence", "PlaneOrientationSequence"):
        if keyword not in shared and frames and keyword in frames[0]:
            shared[keyword] = frames[0][keyword]
        for element in shared[keyword][0] if keyword in shared else ():
            if element.VR == "DS":
                numbers = [element.value] if element.VM == 1 else element.value
                element.value = [DSfloat(float(each), auto_format=True) for each in numbers]


def _mend(data: Any) -> None:
    """Give a file what the standard wants: anonymisers remove it, or write dates that are none."""
    from pydicom.multival import MultiValue

    if data.get("SpecificCharacterSet") not in (None, *PLAIN_CHARACTER_SETS):
        data.decode()
        data.SpecificCharacterSet = UTF_8
    for keyword in MAY_BE_EMPTY:
        value = data.get(keyword)
        if isinstance(value, MultiValue):  # a backslash parted it
            value = " ".join(map(str, value))
        pattern = DATES.get(keyword)
        if value is None or (pattern and not re.fullmatch(pattern, str(value))):
            value = ""
        setattr(data, keyword, value)


def _try(folder: str | Path, source: Source, sources: Sequence[Any]) -> None:
    """Make a segmentation of one voxel, so that no result is lost to a file's odd attribute.

    Raises:
        InputError: none can be made.
    """
    mask = np.zeros((2, 2, 2), np.uint8)
    mask[0, 0, 0] = 1
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            _segmentation({"core": mask}, affine, sources, _Maker(uids=dicom_identity.uids("try")))
    except Exception as error:  # highdicom and pydicom raise what an odd attribute causes
        raise InputError(
            f"DICOM {folder} ({source.name}): no DICOM result can refer to it ({error}); leave out "
            "--dicom_out, or export the series again"
        ) from error


def draw(done: Prediction, result: PatientResult, sources: Sequence[Any]) -> dict[str, bytes]:
    """``segmentation.dcm`` (hypoperfusion, core), ``probability.dcm``, ``report.dcm`` and
    ``capture.dcm``, the picture.

    Args:
        done: the measured patient.
        result: built from it.
        sources: of :func:`sources_of`.

    Returns:
        Each file's content; no segmentation where both masks are empty.

    Raises:
        InputError: the DWI's axes are not at right angles.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # on how a patient's name is written
        objects = _objects(done, result, sources)
        return {name: _content(data) for name, data in objects.items()}


def refusal(reason: str, image: Any) -> bytes:
    """A report that says why a study has no result; the same reason has the same UIDs.

    Args:
        reason: in words.
        image: pydicom's dataset of one of its images; changed.

    Raises:
        Exception: whatever pydicom and highdicom raise of an odd attribute.
    """
    _mend(image)
    uids = dicom_identity.uids([str(image.StudyInstanceUID), reason, __version__])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return _content(dicom_report.refusal(reason, image, uids))


def _content(data: Any) -> bytes:
    buffer = io.BytesIO()
    data.save_as(buffer)
    return buffer.getvalue()


def _objects(done: Prediction, result: PatientResult, sources: Sequence[Any]) -> dict[str, Any]:
    affine = done.native.dwi.affine
    masks = {"hypoperfusion": done.hypoperfusion, "core": done.core.native}
    filled = {name: mask for name, mask in masks.items() if mask is not None and mask.any()}
    segmentation_file, probability_file, report_file, capture_file = FILES
    maker = _Maker(
        uids=dicom_identity.uids_of(result, sources),
        models=result.models,
        comments="\n".join([*dicom_report.said(result), *dicom_identity.remarks(result)]),
        core_by=done.cores.by or "rule",  # of none, there is no segment
        titled=functools.partial(dicom_identity.titled, result=result),
    )
    objects: dict[str, Any] = {}
    if filled:
        objects[segmentation_file] = _segmentation(filled, affine, sources, maker)
    objects[probability_file] = _segmentation(
        {"hypoperfusion": on_steps(done.probability)}, affine, sources, maker, fractional=True
    )
    objects[report_file] = dicom_report.report(
        result, objects.get(segmentation_file), list(filled), sources=sources, uids=maker.uids
    )
    objects[capture_file] = dicom_capture.capture(done, result, sources=sources, uids=maker.uids)
    return objects


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Maker:
    """What a segmentation says of where it comes from."""

    uids: Uids
    models: Sequence[ModelInfo] = ()
    comments: str = RESEARCH
    core_by: By = "rule"
    titled: Callable[[str], str] = str


def on_steps(probability: NDArray) -> NDArray[np.float32]:
    """A probability rounded to the steps of a file, each voxel on its side of 0.5.

    Args:
        probability: of any shape.

    Returns:
        Multiples of 1 / :data:`PROBABILITY_STEPS`: at least 0.5 where it was, and below where not.

    >>> on_steps(np.array([0.4999, 0.5, 0.7512], np.float32)).round(3)
    array([0.495, 0.5  , 0.75 ], dtype=float32)
    """
    half = PROBABILITY_STEPS // 2
    steps = np.rint(probability.astype(np.float64) * PROBABILITY_STEPS)
    steps = np.where(probability < 0.5, np.minimum(steps, half - 1), steps)
    return (steps / PROBABILITY_STEPS).astype(np.float32)


def _on_slices(maps: dict[str, NDArray], affine: NDArray, sources: Sequence[Any]) -> Any:
    """Maps of the DWI's grid as highdicom's volume: [slice, row, column, segment], placed."""
    import highdicom as hd

    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    return hd.Volume(
        np.stack([each.transpose(2, 1, 0) for each in maps.values()], axis=-1),
        lps[:, [2, 1, 0, 3]],
        coordinate_system="PATIENT",
        frame_of_reference_uid=sources[0].FrameOfReferenceUID,
        channels={"SegmentNumber": list(range(1, len(maps) + 1))},
    )


def _segmentation(
    maps: dict[str, NDArray], affine: NDArray, sources: Sequence[Any], maker: _Maker, *,
    fractional: bool = False,
) -> Any:  # fmt: skip
    import highdicom as hd
    from highdicom import seg
    from pydicom.sr.codedict import codes

    words = {
        "hypoperfusion": "predicted hypoperfusion" + (", probability" if fractional else ""),
        "core": {
            "rule": f"core: ADC <= {ADC_CORE_UM2_PER_S:.0f}e-6 mm2/s",
            "learnt": "predicted core",
            "given": "core: given mask",
        }[maker.core_by],
    }
    parameters = {f"model {k + 1}": model_words(model) for k, model in enumerate(maker.models)}
    algorithm = {
        "algorithm_type": seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        "algorithm_identification": hd.AlgorithmIdentificationSequence(
            name=dicom_identity.algorithm_name(maker.models),
            version=dicom_identity.algorithm_version(maker.models),
            family=codes.cid7162.ArtificialIntelligence,
            source=MAKER,
            parameters=parameters or None,
        ),
    }
    # Of a given mask nobody here knows what made it.
    others = {"core": {"algorithm_type": seg.SegmentAlgorithmTypeValues.MANUAL}}
    of_segment = others if maker.core_by == "given" else {}
    name = "probability" if fractional else "segmentation"
    descriptions = [
        seg.SegmentDescription(
            segment_number=k + 1,
            segment_label=words[segment],
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=dicom_report.finding_codes()[segment],
            **of_segment.get(segment, algorithm),
            tracking_uid=maker.uids(f"{name} {segment}"),
            tracking_id=segment,
        )
        for k, segment in enumerate(maps)
    ]
    kind = seg.SegmentationTypeValues
    more: dict[str, Any] = {}
    if fractional:
        more = {
            "fractional_type": seg.SegmentationFractionalTypeValues.PROBABILITY,
            "max_fractional_value": PROBABILITY_STEPS,
        }
    made = seg.Segmentation(
        source_images=sources,
        pixel_array=_on_slices(
            {
                segment: each.astype(np.float32 if fractional else np.uint8)
                for segment, each in maps.items()
            },
            affine,
            sources,
        ),
        segmentation_type=kind.FRACTIONAL if fractional else kind.BINARY,
        segment_descriptions=descriptions,
        series_instance_uid=maker.uids(f"{name} series"),
        series_number=SERIES_NUMBERS[name],
        sop_instance_uid=maker.uids(name),
        instance_number=1,
        manufacturer=MAKER,
        manufacturer_model_name=MAKER,
        software_versions=__version__,
        device_serial_number="none",
        content_description=RESEARCH,
        series_description=maker.titled(
            f"Hypoperfusion probability, {RESEARCH}"
            if fractional
            else f"Hypoperfusion, core, {RESEARCH}"
        ),
        **more,
    )
    dicom_identity.sign(made, maker.comments)
    return made

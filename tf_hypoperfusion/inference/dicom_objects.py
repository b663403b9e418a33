"""A result as DICOM objects for the PACS (extra ``dicom``): segmentations and a measurement report.

They refer to the DWI series that they were made of: its patient, study and frame of reference.
Every series description says "research use only".
"""

import io
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools.dicom.study import Source
from data_tools.grid import ADC_CORE_UM2_PER_S
from data_tools.runtime.errors import InputError
from tf_hypoperfusion import __version__
from tf_hypoperfusion.inference.calibration import TELLS
from tf_hypoperfusion.inference.deciding_core import WORDS, By
from tf_hypoperfusion.inference.prediction import Prediction
from tf_hypoperfusion.inference.result import PatientResult

FOLDER = "dicom"
FILES = ("segmentation.dcm", "probability.dcm", "report.dcm")
RESEARCH = "research use only"
# High numbers, so that they stand behind the scanner's series.
SERIES_NUMBERS = (9001, 9002, 9003)
MAKER = "tf_hypoperfusion"
MAY_BE_EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID",
    "StudyDate", "StudyTime",
    "ReferringPhysicianName",
)  # fmt: skip
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
    if "FrameOfReferenceUID" not in sources[0]:
        raise InputError(
            f"DICOM {folder} ({source.name}): has no frame of reference (an anonymiser took it?), "
            "so no result can refer to its places; leave out --dicom_out, or export it again"
        )
    for each in sources:
        _mend(each)
    _try(folder, source, sources)
    return sources


def _mend(data: Any) -> None:
    """Give a file what the standard wants: anonymisers remove it, or write dates that are none."""
    from pydicom.multival import MultiValue

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
            _segmentation({"core": mask}, affine, sources, fractional=False, core_by="rule")
    except Exception as error:  # highdicom and pydicom raise what an odd attribute causes
        raise InputError(
            f"DICOM {folder} ({source.name}): no DICOM result can refer to it ({error}); leave out "
            "--dicom_out, or export the series again"
        ) from error


def draw(done: Prediction, result: PatientResult, sources: Sequence[Any]) -> dict[str, bytes]:
    """``segmentation.dcm`` (hypoperfusion, core), ``probability.dcm`` and ``report.dcm``.

    Args:
        done: the measured patient.
        result: built from it.
        sources: of :func:`sources_of`.

    Returns:
        Each file's content; no segmentation where both masks are empty.

    Raises:
        InputError: the DWI's axes are not at right angles.
    """
    files = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # on how a patient's name is written
        objects = _objects(done, result, sources)
    for name, data in objects.items():
        buffer = io.BytesIO()
        data.save_as(buffer)
        files[name] = buffer.getvalue()
    return files


def _objects(done: Prediction, result: PatientResult, sources: Sequence[Any]) -> dict[str, Any]:
    affine = done.native.dwi.affine
    masks = {"hypoperfusion": done.hypoperfusion, "core": done.core.native}
    filled = {name: mask for name, mask in masks.items() if mask is not None and mask.any()}
    segmentation_file, probability_file, report_file = FILES
    objects: dict[str, Any] = {}
    core_by = done.cores.by or "rule"  # of none, there is no segment
    if filled:
        objects[segmentation_file] = _segmentation(
            filled, affine, sources, fractional=False, core_by=core_by
        )
    probability = {"hypoperfusion": done.probability}
    objects[probability_file] = _segmentation(
        probability, affine, sources, fractional=True, core_by=core_by
    )
    objects[report_file] = _report(result, objects.get(segmentation_file), list(filled), sources)
    return objects


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


def _codes() -> dict[str, Any]:
    from highdicom.sr.coding import CodedConcept

    return {
        "hypoperfusion": CodedConcept("52674009", "SCT", "Ischemia"),
        "core": CodedConcept("55641003", "SCT", "Infarct"),
    }


def _algorithm() -> Any:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    return hd.AlgorithmIdentificationSequence(
        name=f"{MAKER} ({RESEARCH})",
        version=__version__,
        family=codes.cid7162.ArtificialIntelligence,
    )


def _segmentation(
    maps: dict[str, NDArray], affine: NDArray, sources: Sequence[Any], *,
    fractional: bool, core_by: By,
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
        }[core_by],
    }
    algorithm = {
        "algorithm_type": seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        "algorithm_identification": _algorithm(),
    }
    # Of a given mask nobody here knows what made it.
    others = {"core": {"algorithm_type": seg.SegmentAlgorithmTypeValues.MANUAL}}
    of_segment = others if core_by == "given" else {}
    descriptions = [
        seg.SegmentDescription(
            segment_number=k + 1,
            segment_label=words[name],
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=_codes()[name],
            **of_segment.get(name, algorithm),
            tracking_uid=hd.UID(),
            tracking_id=name,
        )
        for k, name in enumerate(maps)
    ]
    kind = seg.SegmentationTypeValues
    more: dict[str, Any] = {}
    if fractional:
        more = {
            "fractional_type": seg.SegmentationFractionalTypeValues.PROBABILITY,
            "max_fractional_value": 200,
        }
    return seg.Segmentation(
        source_images=sources,
        pixel_array=_on_slices(
            {
                name: each.astype(np.float32 if fractional else np.uint8)
                for name, each in maps.items()
            },
            affine,
            sources,
        ),
        segmentation_type=kind.FRACTIONAL if fractional else kind.BINARY,
        segment_descriptions=descriptions,
        series_instance_uid=hd.UID(),
        series_number=SERIES_NUMBERS[1 if fractional else 0],
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=MAKER,
        manufacturer_model_name=MAKER,
        software_versions=__version__,
        device_serial_number="none",
        content_description=RESEARCH,
        series_description=(
            f"Hypoperfusion probability, {RESEARCH}"
            if fractional
            else f"Hypoperfusion, core, {RESEARCH}"
        ),
        **more,
    )


def _side(result: PatientResult) -> str:
    """The side in the 64 letters that a meaning may have."""
    if not result.side_found:
        return result.side
    share = "" if result.side_share is None else f", {result.side_share:.0%} of it"
    return f"{result.side}, not given, looked for in the answer{share}"


def _report(
    result: PatientResult, segmentation: Any, names: list[str], sources: Sequence[Any]
) -> Any:
    """TID 1500: the volumes and the decision, and each segment's volume."""
    import highdicom as hd
    from highdicom import sr
    from highdicom.sr.coding import CodedConcept
    from pydicom.sr.codedict import codes

    known_ml = {"hypoperfusion": result.hypoperfusion_ml, "core": result.core_ml}
    ml = {name: value for name, value in known_ml.items() if value is not None}

    def own(value: str, meaning: str) -> Any:
        return CodedConcept(value, "99TFHYPO", meaning)

    def measurement(name: Any, value: float, unit: Any) -> Any:
        return sr.Measurement(name=name, value=round(float(value), 2), unit=unit)

    decision = {
        "yes": codes.SCT.Yes,
        "no": codes.SCT.No,
        "unsure": CodedConcept("82334004", "SCT", "Indeterminate"),
    }[result.answer.target_mismatch]
    coverage = f"{result.answer.coverage or 0:.0%} interval"
    milliliter = CodedConcept("mL", "UCUM", "milliliter")
    one = CodedConcept("1", "UCUM", "no units")
    summary = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(hd.UID(), f"target mismatch, {RESEARCH}"),
        source_images=[sr.SourceImageForMeasurementGroup.from_source_image(sources[0])],
        measurements=[
            *(
                measurement(own(name, meaning), value, unit)
                for name, meaning, value, unit in (
                    ("hypoperfusion", "Hypoperfusion", result.hypoperfusion_ml, milliliter),
                    ("core", "Core", result.core_ml, milliliter),
                    ("mismatch", "Mismatch", result.mismatch_ml, milliliter),
                    ("ratio", "Ratio", result.mismatch_ratio, one),
                )
                if value is not None
            ),
            *(
                measurement(
                    own(f"hypoperfusion-{end}", f"Hypoperfusion, {end} end, {coverage}"),
                    value,
                    milliliter,
                )
                for end, value in zip(
                    ("lower", "upper"), result.answer.interval_ml or (), strict=False
                )
            ),
        ],
        qualitative_evaluations=[
            sr.QualitativeEvaluation(own("defuse3", "Target mismatch (DEFUSE 3)"), decision),
            sr.QualitativeEvaluation(own("notice", "Notice"), own("research", RESEARCH)),
            sr.QualitativeEvaluation(
                own("side", "Side of the stroke"), own(f"side-{result.side}", _side(result))
            ),
            *(
                sr.QualitativeEvaluation(own("missing", "Image not there"), own(image, image))
                for image in (result.missing,)
                if image
            ),
            sr.QualitativeEvaluation(
                own("core-by", "Core by"), own(result.core_by, WORDS[result.core_by])
            )
            if result.core_by
            else sr.QualitativeEvaluation(own("core", "Core"), own("not-known", "not known")),
            *(
                sr.QualitativeEvaluation(own("advice", "Advice"), own("perfusion", TELLS))
                for _ in result.answer.reasons[:1]
            ),
        ],
    )
    groups = [summary] + [
        sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=sr.TrackingIdentifier(hd.UID(), name),
            referenced_segment=sr.ReferencedSegment(
                segmentation.SOPClassUID,
                segmentation.SOPInstanceUID,
                k + 1,
                source_series=sr.SourceSeriesForSegmentation(sources[0].SeriesInstanceUID),
            ),
            finding_type=_codes()[name],
            algorithm_id=sr.AlgorithmIdentification(f"{MAKER} ({RESEARCH})", __version__),
            measurements=[
                measurement(codes.SCT.Volume, ml[name], CodedConcept("mL", "UCUM", "milliliter"))
            ],
        )
        for k, name in enumerate(names)
    ]
    device = sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=hd.UID(), name=MAKER, manufacturer_name=MAKER, model_name=f"{MAKER} {__version__}"
        ),
    )
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=device),
        procedure_reported=CodedConcept("90084008", "SCT", "MRI of brain"),
        imaging_measurements=groups,
    )
    evidence = [*sources, *([segmentation] if segmentation is not None else [])]
    return sr.Comprehensive3DSR(
        evidence=evidence,
        content=content,
        series_instance_uid=hd.UID(),
        series_number=SERIES_NUMBERS[2],
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=MAKER,
        series_description=f"Target mismatch, {RESEARCH}",
    )

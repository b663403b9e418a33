"""Structured reports (TID 1500): a result's figures, decision and warnings; or why there is none.

Every code is of a public scheme; what has no such code is said in words.
"""

from collections.abc import Sequence
from typing import Any

from data_tools.criteria import MISMATCH_RATIO_CAP
from tf_hypoperfusion import __version__
from tf_hypoperfusion.config import RESEARCH_NOTICE
from tf_hypoperfusion.inference import dicom_identity, wording
from tf_hypoperfusion.inference.calibration import TELLS
from tf_hypoperfusion.inference.deciding_core import WORDS, others
from tf_hypoperfusion.inference.dicom_identity import MAKER, RESEARCH, SERIES_NUMBERS, Uids
from tf_hypoperfusion.inference.result import PatientResult

NO_VISIBLE_CORE = "no visible core"
# By their designators: full name, and UID where it has one (PS3.16, section 8).
SCHEMES = {
    "DCM": ("DICOM Controlled Terminology", "1.2.840.10008.2.16.4"),
    "SCT": ("SNOMED CT", "2.16.840.1.113883.6.96"),
    "UCUM": ("Unified Code for Units of Measure", "2.16.840.1.113883.6.8"),
    "RFC5646": ("Tags for Identifying Languages", ""),
}


def finding_codes() -> dict[str, Any]:
    """What is segmented and measured, by its name here."""
    from highdicom.sr.coding import CodedConcept

    return {
        "hypoperfusion": CodedConcept("52674009", "SCT", "Ischemia"),
        "core": CodedConcept("55641003", "SCT", "Infarct"),
    }


def report(
    result: PatientResult, segmentation: Any, names: Sequence[str], *,
    sources: Sequence[Any], uids: Uids,
) -> Any:  # fmt: skip
    """The volumes and the decision, with every warning.

    Args:
        result: of the patient.
        segmentation: the segments as an object; None where all are empty.
        names: of its segments, in their order.
        sources: the scanner's images.
        uids: of the result's objects.
    """
    from highdicom import sr

    groups = [_summary(result, sources, uids)]
    for name, ml in (("hypoperfusion", result.hypoperfusion_ml), ("core", result.core_ml)):
        if ml is None:
            continue
        common = {
            "tracking_identifier": sr.TrackingIdentifier(uids(f"{name} group"), name),
            "finding_type": finding_codes()[name],
            "algorithm_id": _algorithm(result),
            "measurements": [_volume(ml), *(_interval(result) if name == "hypoperfusion" else [])],
        }
        if name in names:
            segment = sr.ReferencedSegment(
                segmentation.SOPClassUID,
                segmentation.SOPInstanceUID,
                list(names).index(name) + 1,
                source_series=sr.SourceSeriesForSegmentation(sources[0].SeriesInstanceUID),
            )
            groups.append(
                sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
                    referenced_segment=segment, **common
                )
            )
        else:
            groups.append(sr.MeasurementsAndQualitativeEvaluations(**common))
    evidence = [*sources, *([segmentation] if segmentation is not None else [])]
    return _document(
        groups,
        evidence,
        "report",
        uids,
        title=dicom_identity.titled(f"Target mismatch, {RESEARCH}", result),
    )


def refusal(reason: str, source: Any, uids: Uids) -> Any:
    """A report that says why there is no result.

    Args:
        reason: in words.
        source: an image of the study, whose patient and study it belongs to.
        uids: of the refused study's objects.
    """
    from highdicom import sr
    from pydicom.sr.codedict import codes

    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uids("refusal group"), f"refused, {RESEARCH}"),
        qualitative_evaluations=[
            sr.QualitativeEvaluation(
                codes.DCM.Finding, _coded("385432009", "SCT", "Not applicable")
            )
        ],
    )
    _say(group, [RESEARCH_NOTICE, "NO RESULT: this study cannot be used.", reason])
    title = f"No target mismatch result, {RESEARCH}"
    return _document([group], [source], "refusal", uids, title=title)


def _coded(value: str, scheme: str, meaning: str) -> Any:
    from highdicom.sr.coding import CodedConcept

    return CodedConcept(value, scheme, meaning)


def _milliliter() -> Any:
    return _coded("mL", "UCUM", "milliliter")


def _volume(ml: float, derivation: Any = None) -> Any:
    from highdicom import sr
    from pydicom.sr.codedict import codes

    return sr.Measurement(
        name=codes.SCT.Volume, value=round(float(ml), 2), unit=_milliliter(), derivation=derivation
    )


def _interval(result: PatientResult) -> list[Any]:
    """Both ends of the interval of the true volume, where there is one."""
    ends = (
        _coded("371885007", "SCT", "-, range of lower measurement uncertainty"),
        _coded("371886008", "SCT", "+, range of upper measurement uncertainty"),
    )
    return [
        _volume(ml, end) for ml, end in zip(result.answer.interval_ml or (), ends, strict=False)
    ]


def _algorithm(result: PatientResult) -> Any:
    from highdicom import sr

    return sr.AlgorithmIdentification(
        dicom_identity.algorithm_name(result.models),
        dicom_identity.algorithm_version(result.models),
        parameters=[dicom_identity.model_words(model) for model in result.models] or None,
    )


def _summary(result: PatientResult, sources: Sequence[Any], uids: Uids) -> Any:
    from highdicom import sr
    from pydicom.sr.codedict import codes

    decision = {
        "yes": codes.SCT.Yes,
        "no": codes.SCT.No,
        "unsure": _coded("82334004", "SCT", "Indeterminate"),
    }[result.answer.target_mismatch]
    side = {
        "left": _coded("7771000", "SCT", "Left"),
        "right": _coded("24028007", "SCT", "Right"),
        "bilateral": _coded("51440002", "SCT", "Bilateral"),
    }.get(result.side, _coded("261665006", "SCT", "Unknown"))
    measured = []
    if result.mismatch_ml is not None:
        measured.append(_volume(result.mismatch_ml))
    if result.mismatch_ratio is not None:
        measured.append(
            sr.Measurement(
                name=_coded("113288", "DCM", "Volume Ratio"),
                value=round(float(result.mismatch_ratio), 2),
                unit=_coded("1", "UCUM", "no units"),
            )
        )
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uids("summary group"), f"target mismatch (DEFUSE 3), {RESEARCH}"
        ),
        algorithm_id=_algorithm(result),
        source_images=[sr.SourceImageForMeasurementGroup.from_source_image(sources[0])],
        measurements=measured or None,
        qualitative_evaluations=[
            sr.QualitativeEvaluation(codes.DCM.Finding, decision),
            sr.QualitativeEvaluation(_coded("272741003", "SCT", "Laterality"), side),
        ],
    )
    _say(group, [*said(result), *dicom_identity.remarks(result)])
    return group


def said(result: PatientResult) -> list[str]:
    """The answer in words, as the objects for the PACS say it.

    Args:
        result: of the patient.

    Returns:
        The decision with its reasons, and the figures; a line each.
    """
    decision = f"Target mismatch (DEFUSE 3): {result.answer.target_mismatch.upper()}"
    if result.answer.reasons:
        decision += f" ({'; '.join(result.answer.reasons)}). {TELLS.capitalize()}."
    replaced = [] if result.replaces is None else [result.replaces.words]
    lines = [*replaced, decision, f"Predicted hypoperfusion {result.hypoperfusion_ml:.1f} mL."]
    if result.answer.interval_ml is not None:
        low, high = result.answer.interval_ml
        lines.append(
            f"True hypoperfusion {wording.rounded(low)} to {wording.ml(high)} in "
            f"{result.answer.coverage or 0:.0%} of patients like those of the calibration."
        )
    if result.core_ml is None or result.core_by is None:
        lines.append("Core not known.")
    else:
        seen = f" ({NO_VISIBLE_CORE})" if result.core_ml == 0 else ""
        apart = "".join(
            f"; {ml:.1f} mL by the {WORDS[by]}"
            for by, ml in others(
                result.core_by, rule_ml=result.core_rule_ml, learnt_ml=result.core_learnt_ml
            ).items()
        )
        lines.append(f"Core {result.core_ml:.1f} mL{seen} by the {WORDS[result.core_by]}{apart}.")
    if result.mismatch_ml is not None and result.mismatch_ratio is not None:
        lines.append(f"Mismatch {result.mismatch_ml:.1f} mL, ratio {ratio_words(result)}.")
    lines.append(f"Side: {result.side_words}.")
    nihss = "unknown" if result.given.nihss is None else f"{result.given.nihss}"
    lines.append(f"NIHSS: {nihss}.")
    if result.missing:
        lines.append(f"Image not there: {result.missing}.")
    if result.fast:
        lines.append(f"{result.shortcut.capitalize()}.")
    return lines


def ratio_words(result: PatientResult) -> str:
    """The ratio; where it is the largest that is given, that it may be larger."""
    ratio = result.mismatch_ratio or 0.0
    if ratio < MISMATCH_RATIO_CAP:
        return f"{ratio:.1f}"
    why = "the core is 0 mL" if result.core_ml == 0 else "larger ones are given as this"
    return f"{MISMATCH_RATIO_CAP:g} or more (a cap: {why})"


def _say(group: Any, lines: Sequence[str]) -> None:
    """Add lines of text to a group."""
    from highdicom import sr
    from pydicom.sr.codedict import codes

    for line in lines:
        group[0].ContentSequence.append(
            sr.TextContentItem(codes.DCM.Comment, line, sr.RelationshipTypeValues.CONTAINS)
        )


def _document(
    groups: Sequence[Any], evidence: Sequence[Any], name: str, uids: Uids, *, title: str
) -> Any:
    import highdicom as hd
    from highdicom import sr
    from pydicom.dataset import Dataset
    from pydicom.sr.codedict import codes

    device = sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=hd.UID.from_uuid("6b4ff3d4-9b39-4e0e-8a3f-3b9d4c3f6a10"), name=MAKER,
            manufacturer_name=MAKER, model_name=f"{MAKER} {__version__}",
        ),
    )  # fmt: skip
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=device),
        procedure_reported=_coded("90084008", "SCT", "MRI of brain"),
        imaging_measurements=groups,
    )
    document = sr.Comprehensive3DSR(
        evidence=evidence,
        content=content,
        series_instance_uid=uids(f"{name} series"),
        series_number=SERIES_NUMBERS[name],
        sop_instance_uid=uids(name),
        instance_number=1,
        manufacturer=MAKER,
        series_description=title,
    )
    dicom_identity.sign(document, "")
    schemes = []
    for designator, (full, uid) in SCHEMES.items():
        item = Dataset()
        item.CodingSchemeDesignator = designator
        if uid:
            item.CodingSchemeUID = uid
        item.CodingSchemeName = full
        schemes.append(item)
    document.CodingSchemeIdentificationSequence = schemes
    return document

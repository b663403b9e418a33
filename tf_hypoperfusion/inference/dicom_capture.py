"""A result as a picture for viewers that show no segmentations: DICOM secondary capture, in RGB."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tf_hypoperfusion.inference import dicom_identity, dicom_report
from tf_hypoperfusion.inference.dicom_identity import MAKER, RESEARCH, SERIES_NUMBERS, Uids
from tf_hypoperfusion.inference.page import pictures
from tf_hypoperfusion.inference.prediction import Prediction
from tf_hypoperfusion.inference.result import PatientResult


def capture(done: Prediction, result: PatientResult, *, sources: Sequence[Any], uids: Uids) -> Any:
    """The slices with their contours; decision, figures, warnings and notice are burnt in.

    Args:
        done: the measured patient.
        result: built from it.
        sources: the scanner's images.
        uids: of the result's objects.
    """
    from highdicom import sc
    from pydicom.uid import ExplicitVRLittleEndian

    said = dicom_report.said(result)
    shown = [
        result.notice,
        *said,
        *map(dicom_identity.model_words, result.models),
        *(f"! {warning}" for warning in result.warnings),
    ]
    image = np.asarray(pictures.capture(done, shown).convert("RGB"))
    data = sc.SCImage.from_ref_dataset(
        sources[0],
        image,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "P"),
        series_instance_uid=uids("capture series"),
        series_number=SERIES_NUMBERS["capture"],
        sop_instance_uid=uids("capture"),
        instance_number=1,
        manufacturer=MAKER,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        series_description=dicom_identity.titled(f"Target mismatch, picture, {RESEARCH}", result),
    )
    data.BodyPartExamined = "BRAIN"
    data.BurnedInAnnotation = "YES"
    data.ImageType = ["DERIVED", "SECONDARY"]
    data.ConversionType = "WSD"
    dicom_identity.sign(data, "\n".join([*said, *dicom_identity.remarks(result)]))
    return data

"""One patient's files -> a folder with the result, whoever answers: a model here or a server."""

import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from data_tools.patient import load_native
from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError
from tf_hypoperfusion import provenance
from tf_hypoperfusion.clinical import ClinicalFacts
from tf_hypoperfusion.inference import dicom_objects, page, prediction
from tf_hypoperfusion.inference.model_files import ModelInfo
from tf_hypoperfusion.inference.page import pdf
from tf_hypoperfusion.inference.prediction import VolumePredictor


@dataclasses.dataclass(frozen=True)
class OutputOptions:
    """What is made besides the prediction.

    Attributes:
        second_opinion: ask a single model about the mirror image too.
        dicom: write DICOM objects into ``OUT/dicom``; the images must be DICOM files.
        pdf: print the page too.
    """

    second_opinion: bool = True
    dicom: bool = False
    pdf: bool = False


DEFAULT = OutputOptions()


@dataclasses.dataclass(frozen=True)
class Backend:
    """Something that answers for a patient.

    Attributes:
        answers: one :data:`prediction.VolumePredictor` for each model, or a server's.
        models: a function that says, after the answer, what is known of each model.
        stride: slices between windows; None if only the server knows.
    """

    answers: Sequence[VolumePredictor]
    models: Callable[[], list[ModelInfo]]
    stride: int | None


def parse_nihss(text: str) -> int | None:
    """``n/a`` -> None, digits -> int.

    Raises:
        InputError: for anything else.
    """
    if text.strip().lower() == "n/a":
        return None
    try:
        return int(text)
    except ValueError as error:
        raise InputError(f"NIHSS is {text!r}; expected a whole number, 0 to 42, or n/a") from error


def predict(
    dwi: str,
    adc: str | None,
    given: ClinicalFacts,
    out: str,
    connect: Callable[[], Backend],
    participant: str | None = None,
    options: OutputOptions = DEFAULT,
    tell: Callable[[str], None] | None = None,
    fingerprint: str | None = None,
) -> dict[str, Any]:
    """Read, ask, write; tells on stderr what it is doing.

    Args:
        dwi: NIfTI file or folder of DICOM files. adc: NIfTI file, or None where ``dwi`` holds what
            is needed. given: clinical facts. out: folder for the result.
        connect: loads the model or finds the server, once the images are known to be good.
        participant: name in the result; None takes the DWI's file name.
        options: what else is made.
        tell: is told what is being done, and every warning; default: standard error.
        fingerprint: of all that the result depends on; kept in it.

    Returns:
        What ``result.json`` holds.

    Raises:
        InputError: images, model or server that cannot be used.
    """
    began = time.monotonic()
    tell = tell or _say
    if Path(out).is_file():
        raise InputError(f"--out {out} is a file; expected a folder to write to")
    native = load_native(dwi, adc)
    sources = dicom_objects.sources_of(dwi, native.dicom_series) if options.dicom else []
    if options.pdf:
        pdf.browser()
    atomic.check_writable(out)
    read = time.monotonic()
    tell(f"read {dwi}{f' and {adc}' if adc else ''} (ADC in {native.adc_unit})")
    for note in native.notes:
        tell(note)
    backend = connect()
    loaded = time.monotonic()
    tell("registering and predicting, about half a minute")
    name = participant or Path(dwi).name.split(".")[0]
    done = prediction.predict_patient(native, given, backend.answers, name, options.second_opinion)
    models = backend.models()
    result = done.result
    result["warnings"][:0] = _origin_warnings(models)
    result["stride_slices"] = backend.stride
    result["input"] = {
        "dwi": dwi,
        "adc": adc,
        "adc_unit": native.adc_unit,
        "b_value_s_per_mm2": native.b_value,
        "notes": list(native.notes),
    }
    result["models"] = [model.to_json() for model in models]
    result["fingerprint"] = fingerprint
    result["software"] = provenance.software()
    result["seconds"] = {
        "read": round(read - began, 3),
        "load_model": round(loaded - read, 3),
        **result["seconds"],
    }
    prediction.write_maps(done, out)
    tell("drawing report.html")
    drawing = time.monotonic()
    page.write_page(done, Path(out) / "report.html")
    if options.pdf:
        pdf.print_page(Path(out) / "report.html", Path(out) / "report.pdf")
    if options.dicom:
        dicom_objects.write_dicom(done, sources, Path(out) / "dicom")
    result["seconds"]["report"] = round(time.monotonic() - drawing, 3)
    prediction.write_result(done, out)
    for warning in result["warnings"]:
        tell(f"WARNING: {warning}")
    return result


def _origin_warnings(models: list[ModelInfo]) -> list[str]:
    warnings = []
    if any(model.simulated for model in models):
        warnings.append(
            "the model was trained on SIMULATED patients only; its result on a real patient "
            "means nothing"
        )
    if any(model.cohort is None for model in models):
        warnings.append(
            "nothing is known of what the model was trained on (no config.json or "
            "model_card.json beside it); it may have been simulated patients"
        )
    return warnings


def summary(result: dict, out: str) -> str:
    """The result as a person reads it in a terminal."""
    criteria = result["defuse3"]
    lines = [
        f"hypoperfusion {result['hypoperfusion_ml']:.1f} mL, core {result['core_ml']:.1f} mL, "
        f"mismatch {result['mismatch_ml']:.1f} mL, ratio {result['mismatch_ratio']:.1f}",
        "target mismatch (DEFUSE 3): " + ("YES" if criteria["target_mismatch"] else "NO"),
    ]
    for name in ("ratio", "difference_ml", "core_ml"):
        criterion = criteria[name]
        state = "met" if criterion["met"] else "not met"
        lines.append(f"  {name} {criterion['value']:g} {criterion['required']}: {state}")
    dawn = {True: "YES", False: "NO", None: "n/a (age or NIHSS unknown)"}[result["dawn"]]
    lines += [
        f"clinical-core mismatch (DAWN): {dawn}",
        result["notice"],
        f"{result['seconds']['total']:.1f} s; look at {out}/report.html; result.json, "
        "overview.png and NIfTI volumes are beside it",
    ]
    return "\n".join(lines)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

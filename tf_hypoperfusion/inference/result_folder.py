"""One patient's files -> a folder with the result, whoever answers: a model here or a server."""

import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from data_tools import cohort
from data_tools.criteria import DEFUSE3
from data_tools.dicom.origin import Origin, origin_of
from data_tools.given_core import load_given_core
from data_tools.grid import TMAX_HYPOPERFUSION_S
from data_tools.overrides import NONE, Overrides
from data_tools.patient import NativePatient, load_native
from data_tools.runtime import atomic, progress
from data_tools.runtime.errors import InputError
from tf_hypoperfusion import clinical, provenance
from tf_hypoperfusion.clinical import ClinicalFacts, TargetMismatch
from tf_hypoperfusion.config import RESEARCH_NOTICE
from tf_hypoperfusion.inference import (
    cautions,
    comparison,
    deciding_core,
    dicom_objects,
    prediction,
    result_files,
    wording,
)
from tf_hypoperfusion.inference.calibration import NO_CORE_KNOWN, TELLS
from tf_hypoperfusion.inference.deciding_core import WORDS, CoreWish
from tf_hypoperfusion.inference.model_files import ModelInfo
from tf_hypoperfusion.inference.page import pdf
from tf_hypoperfusion.inference.prediction import (
    NOT_CALIBRATED,
    Calibrated,
    Prediction,
    VolumePredictor,
)
from tf_hypoperfusion.inference.result import (
    Answer,
    Criterion,
    Defuse3,
    InputImages,
    PatientResult,
    Replaced,
    Seconds,
)
from tf_hypoperfusion.inference.result_files import DEFAULT, OutputOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Backend:
    """Something that answers for a patient.

    Attributes:
        answers: one :data:`prediction.VolumePredictor` for each model, or a server's.
        models: a function that says, after the answer, what is known of each model.
        stride: slices between windows; None if only the server knows.
        fast: less is computed than usual, and results say so.
        calibrated: how the average of the answers is calibrated.
        refuses_one_image: why a patient without DWI or ADC cannot be answered; None if one can, or
            a server will say.
    """

    answers: Sequence[VolumePredictor]
    models: Callable[[], Sequence[ModelInfo]]
    stride: int | None
    fast: bool = False
    calibrated: Calibrated = NOT_CALIBRATED
    refuses_one_image: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatientFiles:
    """What is predicted from.

    Attributes:
        dwi: image file or folder of DICOM files; None where there is an ADC map only.
        adc: image file, or None where ``dwi`` holds what is needed or must do alone.
        given: clinical facts.
        b0: image file of b = 0, if it is apart from the DWI.
        overrides: what a person says of the images.
        core: image file of a core that decides, or ``none``; None without one.
        core_may_be_empty: that file may hold no core.
        tmax: image file of Tmax in s, to compare with.
        truth: mask of the hypoperfusion that a person edited, to compare with.
        tmax_threshold_s: from which on that Tmax is hypoperfusion.
        name: in the result; None takes the DWI's file name, or else the ADC map's.
        replaces: an earlier answer about the same study.
        warnings: that its result has before all others, such as where a fact was read.
    """

    dwi: str | None
    adc: str | None
    given: ClinicalFacts
    b0: str | None = None
    overrides: Overrides = NONE
    core: str | None = None
    core_may_be_empty: bool = False
    tmax: str | None = None
    truth: str | None = None
    tmax_threshold_s: float = TMAX_HYPOPERFUSION_S
    name: str | None = None
    replaces: Replaced | None = None
    warnings: tuple[str, ...] = ()


def parse_nihss(text: str) -> int | None:
    """``n/a`` -> None, a whole number as a table may have it (12, 12.0) -> int.

    Args:
        text: as it was typed.

    Raises:
        InputError: for anything else.
    """
    number = cohort.number("nihss", text)
    return None if number is None else int(number)


def predict(
    files: PatientFiles, out: str, connect: Callable[[], Backend], *,
    options: OutputOptions = DEFAULT, log: Callable[[str], None] | None = None,
    fingerprint: str | None = None,
) -> PatientResult:  # fmt: skip
    """Read, ask, build the result, draw, write; says what it is doing.

    Args:
        files: images and facts of the patient.
        out: folder for the result.
        connect: loads the model or finds the server, once the images are known to be good.
        options: what else is made.
        log: gets what is being done, and every warning; default: standard error.
        fingerprint: of all that the result depends on; kept in it.

    Raises:
        InputError: images, model or server that cannot be used.
    """
    log = log or _say
    answered = answer(files, connect, options=options, log=log, fingerprint=fingerprint, out=out)
    log("drawing report.html")
    result = write(answered, out, options)
    for warning in result.warnings:
        log(f"WARNING: {warning}")
    return result


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answered:
    """A patient who was answered and of whom nothing is written yet.

    Attributes:
        done: the measured patient.
        result: built from it; its seconds lack the drawing.
        sources: the scanner's images that DICOM objects refer to.
    """

    done: Prediction
    result: PatientResult
    sources: Sequence[Any] = ()


def write(answered: Answered, out: str, options: OutputOptions = DEFAULT) -> PatientResult:
    """Draw a result and write its folder.

    Args:
        answered: of :func:`answer`.
        out: folder for the result.
        options: what is made.

    Returns:
        The result with the seconds of all steps.
    """
    progress.now("drawing the result")
    clock, result = prediction.Clock(), answered.result
    drawn = result_files.draw(
        answered.done, result, options, dicom_sources=answered.sources, clock=clock
    )
    result = dataclasses.replace(result, seconds=_with_total(result.seconds, clock))
    result_files.write(drawn, result, out)
    return result


def answer(
    files: PatientFiles, connect: Callable[[], Backend], *,
    options: OutputOptions = DEFAULT, log: Callable[[str], None],
    fingerprint: str | None = None, out: str | None = None,
) -> Answered:  # fmt: skip
    """Read, ask, build the result; nothing is written.

    Args:
        files: images and facts of the patient.
        connect: loads the model or finds the server, once the images are known to be good.
        options: what else is made.
        log: gets what is being done.
        fingerprint: of all that the result depends on; kept in it.
        out: folder that the result will go to, tried before anything is computed.

    Raises:
        InputError: images, model or server that cannot be used.
    """
    progress.now("reading the images")
    began = time.monotonic()
    native = load_native(
        files.dwi, files.adc, files.tmax, files.truth, b0=files.b0, overrides=files.overrides,
        may_lack_one=True,
    )  # fmt: skip
    native = dataclasses.replace(native, tmax_threshold_s=files.tmax_threshold_s)
    given_core = None
    if files.core:
        given_core = load_given_core(files.core, native, may_be_empty=files.core_may_be_empty)
        native = dataclasses.replace(native, notes=(*native.notes, *given_core.notes))
    sources = dicom_objects.sources_of(files.dwi, native.dicom_source) if options.dicom else []
    if options.pdf:
        pdf.browser()
    if out is not None:
        atomic.check_writable(out)
    read = time.monotonic()
    unit = f" (ADC in {native.adc_unit})" if native.adc_unit else ""
    log(f"read {' and '.join(filter(None, (files.dwi, files.adc)))}{unit}")
    for note in native.notes:
        log(note)
    progress.now("loading the model")
    backend = connect()
    if native.missing and backend.refuses_one_image:
        raise InputError(_refusal(native.missing, backend.refuses_one_image))
    loaded = time.monotonic()
    log("registering and predicting, some seconds")
    done = prediction.predict_patient(
        native,
        files.given,
        backend.answers,
        options.second_opinion,
        calibrated=backend.calibrated,
        wish=CoreWish(given_core.mask if given_core else None, options.core_by),
    )
    seconds = Seconds(read=round(read - began, 3), load_model=round(loaded - read, 3),
                      **done.seconds)  # fmt: skip
    result = build_result(files, done, backend, seconds=seconds, fingerprint=fingerprint)
    return Answered(done=done, result=result, sources=sources)


def build_result(
    files: PatientFiles, done: Prediction, backend: Backend, *,
    seconds: Seconds, fingerprint: str | None = None,
) -> PatientResult:  # fmt: skip
    """The result of a measured patient; the one place where it is put together.

    Args:
        files: what was predicted from.
        done: the measured patient.
        backend: who answered.
        seconds: of the steps so far.
        fingerprint: of all that the result depends on.
    """
    models = tuple(backend.models())
    core = done.core.core
    ratio, mismatch_ml = None, None
    if done.decision is not None:
        ratio, mismatch_ml = done.decision.ratio, done.decision.difference_ml
    return PatientResult(
        notice=RESEARCH_NOTICE,
        patient=files.name or Path(files.dwi or files.adc or "").name.split(".")[0],
        given=files.given,
        side=done.side.side,
        side_found=done.side.found,
        side_share=done.side.share,
        missing=done.native.missing,
        hypoperfusion_ml=round(done.hypoperfusion_ml, 2),
        core_ml=_rounded(done.core.native_ml, 2),
        hypoperfusion_mni_ml=round(done.hypoperfusion_mni_ml, 2),
        core_mni_ml=_rounded(done.core.mni_ml, 2),
        core_by=done.cores.by,
        core_rule_ml=_rounded(done.cores.rule_ml, 2),
        core_learnt_ml=_rounded(done.cores.learnt_ml, 2),
        mismatch_ratio=_rounded(ratio, 3),
        mismatch_ml=_rounded(mismatch_ml, 2),
        defuse3=_defuse3(done.decision, done.core.native_ml),
        answer=done.answer,
        dawn=None
        if core is None
        else clinical.dawn(files.given.age, files.given.nihss, core.native_ml),
        comparison=comparison.of(done, tmax=files.tmax, mask=files.truth),
        uncertainty=done.uncertainty,
        warnings=(*files.warnings, *cautions.warnings_of(done, models)),
        registration=done.quality.registration,
        probability_threshold=done.threshold,
        seconds=seconds,
        stride_slices=backend.stride,
        fast=backend.fast,
        input=_images(files, done.native),
        models=models,
        fingerprint=fingerprint,
        software=provenance.software(),
        replaces=files.replaces,
    )


def summary(result: PatientResult, out: str) -> str:
    """The result as a person reads it in a terminal.

    Args:
        result: of :func:`predict`.
        out: the folder that it is in.
    """
    criteria = result.defuse3
    known = f"hypoperfusion {result.hypoperfusion_ml:.1f} mL, "
    if result.core_ml is None:
        known += "core not known"
    else:
        known += (
            f"core {result.core_ml:.1f} mL, mismatch {result.mismatch_ml:.1f} mL, "
            f"ratio {result.mismatch_ratio:.1f}"
        )
    lines = [
        known,
        *([f"side: {result.side_words}"] if result.side_found else []),
        *_cores(result),
        *_interval(result.answer),
        "target mismatch (DEFUSE 3): " + _said(result.answer),
    ]
    for name in ("ratio", "difference_ml", "core_ml"):
        criterion: Criterion = getattr(criteria, name)
        if criterion.value is not None:
            state = "met" if criterion.met else "not met"
            lines.append(f"  {name} {criterion.value:g} {criterion.required}: {state}")
    lacking = "core" if result.core_ml is None else "age or NIHSS"
    dawn = {True: "YES", False: "NO", None: f"n/a ({lacking} unknown)"}[result.dawn]
    lines += [
        f"clinical-core mismatch (DAWN): {dawn}",
        *([comparison.in_words(result.comparison)] if result.comparison else []),
        *([result.shortcut] if result.fast else []),
        result.notice,
        f"{result.seconds.total:.1f} s; report.html, result.json, overview.png and "
        f"NIfTI volumes are in {out}",
    ]
    return "\n".join(lines)


def _cores(result: PatientResult) -> list[str]:
    """Whose core decides and what the others say, where there are others."""
    others = deciding_core.others(
        result.core_by, rule_ml=result.core_rule_ml, learnt_ml=result.core_learnt_ml
    )
    if result.core_by is None or (not others and result.core_by == "rule"):
        return []
    words = "".join(f"; {ml:.1f} mL by the {WORDS[by]}" for by, ml in others.items())
    return [f"this core is that of the {WORDS[result.core_by]}{words}"]


def _interval(answer: Answer) -> list[str]:
    if answer.interval_ml is None or answer.coverage is None:
        return []
    low, high = answer.interval_ml
    return [
        f"true hypoperfusion {wording.rounded(low)} to {wording.ml(high)} in "
        f"{answer.coverage:.0%} of patients like those of the calibration"
    ]


def _said(answer: Answer) -> str:
    if answer.target_mismatch == "unsure":
        reason = f" ({NO_CORE_KNOWN})" if NO_CORE_KNOWN in answer.reasons else ""
        return f"UNSURE, {TELLS}{reason}"
    return answer.target_mismatch.upper()


def _refusal(missing: str, why: str) -> str:
    """What is said where an image is missing and who answers needs both."""
    what, flag = ("DWI", "--dwi") if missing == "DWI" else ("ADC map", "--adc")
    return (
        f"there is no {what}, and {why}; expected {flag}, or a model trained with inputs left out "
        "(training.randomisation of its config.json or card names them)"
    )


def _defuse3(decision: TargetMismatch | None, core_ml: float | None) -> Defuse3:
    """Each criterion; without a decision only what it asks for."""
    ratio, difference = f">= {DEFUSE3.min_ratio}", f">= {DEFUSE3.min_difference_ml:g}"
    core = f"<= {DEFUSE3.max_core_ml:g}"
    if decision is None:
        return Defuse3(
            ratio=_criterion(None, ratio, None),
            difference_ml=_criterion(None, difference, None),
            core_ml=_criterion(None, core, None),
            target_mismatch=None,
        )
    return Defuse3(
        ratio=_criterion(decision.ratio, ratio, decision.ratio_met),
        difference_ml=_criterion(decision.difference_ml, difference, decision.difference_met),
        core_ml=_criterion(core_ml, core, decision.core_met),
        target_mismatch=decision.target_mismatch,
    )


def _criterion(value: float | None, required: str, met: bool | None) -> Criterion:
    return Criterion(value=_rounded(value, 3), required=required, met=met)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _images(files: PatientFiles, native: NativePatient) -> InputImages:
    return InputImages(
        dwi=files.dwi,
        adc=files.adc,
        adc_unit=native.adc_unit,
        b_value_s_per_mm2=native.b_value,
        notes=tuple(native.notes),
        b0=files.b0,
        core=files.core,
        overrides=dict(native.overrides),
        origin=_origin(native),
    )


def _origin(native: NativePatient) -> Origin | None:
    source = native.dicom_source
    return None if source is None else origin_of(source.files[0], source.name)


def _with_total(seconds: Seconds, drawing: prediction.Clock) -> Seconds:
    drawn = dataclasses.replace(seconds, **drawing.laps)
    steps = dataclasses.asdict(drawn)
    return dataclasses.replace(drawn, total=round(sum(steps.values()), 3))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

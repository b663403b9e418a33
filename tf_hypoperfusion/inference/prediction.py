"""One patient through a predictor: native images -> probability, masks and mL, nothing written.

Knows no TensorFlow: the predictor may be a Keras model, a SavedModel or a server.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from data_tools import intensity, native_truth, patient
from data_tools.core_examination import CoreFindings, known_core
from data_tools.native_truth import NativeTruth
from data_tools.patient import MniPatient, NativePatient
from data_tools.quality import ImageQuality
from data_tools.runtime import progress
from tf_hypoperfusion import clinical
from tf_hypoperfusion.clinical import ClinicalFacts, TargetMismatch
from tf_hypoperfusion.config import CORE_THRESHOLD, PROBABILITY_THRESHOLD
from tf_hypoperfusion.inference import (
    calibration,
    deciding_core,
    familiarity,
    stroke_side,
    uncertainty,
)
from tf_hypoperfusion.inference.calibration import Calibration
from tf_hypoperfusion.inference.deciding_core import Cores, CoreWish, LearntCore
from tf_hypoperfusion.inference.result import Answer, Uncertainty
from tf_hypoperfusion.inference.sliding_window import (
    Predictor,
    VolumeAnswer,
    model_image,
    predict_volume,
)
from tf_hypoperfusion.inference.stroke_side import StrokeSide

# Whoever answers about a patient on the MNI grid, a model here or a server. Who gives an average
# only has one network.
VolumePredictor = Callable[[MniPatient, ClinicalFacts], VolumeAnswer]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
    """What was measured of a patient; images and masks lie on the DWI's own grid.

    Attributes:
        native: the images it was made from.
        mni: the patient on the MNI grid, as the models see it.
        given: clinical facts.
        side: of the stroke, as given or as the answer shows it.
        quality: of images and fit to the template; see :func:`data_tools.patient.to_mni`.
        core: that decides, on both grids, with what a person should look at.
        cores: whose that is, and what others there are.
        probability: float32, shape of the DWI, 0 outside the brain and in CSF; calibrated if those
            who answered are.
        probability_mni: float32 (91, 109, 60), for pictures.
        hypoperfusion: bool, shape of the DWI, probability >= ``threshold``.
        hypoperfusion_mni: bool (91, 109, 60).
        disagreement: float32, standard deviation of the opinions' probabilities, or None.
        uncertainty: what the opinions mean for volume and decision; None for a single one.
        hypoperfusion_ml: on the DWI's grid; the figure that counts.
        hypoperfusion_mni_ml: mL of the patient's tissue, counted on the MNI grid.
        decision: target mismatch, by the volume as it is; None where no core is known.
        answer: the same with what is known of the volume's error.
        seconds: ``register``, ``network`` and ``way_back``.
        threshold: 0.5, or where the calibration cuts.
        truth: what perfusion imaging showed; it has changed nothing of all this. None if not given.
    """

    native: NativePatient
    mni: MniPatient
    given: ClinicalFacts
    side: StrokeSide
    quality: ImageQuality
    core: CoreFindings
    cores: Cores
    probability: NDArray[np.float32]
    probability_mni: NDArray[np.float32]
    hypoperfusion: NDArray[np.bool_]
    hypoperfusion_mni: NDArray[np.bool_]
    disagreement: NDArray[np.float32] | None
    uncertainty: Uncertainty | None
    hypoperfusion_ml: float
    hypoperfusion_mni_ml: float
    decision: TargetMismatch | None
    answer: Answer
    seconds: dict[str, float]
    threshold: float = PROBABILITY_THRESHOLD
    truth: NativeTruth | None = None


@dataclasses.dataclass(frozen=True)
class Calibrated:
    """How probabilities become honest ones.

    Attributes:
        known: the calibration of those who answer, once they have answered; None if there is none.
        by_server: the answers are calibrated already.
    """

    known: Callable[[], Calibration | None]
    by_server: bool = False


WITH_BOTH = "the model was calibrated on patients with both DWI and ADC"
NOT_CALIBRATED = Calibrated(lambda: None)
ANY_CORE = CoreWish()


def volume_predictor(predictor: Predictor, stride: int, cores: bool = False) -> VolumePredictor:
    """Answer with overlapping windows through a predictor of slabs.

    Args:
        predictor: see :mod:`sliding_window`.
        stride: slices between windows.
        cores: the predictor's last channel is the core's.
    """

    def answer(mni: MniPatient, given: ClinicalFacts) -> VolumeAnswer:
        image = model_image(mni.dwi, mni.adc_um2_per_s, mni.brain, given.side)
        # CSF is in no label that the network learnt from, so it is in no prediction either.
        tissue = intensity.tissue_of(mni.dwi, mni.adc_um2_per_s, mni.brain)
        nihss = intensity.nihss_feature(given.nihss)
        return predict_volume(
            predictor, image, nihss=nihss, stride=stride, tissue=tissue, cores=cores
        )

    return answer


def predict_patient(
    native: NativePatient,
    given: ClinicalFacts,
    answers: Sequence[VolumePredictor],
    second_opinion: bool = True,
    *,
    calibrated: Calibrated = NOT_CALIBRATED,
    wish: CoreWish = ANY_CORE,
) -> Prediction:
    """Register, examine the core, ask, calibrate, take the way back, measure, decide.

    Where the side is unknown, both are asked about, and the larger answer is taken. Without a core
    nothing is decided. Volumes and the decision are those of the patient's own grid; the same
    volumes counted on the MNI grid (in mL of the patient's tissue) stand beside them.

    Args:
        native: from :func:`data_tools.patient.load_native`.
        given: clinical facts.
        answers: one of :func:`volume_predictor` for each model, or a server's; all their networks
            are averaged.
        second_opinion: ask a single network about the mirror image too; see :mod:`uncertainty`.
        calibrated: how the average of those who answer is calibrated.
        wish: whose core decides.

    Raises:
        InputError: if the images hold no brain tissue, or as :func:`deciding_core.choose`.
    """
    clock = Clock()
    progress.now("registering the head to the template")
    mni, quality = patient.to_mni(native)
    by_rule = known_core(native, mni)
    clock.lap("register")
    progress.now("asking the network")
    asked = {
        side: uncertainty.ask(answers, mni, dataclasses.replace(given, side=side), second_opinion)
        for side in stroke_side.to_ask(given.side)
    }
    known = calibrated.known()
    if known is not None and not calibrated.by_server:
        asked = {side: uncertainty.calibrated(each, known) for side, each in asked.items()}
    threshold = PROBABILITY_THRESHOLD if known is None else known.cut
    taken, side = stroke_side.choose(
        given.side,
        {name: float((o.mean >= threshold).sum() * mni.voxel_ml) for name, o in asked.items()},
    )
    opinions = asked[taken]
    clock.lap("network")
    progress.now("taking the answer to the patient's own space")
    several = opinions.each if len(opinions.each) > 1 else ()
    probability, *each = _on_dwi_grid([opinions.mean, *several], native, mni)
    cores = _on_dwi_grid(opinions.cores, native, mni)
    hypoperfusion = probability >= threshold
    hypoperfusion_mni = opinions.mean >= threshold
    core, known_cores = deciding_core.choose(
        native,
        mni,
        side,
        by_rule=by_rule,
        learnt=LearntCore(cores[0], opinions.cores[0]) if cores else None,
        wish=wish,
    )
    clock.lap("way_back")
    voxel_ml = native.dwi.voxel_ml
    hypoperfusion_ml = float(hypoperfusion.sum() * voxel_ml)
    decision, core_ml = None, core.native_ml
    if core_ml is not None:
        decision = clinical.defuse3(hypoperfusion_ml, core_ml)
    each_ml = [float((v >= threshold).sum() * voxel_ml) for v in each]
    each_core_ml = [core_ml or 0.0] * len(each)
    if known_cores.by == "learnt" and opinions.kind == "mirror":  # which has a core of its own
        each_core_ml = [float((v >= CORE_THRESHOLD).sum() * voxel_ml) for v in cores]
    return Prediction(
        native=native,
        mni=mni,
        given=given,
        side=side,
        quality=quality,
        core=core,
        cores=known_cores,
        probability=probability,
        probability_mni=opinions.mean,
        hypoperfusion=hypoperfusion,
        hypoperfusion_mni=hypoperfusion_mni,
        disagreement=np.std(each, axis=0) if each else None,
        uncertainty=uncertainty.figures(
            opinions.kind,
            each_ml,
            None if core_ml is None else each_core_ml,
            None if decision is None else decision.target_mismatch,
        ),
        hypoperfusion_ml=hypoperfusion_ml,
        hypoperfusion_mni_ml=float(hypoperfusion_mni.sum() * mni.voxel_ml),
        decision=decision,
        answer=calibration.answer(
            known,
            hypoperfusion_ml=hypoperfusion_ml,
            core_ml=core_ml,
            unfamiliar=_unfamiliar(mni, known, native.missing),
        ),
        seconds=clock.laps,
        threshold=threshold,
        truth=native_truth.of_patient(native, core.native),
    )


def _unfamiliar(mni: MniPatient, known: Calibration | None, missing: str | None) -> tuple[str, ...]:
    """In what the image is unlike those of the calibration."""
    if known is None:
        return ()
    lacking = () if missing is None else (WITH_BOTH,)
    if not known.familiar:
        return lacking
    dwi, adc = intensity.normalise(mni.dwi, mni.adc_um2_per_s, mni.brain)
    tissue = intensity.tissue_of(mni.dwi, mni.adc_um2_per_s, mni.brain)
    found = familiarity.unlike(familiarity.measure(dwi, adc, tissue), known.familiar)
    return (*lacking, *found)


def _on_dwi_grid(
    volumes: Sequence[NDArray[np.float32]], native: NativePatient, mni: MniPatient
) -> list[NDArray[np.float32]]:
    """Probabilities of the MNI grid on the DWI's own; 0 outside tissue."""
    outside = ~intensity.tissue_of(native.dwi.data, native.adc.data, native.brain)
    found = [mni.transform.back(volume, native.dwi) for volume in volumes]
    for volume in found:
        volume[outside] = 0
    return found


class Clock:
    """Seconds of each step."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        """End a step.

        Args:
            name: of the step that ends here.
        """
        now = time.monotonic()
        self.laps[name] = round(now - self._last, 3)
        self._last = now

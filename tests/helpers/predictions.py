"""A measured patient without the measuring."""

from types import SimpleNamespace

import numpy as np

from data_tools.core_examination import Core, CoreFindings
from data_tools.patient import MniPatient
from data_tools.quality import ImageQuality
from data_tools.transform import Transform
from tf_hypoperfusion import clinical
from tf_hypoperfusion.clinical import ClinicalFacts
from tf_hypoperfusion.inference import calibration, prediction
from tf_hypoperfusion.inference.deciding_core import Cores
from tf_hypoperfusion.inference.model_files import ModelInfo
from tf_hypoperfusion.inference.prediction import Prediction
from tf_hypoperfusion.inference.result_folder import Backend
from tf_hypoperfusion.inference.stroke_side import StrokeSide

NOTHING_MNI = np.zeros((91, 109, 60), bool)


def mni_patient(brain=NOTHING_MNI, affine=None):
    """A patient on the grid of whom only the brain is known."""
    images = np.zeros(brain.shape, np.float32)
    transform = Transform(np.eye(4) if affine is None else affine)
    return MniPatient(
        dwi=images, adc_um2_per_s=images, brain=brain, coverage=brain, transform=transform
    )


def core_findings(core, core_mni=NOTHING_MNI, core_ml=0.0, alarms=()):
    """A core without an examination."""
    known = Core(native=core, mni=core_mni, native_ml=core_ml, mni_ml=core_ml)
    return CoreFindings(core=known, delayed=None, alarms=tuple(alarms), warnings=())


def prediction_of(
    native=None, *, given=None, core=None, hypoperfusion=None, hypoperfusion_mni=NOTHING_MNI,
    probability=None, hypoperfusion_ml=0.0, warnings=(), mni=None, cores=None, side=None,
):  # fmt: skip
    """A prediction of which only what is given means something."""
    core = core or core_findings(NOTHING_MNI)
    given = given or ClinicalFacts("left", 5)
    return Prediction(
        native=native or SimpleNamespace(missing=None),
        mni=mni or mni_patient(),
        given=given,
        side=side or StrokeSide(side=given.side),
        quality=ImageQuality(None, tuple(warnings)),
        core=core,
        cores=cores or Cores(by=core.core and "rule", rule_ml=core.native_ml),
        probability=probability,
        probability_mni=np.zeros((91, 109, 60), np.float32),
        hypoperfusion=hypoperfusion,
        hypoperfusion_mni=hypoperfusion_mni,
        disagreement=None,
        uncertainty=None,
        hypoperfusion_ml=hypoperfusion_ml,
        hypoperfusion_mni_ml=hypoperfusion_ml,
        decision=core.core and clinical.defuse3(hypoperfusion_ml, core.native_ml),
        answer=calibration.answer(None, hypoperfusion_ml=hypoperfusion_ml, core_ml=core.native_ml),
        seconds={},
    )


def corner_predictor(image, nihss):
    """Likely in the left front quarter of the head only: no symmetry hides a wrong turn."""
    result = np.full((*image.shape[:4], 1), 0.1, np.float32)
    result[:, :63, 70:] = 0.8
    return result


def corner_backend():
    """Who answers so, at once."""
    known = ModelInfo(path="models/shown/3", sha256="abc", cohort="Simulated", fold=0)
    answers = [prediction.volume_predictor(corner_predictor, 16)]
    return Backend(answers=answers, models=lambda: [known], stride=16)

"""A server that many tests only ask, and what it is asked. Read only.

Their tests stay on one worker (``TOGETHER`` in ``tests/conftest.py``), which starts one server.
"""

import numpy as np
import pytest
from helpers.made_once import made_once
from helpers.serving import STRIDE, ServerProcess

from data_tools.grid import GRID_SHAPE
from data_tools.patient import MniPatient
from data_tools.template import template_on_grid
from data_tools.transform import Transform
from tf_hypoperfusion.inference import rest_client


@pytest.fixture(scope="session")
def serve_extra():
    """Skips where the extra ``serve`` is not installed."""
    for package in ("anyio", "prometheus_client", "starlette", "uvicorn"):
        pytest.importorskip(package)


@pytest.fixture(scope="session")
def stroke_export(networks, tmp_path_factory):
    """The first network as version 1 of "stroke". Read only."""
    from tf_hypoperfusion.serving import saved_model

    def export(folder):
        done = saved_model.export(networks[:1], "stroke", folder, stride=STRIDE)
        assert done == (folder / "stroke/1", False)

    return made_once(tmp_path_factory, "saved_models", export) / "stroke/1"


@pytest.fixture(scope="session")
def saved_models(stroke_export):
    """saved_models with one version of one model."""
    return stroke_export.parents[1]


@pytest.fixture(scope="package")
def server(saved_models, tmp_path_factory, serve_extra):
    """A process that serves ``saved_models``."""
    log = tmp_path_factory.mktemp("server") / "log"
    serve = ServerProcess(f"--models={saved_models}", "--max_request_mb=40", log=log)
    yield serve
    if serve.process.poll() is None:
        assert serve.stop() == 0


@pytest.fixture(scope="session")
def slab(network_predictors):
    """One window, in numbers that are short as JSON, and the network's answer without a server."""
    image = np.round(np.random.default_rng(0).random((1, 128, 128, 16, 4)), 1)
    nihss = np.array([[0.5]])
    return image, nihss, network_predictors[0](image, nihss)


@pytest.fixture(scope="session")
def made_up_patient():
    """Noise in the template's brain, brighter on DWI and of lower ADC in its tissue."""
    rng = np.random.default_rng(1)
    tissue, brain = template_on_grid()
    fluid = brain & (tissue < 0.5)
    return MniPatient(
        dwi=(brain * rng.uniform(50, 150, GRID_SHAPE) / (1 + fluid)).astype(np.float32),
        adc_um2_per_s=(brain * rng.uniform(500, 1200, GRID_SHAPE) * (1 + fluid)).astype(np.float32),
        brain=brain,
        coverage=brain,
        transform=Transform(np.eye(4)),
    )


@pytest.fixture(scope="session")
def patient_bodies(made_up_patient):
    """Bodies of requests for this patient, by form."""
    volumes = {
        "dwi": made_up_patient.dwi,
        "adc": made_up_patient.adc_um2_per_s,
        "brain_mask": made_up_patient.brain,
    }
    return {
        form: rest_client.volume_request(
            volumes, nihss=14, side="left", voxel_ml=made_up_patient.voxel_ml, form=form
        )
        for form in ("bytes", "volume")
    }


@pytest.fixture(scope="session")
def patient_body(patient_bodies):
    """The smaller of both."""
    return patient_bodies["bytes"]

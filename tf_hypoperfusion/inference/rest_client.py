"""A server's answer for a patient, over TensorFlow Serving's REST interface. No TensorFlow here."""

import base64
import gzip
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from data_tools import intensity
from data_tools.grid import GRID_SHAPE, SLAB_SHAPE
from data_tools.patient import MniPatient
from data_tools.runtime.errors import InputError
from tf_hypoperfusion import config
from tf_hypoperfusion.clinical import ClinicalFacts
from tf_hypoperfusion.config import TEST_STRIDE
from tf_hypoperfusion.inference import calibration, prediction
from tf_hypoperfusion.inference.calibration import Calibration
from tf_hypoperfusion.inference.model_files import ModelInfo, mapping
from tf_hypoperfusion.inference.result_folder import Backend
from tf_hypoperfusion.inference.sliding_window import Predictor, VolumeAnswer

FORMS = ("bytes", "volume", "slabs")
CONNECT_S, READ_S = 5.0, 300.0
RETRIES, BACK_OFF_S = 5, 0.5
PNG_STEPS = 65535.0
# Outputs of volumes, by form.
CORE = "core_probability"
SUFFIXES = {"bytes": "_png_bytes", "volume": ""}


class Server:
    """A model on a server.

    Args:
        url: http://HOST:PORT.
        name: of the model, with /versions/N or /labels/L if wanted.
        token: sent as bearer token.

    Raises:
        InputError: no such server or model, when asked.
    """

    def __init__(self, url: str, name: str, token: str | None = None):
        import requests
        from requests.adapters import HTTPAdapter
        from urllib3.util import Retry

        try:
            parts = urlsplit(url)
            good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # a port beyond 65535
            good = False
        if not good:
            raise InputError(f"--url is {url!r}; expected http://HOST:PORT or https://...")
        self.address = f"{url.rstrip('/')}/v1/models/{name}"
        self.session = requests.Session()
        # A predict request changes nothing on the server, so it may be sent again.
        retry = Retry(
            total=RETRIES,
            backoff_factor=BACK_OFF_S,
            status_forcelist=(429, 502, 503, 504),
            allowed_methods=("GET", "POST"),
            raise_on_status=False,
        )
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, HTTPAdapter(max_retries=retry))
        if token:
            self.session.headers["Authorization"] = f"Bearer {token}"

    def ready(self) -> None:
        """Raise unless the model is available."""
        states = self._ask("GET", "").get("model_version_status", [])
        states = states if isinstance(states, list) else []
        if not any(mapping(state).get("state") == "AVAILABLE" for state in states):
            raise InputError(f"{self.address}: no version is available there yet; try again later")

    def predict(self, body: dict[str, Any]) -> Any:
        """The ``outputs`` or ``predictions`` of a request."""
        answer = self._ask("POST", ":predict", json.dumps(body).encode())
        for key in ("outputs", "predictions"):
            if key in answer:
                return answer[key]
        raise InputError(f"{self.address}: answered without outputs; is it TensorFlow Serving?")

    def slab_outputs(self) -> list[str]:
        """Names of what the signature for slabs gives."""
        told = self._ask("GET", "/metadata")
        for key in ("metadata", "signature_def", "signature_def", "serving_default", "outputs"):
            told = mapping(told.get(key))
        return list(told)

    def _ask(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        import requests

        try:
            response = self.session.request(
                method, self.address + path, data=body, timeout=(CONNECT_S, READ_S)
            )
        except requests.exceptions.RequestException as error:
            reason = getattr(error.args[0] if error.args else error, "reason", error)
            raise InputError(
                f"{self.address} does not answer ({reason}); is the server running there? Tried "
                f"{RETRIES + 1} times."
            ) from error
        try:
            answer = response.json()
        except (ValueError, RecursionError):
            answer = None
        if not response.ok:
            message = answer.get("error") if isinstance(answer, dict) else None
            raise InputError(
                f"{self.address} refused with status {response.status_code}: "
                f"{message or response.reason}"
            )
        if not isinstance(answer, dict):
            raise InputError(f"{self.address}: answered no JSON object; is it TensorFlow Serving?")
        return answer


def backend(
    url: str, name: str, *,
    form: str = "bytes", stride: int | None = None, token_file: str | None = None,
) -> Backend:  # fmt: skip
    """A server as the one who answers for a patient.

    Args:
        url: http://HOST:PORT.
        name: of the model, with /versions/N or /labels/L if wanted.
        form: ``bytes`` (compressed volumes), ``volume`` (JSON) or ``slabs`` (windows cut here).
        stride: slices between windows; for slabs only, since the server cuts the others.
        token_file: its first line is the bearer token.

    Raises:
        InputError: the server does not answer or does not have the model.
    """
    if stride is not None and form != "slabs":
        raise InputError("--stride is the server's own with --form=bytes or volume; leave it out")
    token = read_token(token_file) if token_file else None
    server = Server(url, name, token)
    server.ready()
    if form == "slabs":
        stride = stride or TEST_STRIDE
        answer = prediction.volume_predictor(*_slabs(server, stride))
        unknown = ModelInfo(path=server.address, sha256=None, cohort=None)
        return Backend(
            answers=[answer], models=lambda: [unknown], stride=stride,
            refuses_one_image=f"{server.address} does not say, of slabs, how its model was trained",
        )  # fmt: skip
    known: list[ModelInfo] = []
    calibrations: list[Calibration | None] = [None]

    def by_volume(mni: MniPatient, given: ClinicalFacts) -> VolumeAnswer:
        said, info = _ask_volume(server, mni, given, form)
        known[:] = [_known_origin(server.address, info)]
        calibrations[:] = [calibration.of_card(info, server.address)]
        return said

    calibrated = prediction.Calibrated(lambda: calibrations[0], by_server=True)
    return Backend(answers=[by_volume], models=lambda: known, stride=None, calibrated=calibrated)


def read_token(path: str | Path) -> str:
    """The first line of a file.

    Raises:
        InputError: no such file, or no token in it.
    """
    try:
        token = next(iter(Path(path).read_text(encoding="utf-8").splitlines()), "").strip()
    except (OSError, UnicodeError) as error:
        raise InputError(f"--token_file {path}: not readable ({error})") from error
    if not token or not token.isascii() or not token.isprintable():
        raise InputError(
            f"--token_file {path}: its first line is empty or holds other than plain characters; "
            "expected a token of ASCII letters, digits and signs"
        )
    return token


def _slabs(server: Server, stride: int) -> tuple[Predictor, int, bool]:
    """What :func:`prediction.volume_predictor` takes."""
    # Of a single output a server sends the values, of several each by its name.
    names = [name for name in ("probability", "core") if name in server.slab_outputs()]

    def predict(image: NDArray[np.float32], nihss: NDArray[np.float32]) -> NDArray[np.float32]:
        outputs = server.predict({"inputs": {"image": image.tolist(), "nihss": nihss.tolist()}})
        shape = (len(image), *SLAB_SHAPE, 1)
        if len(names) < 2:
            return _array(outputs, shape, "probability")
        answers = [_array(mapping(outputs).get(name), shape, name) for name in names]
        return np.concatenate(answers, axis=-1)

    return predict, stride, len(names) > 1


def volume_request(
    volumes: Mapping[str, NDArray],
    *,
    nihss: int,
    side: str,
    voxel_ml: float,
    form: str = "bytes",
) -> dict[str, object]:
    """The body of a predict request for one patient.

    Args:
        volumes: ``dwi``, ``adc`` (1e-6 mm2/s) and ``brain_mask`` on the MNI grid.
        nihss: -1 if unknown.
        side: of the lesion.
        voxel_ml: mL of the patient's tissue in a voxel.
        form: ``bytes`` (compressed volumes) or ``volume`` (JSON).
    """
    arrays = {name: np.ascontiguousarray(v, "<f4") for name, v in volumes.items()}
    inputs: dict[str, object]
    if form == "bytes":
        signature = "predict_volume_bytes"
        inputs = {
            name: [{"b64": base64.b64encode(gzip.compress(v.tobytes(), 6, mtime=0)).decode()}]
            for name, v in arrays.items()
        }
    else:
        signature = "predict_volume"
        inputs = {name: [v.tolist()] for name, v in arrays.items()}
    inputs |= {"nihss": [[nihss]], "side": [[side]], "voxel_ml": [[voxel_ml]]}
    return {"signature_name": signature, "inputs": inputs}


def _ask_volume(
    server: Server, mni: MniPatient, given: ClinicalFacts, form: str
) -> tuple[VolumeAnswer, dict[str, Any]]:
    """Probabilities, and what the model says of itself."""
    # Only the brain is used; zeros around it compress to nothing.
    volumes = {
        "dwi": np.where(mni.brain, mni.dwi, 0),
        "adc": np.where(mni.brain, mni.adc_um2_per_s, 0),
        "brain_mask": mni.brain,
    }
    intensity.nihss_feature(given.nihss)
    body = volume_request(
        volumes,
        nihss=-1 if given.nihss is None else given.nihss,
        side=given.side,
        voxel_ml=mni.voxel_ml,
        form=form,
    )
    outputs = server.predict(body)
    try:
        info = json.loads(outputs["model_info"][0][0])
        _known_origin(server.address, info)
        probability = _volume(outputs, "probability", form)
        core = None
        if f"{CORE}{SUFFIXES[form]}" in outputs:
            core = _volume(outputs, CORE, form)
        return VolumeAnswer(probability[np.newaxis], core), info
    except (KeyError, TypeError, ValueError, IndexError, RecursionError, OSError) as error:
        raise InputError(
            f"{server.address}: its answer is not that of a model of tf_hypoperfusion.export "
            f"({type(error).__name__}: {error})"
        ) from error


def _volume(outputs: Mapping[str, Any], name: str, form: str) -> NDArray[np.float32]:
    content = outputs[f"{name}{SUFFIXES[form]}"]
    if form == "volume":
        return _array(content, (1, *GRID_SHAPE), name)[0]
    return _from_png(base64.b64decode(content[0]["b64"]))


def _known_origin(address: str, info: Any) -> ModelInfo:
    """What the model says of itself, if it says it in the way of an export."""
    if not isinstance(info, dict) or not isinstance(info.get("cohort"), str | None):
        raise ValueError("model_info is no description of a model")
    sums, changed = info.get("sha256"), info.get("randomisation")
    return ModelInfo(
        path=address,
        sha256=tuple(map(str, sums)) if isinstance(sums, list) else sums,
        cohort=info.get("cohort"),
        name=info.get("name"),
        version=info.get("version"),
        notice=info.get("notice"),
        frame=config.common_frame([info]),
        randomisation=tuple(map(str, changed)) if isinstance(changed, list) else None,
    )


def _from_png(content: bytes) -> NDArray[np.float32]:
    """Probability of a 16-bit grey PNG; one of 8 bits would be read as a faint one."""
    from PIL import Image

    try:
        image = Image.open(io.BytesIO(content))
        levels = np.asarray(image, np.float64)
    except (OSError, SyntaxError) as error:
        raise ValueError("its picture of probabilities is no PNG") from error
    size = (GRID_SHAPE[0], GRID_SHAPE[1] * GRID_SHAPE[2])
    if not image.mode.startswith("I") or levels.shape != size:
        raise ValueError(
            f"its picture is {levels.shape} of mode {image.mode}; expected 16 bits, {size}"
        )
    return (levels.reshape(GRID_SHAPE) / PNG_STEPS).astype(np.float32)


def _array(values: Any, shape: tuple[int, ...], what: str) -> NDArray[np.float32]:
    try:
        array = np.asarray(values, np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"the server's {what} is no array of numbers ({error})") from error
    if array.shape != shape or not ((array >= 0) & (array <= 1)).all():
        raise InputError(
            f"the server's {what} has shape {array.shape}; expected {shape}, from 0 to 1"
        )
    return array

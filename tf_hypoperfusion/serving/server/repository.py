"""Models on disk -> versions that answer: found, checked, warmed up, replaced, retired.

``BASE/NAME/VERSION`` as TensorFlow Serving reads it. A version serves until its successor is ready;
whoever holds it finishes with it.
"""

import contextlib
import dataclasses
import logging
import re
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from data_tools.grid import GRID_SHAPE
from data_tools.runtime.errors import InputError
from tf_hypoperfusion.inference import model_files
from tf_hypoperfusion.serving import graph as serving_graph
from tf_hypoperfusion.serving import saved_model
from tf_hypoperfusion.serving.server.errors import ServingError

LOADING, AVAILABLE, END = "LOADING", "AVAILABLE", "END"
# More in one request would hold everybody else up: a patient takes seconds.
MAX_SLABS, MAX_PATIENTS = 64, 8
MAX_ROWS = {"predict_volume": MAX_PATIENTS, "predict_volume_bytes": MAX_PATIENTS}
log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class ModelPolicy:
    """Which versions of a model are served.

    Attributes:
        name, folder: of the model; its versions are ``folder/1``, ``folder/2``...
        latest: how many of the newest; ignored where ``versions`` names some.
        versions: these only; () for the newest. labels: word -> version.
    """

    name: str
    folder: Path
    latest: int = 1
    versions: tuple[int, ...] = ()
    labels: dict[str, int] = dataclasses.field(default_factory=dict)


class Version:
    """A loaded version: its signatures, checked at the door."""

    def __init__(self, name: str, number: int, folder: Path):
        self.name, self.number, self.folder = name, number, folder
        damaged = model_files.damaged(folder) if (folder / model_files.CHECKSUMS).is_file() else []
        if damaged:
            raise InputError(f"{folder}: damaged or missing: {', '.join(damaged)}; export again")
        self.model = tf.saved_model.load(str(folder))
        self.signatures: dict[str, Any] = dict(self.model.signatures)
        # Read now: the folder may be gone when somebody asks.
        saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
        self.definitions: dict[str, Any] = {
            key: value
            for key, value in saved.meta_graphs[0].signature_def.items()
            if key in self.signatures
        }

    def specs(self, signature: str) -> dict[str, tf.TensorSpec]:
        """Inputs of a signature."""
        return self._signature(signature).structured_input_signature[1]

    def outputs(self, signature: str) -> dict[str, tf.TensorSpec]:
        """Outputs of a signature."""
        return self._signature(signature).structured_outputs

    def _signature(self, signature: str) -> Any:
        if signature not in self.signatures:
            raise ServingError(
                "INVALID_ARGUMENT",
                f"signature {signature!r} is not in {self.name} version {self.number}; expected "
                f"one of {', '.join(sorted(self.signatures))}",
            )
        return self.signatures[signature]

    def check(self, signature: str, given: Mapping[str, tuple[str, Sequence[int]]]) -> None:
        """Refuse other names, types, ranks and sizes than the signature's, before any is decoded.

        A wrong rank must never reach the network (oneDNN would end the process), and inputs of
        different lengths must not be joined with other clients'.

        Args:
            given: TensorFlow's name of the type, and the shape, of each input.
        """
        specs = self.specs(signature)
        if set(given) != set(specs):
            missing, odd = sorted(set(specs) - set(given)), sorted(set(given) - set(specs))
            raise _bad(
                f"inputs do not match signature {signature!r}: missing {missing}, unknown {odd}"
            )
        for name, spec in specs.items():
            dtype, shape = given[name]
            if dtype != spec.dtype.name or not spec.shape.is_compatible_with(shape):
                expected = str(spec.shape.as_list()).replace("None", "null")
                raise _bad(
                    f"{name}: shape {list(shape)} of {dtype}; expected {expected} of "
                    f"{spec.dtype.name} (null is any number)"
                )
            if 0 in shape:
                raise _bad(f"{name}: is empty; expected one at least")
        rows = {name: given[name][1][0] for name, spec in specs.items() if spec.shape.rank}
        if len(set(rows.values())) > 1:
            raise _bad(f"inputs have different numbers of rows: {rows}; expected one number")
        most = MAX_ROWS.get(signature, MAX_SLABS)
        if rows and max(rows.values()) > most:
            raise _bad(f"{max(rows.values())} rows in one request; expected {most} at most")

    def check_arrays(self, signature: str, inputs: Mapping[str, np.ndarray]) -> None:
        """:meth:`check` of decoded inputs, and that compressed volumes expand to their size."""
        self.check(
            signature,
            {
                name: ("string" if array.dtype == object else array.dtype.name, array.shape)
                for name, array in inputs.items()
            },
        )
        if signature == "predict_volume_bytes":
            for name in serving_graph.VOLUMES:
                for value in inputs[name]:
                    _check_compressed(name, value)

    def run(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Answer checked inputs."""
        call = self._signature(signature)
        try:
            answer = call(**{name: tf.constant(value) for name, value in inputs.items()})
            return {name: value.numpy() for name, value in answer.items()}
        except (tf.errors.OpError, ValueError, TypeError) as error:
            raise explain(error) from error


def _bad(message: str) -> ServingError:
    return ServingError("INVALID_ARGUMENT", message)


def _check_compressed(name: str, value: bytes) -> None:
    """A small request must not become gigabytes inside the graph."""
    expected = int(np.prod(GRID_SHAPE)) * 4
    message = f"{name}: expected the gzip of {GRID_SHAPE} float32 values ({expected} bytes)"
    reader = zlib.decompressobj(wbits=31)
    try:
        size = len(reader.decompress(value, expected + 1))
    except (zlib.error, TypeError) as error:
        raise _bad(f"{message}; found {error}") from error
    if size != expected or not reader.eof:
        raise _bad(f"{message}; it holds {'more' if size > expected else f'{size}'}")


def explain(error: Exception) -> ServingError:
    """A TensorFlow error in the words of the check that failed, where one did."""
    text = str(error)
    found = re.search(r"assertion failed: \[(.*?)\](?:\s*\[|\s*$)", text, re.S | re.M)
    known = isinstance(error, (tf.errors.InvalidArgumentError, tf.errors.DataLossError))
    if found:
        return ServingError("INVALID_ARGUMENT", found.group(1).replace("\\'", "'"))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    short = next((x for x in lines if not x.startswith(("Graph", "Detected", "<"))), text)[:300]
    return ServingError("INVALID_ARGUMENT" if known else "INTERNAL", short)


class Repository:
    """The models being served; :meth:`refresh` follows the folders.

    Args:
        policies: asked again at every refresh, so that new models are found.
    """

    def __init__(self, policies: Callable[[], list[ModelPolicy]]):
        self._policies = policies
        self._lock = threading.Lock()
        self._versions: dict[str, dict[int, Version]] = {}
        self._states: dict[str, dict[int, tuple[str, str]]] = {}
        self._labels: dict[str, dict[str, int]] = {}
        self._failed: dict[Path, Any] = {}  # folder -> its files when it could not be loaded

    def refresh(self) -> None:
        """Load what is new, then retire what is old.

        A version that cannot be loaded is skipped until its files change.
        """
        policies = self._policies()
        self._forget({policy.name for policy in policies})
        for policy in policies:
            present = saved_model.versions(policy.folder)
            wanted = [v for v in present if v in policy.versions or not policy.versions]
            wanted = wanted if policy.versions else wanted[-policy.latest :]
            loaded = dict(self._versions.get(policy.name, {}))
            for number in wanted:
                folder = policy.folder / str(number)
                if number in loaded or self._failed.get(folder, ()) == _files(folder):
                    continue
                files = _files(folder)
                version = self._load(policy, number)
                if version:
                    loaded[number] = version
                else:
                    self._failed[folder] = files
            # Old ones leave only when a wanted one is ready.
            ready = {n: v for n, v in loaded.items() if n in wanted}
            with self._lock:
                self._versions[policy.name] = ready or loaded
                self._labels[policy.name] = policy.labels
                states = self._states.setdefault(policy.name, {})
                for number in set(loaded) - set(self._versions[policy.name]):
                    states[number] = (END, "")
                    log.info("%s version %d: retired", policy.name, number)
                for number in set(states) - set(self._versions[policy.name]) - set(present):
                    del states[number]

    def _forget(self, names: set[str]) -> None:
        """Retire models that are no longer to be served."""
        with self._lock:
            for name in set(self._states) - names:
                log.info("%s: no longer served", name)
                for known in (self._versions, self._states, self._labels):
                    known.pop(name, None)

    def _load(self, policy: ModelPolicy, number: int) -> Version | None:
        self._set_state(policy.name, number, LOADING, "")
        try:
            version = Version(policy.name, number, policy.folder / str(number))
            for signature, inputs in _warmup(version):
                version.check_arrays(signature, inputs)
                version.run(signature, inputs)
        except Exception as error:  # whatever lies in the folder: the others go on
            reason = str(getattr(error, "message", error)).splitlines()[0][:300]
            self._set_state(policy.name, number, END, reason)
            log.error("%s version %d: not served: %s", policy.name, number, reason)
            return None
        self._set_state(policy.name, number, AVAILABLE, "")
        log.info("%s version %d: available", policy.name, number)
        return version

    def _set_state(self, name: str, number: int, state: str, reason: str) -> None:
        with self._lock:
            self._states.setdefault(name, {})[number] = (state, reason)

    def get(self, name: str, number: int | None = None, label: str | None = None) -> Version:
        """A version to run: by number, by label, or the newest."""
        with self._lock:
            versions = self._versions.get(name, {})
            if label is not None:
                number = self._labels.get(name, {}).get(label)
                if number is None:
                    raise ServingError("NOT_FOUND", f"{name} has no label {label!r}")
            if not versions or (number is not None and number not in versions):
                wanted = "Latest" if number is None else f"Specific version {number}"
                raise ServingError("NOT_FOUND", f"Servable not found for request: {wanted}({name})")
            return versions[max(versions) if number is None else number]

    def states(self, name: str) -> dict[int, tuple[str, str]]:
        """State and reason of each version that was ever seen, newest first."""
        with self._lock:
            found = self._states.get(name)
            if not found:
                raise ServingError("NOT_FOUND", f"Could not find any versions of model {name}")
            return dict(sorted(found.items(), reverse=True))

    def names(self) -> list[str]:
        """Models with a version that answers."""
        with self._lock:
            return [name for name, versions in self._versions.items() if versions]


def _files(folder: Path) -> list[tuple[str, int, int]]:
    """Path, size and time of change of each file below, to see whether something was changed."""
    found = []
    for path in sorted(folder.rglob("*")):
        with contextlib.suppress(OSError):  # deleted meanwhile
            status = path.stat()
            found.append((str(path), status.st_size, status.st_mtime_ns))
    return found


def _warmup(version: Version) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    path = version.folder / saved_model.WARMUP_FILE
    if path.is_file():
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
            inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
            yield request.model_spec.signature_name, inputs


def policies_of_folder(base: Path) -> list[ModelPolicy]:
    """Every folder with a version in it, the newest version of each."""
    folders = sorted(path for path in base.iterdir() if path.is_dir()) if base.is_dir() else []
    return [ModelPolicy(folder.name, folder) for folder in folders if saved_model.versions(folder)]


def policies_of_config(path: Path) -> list[ModelPolicy]:
    """A ``models.config`` of TensorFlow Serving: names, folders, version policy, labels.

    Raises:
        InputError: not such a file.
    """
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    config = model_server_config_pb2.ModelServerConfig()
    try:
        text_format.Parse(path.read_text(), config)
    except (OSError, ValueError, text_format.ParseError) as error:
        raise InputError(f"{path}: not a models.config of TensorFlow Serving ({error})") from error
    found = []
    for model in config.model_config_list.config:
        policy = model.model_version_policy
        versions = tuple(policy.specific.versions)
        latest = policy.latest.num_versions or 1
        if policy.HasField("all"):
            latest = 2**31
        folder = Path(model.base_path)
        labels = dict(model.version_labels)
        found.append(ModelPolicy(model.name, folder, latest, versions, labels))
    if not found:
        raise InputError(f"{path}: names no model; expected model_config_list")
    return found

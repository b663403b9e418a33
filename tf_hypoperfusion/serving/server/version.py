"""A version of a model: loaded, its requests checked at the door, answered."""

import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from data_tools.runtime.errors import InputError
from tf_hypoperfusion.inference import model_files
from tf_hypoperfusion.serving import graph, request_checks
from tf_hypoperfusion.serving.request_checks import VOLUME_BYTES
from tf_hypoperfusion.serving.server.errors import ServingError

# More in one request would hold everybody else up: a patient takes seconds.
MAX_SLABS, MAX_PATIENTS = 64, 8
MAX_ROWS = {"predict_volume": MAX_PATIENTS, "predict_volume_bytes": MAX_PATIENTS}


class TensorHeader(NamedTuple):
    """What a request says of a tensor before it is decoded.

    Attributes:
        dtype: TensorFlow's name of the type.
        shape: sizes.
    """

    dtype: str
    shape: Sequence[int]


class Version:
    """A loaded version: its signatures, checked at the door."""

    def __init__(self, name: str, number: int, folder: Path):
        self.name, self.number, self.folder = name, number, folder
        damaged = model_files.damaged(folder) if (folder / model_files.CHECKSUMS).is_file() else []
        if damaged:
            raise InputError(f"{folder}: damaged or missing: {', '.join(damaged)}; export again")
        self.model = tf.saved_model.load(str(folder))
        self.signatures = dict(self.model.signatures)
        # Read now: the folder may be gone when somebody asks.
        saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
        self.definitions = {
            key: value
            for key, value in saved.meta_graphs[0].signature_def.items()
            if key in self.signatures
        }

    def specs(self, signature: str) -> dict[str, tf.TensorSpec]:
        """Inputs of a signature."""
        return self._signature(signature).structured_input_signature[1]

    def _signature(self, signature: str) -> Any:
        if signature not in self.signatures:
            raise ServingError(
                "INVALID_ARGUMENT",
                f"signature {signature!r} is not in {self.name} version {self.number}; expected "
                f"one of {', '.join(sorted(self.signatures))}",
            )
        return self.signatures[signature]

    def check(self, signature: str, given: Mapping[str, TensorHeader]) -> None:
        """Refuse other names, types, ranks and sizes than the signature's, before any is decoded.

        A wrong rank must never reach the network (oneDNN would end the process), and inputs of
        different lengths must not be joined with other clients'.

        Args:
            signature: that is asked.
            given: what the request says of each input.

        Raises:
            ServingError: INVALID_ARGUMENT, with what was expected.
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
        rows = {name: given[name].shape[0] for name, spec in specs.items() if spec.shape.rank}
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
                name: TensorHeader(
                    "string" if array.dtype == object else array.dtype.name, array.shape
                )
                for name, array in inputs.items()
            },
        )
        if signature == "predict_volume_bytes":
            for name in graph.VOLUMES:
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
    message = request_checks.expected_bytes(name)
    reader = zlib.decompressobj(wbits=31)
    try:
        size = len(reader.decompress(value, VOLUME_BYTES + 1))
    except (zlib.error, TypeError) as error:
        raise _bad(f"{message}; found {error}") from error
    if size > VOLUME_BYTES:
        raise _bad(f"{message}; it holds more: {int.from_bytes(value[-4:], 'little')}")
    if size != VOLUME_BYTES or not reader.eof:
        raise _bad(f"{message}; it holds {size}{'' if reader.eof else ' and has no end'}")


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

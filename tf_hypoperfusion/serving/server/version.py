"""A version of a model: loaded, its requests checked at the door, answered."""

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from data_tools.runtime.errors import InputError
from tf_hypoperfusion.inference import model_files
from tf_hypoperfusion.model import graph_operations
from tf_hypoperfusion.serving import protobuf, request_checks, warmup
from tf_hypoperfusion.serving.request_checks import MAX_COMPRESSED_BYTES, VOLUME_BYTES, VOLUMES
from tf_hypoperfusion.serving.server import onnx_model
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


class TensorSpec(NamedTuple):
    """What a signature takes.

    Attributes:
        dtype: TensorFlow's name of the type.
        shape: sizes, None for any; None if even their number is not known.
    """

    dtype: str
    shape: tuple[int | None, ...] | None

    def takes(self, shape: Sequence[int]) -> bool:
        """Whether a tensor of this shape fits."""
        if self.shape is None:
            return True
        sizes = zip(self.shape, shape, strict=False)
        return len(shape) == len(self.shape) and all(n in (None, size) for n, size in sizes)


def unfit(name: str, shape: Sequence[int], dtype: str, spec: TensorSpec) -> str:
    """What is said of an input that does not fit."""
    expected = str(list(spec.shape or ())).replace("None", "null")
    return (
        f"{name}: shape {list(shape)} of {dtype}; expected {expected} of {spec.dtype} (null is any "
        "number)"
    )


class Model(Protocol):
    """Who answers: the SavedModel in TensorFlow, or its ONNX form.

    Attributes:
        needs_warm_up: whether first requests are slow.
    """

    needs_warm_up: bool

    def run(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Answer checked inputs."""


class Version:
    """A loaded version: its signatures, checked at the door."""

    def __init__(
        self,
        name: str,
        number: int,
        folder: Path,
        *,
        runtime: str,
        precision: str | None,
        allow_operations: bool = False,
    ):
        """Load a version.

        Args:
            name: of the model.
            number: of the version.
            folder: where it is.
            runtime: one of :data:`predictors.RUNTIMES`.
            precision: as in :func:`predictors.load`.
            allow_operations: load a SavedModel that holds other operations than ours.

        Raises:
            InputError: damaged, not yet whole, or not for this runtime.
        """
        self.name, self.number, self.folder = name, number, folder
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder; expected an export, with its saved_model.pb")
        # Read now: the folder may be gone when somebody asks.
        self.definitions: dict[str, Any] = protobuf.signatures(folder)
        self.signatures = {
            name: _inputs(each)
            for name, each in self.definitions.items()
            if not name.startswith("__")
        }
        _check_whole(folder, ours=set(self.signatures) == onnx_model.SIGNATURES)
        self.model: Model = onnx_model.of_export(
            folder, self.signatures, runtime=runtime, precision=precision
        ) or _in_tensorflow(folder, allow_operations)

    def specs(self, signature: str) -> dict[str, TensorSpec]:
        """Inputs of a signature."""
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
            if dtype != spec.dtype or not spec.takes(shape):
                raise _bad(unfit(name, shape, dtype, spec))
            if 0 in shape:
                raise _bad(f"{name}: is empty; expected one at least")
        rows = {name: given[name].shape[0] for name, spec in specs.items() if spec.shape}
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
            for name in VOLUMES:
                for value in inputs[name]:
                    _check_compressed(name, value)

    def run(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Answer checked inputs."""
        return self.model.run(signature, inputs)

    def warm_up(self) -> None:
        """Answer the model's own first requests, where those of clients would be slow.

        Raises:
            ServingError: it does not answer them.
        """
        if self.model.needs_warm_up:
            for signature, inputs in warmup.read(self.folder):
                self.check_arrays(signature, inputs)
                self.run(signature, inputs)


def _inputs(definition: Any) -> dict[str, TensorSpec]:
    return {
        name: TensorSpec(
            protobuf.dtype_name(tensor.dtype),
            None
            if tensor.tensor_shape.unknown_rank
            else tuple(None if n < 0 else n for n in protobuf.shape(tensor.tensor_shape)),
        )
        for name, tensor in sorted(definition.inputs.items())
    }


def _check_whole(folder: Path, *, ours: bool) -> None:
    """Refuse a copy that is damaged or not finished; only exports of ours bring checksums."""
    listing = folder / model_files.CHECKSUMS
    if not listing.is_file() and not ours:
        return
    said = listing.read_text(encoding="utf-8", errors="replace") if listing.is_file() else ""
    if not said.endswith("\n") or "  saved_model.pb\n" not in said:
        raise InputError(
            f"{folder}: {listing.name} is missing or not whole; is the version being copied still? "
            "Expected an export as python -m tf_hypoperfusion.export wrote it"
        )
    if damaged := model_files.damaged(folder):
        raise InputError(f"{folder}: damaged or missing: {', '.join(damaged)}; export again")


def _in_tensorflow(folder: Path, allow_operations: bool) -> Model:
    if not allow_operations:
        graph_operations.check(folder)
    from tf_hypoperfusion.serving.server.tensorflow_model import TensorFlowModel

    return TensorFlowModel(folder)


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
    if reader.unused_data or len(value) > MAX_COMPRESSED_BYTES:
        after = len(reader.unused_data)
        raise _bad(f"{message}; it has {len(value)} bytes, {after} of them after its end")

"""TensorFlow Serving's JSON: rows and columns of tensors, base64 for bytes."""

import base64
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from tf_hypoperfusion.serving.server import json_arrays
from tf_hypoperfusion.serving.server.errors import ServingError
from tf_hypoperfusion.serving.server.json_arrays import Json, LongText, Numbers
from tf_hypoperfusion.serving.server.version import TensorSpec, unfit

# TensorFlow Serving writes string outputs of this ending in base64.
BYTES_ENDING = "_bytes"


class PredictRequest(NamedTuple):
    """A decoded predict request.

    Attributes:
        signature: that is asked.
        inputs: tensors by name.
        by_rows: whether they came as ``instances`` and not as ``inputs``.
    """

    signature: str
    inputs: dict[str, np.ndarray]
    by_rows: bool


def parse(body: Json, specs: Mapping[str, Mapping[str, TensorSpec]]) -> PredictRequest:
    """A predict request; other keys and inputs than the signature's count for nothing.

    Args:
        body: decoded JSON, as of :func:`json_arrays.parse`.
        specs: inputs of each signature.

    Raises:
        ServingError: INVALID_ARGUMENT, with what was expected.
    """
    if not isinstance(body, dict):
        raise _bad("expected a JSON object with 'instances' or 'inputs'")
    signature = signature_name(body) or "serving_default"
    if signature not in specs:
        raise _bad(
            f'Serving signature name: "{signature}" not found in signature def; expected one of '
            f"{', '.join(sorted(specs))}"
        )
    if "instances" in body and "inputs" in body:
        raise _bad("expected either 'instances' (rows) or 'inputs' (columns), not both")
    if "instances" not in body and "inputs" not in body:
        raise _bad("Missing 'inputs' or 'instances' key: either 'instances' (rows) or 'inputs'")
    known = specs[signature]
    by_rows = "instances" in body
    if by_rows:
        columns = _rows(body["instances"], known)
    else:
        columns = body["inputs"]
        if not isinstance(columns, dict) or (set(columns) == {"b64"} and "b64" not in known):
            columns = {_only(known): columns}
    missing = sorted(set(known) - set(columns))
    odd = sorted(set(columns) - set(known)) if by_rows else []
    if missing or odd:
        raise _bad(f"inputs of {signature!r}: missing {missing}, unknown {odd}")
    inputs = {name: _tensor(name, columns[name], spec) for name, spec in known.items()}
    return PredictRequest(signature, inputs, by_rows)


def signature_name(body: dict[str, Json]) -> str:
    """The signature that a request names; "" where it names none.

    Raises:
        ServingError: INVALID_ARGUMENT: it is no text.
    """
    name = body.get("signature_name", "")
    if not isinstance(name, str):
        raise _bad("not formatted correctly: 'signature_name' key must be a string value")
    return name


def _rows(rows: Json, known: Mapping[str, TensorSpec]) -> dict[str, Json]:
    if isinstance(rows, Numbers):
        return {_only(known): rows}
    if not isinstance(rows, list) or not rows:
        raise _bad("'instances' is empty or no list; expected one object a row")
    if not all(isinstance(row, dict) and set(row) != {"b64"} for row in rows):
        if any(isinstance(row, dict) and set(row) != {"b64"} for row in rows):
            raise _bad("'instances' mixes named and unnamed rows")
        return {_only(known): rows}
    names = set(rows[0])
    if any(set(row) != names for row in rows):
        raise _bad("'instances': every row must have the same names")
    return {name: [row[name] for row in rows] for name in names}


def _only(known: Mapping[str, TensorSpec]) -> str:
    if len(known) != 1:
        raise _bad(f"expected named inputs: {', '.join(sorted(known))}")
    return next(iter(known))


def _tensor(name: str, value: Json, spec: TensorSpec) -> np.ndarray:
    try:
        if spec.dtype == "string":
            array = np.array(_strings(value), dtype=object)
            if not all(isinstance(each, bytes) for each in array.flat):
                raise ValueError("rows of different lengths")
            return array
        array = np.asarray(_read(name, value, spec, leading=()))
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise _bad(f"{name}: no rectangular tensor of {spec.dtype} ({error})") from error
    if array.dtype.kind not in ("b" if spec.dtype == "bool" else "iuf"):
        raise _bad(f"{name}: holds other values than {spec.dtype} numbers")
    with np.errstate(over="ignore"):
        return array.astype(spec.dtype, copy=False)


def _read(name: str, value: Json, spec: TensorSpec, leading: tuple[int, ...]) -> Json:
    """A tensor's value with its long arrays read, if their shape is one that is wanted.

    Args:
        name: of the input.
        value: of the input, or a part of it.
        spec: of the input.
        leading: sizes of the lists around this part.
    """
    if isinstance(value, Numbers):
        shape = (*leading, *value.shape)
        if not spec.takes(shape):
            raise _bad(unfit(name, shape, spec.dtype, spec))
        return value.array(spec.dtype)
    if isinstance(value, LongText):
        raise ValueError("a text")
    if isinstance(value, list) and any(isinstance(each, list | Numbers) for each in value):
        return [_read(name, each, spec, (*leading, len(value))) for each in value]
    return value


def _strings(value: Json) -> Json:
    if isinstance(value, list):
        return [_strings(each) for each in value]
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, LongText):
        return value.text()
    if isinstance(value, dict) and set(value) == {"b64"}:
        content = value["b64"]
        if isinstance(content, LongText):
            return content.unpacked()
        if isinstance(content, str):
            return json_arrays.unpacked(content.encode())
    raise ValueError("expected a string or {'b64': ...}")


def answer(outputs: Mapping[str, np.ndarray], *, by_rows: bool) -> bytes:
    """The response to a predict request, as JSON."""
    return b"".join(text.encode() for text in json_arrays.texts(_answer(outputs, by_rows)))


def _answer(outputs: Mapping[str, np.ndarray], by_rows: bool) -> Json:
    columns = {name: _listed(name, value) for name, value in outputs.items()}
    alone = next(iter(columns.values())) if len(columns) == 1 else None
    if not by_rows:
        return {"outputs": columns if alone is None else alone}
    if alone is not None:
        return {"predictions": alone}
    rows = zip(*columns.values(), strict=True)
    return {
        "predictions": [
            {name: np.asarray(part) if isinstance(part, np.generic) else part
             for name, part in zip(columns, row, strict=True)}
            for row in rows
        ]
    }  # fmt: skip


def _listed(name: str, value: np.ndarray) -> Json:
    """Numbers as they are, texts as JSON has them."""
    if value.dtype.kind not in "OS":
        return value

    def text(each: Json) -> Json:
        if isinstance(each, list):
            return [text(one) for one in each]
        if name.endswith(BYTES_ENDING):
            return {"b64": base64.b64encode(each).decode()}
        return each.decode(errors="replace")

    return text(value.tolist())


def _bad(message: str) -> ServingError:
    return ServingError("INVALID_ARGUMENT", f"JSON: {message}")

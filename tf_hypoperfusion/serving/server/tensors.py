"""TensorFlow Serving's JSON: rows and columns of tensors, base64 for bytes."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from tf_hypoperfusion.serving.server.errors import ServingError
from tf_hypoperfusion.serving.server.version import TensorSpec

# TensorFlow Serving writes string outputs of this ending in base64.
BYTES_ENDING = "_bytes"
Json = Any  # whatever a client sends


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
    """A predict request.

    Args:
        body: decoded JSON.
        specs: inputs of each signature.

    Raises:
        ServingError: INVALID_ARGUMENT, with what was expected.
    """
    if not isinstance(body, dict):
        raise _bad("expected a JSON object with 'instances' or 'inputs'")
    signature = body.get("signature_name", "serving_default") or "serving_default"
    if not isinstance(signature, str) or signature not in specs:
        raise _bad(f"signature {signature!r}; expected one of {', '.join(sorted(specs))}")
    unknown = sorted(set(body) - {"signature_name", "instances", "inputs"})
    if unknown:
        raise _bad(f"unknown key(s) {', '.join(map(repr, unknown))}")
    if ("instances" in body) == ("inputs" in body):
        raise _bad("expected either 'instances' (rows) or 'inputs' (columns)")
    known = specs[signature]
    if "inputs" in body:
        columns = body["inputs"]
        if not isinstance(columns, dict) or (set(columns) == {"b64"} and "b64" not in known):
            columns = {_only(known): columns}
        by_rows = False
    else:
        columns, by_rows = _rows(body["instances"], known), True
    missing, odd = sorted(set(known) - set(columns)), sorted(set(columns) - set(known))
    if missing or odd:
        raise _bad(f"inputs of {signature!r}: missing {missing}, unknown {odd}")
    inputs = {name: _tensor(name, columns[name], spec.dtype) for name, spec in known.items()}
    return PredictRequest(signature, inputs, by_rows)


def _rows(rows: Json, known: Mapping[str, TensorSpec]) -> dict[str, list]:
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


def _tensor(name: str, value: Json, dtype: str) -> np.ndarray:
    try:
        if dtype == "string":
            array = np.array(_strings(value), dtype=object)
            if not all(isinstance(each, bytes) for each in array.flat):
                raise ValueError("rows of different lengths")
            return array
        array = np.asarray(value)
    except (ValueError, TypeError, RecursionError, binascii.Error) as error:
        raise _bad(f"{name}: no rectangular tensor of {dtype} ({error})") from error
    if array.dtype.kind not in ("b" if dtype == "bool" else "iuf"):
        raise _bad(f"{name}: holds other values than {dtype} numbers")
    with np.errstate(over="ignore"):
        return array.astype(dtype)


def _strings(value: Json) -> Json:
    if isinstance(value, list):
        return [_strings(each) for each in value]
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, dict) and set(value) == {"b64"} and isinstance(value["b64"], str):
        return base64.b64decode(value["b64"], validate=True)
    raise ValueError("expected a string or {'b64': ...}")


def answer(outputs: Mapping[str, np.ndarray], *, by_rows: bool) -> Json:
    """The response to a predict request."""
    columns = {name: _listed(name, value) for name, value in outputs.items()}
    alone = next(iter(columns.values())) if len(columns) == 1 else None
    if not by_rows:
        return {"outputs": columns if alone is None else alone}
    if alone is not None:
        return {"predictions": alone}
    rows = zip(*columns.values(), strict=True)
    return {"predictions": [dict(zip(columns, row, strict=True)) for row in rows]}


def _listed(name: str, value: np.ndarray) -> Json:
    if value.dtype.kind not in "OS":
        return value.tolist()

    def text(each: Json) -> Json:
        if isinstance(each, list):
            return [text(one) for one in each]
        if name.endswith(BYTES_ENDING):
            return {"b64": base64.b64encode(each).decode()}
        return each.decode(errors="replace")

    return text(value.tolist())


def _bad(message: str) -> ServingError:
    return ServingError("INVALID_ARGUMENT", f"JSON: {message}")

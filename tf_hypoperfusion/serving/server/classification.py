"""Classify and Regress, which no model of ours answers: refused in TensorFlow Serving's words."""

from tf_hypoperfusion.serving.server import tensors
from tf_hypoperfusion.serving.server.errors import ServingError
from tf_hypoperfusion.serving.server.json_arrays import Json
from tf_hypoperfusion.serving.server.version import Version

# What such a signature gives, one of them at least.
OUTPUTS = {"classify": ("classes", "scores"), "regress": ("outputs",)}


def check_json(body: Json) -> str:
    """The signature that a REST request asks.

    Raises:
        ServingError: INVALID_ARGUMENT: it is no such request.
    """
    if not isinstance(body, dict):
        raise _bad("JSON: Is not object")
    name = tensors.signature_name(body)
    if "examples" not in body:
        raise _bad("JSON: When method is classify, key 'examples' is expected and was not found")
    if not isinstance(body["examples"], list):
        raise _bad("JSON: Expecting 'examples' value to be an list/array")
    if not body["examples"]:
        raise _bad("JSON: 'examples' value is an empty array")
    for each in body["examples"]:
        if not isinstance(each, dict):
            raise _bad("JSON: Example must be JSON object")
    return name


def refusal(version: Version, method: str, signature: str) -> ServingError:
    """Why a version does not answer.

    Args:
        version: that is asked.
        method: ``classify`` or ``regress``.
        signature: that is asked; "" for the default.
    """
    name = signature or "serving_default"
    if name not in version.definitions:
        return _bad(f"No signature was found with the name: {name}")
    asked = version.definitions[name]
    if len(asked.inputs) != 1:
        return _bad("Expected one input Tensor.")
    expected = OUTPUTS[method]
    if len(asked.outputs) not in range(1, len(expected) + 1):
        if method == "regress":
            return _bad("Expected one output Tensor.")
        return _bad(f"Expected one or two output Tensors, found {len(asked.outputs)}")
    kind = "classification" if method == "classify" else "regression"
    if "inputs" not in asked.inputs:
        return _bad(f"No {kind} inputs found in SignatureDef: {asked}")
    if not any(output in asked.outputs for output in expected):
        return _bad(f"No {kind} outputs found in SignatureDef: {asked}")
    return ServingError(
        "UNIMPLEMENTED", f"this server answers predict only; ask TensorFlow Serving to {method}"
    )


def _bad(message: str) -> ServingError:
    return ServingError("INVALID_ARGUMENT", message)

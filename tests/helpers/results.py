"""Whether a ``result.json`` is what its published schema says; needs the package jsonschema."""

import json

from helpers import PROJECT

SCHEMA = PROJECT / "docs/reference/result.schema.json"


def _validator():
    try:
        import jsonschema
    except ImportError:  # the environment of TensorFlow 2.15 has no tools but pytest
        return None
    schema = json.loads(SCHEMA.read_text())
    # The published schema lets later versions add fields; what we write has no field more.
    for described in (schema, *schema["$defs"].values()):
        described["additionalProperties"] = False
    return jsonschema.Draft202012Validator(schema)


VALIDATOR = _validator()


def faults(content):
    """What is wrong with the content of a ``result.json``, one line each; empty if nothing is."""
    return "\n".join(f"{e.json_path}: {e.message}" for e in VALIDATOR.iter_errors(content))


def faults_below(folder):
    """The same for all files below a folder, but for those that a test wrote by hand."""
    found = []
    for path in sorted(folder.rglob("result.json")):
        text = path.read_text(errors="replace")
        if text.startswith('{\n  "notice"') and (wrong := faults(json.loads(text))):
            found.append(f"{path}: {wrong}")
    return "\n".join(found)

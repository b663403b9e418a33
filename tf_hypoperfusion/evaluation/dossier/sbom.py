"""Bill of materials, as CycloneDX 1.6 has it: packages, trained networks and records."""

import datetime
import importlib.metadata
import json
import re
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from tf_hypoperfusion import __version__, provenance
from tf_hypoperfusion.evaluation.dossier import result_facts
from tf_hypoperfusion.evaluation.dossier.fact import Fact
from tf_hypoperfusion.evaluation.dossier.study import Study

ROOT = "tf-hypoperfusion"
# Of a requirement: the name before version, extras and conditions.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SHA256 = re.compile("[0-9a-f]{64}")
# What some packages have for a licence is its whole text.
LONGEST_LICENCE = 80


def bill(study: Study, *, now: datetime.datetime | None = None) -> dict[str, Any]:
    """The bill: packages installed here, networks by checksum, records by fingerprint.

    Args:
        study: whose networks and records these are.
        now: None is the present.
    """
    packages = _installed()
    trained_with = _trained_with(study)
    components = [
        _package(each, trained_with.get(name))
        for name, each in sorted(packages.items())
        if name != ROOT
    ]
    content: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": (now or datetime.datetime.now(datetime.timezone.utc)).isoformat(
                timespec="seconds"
            ),
            "component": _root(trained_with.get(ROOT)),
        },
        "components": [*components, *_networks(study), *_records(study)],
        "dependencies": _dependencies(packages),
    }
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(content, sort_keys=True))
    return {**content, "serialNumber": f"urn:uuid:{serial}"}


def normalised(name: str) -> str:
    """A package's name as the index has it.

    >>> normalised("Scikit_Learn")
    'scikit-learn'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def _installed() -> dict[str, importlib.metadata.Distribution]:
    """Distributions that would be imported, by normalised name: the first on the path."""
    found: dict[str, importlib.metadata.Distribution] = {}
    for each in importlib.metadata.distributions():
        if each.metadata["Name"] and each.version:
            found.setdefault(normalised(each.metadata["Name"]), each)
    return found


def _reference(name: str, version: str) -> str:
    return f"pkg:pypi/{name}@{version}"


def _root(trained: str | None) -> dict[str, Any]:
    commit = provenance.git_commit()
    return {
        "type": "application",
        "bom-ref": ROOT,
        "name": ROOT,
        "version": __version__,
        "licenses": [{"license": {"id": "Apache-2.0"}}],
        "properties": _properties({"commit": commit, "trained-with": trained}),
    }


def _package(each: importlib.metadata.Distribution, trained: str | None) -> dict[str, Any]:
    name, version = normalised(each.metadata["Name"]), each.version
    licences, properties = _licences(each), _properties({"trained-with": trained})
    return {
        "type": "library",
        "bom-ref": _reference(name, version),
        "name": name,
        "version": version,
        "purl": _reference(name, version),
        **({"licenses": licences} if licences else {}),
        **({"properties": properties} if properties else {}),
    }


def _properties(values: Mapping[str, str | None]) -> list[dict[str, str]]:
    return [
        {"name": f"tf_hypoperfusion:{name}", "value": value}
        for name, value in values.items()
        if value
    ]


def _licences(each: importlib.metadata.Distribution) -> list[dict[str, Any]]:
    """As the package says it: an expression of SPDX, else a name, else its classifiers."""
    said = each.metadata
    if "License-Expression" in said:
        return [{"expression": said["License-Expression"]}]
    name = said["License"].strip() if "License" in said else ""
    if name and "\n" not in name and len(name) <= LONGEST_LICENCE:
        return [{"license": {"name": name}}]
    classified = [
        line.rsplit(" :: ", 1)[-1]
        for line in said.get_all("Classifier") or ()
        if line.startswith("License ::")
    ]
    return [{"license": {"name": name}} for name in dict.fromkeys(classified)]


def _dependencies(packages: Mapping[str, importlib.metadata.Distribution]) -> list[dict[str, Any]]:
    """What each package needs in any case, of what is installed; extras are left out."""

    def needs(requirements: Iterable[str] | None) -> list[str]:
        plain = [each for each in requirements or () if "extra ==" not in each]
        names = {normalised(found[0]) for each in plain if (found := _NAME.match(each))}
        return sorted(
            _reference(name, packages[name].version)
            for name in names
            if name in packages and name != ROOT
        )

    own = packages[ROOT].requires if ROOT in packages else list(provenance.PACKAGES)
    return [
        {"ref": ROOT, "dependsOn": needs(own)},
        *(
            {"ref": _reference(name, each.version), "dependsOn": needs(each.requires)}
            for name, each in sorted(packages.items())
            if name != ROOT
        ),
    ]


def _trained_with(study: Study) -> dict[str, str]:
    """Versions that the folds were trained with, by normalised name."""
    said = study.network.software
    if not isinstance(said, Fact):
        return {}
    return {normalised(name): version for name, version in said.value.items() if name}


def _networks(study: Study) -> list[dict[str, Any]]:
    """Each network that predicted, by its checksum."""
    said = study.result.about.fact("models")
    found = dict.fromkeys(result_facts.models(said.value) if isinstance(said, Fact) else ())
    return [
        {
            "type": "machine-learning-model",
            "bom-ref": f"model:{k}:{each.name}",
            "name": each.name,
            "hashes": [{"alg": "SHA-256", "content": each.sha256}],
            "properties": _properties({"trained-on": each.cohort}),
        }
        for k, each in enumerate(found)
        if _SHA256.fullmatch(each.sha256)
    ]


def _records(study: Study) -> list[dict[str, Any]]:
    name, fingerprint = study.data.name, study.data.checksums
    if not (isinstance(name, Fact) and isinstance(fingerprint, Fact)):
        return []
    return [
        {
            "type": "data",
            "bom-ref": "data:records",
            "name": str(name.value),
            "properties": _properties({"fingerprint": str(fingerprint.value)}),
        }
    ]

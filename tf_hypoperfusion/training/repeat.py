"""Settings of a run that repeats another one: that one's ``config.json`` in place of a preset."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError
from tf_hypoperfusion import config
from tf_hypoperfusion.config import Configs, TrainingConfig
from tf_hypoperfusion.training.settings import RESOLVED


def configs_of(file: Path, given: Mapping[str, Any], flags: Mapping[str, str]) -> Configs:
    """The configs of a run's ``config.json``, with the machine's choices of then.

    Args:
        file: the ``config.json``.
        given: fields that were also asked for, which must be those of the file; but for the
            machine's choices, since another machine may need others.
        flags: the switch of a field in ``given``, where that is no flag of the field's own name.

    Raises:
        InputError: the file is no ``config.json``, or says otherwise.
    """
    content = _read(file)
    model, training = config.from_json(content, str(file))
    training = _as_resolved(training, content.get("resolved"), file)
    machine: dict[str, Any] = {name: given[name] for name in RESOLVED if name in given}
    training = dataclasses.replace(training, **machine)
    both = dataclasses.asdict(model) | dataclasses.asdict(training)
    wrong = [
        f"--{flags[name]} ({name} is {both[name]} in the file)"
        if name in flags
        else f"--{name}={value} ({both[name]} in the file)"
        for name, value in given.items()
        if both[name] != value
    ]
    if wrong:
        verb = "contradicts" if len(wrong) == 1 else "contradict"
        raise InputError(
            f"{', '.join(wrong)} {verb} --config={file}, which repeats a run as it was; "
            "leave the flags out, or edit a copy of the file"
        )
    return Configs(model, training)


def records_fingerprint(file: Path) -> Any:
    """The fingerprint of the records of a run's ``config.json``; None if it does not say."""
    used = atomic.read_json(file).get("records")
    return used.get("fingerprint") if isinstance(used, dict) else None


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"--config={file}: cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"--config={file}: expected the config.json of a training run")
    return content


def _as_resolved(training: TrainingConfig, resolved: Any, file: Path) -> TrainingConfig:
    """A config with what the machine chose in place of what was left to it."""
    if not isinstance(resolved, dict):
        return training
    chosen: dict[str, Any] = {name: resolved[name] for name in RESOLVED if name in resolved}
    for name, value in chosen.items():
        if type(value) is not type(getattr(training, name)):
            raise InputError(f"{file}: resolved.{name} is {value!r}; expected a value as written")
    return dataclasses.replace(training, **chosen)

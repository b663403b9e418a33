"""Models on disk -> versions that answer: found, loaded, warmed up, replaced, retired.

``BASE/NAME/VERSION`` as TensorFlow Serving reads it. A version serves until its successor is ready;
whoever holds it finishes with it.
"""

import contextlib
import dataclasses
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tf_hypoperfusion.serving import saved_model
from tf_hypoperfusion.serving.server.errors import ServingError
from tf_hypoperfusion.serving.server.policies import ModelPolicy
from tf_hypoperfusion.serving.server.version import Version

LOADING, AVAILABLE, END = "LOADING", "AVAILABLE", "END"
log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class VersionState:
    """How a version stands.

    Attributes:
        state: LOADING, AVAILABLE or END.
        reason: why it could not be loaded; empty otherwise.
    """

    state: str
    reason: str = ""


@dataclasses.dataclass
class _Model:
    """What is kept of a model: versions that answer, states of all that were seen, labels."""

    versions: dict[int, Version] = dataclasses.field(default_factory=dict)
    states: dict[int, VersionState] = dataclasses.field(default_factory=dict)
    labels: Mapping[str, int] = dataclasses.field(default_factory=dict)


class Repository:
    """The models being served; :meth:`refresh` follows the folders.

    Args:
        policies: asked again at every refresh, so that new models are found.
        retires: whether a model that they do not name any more is retired; otherwise it is served
            on, as where a folder is away for a moment.
        allow_operations: load SavedModels that hold other operations than ours.
        runtime: what runs the networks, one of :data:`predictors.RUNTIMES`.
        precision: as in :func:`predictors.load`.
    """

    def __init__(
        self,
        policies: Callable[[], list[ModelPolicy]],
        *,
        retires: bool = True,
        allow_operations: bool = False,
        runtime: str = "auto",
        precision: str | None = None,
    ):
        self._policies, self._retires = policies, retires
        self._allow_operations = allow_operations
        self._one_refresh = threading.Lock()
        self._runtime, self._precision = runtime, precision
        self._lock = threading.Lock()
        self._models: dict[str, _Model] = {}
        self._failed: dict[Path, list[_FileStamp]] = {}  # as they were when loading failed
        self._away: set[str] = set()  # models without a version in their folder

    def refresh(self) -> None:
        """Load what is new, then retire what is old.

        A version that cannot be loaded is skipped until its files change. What is loaded is served
        on where its folder is away.

        Raises:
            OSError: a folder could not be looked at; the others were.
            InputError: nobody can say what is to be served.
        """
        with self._one_refresh:
            policies = self._policies()
            if self._retires:
                self._forget({policy.name for policy in policies})
            self._tell_away(policies)
            failed = None
            for policy in policies:
                try:
                    self._follow(policy)
                except OSError as error:
                    failed = error
            if failed:
                raise failed

    def serve(self, policies: list[ModelPolicy]) -> None:
        """Serve these from now on, and no others.

        Raises:
            ServingError: UNKNOWN: one of them has no version that can be loaded.
        """
        self._policies, self._retires = (lambda: policies), True
        self.refresh()
        missing = sorted({policy.name for policy in policies} - set(self.names()))
        if missing:
            message = f"no version could be loaded of {', '.join(missing)}"
            raise ServingError("UNKNOWN", message)

    def _tell_away(self, policies: Sequence[ModelPolicy]) -> None:
        """Log once which models are served on without a folder, and that it is back."""
        folders = {policy.name: policy.folder for policy in policies}
        away = set()
        for name in self.names():
            with contextlib.suppress(OSError):  # it is there, and cannot be looked at
                if name not in folders or not saved_model.versions(folders[name]):
                    away.add(name)
        for name in sorted(away - self._away):
            log.warning("%s: its folder holds no version any more; what is loaded is served", name)
        for name in sorted(self._away - away):
            log.info("%s: its folder is back", name)
        self._away = away

    def _follow(self, policy: ModelPolicy) -> None:
        """Do for one model what :meth:`refresh` does for all."""
        with self._lock:
            model = self._models.setdefault(policy.name, _Model())
        present = saved_model.versions(policy.folder)
        wanted = policy.wanted(present)
        loaded = model.versions | self._load_new(policy, wanted, set(model.versions))
        # Old ones leave only when a wanted one is ready.
        ready = {n: v for n, v in loaded.items() if n in wanted} or loaded
        with self._lock:
            model.versions, model.labels = ready, policy.labels
            for number in set(loaded) - set(ready):
                model.states[number] = VersionState(END)
                log.info("%s version %d: retired", policy.name, number)
            for number in set(model.states) - set(ready) - set(present):
                del model.states[number]

    def _forget(self, names: set[str]) -> None:
        """Retire models that are no longer to be served."""
        with self._lock:
            for name in set(self._models) - names:
                log.info("%s: no longer served", name)
                del self._models[name]

    def _load_new(
        self, policy: ModelPolicy, wanted: Sequence[int], loaded: set[int]
    ) -> dict[int, Version]:
        """Wanted versions that are not loaded yet and can be."""
        found = {}
        for number in wanted:
            if number in loaded:
                continue
            folder = policy.folder / str(number)
            files = _files(folder)
            if self._failed.get(folder) == files:
                continue
            version = self._load(policy, number)
            if version:
                found[number] = version
            else:
                self._failed[folder] = files
        return found

    def _load(self, policy: ModelPolicy, number: int) -> Version | None:
        before = self._set_state(policy.name, number, VersionState(LOADING))
        try:
            version = Version(
                policy.name,
                number,
                policy.folder / str(number),
                runtime=self._runtime,
                precision=self._precision,
                allow_operations=self._allow_operations,
            )
            version.warm_up()
        except Exception as error:  # whatever lies in the folder: the others go on
            lines = str(getattr(error, "message", error)).splitlines()
            reason = lines[0][:300] if lines else type(error).__name__
            self._set_state(policy.name, number, VersionState(END, reason))
            if before is None or before.reason != reason:  # not at every look at a slow copy
                log.error("%s version %d: not served: %s", policy.name, number, reason)
            return None
        self._set_state(policy.name, number, VersionState(AVAILABLE))
        log.info("%s version %d: available", policy.name, number)
        return version

    def _set_state(self, name: str, number: int, state: VersionState) -> VersionState | None:
        """Set the state of a version; returns the one before."""
        with self._lock:
            states = self._models[name].states
            before, states[number] = states.get(number), state
        return before

    def get(self, name: str, number: int | None = None, label: str | None = None) -> Version:
        """A version to run: by number, by label, or the newest.

        Args:
            name: of the model.
            number: of the version.
            label: that names a version.

        Raises:
            ServingError: NOT_FOUND: no such model or version; INVALID_ARGUMENT: no such label.
        """
        with self._lock:
            model = self._models.get(name, _Model())
            if label is not None:
                number = model.labels.get(label)
                if number is None:
                    message = f"Unrecognized servable version label: {label}"
                    raise ServingError("INVALID_ARGUMENT", message)
            if not model.versions or (number is not None and number not in model.versions):
                asked = f"Latest({name})" if number is None else f"Specific({name}, {number})"
                raise ServingError("NOT_FOUND", f"Servable not found for request: {asked}")
            return model.versions[max(model.versions) if number is None else number]

    def states(self, name: str, number: int | None = None) -> dict[int, VersionState]:
        """State of each version that was ever seen, newest first; or of one.

        Raises:
            ServingError: NOT_FOUND: no such model, or no such version of it.
        """
        with self._lock:
            model = self._models.get(name)
            if not model or not model.states:
                raise ServingError("NOT_FOUND", f"Could not find any versions of model {name}")
            found = dict(sorted(model.states.items(), reverse=True))
        if number is None:
            return found
        if number not in found:
            raise ServingError("NOT_FOUND", f"Could not find version {number} of model {name}")
        return {number: found[number]}

    def names(self) -> list[str]:
        """Models with a version that answers."""
        with self._lock:
            return [name for name, model in self._models.items() if model.versions]


_FileStamp = tuple[str, int, int]


def _files(folder: Path) -> list[_FileStamp]:
    """Path, size and time of change of each file below, to see whether something was changed."""
    found = []
    for path in sorted(folder.rglob("*")):
        with contextlib.suppress(OSError):  # deleted meanwhile
            status = path.stat()
            found.append((str(path), status.st_size, status.st_mtime_ns))
    return found

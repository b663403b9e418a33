"""``node.yaml`` -> what a node is to do, every key of it checked before anything is started."""

import dataclasses
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import pydantic
from pydantic import Field

from data_tools.runtime.errors import InputError
from tf_hypoperfusion.inference.rest_client import read_token

_STRICT = pydantic.ConfigDict(extra="forbid", strict=True)
AeTitle = Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[ -\[\]-~]*[!-\[\]-~]$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
Text = Annotated[str, Field(min_length=1)]
Port = Annotated[int, Field(ge=0, le=65535)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
ObjectName = Literal["segmentation", "probability", "report", "capture"]
EVERY_OBJECT: tuple[ObjectName, ...] = ("segmentation", "probability", "report", "capture")
Objects = Annotated[tuple[ObjectName, ...], Field(min_length=1)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Listen:
    """The node as others on the DICOM network see it.

    Attributes:
        ae_title: its own.
        port: that it listens on; 0 takes a free one.
        callers: AE titles that may send; all others are refused.
        host: address that it listens on; 0.0.0.0 is every one of this machine.
    """

    __pydantic_config__ = _STRICT
    ae_title: AeTitle
    port: Port
    callers: Annotated[tuple[AeTitle, ...], Field(min_length=1)]
    host: Text = "127.0.0.1"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DicomDestination:
    """Gets results by C-STORE.

    Attributes:
        kind: dicom.
        name: in logs and in the spool.
        ae_title: its own.
        host: its address.
        port: that it listens on.
        objects: which it gets.
        refusals: whether it is told, by a report, of a study that cannot be used.
    """

    __pydantic_config__ = _STRICT
    kind: Literal["dicom"]
    name: Name
    ae_title: AeTitle
    host: Text
    port: Annotated[int, Field(ge=1, le=65535)]
    objects: Objects = EVERY_OBJECT
    refusals: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class StowDestination:
    """Gets results by STOW-RS.

    Attributes:
        kind: stow.
        name: in logs and in the spool.
        url: of its DICOMweb service, such as http://pacs:8042/dicom-web.
        token_file: whose first line is a bearer token; None without one.
        objects: which it gets.
        refusals: whether it is told, by a report, of a study that cannot be used.
    """

    __pydantic_config__ = _STRICT
    kind: Literal["stow"]
    name: Name
    url: Annotated[str, Field(pattern=r"^https?://[^\s?#]+$")]
    token_file: Text | None = None
    objects: Objects = EVERY_OBJECT
    refusals: bool = True


Destination = Annotated[DicomDestination | StowDestination, Field(discriminator="kind")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Retry:
    """What is done where a destination does not take a result.

    Attributes:
        first_s: how long until the second try; each wait is twice the one before.
        longest_s: that waits grow to.
        give_up_h: after which it is given up.
    """

    __pydantic_config__ = _STRICT
    first_s: Positive = 5.0
    longest_s: Positive = 300.0
    give_up_h: Positive = 72.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Keep:
    """How long the node keeps what it has.

    Attributes:
        images_h: received images, after the study was done.
        results_days: results and all else that is known of the study.
    """

    __pydantic_config__ = _STRICT
    images_h: Positive = 24.0
    results_days: Positive = 30.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Page:
    """The page to drop files on, with the worklist.

    Attributes:
        port: that it listens on; 0 takes a free one.
        host: address that it listens on.
        token_file: whose first line is the password; needed for any other host than this machine.
        names: by which browsers may call this machine, besides localhost and addresses.
    """

    __pydantic_config__ = _STRICT
    port: Port
    host: Text = "127.0.0.1"
    token_file: Text | None = None
    names: tuple[Text, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What ``node.yaml`` says.

    Attributes:
        spool: folder of everything that the node keeps, on a local disk.
        listen: the node as others see it; None where there is a page only.
        destinations: who gets results.
        page: to drop files on; None without one.
        model: files or folders, as ``predict --model`` takes them; empty takes the demonstration
            model.
        fast: compute less, as ``predict --fast``.
        quiet_s: without a new image, after which a study is complete.
        refusal_wait_s: until a destination is told that a study cannot be used; images that come
            meanwhile may make it usable.
        nihss_from: DICOM keywords of texts in which "NIHSS 14" is looked for.
        min_free_gb: below which no image is taken.
        retry: see there.
        keep: see there.
    """

    __pydantic_config__ = _STRICT
    spool: Text
    listen: Listen | None = None
    destinations: Annotated[tuple[Destination, ...], Field(min_length=1)] = ()
    page: Page | None = None
    model: tuple[Text, ...] = ()
    fast: bool = False
    quiet_s: Positive = 20.0
    refusal_wait_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 600.0
    nihss_from: tuple[Text, ...] = ()
    min_free_gb: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 2.0
    retry: Retry = Retry()
    keep: Keep = Keep()


def read(path: str | Path) -> Settings:
    """Read ``node.yaml``.

    Args:
        path: of the file.

    Raises:
        InputError: every fault of it.
    """
    try:
        import yaml
    except ImportError as error:
        raise InputError(f"{error.name} is not installed; pip install -e '.[dicom]'") from error
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8"), _each_key_once())
    except FileNotFoundError as error:
        raise InputError(
            f"{path}: no such file; expected a node.yaml as serving/node.yaml"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected keys and values as in serving/node.yaml")
    try:
        # As JSON: lists may be tuples there, and numbers lack a point, however strict the types.
        text = json.dumps(content, default=str)
        settings = pydantic.TypeAdapter(Settings).validate_json(text)
    except pydantic.ValidationError as error:
        faults = "\n".join(f"{path}: {_sentence(each)}" for each in _own(error.errors()))
        raise InputError(f"{faults}\nEvery key is explained in serving/node.yaml.") from error
    if settings.page is None or settings.listen or settings.destinations:
        for name in ("listen", "destinations"):
            if not getattr(settings, name):
                raise InputError(
                    f"{path}: {name} is missing\nEvery key is explained in serving/node.yaml."
                )
    if faults := "\n".join(f"{path}: {each}" for each in _at_odds(settings)):
        raise InputError(faults)
    return settings


def _at_odds(settings: Settings) -> Iterator[str]:
    """What each key allows alone, and not with the others."""
    listen, page, retry, keep = settings.listen, settings.page, settings.retry, settings.keep
    names = [each.name for each in settings.destinations]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"two destinations are named {name}; expected different names"
    for each in settings.destinations:
        if isinstance(each, StowDestination):
            yield from _url_faults(each)
        elif listen and (each.ae_title, each.port) == (listen.ae_title, listen.port):
            yield f"destination {each.name} is the node itself; expected a PACS"
    if listen and page and listen.port == page.port != 0:
        yield f"listen.port and page.port are both {page.port}; expected two ports"
    if unknown := [word for word in settings.nihss_from if not _is_keyword(word)]:
        yield (
            f"nihss_from has {', '.join(unknown)}; expected DICOM keywords such as PatientComments"
        )
    if not retry.first_s <= min(retry.longest_s, retry.give_up_h * 3600):
        yield (
            f"retry: first_s is {retry.first_s:g}, longest_s {retry.longest_s:g} and give_up_h "
            f"{retry.give_up_h:g}; expected a first wait that is not above the other two"
        )
    if keep.images_h > keep.results_days * 24:
        yield (
            f"keep: images_h is {keep.images_h:g} and results_days {keep.results_days:g}; expected "
            "images that are not kept for longer than results"
        )


def _url_faults(to: StowDestination) -> Iterator[str]:
    parts = urlsplit(to.url)
    try:
        is_server = bool(parts.hostname) and parts.port != 0
    except ValueError:  # of the port
        is_server = False
    if not is_server:
        yield (
            f"destination {to.name}: url names no server and port; expected one such as "
            "http://pacs:8042/dicom-web"
        )
    if "@" in parts.netloc:  # it would stand in every line of the log
        yield (
            f"destination {to.name}: url holds a name or a password; expected none. Put a bearer "
            "token into a file, and give that as token_file"
        )


def check_tokens(settings: Settings) -> None:
    """Refuse settings whose files of tokens are not there, before the first result is sent.

    Args:
        settings: of the node.

    Raises:
        InputError: such a file is missing or empty.
    """
    tokens = {
        f"destinations, {each.name}: token_file": each.token_file
        for each in settings.destinations
        if isinstance(each, StowDestination)
    }
    tokens["page.token_file"] = settings.page.token_file if settings.page else None
    for key, file in tokens.items():
        if file is not None:
            try:
                read_token(file)
            except InputError as error:
                raise InputError(f"{key}: {error}") from error


def _sentence(fault: Any) -> str:
    place = ".".join(str(part) for part in fault["loc"] if part not in ("dicom", "stow"))
    kind = fault["type"]
    if kind == "unexpected_keyword_argument":
        return f"{place} is no key; was it mistyped?"
    if kind in ("missing", "missing_argument"):
        return f"{place} is missing"
    given = fault["input"]
    shown = "" if isinstance(given, dict | list) else f" is {given!r}"
    if kind == "union_tag_invalid":
        return f"{place}.kind is {fault['ctx']['tag']!r}; it should be dicom or stow"
    said = re.sub(r"^(Input|Value|String|Tuple|List) should ", "", fault["msg"])
    if kind == "string_pattern_mismatch":
        said = f"have the form of {fault['ctx']['pattern']}"
    return f"{place}{shown}; it should {said}"


def _own(faults: Sequence[Any]) -> list[Any]:
    """Without those that only say that a list lacks what another fault is about."""
    places = [fault["loc"] for fault in faults]
    return [
        fault
        for fault in faults
        if fault["type"] != "too_short"
        or not any(place[: len(fault["loc"])] == fault["loc"] != place for place in places)
    ]


def _each_key_once() -> Any:
    """A loader of YAML that refuses a key that stands twice: which one counts is not to be seen."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            for key in keys:
                if keys.count(key) > 1:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key} stands twice", node.start_mark
                    )
            return super().construct_mapping(node, deep)

    return Loader


def _is_keyword(word: str) -> bool:
    from pydicom.datadict import tag_for_keyword

    return tag_for_keyword(word) is not None

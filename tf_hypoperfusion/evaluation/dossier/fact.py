"""A fact and where it stands; sentences that are made of facts, and of nothing else."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any


@dataclasses.dataclass(frozen=True, order=True)
class Source:
    """Where a fact stands.

    Attributes:
        file: ``run/fold-0/config.json``; the first part names one of the study's folders.
        key: within the file: ``training.epochs``, a column, or a row of a table.
    """

    file: str
    key: str

    def __str__(self) -> str:
        return f"{self.file}: {self.key}"


@dataclasses.dataclass(frozen=True)
class Fact:
    """A value that a file gives.

    Attributes:
        value: as the file has it, or in words.
        sources: all that it was taken from; never empty.
    """

    value: Any
    sources: tuple[Source, ...]

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError(f"{self.value!r} has no source")


@dataclasses.dataclass(frozen=True)
class Missing:
    """A value that no file gives.

    Attributes:
        source: where it would stand.
        reason: why it is not taken, if it is there.
    """

    source: Source
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.source} ({self.reason})" if self.reason else str(self.source)


Known = Fact | Missing


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the files say about an item.

    Attributes:
        text: sentences; "" where the files say nothing.
        sources: of every fact in them.
        missing: what was looked for and not found.
        left: what the authors still have to say.
        remark: it answers nothing by itself and stands beside other sentences only.
    """

    text: str = ""
    sources: tuple[Source, ...] = ()
    missing: tuple[str, ...] = ()
    _: dataclasses.KW_ONLY
    left: str = ""
    remark: bool = False


def say(words: str, /, **facts: Known) -> Answer:
    """A sentence with facts in it; nothing if one of them is missing.

    Args:
        words: with a field for each fact that is shown: ``"{n} patients"``. Facts without a field
            are those that the sentence rests on.
        **facts: at least one.

    >>> say("{n} patients.", n=Fact(3, (Source("run/patients.csv", "rows"),))).text
    '3 patients.'
    """
    if not facts:
        raise ValueError(f"{words!r} rests on no fact")
    missing = [fact for fact in facts.values() if isinstance(fact, Missing)]
    if missing:
        return Answer(missing=unique(map(str, missing)))
    known = {name: fact for name, fact in facts.items() if isinstance(fact, Fact)}
    shown = {name: in_words(fact.value) for name, fact in known.items()}
    sources = unique(source for fact in known.values() for source in fact.sources)
    return Answer(words.format(**shown), sources)


def perhaps(answer: Answer) -> Answer:
    """A sentence that is not missed where its facts are missing."""
    return dataclasses.replace(answer, missing=())


def together(*answers: Answer, left: str = "") -> Answer:
    """Sentences one after the other.

    Args:
        *answers: those without text add what is missing.
        left: what the authors still have to say.
    """
    said = [each for each in answers if each.text]
    if all(each.remark for each in said):
        said = []
    remarks = unique(each.text for each in said if each.remark)
    texts = [each.text for each in said if not each.remark]
    for remark in remarks:  # of an answer that is a part of this one, too
        texts = [text.removeprefix(f"{remark} ") for text in texts]
    return Answer(
        " ".join(unique([*remarks, *texts])),
        unique(source for each in said for source in each.sources),
        unique(each for answer in answers for each in answer.missing),
        left=" ".join(unique(filter(None, [left, *(each.left for each in answers)]))),
    )


def derive(make: Callable[..., Any], *facts: Known) -> Known:
    """A fact that is computed from others; missing if one of them is, or is not as expected.

    Args:
        make: takes their values. Files may be damaged or by another program, so that whatever it
            raises about a value is a question to the authors, not the end of the dossier.
        *facts: in its order.
    """
    sources: list[Source] = []
    for fact in facts:
        if isinstance(fact, Missing):
            return fact
        sources += fact.sources
    try:
        value = make(*(fact.value for fact in facts if isinstance(fact, Fact)))
    except (TypeError, ValueError, KeyError, IndexError, AttributeError):
        return Missing(sources[0], "not as expected")
    return Fact(value, unique(sources))


def first(*facts: Known) -> Known:
    """The first that is known; else the first of all."""
    return next((fact for fact in facts if isinstance(fact, Fact)), facts[0])


def holds(fact: Known) -> bool:
    """Whether a fact is known and true, a number above 0, or not empty."""
    return isinstance(fact, Fact) and bool(fact.value)


def in_words(value: Any) -> str:
    """A value as a sentence shows it.

    >>> in_words(0.005), in_words(True), in_words([1, 2, 3])
    ('0.005', 'yes', '1, 2 and 3')
    >>> in_words({"left": 2, "right": 3}), in_words({"numpy": "2.3.5"}), in_words({})
    ('left (2), right (3)', 'numpy 2.3.5', 'none')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        pairs = (
            (name, f"({n})" if isinstance(n, int) else in_words(n)) for name, n in value.items()
        )
        return ", ".join(f"{name} {each}" for name, each in pairs) or "none"
    if isinstance(value, list | tuple):
        return listed(map(in_words, value))
    return str(value)


def listed(words: Iterable[str]) -> str:
    """Words with commas and an "and"."""
    *most, last = list(words) or ["none"]
    return f"{', '.join(most)} and {last}" if most else last


def unique(values: Iterable[Any]) -> tuple[Any, ...]:
    """Each once, in their order."""
    return tuple(dict.fromkeys(values))

"""A reporting checklist: its items, and what the files answer to each."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

from tf_hypoperfusion.evaluation.dossier.fact import Answer
from tf_hypoperfusion.evaluation.dossier.study import Study

Status = Literal["answered", "in part", "question"]


@dataclasses.dataclass(frozen=True)
class Item:
    """An item of a checklist, in our words.

    Attributes:
        number: as the checklist has it: ``12c``.
        about: what it asks for.
        ask: what the authors are asked where the files do not answer.
        answer: by the files; None where they never can.
    """

    number: str
    about: str
    ask: str
    answer: Callable[[Study], Answer] | None = None


@dataclasses.dataclass(frozen=True)
class Checklist:
    """A checklist.

    Attributes:
        name: short.
        source: where its wording is to be read; ours does not replace it.
        sections: items by section.
        file: of its table, without ending.
    """

    name: str
    source: str
    sections: Sequence[tuple[str, Sequence[Item]]]
    file: str

    @property
    def items(self) -> list[Item]:
        """All of them, in their order."""
        return [item for _, items in self.sections for item in items]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answered:
    """An item with what the files say.

    Attributes:
        section: that it stands in.
        item: as asked.
        answer: what the files say; empty where they say nothing.
    """

    section: str
    item: Item
    answer: Answer

    @property
    def status(self) -> Status:
        """``in part`` where the authors have something to add."""
        if not self.answer.text:
            return "question"
        return "in part" if self.answer.left or self.answer.missing else "answered"

    @property
    def question(self) -> str:
        """What the authors are asked; "" where everything is said."""
        if not self.answer.text:
            return self.item.ask
        return self.answer.left or ("" if not self.answer.missing else self.item.ask)

    def cells(self) -> dict[str, str]:
        """A line of the table."""
        return {
            "item": self.item.number,
            "section": self.section,
            "about": self.item.about,
            "status": self.status,
            "answer": self.answer.text,
            "sources": "; ".join(map(str, self.answer.sources)),
            "not found": "; ".join(self.answer.missing),
            "question for the authors": self.question,
        }


def fill(checklist: Checklist, study: Study) -> list[Answered]:
    """Every item of a checklist, in its order."""
    return [
        Answered(
            section=section,
            item=item,
            answer=item.answer(study) if item.answer else Answer(),
        )
        for section, items in checklist.sections
        for item in items
    ]


def tally(filled: Sequence[Answered]) -> dict[Status, int]:
    """How many items have which status."""
    statuses: tuple[Status, ...] = ("answered", "in part", "question")
    return {status: sum(each.status == status for each in filled) for status in statuses}

"""Collect the documents for the site, each where it lies in the project; ``make docs`` calls it.

    python -m docs.site build/documents && mkdocs build --strict

Documents lie at the top, in docs/, serving/ and elsewhere, and link to each other as a forge shows
them. mkdocs reads one folder, so they are copied there with the files that they link to.
"""

import re
import shutil
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[1]
# The top level, and folders with everything below them.
PLACES = ("docs", "serving", "saved_models", "benchmarks")
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)


def documents() -> list[Path]:
    """Every Markdown document, relative to the project.

    A model that was exported here and is not part of the project has a card: it is left out.
    """
    found = sorted(PROJECT.glob("*.md"))
    for place in PLACES:
        found += sorted((PROJECT / place).glob("**/*.md"))
    relative = [path.relative_to(PROJECT) for path in found]
    return [
        path
        for path in relative
        if path.parts[:1] != ("saved_models",)
        or path.parts[1] in ("README.md", "hypoperfusion_demo")
    ]


def links(text: str) -> list[str]:
    """Where a document's links lead, those to other hosts left out; code shows none.

    >>> links("[a](b.md#c), [d](https://e), `x[0](y)` ")
    ['b.md#c']
    """
    plain = re.sub("`[^`\n]*`", "", FENCE.sub("", text))
    return [each for each in LINK.findall(plain) if "://" not in each]


def collect(folder: Path) -> None:
    """Copy the documents and what they link to; what was there before is gone."""
    shutil.rmtree(folder, ignore_errors=True)
    wanted = set(documents())
    for document in documents():
        place = (PROJECT / document).parent
        targets = [(place / each.partition("#")[0]).resolve() for each in links_of(document)]
        wanted |= {each.relative_to(PROJECT) for each in targets if each.is_file()}
    for path in wanted:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PROJECT / path, folder / path)


def links_of(document: Path) -> list[str]:
    """:func:`links` of a document of the project."""
    return links((PROJECT / document).read_text())


if __name__ == "__main__":
    collect(Path(sys.argv[1]))

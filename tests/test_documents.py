"""The documents: links, the site's navigation, generated tables, and how long they may be."""

import doctest
import importlib.util
import re
import runpy
import unicodedata
from pathlib import Path

import pytest
import yaml
from helpers import PROJECT

from docs import site
from docs.reference import forecasts
from tf_hypoperfusion import __version__
from tf_hypoperfusion.command_line import MODULES

pytestmark = pytest.mark.quick

DOCUMENTS = site.documents()


def headings(text):
    plain = site.FENCE.sub("", text)
    return [re.sub("[`*]", "", each) for each in re.findall("(?m)^#+ (.+)$", plain)]


def as_a_forge(heading):
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def as_mkdocs(heading):
    plain = unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())


def anchors(text):
    """Of headings whose anchor is the same on a forge and on the site."""
    return {as_a_forge(each) for each in headings(text) if as_a_forge(each) == as_mkdocs(each)}


def lost(document, text):
    """Links of a text that lead nowhere."""
    found = []
    for link in site.links(text):
        path, _, anchor = link.partition("#")
        target = (PROJECT / document).parent / path if path else PROJECT / document
        if not target.is_file() or (anchor and anchor not in anchors(target.read_text())):
            found.append(link)
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_links_of_documents_lead_to_files_and_headings(document):
    assert lost(document, (PROJECT / document).read_text()) == []


def test_a_lost_link_would_be_found():
    text = "[a](README.md) [b](docs) [c](gone.md) [d](README.md#gone) [e](README.md#start-here)"
    assert lost(Path("BUILD_NOTES.md"), text) == ["docs", "gone.md", "README.md#gone"]


def entries(nav):
    for entry in nav:
        value = next(iter(entry.values())) if isinstance(entry, dict) else entry
        yield from entries(value) if isinstance(value, list) else [value]


def test_every_page_stands_in_the_navigation_once():
    nav = yaml.safe_load((PROJECT / "mkdocs.yml").read_text())["nav"]
    assert sorted(entries(nav)) == sorted(path.as_posix() for path in DOCUMENTS)


def test_every_decision_stands_in_the_index():
    text = (PROJECT / "BUILD_NOTES.md").read_text()
    pages = (PROJECT / "docs/explanation/decisions").glob("*.md")
    assert [page.name for page in pages if f"decisions/{page.name}" not in text] == []


def test_the_site_is_collected_with_what_its_pages_link_to(tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site/before.md").touch()
    site.collect(tmp_path / "site")
    assert not (tmp_path / "site/before.md").exists()
    assert (tmp_path / "site/docs/report_simulated.png").exists()
    for document in DOCUMENTS:
        text = (tmp_path / "site" / document).read_text()
        for link in site.links(text):
            path = link.partition("#")[0]
            assert not path or ((tmp_path / "site" / document).parent / path).is_file(), link


def test_the_table_of_commands_is_whole():
    text = (PROJECT / "docs/reference/commands.md").read_text()
    assert dict(re.findall(r"(?m)^\| `([^`]+)` \| `([^`]+)` \|", text)) == MODULES


@pytest.mark.parametrize(("name", "most"), [("README.md", 120), ("BUILD_NOTES.md", 150)])
def test_first_pages_are_short(name, most):
    assert len((PROJECT / name).read_text().splitlines()) <= most


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((PROJECT / "CITATION.cff").read_text())
    assert citation["version"] == __version__
    assert citation["references"][0]["doi"] in (PROJECT / "setup.cfg").read_text()
    assert __version__ in (PROJECT / "CHANGELOG.md").read_text()


def test_documents_show_what_commands_printed():
    writer = runpy.run_path(str(PROJECT / "docs/reference/write_figures.py"))
    for name, blocks in writer["BLOCKS"].items():
        text = (PROJECT / name).read_text()
        assert writer["written"](text, blocks) == text, "run python -m docs.reference.write_figures"


def commands_shown(text):
    """Modules and the flags that fenced or indented lines of a document give them."""
    joined = re.sub(r"\\\n\s*", " ", text)
    for line in re.findall(r"(?m)^\s*(?:srun )?(?:hypoperfusion|python -m) .*", joined):
        plain = re.sub("'[^']*'|\"[^\"]*\"|\\$\\([^)]*\\)", "", line).partition("  #")[0]
        words = plain.split()
        name = [*words, ""][words.index("-m") + 1 if "-m" in words else 1]
        module = MODULES.get(name.replace("_", "-"), name)
        if module in MODULES.values():
            yield module, re.findall(r"(?<=\s)--(\w+)", plain)


def test_flags_of_a_line_are_read():
    shown = "hypoperfusion check-cohort \\\n  --cohort=a   # --gone"
    assert list(commands_shown(shown)) == [("data_tools.check_cohort", ["cohort"])]


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_commands_in_documents_have_these_flags(document):
    for module, flags in commands_shown((PROJECT / document).read_text()):
        package = importlib.util.find_spec(module).submodule_search_locations
        known = importlib.import_module(f"{module}.__main__" if package else module).FLAGS
        unknown = [each for each in flags if {each, each.removeprefix("no")}.isdisjoint(known)]
        assert unknown == [], module


@pytest.mark.parametrize("module", [site, forecasts], ids=lambda module: module.__name__)
def test_examples_of_what_writes_the_documents(module):
    found = doctest.testmod(module)
    assert found.attempted and not found.failed


def test_what_the_code_calls_by_a_heading_of_build_notes_is_named_there():
    text = (PROJECT / "BUILD_NOTES.md").read_text()
    for place in ("data_tools", "tf_hypoperfusion", "benchmarks"):
        for path in (PROJECT / place).rglob("*.py"):
            for named in re.findall(r"BUILD_NOTES, ([A-Z][a-z]+(?: [a-z]+)*)", path.read_text()):
                assert f"*{named}*" in text, f"{path}: {named}"

"""The notebook: its cells run, and what it shows is what they give."""

import base64
import json
import re

import pytest
from helpers import PROJECT

from docs.notebooks import write_predict

# Last digits differ from machine to machine.
RELATIVE, ABSOLUTE = 0.1, 0.5
NUMBER = re.compile(r"\d+(?:\.\d+)?")
MOST_BYTES = 100_000


@pytest.fixture(scope="module")
def kept():
    """The file as it is published."""
    return json.loads((PROJECT / "docs/notebooks/predict.ipynb").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The same, run now."""
    return write_predict.notebook(write_predict.run(tmp_path_factory.mktemp("notebook")))


def texts(notebook):
    """What is printed, and the values that are no pictures."""
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            yield "".join(output.get("text") or output["data"]["text/plain"])


def test_its_cells_are_those_of_the_script(kept, made):
    def without_outputs(notebook):
        cells = [{k: v for k, v in c.items() if k != "outputs"} for c in notebook["cells"]]
        return notebook | {"cells": cells}

    assert without_outputs(kept) == without_outputs(made)


def test_it_shows_what_its_cells_give(kept, made):
    shown, given = list(texts(kept)), list(texts(made))
    assert [NUMBER.sub("N", text) for text in shown] == [NUMBER.sub("N", text) for text in given]
    for old, new in zip(shown, given, strict=True):
        numbers = [float(each) for each in NUMBER.findall(new)]
        assert numbers == pytest.approx(
            [float(each) for each in NUMBER.findall(old)], rel=RELATIVE, abs=ABSOLUTE
        )


def test_it_says_first_that_all_is_simulated_and_stays_small(kept):
    assert "SIMULATED" in "".join(kept["cells"][0]["source"])
    outputs = [each for cell in kept["cells"] for each in cell.get("outputs", [])]
    pictures = [o["data"]["image/png"] for o in outputs if "image/png" in o.get("data", {})]
    assert len(pictures) == 1
    assert len(base64.b64decode(pictures[0])) < MOST_BYTES

"""What a message for who typed a command becomes for who reads a page or a report."""

import functools
import re
from pathlib import Path

import pytest

import data_tools
import tf_hypoperfusion.inference
from data_tools import plausibility
from data_tools.dicom import study
from data_tools.overrides import NONE
from data_tools.runtime.errors import InputError
from data_tools.runtime.patient_failure import attempt
from tf_hypoperfusion.hospital import reader_words
from tf_hypoperfusion.hospital.reader_words import for_reader

FOLDER = Path("/spool/received/0123456789abcdef")
READERS = ("confirming", "dropped", "sent")
FLAG = re.compile(r"--[a-z]")


@functools.cache
def sources() -> tuple[str, ...]:
    """The modules that read a patient's images, or answer, with each text in one piece."""
    return tuple(
        re.sub(r'["\']\s*\n\s*f?["\']', "", path.read_text())
        for package in (data_tools, tf_hypoperfusion.inference)
        for path in Path(next(iter(package.__path__))).rglob("*.py")
    )


@pytest.mark.parametrize("phrase", reader_words.PHRASES)
def test_no_phrase_outlives_its_message(phrase):
    # Flags, and what is said of several, may stand in other lines.
    pieces = [piece.strip() for piece in re.split(r"--[a-z_]+|\*|, or ", phrase)]
    assert max(map(len, pieces)) > 7
    assert any(all(piece in source for piece in pieces) for source in sources())


def test_no_reader_is_told_of_a_flag():
    spoken = [text for each in sources() for text in re.findall(r'"([^"\n]*--[a-z][^"\n]*)"', each)]
    assert len(spoken) > 100
    for text in spoken:
        for reader in READERS:
            assert not FLAG.search(for_reader(text, FOLDER, reader))


def refusal(ask, *given, **options) -> str:
    with pytest.raises(InputError) as refused:
        ask(*given, **options)
    return str(refused.value)


@pytest.mark.parametrize(
    ("reader", "told"), [("confirming", "Tick"), ("dropped", "drop the files again"), ("sent", "")]
)
def test_a_choice_is_called_as_the_page_has_it(scanned, tmp_path, reader, told):
    import pydicom

    for path in scanned.iterdir():
        data = pydicom.dcmread(path)
        data.save_as(tmp_path / path.name)
        data.SeriesInstanceUID, data.SOPInstanceUID = "1.2.77", f"1.2.77.{data.InstanceNumber}"
        data.save_as(tmp_path / f"again {path.name}")
    said = refusal(study.read_study, tmp_path, need_adc=False)
    assert "--series" in said
    words = for_reader(said, tmp_path, reader)
    assert "2 DWI series" in words and told in words and "--" not in words
    assert str(tmp_path) not in words


def test_what_has_no_choice_on_the_page_is_left_out():
    few = (
        "DWI x: its images of b = 1000 s/mm2 are of one direction; expected a trace image. Give "
        "the trace image that the scanner made; --few_directions takes these, with a warning, but "
        "ADC and core are then wrong where fibres run one way."
    )
    told = for_reader(few, FOLDER, "dropped")
    assert told.endswith("Give the trace image that the scanner made.")
    assert for_reader("a; --new_flag says it. Look there; or not.", FOLDER, "sent") == (
        "a. Look there; or not."
    )
    assert for_reader("--only this", FOLDER, "sent") == "only this"
    assert for_reader("no flag; a -- dash. 1 --", FOLDER, "sent") == "no flag; a -- dash. 1 --"


def test_names_of_the_spool_are_left_out():
    name = "0123456789" * 4 + ".dcm"
    said = f"DICOM {FOLDER}: holds files of 2 patients ({name}, {name}); {FOLDER}/{name} is one"
    assert for_reader(said, FOLDER, "sent") == (
        "DICOM of this study: holds files of 2 patients; an image is one"
    )
    assert for_reader(f"{FOLDER}/000012.dcm is cut", FOLDER, "confirming") == "an image is cut"


def test_a_defect_names_the_log():
    def fails():
        raise RuntimeError("odd")

    told = for_reader(str(attempt(fails)), FOLDER, "dropped")
    assert "this program's log" in told and "before the command" not in told


def test_a_wrong_b_value_has_no_flag_on_the_page():
    import dataclasses

    said = refusal(plausibility.check_said_b, dataclasses.replace(NONE, b_value=1.0))
    assert "--" not in for_reader(said, FOLDER, "dropped")

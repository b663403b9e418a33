"""What ``predict`` says to who typed a command -> the same for who reads a page or a report.

A flag that has a choice on the page is called by that choice; of others nothing is said.
"""

import re
from pathlib import Path
from typing import Literal

from tf_hypoperfusion.hospital.spool import FILE_LETTERS

# Who reads: a person who confirms what was dropped, one who started it, one who sent it from a
# scanner or a PACS.
Reader = Literal["confirming", "dropped", "sent"]
# Phrases as messages have them (* is any text), and what each reader is told, in that order.
_AGAIN = "drop the files again, and tick"
_ELSEWHERE = "Whoever looks after this program can choose one."
PHRASES: dict[str, str | tuple[str, str, str]] = {
    " Give each a folder of its own, or choose the series with --series.": (
        " Tick those of one below.", f" Drop each by itself, or {_AGAIN} those of one.",
        " Send each as a study of its own.",
    ),
    " Choose with --series (number, UID, or a piece of the description; DWI and ADC map separated "
    "by a comma), or keep those of the baseline scan and remove the others.": (
        " Tick one below.", f" To choose, {_AGAIN} one.",
        f" Send those of the baseline scan alone. {_ELSEWHERE}",
    ),
    " Choose with --series: that of the DWI and that of b = 0, separated by a comma.": (
        " Tick that of the DWI and that of b = 0 below.",
        f" To choose, {_AGAIN} that of the DWI and that of b = 0.", f" {_ELSEWHERE}",
    ),
    " If the files say a wrong b-value, or none, or call the series what it is not, name it with "
    "--series, and its b-value with --b_value.": (
        " If the files call the series what it is not, tick it below.",
        f" If the files call the series what it is not, {_AGAIN} it.", "",
    ),
    ": if that is the map, or is of b = 0, name it with the DWI, --series=* for instance.": (
        ": if that is the map, or is of b = 0, tick it below together with the DWI.",
        f": if that is the map, or is of b = 0, {_AGAIN} it together with the DWI.",
        ".",
    ),
    "the series that --series names are of": "the chosen series are of",
    "--series names no ADC map": "no ADC map was chosen",
    " --series=*: no series": " no series",
    " (--b_value says another)": "",
    " If the files are wrong, --b_value says the right one.": "",
    " .json beside it, or --b_value": " .json beside it",
    "expected --b_value": "expected a series whose files say it",
    "; --few_directions takes these, with a warning, but ADC and core are then wrong where fibres "
    "run one way.": ".",
    " Where noise around the head hides the brain, --brain_mask says where it is.": "",
    "expected --dwi, or a model trained with inputs left out (training.randomisation of its "
    "config.json or card names them)": "expected both images",
    "expected --adc, or a model trained with inputs left out (training.randomisation of its "
    "config.json or card names them)": "expected both images",
    "--b0 * was not used": "the b = 0 image was not used",
    " leave out --dicom_out, or": "",
    "--dicom_out needs more packages": "DICOM results need more packages",
    " give fewer --workers,": "",
    "look at the picture before using anything": "look at the report's pictures before using it",
    "look at the picture": "look at the report's pictures",
    "with the traceback that * before the command shows": "with what this program's log says of it",
}  # fmt: skip
_READERS = ("confirming", "dropped", "sent")
# Names of files in the spool, which nobody knows elsewhere.
_OURS = rf"\b(?:[0-9a-f]{{{FILE_LETTERS}}}|\d{{6}})\.dcm"
_FILES_OF_OURS = re.compile(rf" \((?:{_OURS}(?:, )?)+\)")
_FLAG = re.compile(r"--(?=[a-z])")


def for_reader(text: str, folder: Path, reader: Reader) -> str:
    """A reason, note or warning without names and flags that mean nothing to who reads it.

    Args:
        text: as it was raised, or stands in a result.
        folder: of the study's files in the spool.
        reader: who reads it.

    Returns:
        The text; of what speaks of a flag and is not known here, the rest of it.
    """
    whole = "of this drop" if reader == "confirming" else "of this study"
    text = text.replace(f"{folder}/", "").replace(str(folder), whole)
    text = re.sub(_OURS, "an image", _FILES_OF_OURS.sub("", text))
    for phrase, instead in PHRASES.items():
        pattern = ".+?".join(map(re.escape, phrase.split("*")))
        words = instead if isinstance(instead, str) else instead[_READERS.index(reader)]
        text = re.sub(pattern, words.replace("\\", r"\\"), text)
    return _without_flags(text)


def _without_flags(text: str) -> str:
    """Leave out each clause that speaks of a flag; only the dashes where nothing else is left."""
    kept = []
    for sentence in re.split(r"(?<=[.?!])\s+", text):
        clauses = [each for each in sentence.split("; ") if not _FLAG.search(each)]
        if clauses:
            end = sentence[-1] if sentence[-1:] in ".?!" and clauses[-1][-1:] not in ".?!" else ""
            kept.append("; ".join(clauses) + end)
    return " ".join(kept) if kept and _FLAG.search(text) else _FLAG.sub("", text)

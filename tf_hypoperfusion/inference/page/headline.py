"""What a person must see of a result first: alarms, the answer, four figures, warnings."""

import dataclasses

from data_tools.core_examination import CHECK_THE_SIDE
from data_tools.criteria import MISMATCH_RATIO_CAP
from tf_hypoperfusion.inference import cautions, wording
from tf_hypoperfusion.inference.deciding_core import WORDS
from tf_hypoperfusion.inference.result import PatientResult

VERDICTS = {
    "yes": "TARGET MISMATCH",
    "no": "NO TARGET MISMATCH",
    "unsure": "UNSURE: PERFUSION IMAGING WOULD TELL",
}
NOT_KNOWN = "not known"
SIMULATED = (
    "This model was trained on SIMULATED patients: its result on a real patient means nothing."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tile:
    """One large figure.

    Attributes:
        name: of the figure.
        value: rounded, or that it is not known.
        unit: behind it; may be empty.
        note: below it.
        tissue: ``core`` or ``hypoperfusion``, whose colour it has; empty for others.
    """

    name: str
    value: str
    unit: str
    note: str
    tissue: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Headline:
    """The first screen of a result, in words.

    Attributes:
        alarms: the side contradicts the images; above everything.
        simulated: what is to be said of a model of simulated patients; empty for others.
        verdict: the answer.
        reasons: why it is unsure.
        tiles: core, hypoperfusion, mismatch and ratio.
        warnings: those that none of the others says.
    """

    alarms: tuple[str, ...]
    simulated: str
    verdict: str
    reasons: tuple[str, ...]
    tiles: tuple[Tile, Tile, Tile, Tile]
    warnings: tuple[str, ...]


def of(result: PatientResult) -> Headline:
    """The first screen of a result.

    Args:
        result: of a patient.
    """
    alarms = tuple(text for text in result.warnings if text.startswith(CHECK_THE_SIDE))
    said = {*alarms, cautions.NO_CORE_VISIBLE, *map(cautions.unsure, result.answer.reasons)}
    if result.simulated:
        said.add(cautions.SIMULATED_ONLY)
    return Headline(
        alarms=tuple(_sentence(text) for text in alarms),
        simulated=SIMULATED if result.simulated else "",
        verdict=VERDICTS[result.answer.target_mismatch],
        reasons=tuple(_sentence(text) for text in result.answer.reasons),
        tiles=tiles(result),
        warnings=tuple(_sentence(text) for text in result.warnings if text not in said),
    )


def tiles(result: PatientResult) -> tuple[Tile, Tile, Tile, Tile]:
    """The four figures: core, hypoperfusion, mismatch and ratio.

    Args:
        result: of a patient.
    """
    return _core(result), _hypoperfusion(result), _mismatch(result), _ratio(result)


def ratio_words(result: PatientResult) -> str:
    """The mismatch ratio; where it is the largest that is given, that it is a cap."""
    tile = _ratio(result)
    return tile.value + (f" ({tile.note})" if is_capped(result) else "")


def is_capped(result: PatientResult) -> bool:
    """Whether the ratio may be larger than the figure that is given."""
    return result.mismatch_ratio is not None and result.mismatch_ratio >= MISMATCH_RATIO_CAP


def _core(result: PatientResult) -> Tile:
    if result.core_ml is None or result.core_by is None:
        return Tile(name="Core", value=NOT_KNOWN, unit="", note="", tissue="core")
    return Tile(
        name="Core",
        value=wording.beside_bound(result.core_ml, result.defuse3.core_ml.required),
        unit="mL",
        note=f"by the {WORDS[result.core_by]}",
        tissue="core",
    )


def _hypoperfusion(result: PatientResult) -> Tile:
    answer = result.answer
    note = "no interval: the model is not calibrated"
    if answer.interval_ml is not None and answer.coverage is not None:
        low, high = map(wording.rounded, answer.interval_ml)
        note = f"{answer.coverage:.0%} interval {low} to {high} mL"
    return Tile(
        name="Hypoperfusion", value=wording.rounded(result.hypoperfusion_ml), unit="mL",
        note=note, tissue="hypoperfusion",
    )  # fmt: skip


def _mismatch(result: PatientResult) -> Tile:
    note = "hypoperfusion minus core"
    if result.mismatch_ml is None:
        return Tile(name="Mismatch", value=NOT_KNOWN, unit="", note=note)
    value = wording.beside_bound(result.mismatch_ml, result.defuse3.difference_ml.required)
    return Tile(name="Mismatch", value=value, unit="mL", note=note)


def _ratio(result: PatientResult) -> Tile:
    note = "hypoperfusion divided by core"
    if result.mismatch_ratio is None:
        return Tile(name="Ratio", value=NOT_KNOWN, unit="", note=note)
    if is_capped(result):
        why = "the core is 0 mL" if result.core_ml == 0 else "larger ratios are shown as this"
        return Tile(name="Ratio", value=f"≥ {MISMATCH_RATIO_CAP:g}", unit="", note=f"capped: {why}")
    value = wording.beside_bound(result.mismatch_ratio, result.defuse3.ratio.required)
    return Tile(name="Ratio", value=value, unit="", note=note)


def _sentence(text: str) -> str:
    return wording.typeset(text[:1].upper() + text[1:])

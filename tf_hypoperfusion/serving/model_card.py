"""What an exported model says of itself: data, networks, test figures, signatures, limits."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_tools import criteria
from data_tools.grid import GRID_SHAPE, SPACE
from data_tools.quartiles import quartiles
from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError
from tf_hypoperfusion import __version__, config, provenance
from tf_hypoperfusion.config import (
    NO_CORE_MEDIAN_DICE,
    PROBABILITY_THRESHOLD,
    RESEARCH_NOTICE,
    SLAB,
)
from tf_hypoperfusion.inference import model_files
from tf_hypoperfusion.inference.calibration import Calibration
from tf_hypoperfusion.inference.model_files import ModelInfo
from tf_hypoperfusion.training import history

FILE = "model_card.json"
LIMITS = (
    "Trained on strokes of the internal carotid and middle cerebral artery; not for others.",
    f"Weak where no core is visible (the paper's model: median Dice {NO_CORE_MEDIAN_DICE:g}).",
    "DWI and ADC of other diseases than acute stroke were not tried.",
    "The side is that of the brain lesion; a wrong side gives a wrong answer without an error.",
)
UNKNOWN = "unknown"

Facts = Mapping[str, object]  # as a JSON file has them
Quartiles = tuple[float, float, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkFacts:
    """A network of the export and its training.

    Attributes:
        path: of its ``.keras`` file when it was exported.
        sha256: checksum of that file.
        fold: as the fold's ``config.json`` has it, as the next three; None where it has none.
        records: their fingerprint and cohort.
        model: settings of the network.
        training: settings of the training.
        epochs_done: epochs in its history.
        best_epoch: whose weights these are; None without a history.
        validation: figures of that epoch.
        trained_with: versions of the software, from ``config.json`` too.
        note: what its ``config.json`` says of it: that it was trained on all patients.
        parent: the trained network that it began with: name, checksum, cohort, and whether that was
            trained on SIMULATED patients.
    """

    path: str
    sha256: str | tuple[str, ...] | None
    fold: int | None
    records: Facts | None
    model: Facts | None
    training: Facts | None
    epochs_done: int
    best_epoch: float | None
    validation: Facts
    trained_with: Facts | None
    note: str | None = None
    parent: Facts | None = None

    def to_json(self) -> Facts:
        """Plain JSON types; a note and a parent only where there is one."""
        values = dataclasses.asdict(self)
        return {k: v for k, v in values.items() if k not in ("note", "parent") or v is not None}

    @property
    def cohort(self) -> str:
        """Name of the cohort that it was trained on."""
        return str(model_files.mapping(self.records).get("cohort") or UNKNOWN)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TestFigures:
    """Figures of an evaluation of just the networks that are exported.

    Attributes:
        cohort: whose patients were predicted.
        simulated: whether they are simulated.
        by: who predicted them.
        patients: how many.
        patients_with_dice: how many have a Dice.
        dice_quartiles: lower quartile, median, upper quartile; None without a Dice.
        volume_difference_ml_quartiles: the same of predicted minus true volume.
        volume_concordance: of predicted and true volume; None where it is undefined.
        target_mismatch_right: patients whose target mismatch was predicted rightly.
        stride_slices: from one window to the next in that evaluation, which may differ from the
            export's; None if it does not say.
    """

    cohort: str
    simulated: bool
    by: str
    patients: int
    patients_with_dice: int
    dice_quartiles: Quartiles | None
    volume_difference_ml_quartiles: Quartiles | None
    volume_concordance: float | None
    target_mismatch_right: int
    stride_slices: int | None = None

    def to_json(self) -> Facts:
        """As JSON gives them back: an export knows its own figures again. No unknown stride."""
        values = dataclasses.asdict(self)
        if self.stride_slices is None:
            del values["stride_slices"]
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


@dataclasses.dataclass(frozen=True)
class OnnxFacts:
    """The ONNX file beside the SavedModel.

    Attributes:
        file: its name.
        opset: whose operations it uses.
        largest_difference_from_tensorflow: of a probability.
    """

    file: str
    opset: int
    largest_difference_from_tensorflow: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What ``model_card.json`` says of an exported version.

    Attributes:
        name: what a server calls the model.
        version: its number.
        networks: whose probabilities are averaged.
        tests: their evaluations.
        stride_slices: from one window to the next in the signatures that take volumes.
        precision: that the networks compute in.
        onnx: None without an ONNX file.
        calibration: None if the average is not calibrated.
        with_core: how many of the networks answer with a core; the export does if all do.
        exported_with: versions of the software.
    """

    name: str
    version: int
    networks: tuple[NetworkFacts, ...]
    tests: tuple[TestFigures, ...]
    stride_slices: int
    precision: str
    onnx: OnnxFacts | None = None
    calibration: Calibration | None = None
    with_core: int = 0
    exported_with: Facts = dataclasses.field(default_factory=provenance.software)

    def to_json(self) -> Facts:
        """Plain JSON types, in the file's order; what there is not is left out."""
        cohorts, made = sorted({network.cohort for network in self.networks}), self.calibration
        return {
            "name": self.name,
            "version": self.version,
            "notice": RESEARCH_NOTICE,
            "trained_on": cohorts,
            "simulated": any("simulated" in cohort.lower() for cohort in cohorts),
            **({"data": data} if (data := _data(self.networks)) else {}),
            "models": [network.to_json() for network in self.networks],
            "tests": [figures.to_json() for figures in self.tests],
            # Read back by `describe` of model_files, to which None is a warning.
            "records": {"cohort": cohort_of(self.networks)},
            "fold": self.networks[0].fold if len(self.networks) == 1 else None,
            "space": SPACE,
            "grid": list(GRID_SHAPE),
            "stride_slices": self.stride_slices,
            "precision": self.precision,
            "probability_threshold": made.cut if made else PROBABILITY_THRESHOLD,
            "defuse3": vars(criteria.DEFUSE3),
            "limits": list(LIMITS),
            "reference": "Yu et al., Radiology 2023;307(1):e220882",
            "tf_hypoperfusion": __version__,
            "exported_with": self.exported_with,
            **({"calibration": made.to_json()} if made else {}),
            **({"core": self._core()} if self.with_core else {}),
            **({"onnx": dataclasses.asdict(self.onnx)} if self.onnx else {}),
        }

    def _core(self) -> Facts:
        given = self.with_core == len(self.networks)
        return {
            "networks": self.with_core,
            "given": given,
            **({"threshold": config.CORE_THRESHOLD, "by": config.CORE_BY} if given else {}),
        }


def core_by(card: Mapping[str, Any]) -> str | None:
    """Whose core decides in the answers of a model: ``rule``, ``learnt``, or None without a core.

    Args:
        card: as :meth:`ModelCard.to_json` writes it.
    """
    by = model_files.mapping(card.get("core")).get("by")
    return by if by in ("rule", "learnt") else None


def info(card: Mapping[str, Any]) -> Facts:
    """What goes out with every answer of a model, of its card.

    Args:
        card: as :meth:`ModelCard.to_json` writes it.
    """
    models = [model_files.mapping(model) for model in card["models"]]
    sums = [model["sha256"] for model in models]
    changed = model_files.randomisation_of(dict(card))
    return {
        "name": card["name"],
        "version": card["version"],
        "sha256": sums[0] if len(sums) == 1 else sums,
        "cohort": card["records"]["cohort"],
        "frame": config.common_frame(model["model"] for model in models),
        "notice": card["notice"],
        **({"calibration": card["calibration"]} if "calibration" in card else {}),
        **({"core_by": by} if (by := core_by(card)) else {}),
        **({"randomisation": list(changed)} if changed else {}),
    }


def _data(networks: Sequence[NetworkFacts]) -> list[Facts]:
    """Of each cohort whose licence is known, or in which something was derived, these two."""
    found: dict[str, dict[str, object]] = {}
    for network in networks:
        known = model_files.mapping(network.records)
        said = {key: known[key] for key in ("licence", "derived") if known.get(key)}
        if said:
            found.setdefault(network.cohort, {"cohort": network.cohort}).update(said)
    return [found[name] for name in sorted(found)]


def cohort_of(networks: Sequence[NetworkFacts]) -> str | None:
    """The cohorts that networks were trained on, in one name; None if nothing is known."""
    cohorts = sorted({network.cohort for network in networks})
    return None if cohorts == [UNKNOWN] else ", ".join(cohorts)


def networks(known: Sequence[ModelInfo]) -> tuple[NetworkFacts, ...]:
    """How networks were trained, from the files of their folds.

    Args:
        known: as :func:`model_files.describe` knows them.

    Raises:
        InputError: a fold's history is not readable.
    """
    return tuple(_network(each) for each in known)


def _network(known: ModelInfo) -> NetworkFacts:
    folder = Path(known.path).parent
    settings = atomic.read_json(folder / "config.json")
    rows = history.read(folder)
    best = history.best_row(rows) or {}
    return NetworkFacts(
        path=known.path,
        sha256=known.sha256,
        fold=settings.get("fold"),
        records=settings.get("records"),
        model=settings.get("model"),
        training=settings.get("training"),
        epochs_done=len(rows),
        best_epoch=best.get("epoch"),
        validation={
            name.removeprefix("val_"): value
            for name, value in best.items()
            if name.startswith("val_") and not math.isnan(value)
        },
        trained_with=settings.get("software"),
        note=settings.get("note"),
        parent=model_files.mapping(settings.get("parent")) or None,
    )


def tests(known: Sequence[ModelInfo]) -> tuple[TestFigures, ...]:
    """Test figures of just these networks, from the evaluations that lie in their runs.

    Args:
        known: the networks, as :func:`model_files.describe` knows them.

    Returns:
        One entry an evaluation (of each patient by the fold that never saw it, or of external
        cohorts by the average); () without one. An evaluation of other, fewer or more networks says
        nothing of these and is left out.

    Raises:
        InputError: a table of such an evaluation is not as ``evaluate`` wrote it.
    """
    sums = {each.sha256 for each in known}
    runs = sorted({Path(each.path).absolute().parents[1] for each in known})
    found = []
    for run in runs:
        for file in (run / "evaluation.json", *sorted(run.glob("external-*/evaluation.json"))):
            about = atomic.read_json(file)
            models = [model_files.mapping(model) for model in about.get("models") or []]
            if {model.get("sha256") for model in models} == sums:
                stride = about.get("stride")
                found.append(
                    _figures(
                        file.parent,
                        external=bool(about.get("external")),
                        stride_slices=stride if isinstance(stride, int) else None,
                    )
                )
    return tuple(found)


def _figures(folder: Path, *, external: bool, stride_slices: int | None) -> TestFigures:
    # With scipy.stats and pandas, which a server does not need.
    from tf_hypoperfusion.evaluation import statistics
    from tf_hypoperfusion.evaluation.report import patients

    try:
        tested = patients.load(folder)
    except InputError as error:
        raise InputError(
            f"{error}\nThe model's card takes its test figures from there; evaluate again, or move "
            f"{folder / 'evaluation.json'} away for a card without them"
        ) from error
    table = tested.table
    dice = tested.values("dice")
    right = table["true_target_mismatch"] == table["predicted_target_mismatch"]
    return TestFigures(
        cohort=tested.title if external else "the training cohort",
        simulated=tested.simulated,
        by="the average" if external else "the fold that never saw the patient",
        patients=len(tested),
        patients_with_dice=len(dice),
        dice_quartiles=quartiles(dice),
        volume_difference_ml_quartiles=quartiles(tested.difference_ml),
        volume_concordance=statistics.concordance(table["truth_ml"], table["predicted_ml"]).value,
        target_mismatch_right=int(right.sum()),
        stride_slices=stride_slices,
    )


def write(card: ModelCard, folder: Path) -> None:
    """Write ``model_card.json``, and ``model_card.md`` for a reader."""
    facts = card.to_json()
    atomic.write_json(folder / FILE, facts)
    atomic.write_text(folder / "model_card.md", markdown(facts))


def markdown(facts: Facts) -> str:
    """``model_card.md`` of what ``model_card.json`` holds."""
    import jinja2

    from tf_hypoperfusion.evaluation.report.table import quartiles_in_words

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tf_hypoperfusion.serving"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    template = environment.get_template("model_card.md")
    without = model_files.names_inputs(model_files.randomisation_of(dict(facts)))
    return template.render(**facts, slab=SLAB, spread=quartiles_in_words, answers_without=without)

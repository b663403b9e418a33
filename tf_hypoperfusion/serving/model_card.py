"""What an exported model says of itself: data, networks, test figures, signatures, limits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_tools import criteria
from data_tools.grid import GRID_SHAPE, SPACE
from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError
from tf_hypoperfusion import __version__, provenance
from tf_hypoperfusion.config import PROBABILITY_THRESHOLD, RESEARCH_NOTICE
from tf_hypoperfusion.evaluation import statistics
from tf_hypoperfusion.inference import model_files
from tf_hypoperfusion.inference.model_files import ModelInfo
from tf_hypoperfusion.inference.onnx_model import SLAB
from tf_hypoperfusion.training import history

LIMITS = (
    "Trained on strokes of the internal carotid and middle cerebral artery; not for others.",
    "Weak where no core is visible (the paper's model: median Dice 0.25).",
    "DWI and ADC of other diseases than acute stroke were not tried.",
    "The side is that of the brain lesion; a wrong side gives a wrong answer without an error.",
)


def facts(
    known: Sequence[ModelInfo], name: str, version: int, stride: int, precision: str
) -> dict[str, Any]:
    """What ``model_card.json`` holds.

    Args:
        known: the networks, as :func:`model_files.describe` knows them. The rest: of the export.

    Raises:
        InputError: an evaluation of these networks lies beside them and is not readable.
    """
    models = []
    for each in known:
        folder = Path(each.path).parent
        settings = atomic.read_json(folder / "config.json")
        rows = history.read(folder)
        best = history.best_row(rows) or {}
        models.append(
            {
                "path": each.path,
                "sha256": each.sha256,
                **{key: settings.get(key) for key in ("fold", "records", "model", "training")},
                "epochs_done": len(rows),
                "best_epoch": best.get("epoch"),
                "validation": {k[4:]: v for k, v in best.items() if k.startswith("val_")},
                "trained_with": settings.get("software"),
            }
        )
    cohorts = sorted(
        {str((model_files.mapping(m["records"])).get("cohort") or "unknown") for m in models}
    )
    return {
        "name": name,
        "version": version,
        "notice": RESEARCH_NOTICE,
        "trained_on": cohorts,
        "simulated": any("simulated" in cohort.lower() for cohort in cohorts),
        "models": models,
        "tests": tests(known),
        # Read back by `describe` of model_files; None, where nothing is known, is a warning there.
        "records": {"cohort": None if cohorts == ["unknown"] else ", ".join(cohorts)},
        "fold": models[0]["fold"] if len(models) == 1 else None,
        "space": SPACE,
        "grid": list(GRID_SHAPE),
        "stride_slices": stride,
        "precision": precision,
        "probability_threshold": PROBABILITY_THRESHOLD,
        "defuse3": vars(criteria.DEFUSE3),
        "limits": list(LIMITS),
        "reference": "Yu et al., Radiology 2023;307(1):e220882",
        "tf_hypoperfusion": __version__,
        "exported_with": provenance.software(),
    }


def tests(known: Sequence[ModelInfo]) -> list[dict[str, Any]]:
    """Test figures of just these networks, from the evaluations that lie in their runs.

    Args:
        known: the networks, as :func:`model_files.describe` knows them.

    Returns:
        One entry an evaluation (of each patient by the fold that never saw it, or of external
        cohorts by the average); [] without one. An evaluation of other, fewer or more networks says
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
                found.append(_figures(file.parent, bool(about.get("external"))))
    return found


def _figures(folder: Path, external: bool) -> dict[str, Any]:
    from tf_hypoperfusion.evaluation.report import (
        patients,  # with pandas, which a server does not need
    )

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
    volumes = statistics.concordance(table["truth_ml"], table["predicted_ml"])
    return {
        "cohort": tested.title if external else "the training cohort",
        "simulated": tested.simulated,
        "by": "the average" if external else "the fold that never saw the patient",
        "patients": len(tested),
        "patients_with_dice": len(dice),
        "dice_quartiles": _listed(dice),
        "volume_difference_ml_quartiles": _listed(tested.difference_ml),
        "volume_concordance": volumes.value,
        "target_mismatch_right": int(right.sum()),
    }


def _listed(values: Any) -> list[float] | None:
    """Quartiles as JSON gives them back."""
    found = statistics.quartiles(values)
    return None if found is None else list(found)


def markdown(card: dict[str, Any]) -> str:
    """The same for a reader, as ``model_card.md``."""
    import jinja2

    from tf_hypoperfusion.evaluation.report.table import quartiles_in_words

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tf_hypoperfusion.serving"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    template = environment.get_template("model_card.md")
    return template.render(**card, slab=SLAB, spread=quartiles_in_words)

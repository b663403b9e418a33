"""Other networks and simple rivals beside a run, patient by patient: the tables of RESULTS.md.

    python -m benchmarks.beside --patients=docs/results/demo/patients.csv \\
        --runs=faithful=docs/results/faithful.csv --rivals=docs/results/rivals.csv
    python -m benchmarks.beside --patients=docs/results/demo/patients.csv --fold=0 \\
        --runs=MONAI=docs/results/fold0/monai.csv

--patients and --runs are patients.csv of tf_hypoperfusion.evaluate, --rivals what
benchmarks.simulation_difficulty wrote with --out. With --fold only the patients that this fold of
--patients tested count. Each line is over the patients that both have, and its first figures are
its own; "ours" is --patients on the same ones, the gain is ours - theirs in Dice, patient by
patient, with Wilcoxon's P. A rival's Dice counts the stroke's half of the brain only, and the core
is a part of its prediction; a run's counts both halves, which is the harder way. Printed as
Markdown.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from benchmarks.measuring import tables
from benchmarks.simulation_difficulty import RIVAL_COLUMNS
from data_tools.quartiles import quartiles
from data_tools.runtime import command
from data_tools.runtime.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike

FLAGS = flags.FlagValues()
flags.DEFINE_string("patients", None, "patients.csv.", required=True, flag_values=FLAGS)
flags.DEFINE_list("runs", [], "NAME=patients.csv, with commas between.", flag_values=FLAGS)
flags.DEFINE_string("fold", None, "Only patients tested by this fold.", flag_values=FLAGS)
flags.DEFINE_string("rivals", None, "CSV of simulation_difficulty.", flag_values=FLAGS)


def of_fold(path: str | Path, fold: str | None = None) -> "pd.DataFrame":
    """The patients of a patients.csv, or those whom one fold tested.

    Raises:
        InputError: no such file, or no such fold in it.
    """
    from tf_hypoperfusion.evaluation.report import patients

    table = patients.load(path).table
    if fold is None:
        return table
    folds = sorted(set(table["fold"].dropna())) if "fold" in table else []
    if fold not in folds:
        known = ", ".join(folds) or "none"
        raise InputError(f"{path} has no patients of fold {fold}; its folds: {known}")
    return table[table["fold"] == fold]


def networks(ours: "pd.DataFrame", runs: Mapping[str, str | Path]) -> str:
    """The table of ours and of runs, each the path of its patients.csv by its name."""
    from tf_hypoperfusion.evaluation.report import patients

    others = {name: patients.load(path).table for name, path in runs.items()}
    beside = {"ours": ours, **others}
    return markdown([run_line(name, ours, table) for name, table in beside.items()])


def rivals(ours: "pd.DataFrame", path: str | Path) -> str:
    """The table of simple rivals beside ours."""
    groups = tables.read(str(path), RIVAL_COLUMNS).groupby("rival", sort=False)
    return markdown([rival_line(str(name), ours, rival) for name, rival in groups])


def run_line(name: str, ours: "pd.DataFrame", theirs: "pd.DataFrame") -> dict[str, str]:
    """A run's figures, and the paired difference of Dice."""
    from tf_hypoperfusion.evaluation import statistics

    both = ours.merge(theirs, on="participant_id", suffixes=("_ours", ""))
    if both.empty:
        raise InputError(f"{name} has no patient in common with the run that it is set beside")
    right = int((both["predicted_target_mismatch"] == both["true_target_mismatch"]).sum())
    volumes = statistics.concordance(both["truth_ml"], both["predicted_ml"])
    difference = (both["predicted_ml"] - both["truth_ml"]).to_numpy()
    return {
        "network": name,
        "patients": str(len(both)),
        "Dice": spread(both["dice"]),
        "AUC": spread(both["auc"]),
        "volume difference, mL": spread(difference, 0),
        "concordance": "n/a" if volumes.value is None else f"{volumes.value:.2f}",
        "target mismatch right": f"{right} of {len(both)}",
        **gain(both["dice_ours"] - both["dice"]),
    }


def rival_line(name: str, ours: "pd.DataFrame", rival: "pd.DataFrame") -> dict[str, str]:
    """A rival's figures, all of them and where the run has a Dice."""
    number = ours["participant_id"].str.removeprefix("sub-").astype(int)
    both = rival.merge(ours.assign(patient=number), on="patient", suffixes=("", "_ours"))
    none = both[~both["core"]]
    return {
        "rival": name,
        "patients": str(len(both)),
        "Dice": spread(both["dice"]),
        "ours": spread(both["dice_ours"]),
        "without core": spread(none["dice"]),
        "ours there": spread(none["dice_ours"]),
        "AUC": spread(both["auc"]),
        **gain(both["dice_ours"] - both["dice"]),
    }


def gain(differences: "pd.Series") -> dict[str, str]:
    """Paired differences of Dice in words."""
    from tf_hypoperfusion.evaluation import statistics
    from tf_hypoperfusion.evaluation.report.table import p_value

    known = differences.dropna()
    if not known.abs().max() > 0:
        return {"gain": "", "better in": "", "P": ""}
    return {
        "gain": f"{known.median():+.3f}",
        "better in": f"{int((known > 0).sum())} of {len(known)}",
        "P": p_value(statistics.wilcoxon(known)),
    }


def spread(values: "ArrayLike", digits: int = 2) -> str:
    """Median (quartiles)."""
    from tf_hypoperfusion.evaluation.report.table import quartiles_in_words

    return quartiles_in_words(quartiles(values), digits)


def markdown(rows: list[dict[str, str]]) -> str:
    """Rows of the same columns as a table."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Print both tables."""
    ours = of_fold(FLAGS.patients, FLAGS.fold)
    named = [text.partition("=") for text in FLAGS.runs]
    if wrong := [name for name, _, path in named if not path]:
        raise InputError(f"--runs has {wrong[0]!r}; expected NAME=patients.csv")
    print(networks(ours, {name: path for name, _, path in named}))
    if FLAGS.rivals:
        print("\n" + rivals(ours, FLAGS.rivals))


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))

"""Predict the test patients of trained folds and write one row per patient.

    python -m tf_hypoperfusion.evaluate --run=runs/demo --records=records --fold=0

Each patient is predicted by the model that never saw it: fold i's model on subset i. Slabs are
those of the records; overlapping predictions are averaged. Writes RUN/patients.csv and prints
the medians. --fold=all takes every trained fold of the run.
"""

import sys
from pathlib import Path
from typing import Any

from absl import flags

from data_tools import command

FLAGS = flags.FlagValues()
flags.DEFINE_string(
    "run", None, "Folder of tf_hypoperfusion.train.", required=True, flag_values=FLAGS
)
flags.DEFINE_string("records", "records", "Folder of data_tools.build_records.", flag_values=FLAGS)
flags.DEFINE_string("fold", "all", "0 to 4, or all.", flag_values=FLAGS)


def evaluate(run: str, records_dir: str, fold: str = "all") -> list[dict[str, Any]]:
    """Evaluate folds of a run on their test subsets; writes ``patients.csv``.

    Returns:
        One row per patient: clinical fields, volumes in mL, Dice, AUC, DEFUSE 3 truth and
        prediction, DAWN; None where a figure does not exist.

    Raises:
        InputError: no trained fold, no records, or records other than those trained on.
    """
    from tqdm import tqdm

    from data_tools import atomic, records
    from data_tools.errors import InputError
    from data_tools.splits import SUBSETS, fold_roles
    from tf_hypoperfusion import predictors
    from tf_hypoperfusion.input_pipeline import read_patients

    if fold != "all" and fold not in map(str, range(SUBSETS)):
        raise InputError(f"fold is {fold!r}; expected 0 to {SUBSETS - 1}, or all")
    folds = [
        k
        for k in range(SUBSETS)
        if fold in ("all", str(k)) and (Path(run) / f"fold-{k}/best.keras").is_file()
    ]
    if not folds:
        raise InputError(
            f"{run} holds no trained fold ({fold}); expected {run}/fold-*/best.keras. Train one: "
            f"python -m tf_hypoperfusion.train --fold={fold.replace('all', '0')} "
            f"--records={records_dir} --run={run}"
        )
    manifest = records.load_manifest(records_dir)
    rows = []
    for k in folds:
        settings = atomic.read_json(Path(run) / f"fold-{k}/config.json")
        if settings.get("records", {}).get("fingerprint") != manifest["fingerprint"]:
            raise InputError(
                f"{run}/fold-{k} was trained on other records than {records_dir}, so a test "
                "patient may have been seen in training; give the records it was trained on"
            )
        predictor = predictors.load_predictor(Path(run) / f"fold-{k}/best.keras")
        (subset,) = fold_roles(k)["test"]
        patients = {p["participant_id"]: p for p in manifest["patients"] if p["subset"] == subset}
        volumes = read_patients(records_dir, manifest, subset)
        for name, patient in tqdm(volumes, desc=f"fold {k}", total=len(patients), unit="patient"):
            rows.append({"fold": k, **_row(predictor, patient, patients[name])})
    atomic.write_csv(Path(run) / "patients.csv", rows)
    return rows


def _row(predictor, slabs: dict[str, Any], patient: dict[str, Any]) -> dict[str, Any]:
    import dataclasses

    import numpy as np

    from data_tools.grid import GRID_SHAPE, from_frame
    from data_tools.slabs import merge_slabs
    from tf_hypoperfusion import clinical, metrics_volume
    from tf_hypoperfusion.sliding_window import WINDOWS_PER_CALL

    def merge(values):
        return from_frame(merge_slabs(values, slabs["starts"], GRID_SHAPE[2]))

    outputs = [
        predictor(
            slabs["image"][i : i + WINDOWS_PER_CALL], slabs["nihss"][i : i + WINDOWS_PER_CALL]
        )
        for i in range(0, len(slabs["image"]), WINDOWS_PER_CALL)
    ]
    probability = merge(np.concatenate(outputs)[..., 0])
    # CSF (ADC channel 0) is in no label, so it counts in no prediction either.
    probability[merge(slabs["image"][..., 1]) <= 0] = 0
    truth, coverage = (merge(slabs["y_true"][..., channel]) > 0.5 for channel in (0, 1))
    figures = metrics_volume.patient_metrics(
        probability, truth, coverage, patient["side"], patient["voxel_ml"]
    )
    core_ml = patient["core_ml"]
    row = {key: patient[key] for key in patient if key not in ("subset", "slabs")} | figures
    for what, volume in (("true", figures["truth_ml"]), ("predicted", figures["predicted_ml"])):
        decision = dataclasses.asdict(clinical.defuse3(volume, core_ml))
        row[f"{what}_mismatch_ratio"] = decision["ratio"]
        row[f"{what}_target_mismatch"] = decision["target_mismatch"]
    row["dawn"] = clinical.dawn(patient["age"], patient["nihss"], core_ml)
    return row


def main() -> int:
    """Run the command."""
    import numpy as np

    rows = evaluate(FLAGS.run, FLAGS.records, FLAGS.fold)

    def median(name: str) -> str:
        values = [row[name] for row in rows if row[name] is not None]
        if not values:
            return "n/a (n=0)"
        low, middle, high = np.percentile(values, [25, 50, 75])
        return f"{middle:.2f} (IQR {low:.2f} to {high:.2f}, n={len(values)})"

    right = sum(row["true_target_mismatch"] == row["predicted_target_mismatch"] for row in rows)
    print(f"{len(rows)} test patients: {FLAGS.run}/patients.csv")
    print(f"  Dice                  {median('dice')}")
    print(f"  AUC                   {median('auc')}")
    print(f"  volume difference mL  {median('volume_difference_ml')}")
    print(f"  target mismatch       {right} of {len(rows)} right")
    return command.EXIT_OK


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))

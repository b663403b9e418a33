"""How good is predict on scanners' files? Simulated patients, registration and all, against Tmax.

    python -m benchmarks.from_scanner_files --seeds=2,3,4,5,6,7 --out=whole_way

A patient of each seed in its own space (pose, voxels, skull, noise), through the whole of predict
by --model, the demonstration model without it. The truth is Tmax >= 6 s on the perfusion scan's own
grid, and counts in its slices only; it is not cleaned, and holds no core that reperfused. What is
there already in OUT is kept. Simulated patients: a figure of the software, not of medicine.
"""

import sys
from pathlib import Path
from typing import Any

from absl import flags

from benchmarks.measuring import options, tables
from data_tools.runtime import atomic, command

FLAGS = flags.FlagValues()
options.numbers("seeds", [2, 3, 4, 5, 6, 7], "One patient of each seed.", FLAGS)
flags.DEFINE_string(
    "model", None, "As predict takes it; the demonstration model without it.", flag_values=FLAGS
)
flags.DEFINE_string("out", None, "Folder to write to.", required=True, flag_values=FLAGS)


def measure(seed: int) -> dict[str, Any]:
    """Simulate, predict and compare one patient."""
    from data_tools.simulate import simulate_cohort
    from tf_hypoperfusion import predict

    cohort, out = Path(FLAGS.out) / f"seed-{seed}", Path(FLAGS.out) / f"seed-{seed}-result"
    if not cohort.is_dir():
        simulate_cohort(cohort, 1, seed=seed)
    model = [f"--model={FLAGS.model}"] if FLAGS.model else []
    arguments = [f"--cohort={cohort}", f"--out={out}", *model]
    if status := command.run(predict.main, predict.FLAGS, "", arguments):
        return {"seed": seed, "failed": f"predict ended with {status}"}
    patient = out / "sub-0001"
    scan = cohort / "derivatives/perfusion/sub-0001/perf/sub-0001_Tmax.nii.gz"
    result = atomic.read_json(patient / "result.json")
    found = compare(scan, patient / "hypoperfusion_mask.nii.gz")
    return {"seed": seed, **found, "target_mismatch": result["defuse3"]["target_mismatch"]}


def compare(tmax: Path, mask: Path) -> dict[str, Any]:
    """Dice and mL of a predicted mask in the slices of a perfusion scan."""
    import nibabel
    import numpy as np
    from nibabel.processing import resample_from_to

    from data_tools.grid import TMAX_HYPOPERFUSION_S

    scan: Any = nibabel.load(tmax)
    predicted: Any = nibabel.load(mask)
    as_float = nibabel.Nifti1Image(np.asarray(predicted.dataobj, np.float32), predicted.affine)
    there = resample_from_to(as_float, (scan.shape, scan.affine), order=0).get_fdata() > 0.5
    truth = scan.get_fdata() >= TMAX_HYPOPERFUSION_S
    voxel_ml = float(abs(np.linalg.det(scan.affine[:3, :3]))) / 1000
    both = int(truth.sum() + there.sum())
    return {
        "truth_ml": round(float(truth.sum()) * voxel_ml, 1),
        "predicted_ml": round(float(there.sum()) * voxel_ml, 1),
        "dice": round(2 * float((truth & there).sum()) / both, 2) if both else "n/a",
    }


def main() -> None:
    """Measure each seed's patient and print."""
    from statistics import median

    atomic.check_writable(FLAGS.out)
    table = tables.Tables(f"{FLAGS.out}/patients.csv", ["tensorflow", "keras", "antspyx"])
    rows = [measure(seed) for seed in FLAGS.seeds]
    known = [row["dice"] for row in rows if isinstance(row.get("dice"), float)]
    middle = f"{median(known):.2f}" if known else "n/a"
    table.show(f"{len(rows)} SIMULATED patients; median Dice {middle} of {len(known)}", rows)


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))

"""Check a whole raw cohort and list every fault at once.

    python -m data_tools.check_cohort --cohort=DIR

Reads participants.tsv and every patient's files: present, readable, 3D, finite, DWI and ADC on
one grid, orientation known, voxel sizes and brain volume plausible, the unit of ADC (mm2/s,
1e-3 or 1e-6 mm2/s) found from the tissue, DWI and ADC not swapped, Tmax in seconds, NIHSS 0-42,
side left, right or bilateral.

A clean cohort prints a summary and exits 0; otherwise a table of faults, exit 2.
"""

import hashlib
import sys

from absl import flags

from data_tools.runtime import command

FLAGS = flags.FlagValues()

command.heading("Input", FLAGS)
flags.DEFINE_string(
    "cohort",
    None,
    "<FOLDER> Raw cohort: participants.tsv and sub-*/.",
    required=True,
    flag_values=FLAGS,
)

command.heading("Machine", FLAGS)
flags.DEFINE_integer("workers", 1, "Worker processes that read patients.", flag_values=FLAGS)


def check_patient(participant: str, cohort: str) -> tuple[list, dict | None]:
    """Faults of one patient's files, and the figures for the summary if there are none."""
    from data_tools import cohort as cohorts
    from data_tools import labels, patient
    from data_tools.grid import TMAX_HYPOPERFUSION_S

    files, faults = cohorts.find_raw_files(cohort, participant)
    if files is None:
        return faults, None
    native, messages = patient.examine(files.dwi, files.adc, files.tmax, files.truth)
    if native is None:
        return [cohorts.Fault(participant, "images", message) for message in messages], None
    dwi, adc = native.dwi, native.adc
    core = labels.core_mask(dwi.data, adc.data, native.brain, dwi.voxel_ml)
    delayed_ml = None
    if native.tmax is not None:
        delayed_ml = float((native.tmax.data >= TMAX_HYPOPERFUSION_S).sum() * native.tmax.voxel_ml)
    return [], {
        "voxels": hashlib.sha256(dwi.data.tobytes()).hexdigest(),
        "core_ml": float(core.sum() * dwi.voxel_ml),
        "tmax_over_6_ml": delayed_ml,
        "adc_unit": native.adc_unit,
        "brain_ml": float(native.brain.sum() * native.dwi.voxel_ml),
        "orientation": native.dwi.orientation,
        "truth": "edited mask" if native.truth else "Tmax" if native.tmax else "none",
    }


def check(cohort: str, workers: int = 1) -> str:
    """Check a cohort.

    Returns:
        The summary, as text.

    Raises:
        CohortError: with every fault of the table, the folders and the images.
    """
    import pandas as pd

    from data_tools import cohort as cohorts
    from data_tools.runtime import executors

    faults: list[cohorts.Fault] = []
    try:
        table = cohorts.read_participants(cohort)
        participants = list(table["participant_id"])
    except cohorts.CohortError as error:
        # The table has faults; the images of those it names can be checked all the same.
        faults += error.faults
        table, participants = None, sorted(_named_in_table(cohort))
    faults += cohorts.unlisted_folders(cohort, participants)
    figures = {}
    tasks = [(participant, cohort) for participant in participants]
    for task, result in executors.map_patients(check_patient, tasks, workers, "check"):
        found, summary = result
        faults += found
        figures[task[0]] = summary
    faults += _same_images(figures)
    if faults:
        order = {name: i for i, name in enumerate(participants)}
        raise cohorts.CohortError(sorted(faults, key=lambda f: order.get(f.participant, -1)))
    images = pd.DataFrame([figures[name] for name in participants])

    def counts(values) -> str:
        return ", ".join(f"{name} {n}" for name, n in values.value_counts().items())

    def spread(values) -> str:
        values = pd.to_numeric(values).dropna()
        if values.empty:
            return "n/a (n=0)"
        low, middle, high = values.quantile([0.25, 0.5, 0.75])
        return f"median {middle:.0f} mL (IQR {low:.0f}-{high:.0f}, n={len(values)})"

    nihss = table["nihss"]
    return "\n".join(
        [
            f"{cohort}: {len(table)} patients, no faults",
            f"  side          {counts(table['side'])}",
            f"  NIHSS         median {nihss.median():g} (IQR {nihss.quantile(0.25):g}-"
            f"{nihss.quantile(0.75):g}), missing in {int(nihss.isna().sum())}",
            f"  brain volume  median {images['brain_ml'].median():.0f} mL "
            f"({images['brain_ml'].min():.0f}-{images['brain_ml'].max():.0f})",
            f"  core          {spread(images['core_ml'])}",
            f"  Tmax >= 6 s   {spread(images['tmax_over_6_ml'])}, as in the file, not cleaned",
            f"  ADC unit      {counts(images['adc_unit'])}",
            f"  orientation   {counts(images['orientation'])}",
            f"  truth from    {counts(images['truth'])}",
        ]
    )


def _same_images(figures: dict[str, dict | None]) -> list:
    """Patients whose DWI is that of another one: a file copied to the wrong place."""
    from data_tools.cohort import Fault

    first: dict[str, str] = {}
    faults = []
    for participant, summary in sorted(figures.items()):
        if summary is None:
            continue
        other = first.setdefault(summary["voxels"], participant)
        if other != participant:
            what = f"DWI holds the same voxels as that of {other}; expected each patient's own"
            faults.append(Fault(participant, "DWI", what))
    return faults


def _named_in_table(cohort: str) -> set[str]:
    from pathlib import Path

    import pandas as pd

    table = pd.read_csv(Path(cohort) / "participants.tsv", sep="\t", dtype=str)
    return {name for name in table["participant_id"].dropna() if (Path(cohort) / name).is_dir()}


def main() -> int:
    """Run the command."""
    print(check(FLAGS.cohort, FLAGS.workers))
    return command.EXIT_OK


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))

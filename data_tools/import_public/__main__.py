"""Import a public data set as it was downloaded into a raw cohort.

    python -m data_tools.import_public --source=ISLES2017_Training.zip --out=cohort
    python -m data_tools.import_public --source=ISLES2017_Training.zip,SPES2015 --out=cohort

It reads ISLES 2015 SPES, ISLES 2016, ISLES 2017 (Zenodo record 17736412) and ISLES 2022 (record
7960856), as zip files or unpacked folders, and recognises each set by the names in it. It
downloads nothing; please confirm each licence at the source.

What a patient gets in the cohort:
    ISLES 2016, 2017   ADC, Tmax; derived: DWI = S0 exp(-b ADC), S0 of the raw series
    ISLES 2015 SPES    DWI, Tmax, the penumbra as edited label, the core; no ADC can be made
    ISLES 2022         DWI, ADC, the lesion as a given core; no Tmax, so no truth
and a side by Tmax >= 6 s (bilateral if neither half has three times the other). Whatever else is
not known is n/a. What is derived is marked in participants.tsv, from there to the model card.

OT of ISLES 2016 and 2017 is the infarct after 90 days. It is never taken as truth. A patient who
stands in two sets with the same voxels is kept once, that of ISLES 2017 first.

imported.tsv lists for each patient what was taken, derived and left out, and why. Run again, the
command goes on where it was interrupted. Exit status: 0 everybody imported, 1 somebody failed (each
is named, the others are done), 2 nobody was imported, or input that cannot be used.

Next: python -m data_tools.check_cohort --cohort=cohort
"""

import sys

from absl import flags

from data_tools.runtime import atomic, command, light_imports
from data_tools.runtime.errors import InputError, counted

FLAGS = flags.FlagValues()

command.heading("Input", FLAGS)
flags.DEFINE_string(
    "source",
    None,
    "<PATH,...> Downloaded zip file, a folder of zip files, or an unpacked folder; several are "
    "separated by commas.",
    required=True,
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "set",
    None,
    "<NAME,...> spes, isles2016, isles2017 or isles2022, where names in the source do not say it: "
    "one for all sources, or one for each.",
    flag_values=FLAGS,
)

command.heading("Output", FLAGS)
flags.DEFINE_string(
    "out",
    None,
    "<FOLDER> Where the cohort goes: a new folder, or that of an interrupted import.",
    required=True,
    flag_values=FLAGS,
)

command.heading("Machine", FLAGS)
command.define_workers(FLAGS, "Worker processes, one patient each.")


def main() -> int:
    """Run the command."""
    light_imports.prepare_nibabel()
    from data_tools.import_public import cohort_import
    from data_tools.runtime.patient_failure import by_reason

    given, said = _listed("source"), _sets()
    if not FLAGS.out.strip():
        raise InputError("--out is empty; expected a folder for the cohort")
    with atomic.one_writer(FLAGS.out):
        result = cohort_import.import_sets(given, FLAGS.out, said, command.workers(FLAGS))
    for row in result.rows:
        if row["state"] != "failed":
            print(cohort_import.in_brief(row, result.alerts.get(row["participant_id"], ())))
    for note in result.notes:
        print(f"note: {note}")
    for names, reason in by_reason(result.failed):
        print(f"failed: {names}: {reason}", file=sys.stderr)
    print(
        f"{counted(len(result.imported), 'patient')} in {FLAGS.out} ({result.kept} were done "
        f"before); {cohort_import.TABLE} says what was taken, derived and left out"
    )
    if not result.imported:
        return command.EXIT_BAD_INPUT
    command.next_steps(
        look_at=f"{FLAGS.out}/{cohort_import.TABLE}",
        run=command.line("check-cohort", cohort=FLAGS.out),
    )
    return command.EXIT_SOME_FAILED if result.failed else command.EXIT_OK


def _listed(name: str) -> list[str]:
    values = [each.strip() for each in str(FLAGS[name].value).split(",")]
    if not all(values):
        raise InputError(f"--{name} has an empty name; expected names separated by single commas")
    return values


def _sets() -> list[str]:
    from data_tools.import_public import matching, sets

    if FLAGS.set is None:
        return []
    for value in _listed("set"):
        if sets.OUTCOME in matching.roles_in(value):
            raise InputError(f"--set={value}: {sets.OT_IS_NO_TRUTH}")
        if value not in sets.SETS:
            raise InputError(f"--set={value}: expected one of {', '.join(sets.SETS)}")
    return _listed("set")


_NO_MAPPING = (
    "what a file is shows in its name and cannot be chosen. OT (the infarct after 90 days) is "
    "never truth; Tmax is taken by itself"
)
command.moved(
    ("truth", "label", "labels", "lesion", "map", "mapping", "roles", "tmax", "ot", "use_ot",
     "truth_from", "mask"),
    _NO_MAPPING, FLAGS,
)  # fmt: skip

if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))

"""Bring a raw cohort to MNI space: brain mask, registration, resampling to 2 mm.

    python -m data_tools.preprocess --cohort=RAW --out=MNI [--workers=2] [--registration=ants]

Of a visit (a row sub-01_ses-1) folder and files are named so. site, group and mrs_90d are kept. A
row with a reason in the column exclude (poor DWI, poor bolus...) is left out. left_out.json names
everybody who is not in the result, with the step and the reason; they are counted to the report.

Per patient: sub-*_space-MNI152NLin2009aSym_{dwi,adc,tmax}.nii.gz and masks (intensities stay
physical; ADC in 1e-6 mm2/s), the transform for the way back, qc.json and qc.png; and qc.html of the
cohort, the worst first. Look at the pictures, tick accept or reject, and save qc_decisions.csv
beside the page: build_records reads it. Patients done before with the same files are kept.
Where there is a raw perfusion series (sub-*/perf/sub-*_dsc) and no Tmax map, Tmax is made of it and
goes to OUT/derivatives/perfusion; python -m data_tools.perfusion has its options and explains it.
One bad patient does not stop the others: it is listed at the end, exit 1. If its images are those
of an earlier run, that result stays, for then a flag was wrong.
"""

import sys
from collections import Counter

from absl import flags

from data_tools.runtime import atomic, command, light_imports

FLAGS = flags.FlagValues()

command.heading("Input", FLAGS)
flags.DEFINE_string(
    "cohort",
    None,
    "<FOLDER> Raw cohort: participants.tsv and sub-*/dwi/.",
    required=True,
    flag_values=FLAGS,
)

command.heading("Output", FLAGS)
flags.DEFINE_string(
    "out", None, "<FOLDER> Where the MNI cohort goes.", required=True, flag_values=FLAGS
)

command.define_overrides(FLAGS, of_cohort=True)
command.define_other_territories(FLAGS)

command.heading("Method", FLAGS)
flags.DEFINE_enum(
    "registration",
    "affine",
    ["affine", "ants", "syn"],
    "Fit to the template: affine; ants, the slower affine fit of ANTs; or syn, which adds a "
    "deformation by ANTs to the first (the core is left out of its cost).",
    flag_values=FLAGS,
)
flags.DEFINE_bool(
    "labels_within_side",
    False,
    "Label no hypoperfusion and no core on the side opposite the stroke. The choice is kept in "
    "labels.json for build_records and evaluate. An edited mask is used as it is.",
    flag_values=FLAGS,
)

command.heading("Machine", FLAGS)
command.define_workers(FLAGS, "Worker processes, one patient each.")


def main() -> int:
    """Run the command."""
    light_imports.prepare_nibabel()
    from data_tools import flow, groups, mni_cohort
    from data_tools.runtime.patient_failure import all_alike, by_reason

    with atomic.one_writer(FLAGS.out):
        done, left_out = mni_cohort.preprocess(
            FLAGS.cohort,
            FLAGS.out,
            workers=command.workers(FLAGS),
            kind=FLAGS.registration,
            within_side=FLAGS.labels_within_side,
            overrides=command.overrides(FLAGS),
            other_territories=FLAGS.other_territories,
        )
    kept = sum(patient.kept for patient in done)
    what = groups.counted_patients([patient.quality.participant_id for patient in done])
    print(f"{what} in {FLAGS.out} ({kept} were done before)")
    worth = Counter(
        patient.quality.tmax_from.split("; ")[-1] for patient in done if patient.quality.tmax_from
    )
    for words, count in worth.items():
        print(f"{count} with Tmax made of raw perfusion series by this program, {words}")
    for patient in done:
        for warning in patient.quality.warnings:
            print(f"warning: {patient.quality.participant_id}: {warning}", file=sys.stderr)
    failed = {each.participant_id: each.reason for each in left_out if each.step == flow.PREPROCESS}
    for each in left_out:
        if each.participant_id not in failed:
            step = flow.STEPS[each.step]
            print(f"left out, {step}: {each.participant_id}: {each.reason}", file=sys.stderr)
    for names, reason in by_reason(failed):
        print(f"failed: {names}: {reason}", file=sys.stderr)
    if alike := all_alike(failed, len(done) + len(failed)):
        print(alike, file=sys.stderr)
    command.next_steps(
        look_at=f"{FLAGS.out}/qc.html",
        run=command.line("build-records", cohort=FLAGS.out, out="records") if done else None,
    )
    return command.EXIT_SOME_FAILED if failed else command.EXIT_OK


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))

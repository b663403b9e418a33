"""How near does a patient with one image come to the same patient with both?

    python -m benchmarks.one_image [--cohort=RAW] [--dwi=A.nii.gz,B.nii.gz --adc=...]

Every head is read with both images, with the DWI alone and with the ADC map alone, and brought to
MNI space each time. Compared with both: the brain and the tissue (Dice, on the patient's grid and
on the template's), the fit (mean distance over the template's brain, in the patient's mm), and what
normalised voxels are times those of both (median). Two real and two simulated heads take a minute.
"""

import sys
from typing import Any

from absl import flags

from benchmarks.measuring import options, turns
from benchmarks.measuring.tables import Tables
from data_tools.runtime import command
from data_tools.runtime.errors import InputError

FLAGS = flags.FlagValues()
flags.DEFINE_string(
    "cohort", None, "<FOLDER> Raw cohort: each patient's DWI and ADC map.", flag_values=FLAGS
)
flags.DEFINE_list("dwi", [], "DWI of further heads, NIfTI.", flag_values=FLAGS)
flags.DEFINE_list("adc", [], "Their ADC maps, in the same order.", flag_values=FLAGS)
options.out(FLAGS)


def main() -> None:
    """Measure every head and print the table."""
    if len(FLAGS.dwi) != len(FLAGS.adc):
        raise InputError(f"{len(FLAGS.dwi)} of --dwi and {len(FLAGS.adc)} of --adc; expected pairs")
    heads = [
        (name.rsplit("/", 1)[-1], name, adc) for name, adc in zip(FLAGS.dwi, FLAGS.adc, strict=True)
    ]
    heads += of_cohort(FLAGS.cohort) if FLAGS.cohort else []
    if not heads:
        raise InputError("no head; expected --cohort, or --dwi and --adc")
    tables = Tables(FLAGS.out, ("scipy", "numpy"))
    rows = [row for head in turns.progress(heads, "heads") for row in measured(*head)]
    tables.show("one image, against both", rows)


def of_cohort(cohort: str) -> list[tuple[str, str, str]]:
    """Name, DWI and ADC map of each patient who has both as files."""
    from data_tools import cohort as cohorts

    found = []
    for name in cohorts.read_participants(cohort)["participant_id"]:
        files, _ = cohorts.find_raw_files(cohort, name)
        if files is not None and files.dwi and files.adc:
            found.append((name, str(files.dwi), str(files.adc)))
    return found


def measured(name: str, dwi: str, adc: str) -> list[dict[str, Any]]:
    """A row for each image that stands alone."""
    import numpy as np

    from data_tools import intensity, patient
    from data_tools.agreement import dice_of

    both = patient.load_native(dwi, adc)
    on_template, _ = patient.to_mni(both)
    rows = []
    for image, files in (("DWI", (dwi, None)), ("ADC", (None, adc))):
        one = patient.load_native(*files, may_lack_one=True)
        mni, quality = patient.to_mni(one)
        tissue = [intensity.tissue_of(p.dwi.data, p.adc.data, p.brain) for p in (one, both)]
        mni_tissue = [
            intensity.tissue_of(p.dwi, p.adc_um2_per_s, p.brain) for p in (mni, on_template)
        ]
        ratios = [
            intensity.normalise(p.dwi.data, p.adc.data, p.brain)[image == "ADC"]
            for p in (one, both)
        ]
        seen = (ratios[0] > 0) & (ratios[1] > 0)
        ways = mni.transform.affine, on_template.transform.affine
        rows.append(
            {
                "head": name,
                "image": image,
                "brain Dice": f"{dice_of(one.brain, both.brain):.3f}",
                "on template": f"{dice_of(mni.brain, on_template.brain):.3f}",
                "tissue Dice": f"{dice_of(*tissue):.3f}",
                "tissue on template": f"{dice_of(*mni_tissue):.3f}",
                "fit apart mm": f"{apart_mm(*ways):.2f}",
                "normalised, times": f"{np.median(ratios[0][seen] / ratios[1][seen]):.3f}",
                "warnings": len(quality.warnings),
            }
        )
    return rows


def apart_mm(one: Any, other: Any) -> float:
    """How far the template's brain lies apart in the patient by two ways there."""
    import numpy as np

    from data_tools.grid import GRID_AFFINE
    from data_tools.template import template_on_grid

    index = np.argwhere(template_on_grid()[1])[::7]
    points = (GRID_AFFINE @ np.c_[index, np.ones(len(index))].T).T
    there = [(np.linalg.inv(way) @ points.T).T[:, :3] for way in (one, other)]
    return float(np.linalg.norm(there[0] - there[1], axis=1).mean())


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))

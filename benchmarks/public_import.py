"""Do public data sets come back from the import exactly as they were, and on their own side?

    python -m benchmarks.public_import --folder=runs/layouts [--spes=30 --isles2017=43 --coarser=4]

Simulates patients in the layouts of ISLES 2015 SPES and ISLES 2017 with every quirk of their files
(data_tools.simulate --layout), imports both as zip files, and compares each image with what was
simulated, voxel by voxel through both headers. It counts voxels that differ, images that lie
elsewhere, left and right swapped (the mirrored image fits better), and sides that differ from that
of the lesion. ADC is compared in whole 1e-6 mm2/s, in which it was simulated, whatever its unit in
the file. Then check_cohort and preprocess take everybody: with small voxels (--coarser=1) all are
expected to pass. About 10 s per patient and core at --coarser=4. Layouts that are there are kept.
"""

import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from numpy.typing import NDArray

from benchmarks.measuring import options
from benchmarks.measuring.tables import Tables
from data_tools.runtime import atomic, command

FLAGS = flags.FlagValues()
flags.DEFINE_string(
    "folder", None, "Where layouts and cohort go.", flag_values=FLAGS, required=True
)
flags.DEFINE_integer("spes", 30, "Patients of SPES.", 1, 30, flag_values=FLAGS)
flags.DEFINE_integer("isles2017", 43, "Patients of ISLES 2017.", 1, 43, flag_values=FLAGS)
flags.DEFINE_integer("coarser", 4, "Voxels so many times as large.", 1, 6, flag_values=FLAGS)
flags.DEFINE_integer("workers", 2, "Worker processes.", 1, flag_values=FLAGS)
flags.DEFINE_integer("seed", 2017, "Of the patients.", 0, flag_values=FLAGS)
options.out(FLAGS)

# Of each file of a cohort: what it is in the truth.
IMAGES = {
    "spes": {
        "{0}/dwi/{0}_dwi.nii.gz": "DWI",
        "derivatives/perfusion/{0}/perf/{0}_Tmax.nii.gz": "Tmax",
        "derivatives/labels/{0}/{0}_desc-hypoperfusion_mask.nii.gz": "label",
        "derivatives/masks/{0}/{0}_desc-core_mask.nii.gz": "corelabel",
    },
    "isles2017": {
        "{0}/dwi/{0}_ADC.nii.gz": "ADC",
        "derivatives/perfusion/{0}/perf/{0}_Tmax.nii.gz": "Tmax",
    },
    "isles2022": {
        "{0}/dwi/{0}_dwi.nii.gz": "dwi",
        "{0}/dwi/{0}_ADC.nii.gz": "adc",
        "derivatives/masks/{0}/{0}_desc-core_mask.nii.gz": "msk",
    },
}
IMAGES["isles2016"] = IMAGES["isles2017"]


def main() -> None:
    """Simulate, import, compare."""
    from data_tools.import_public import cohort_import
    from data_tools.simulate import write_layout

    tables = Tables(FLAGS.out, ("numpy", "nibabel"), f"coarser {FLAGS.coarser}")
    folder = Path(FLAGS.folder)
    zips = {
        "spes": "spes/SPES2015_Training.zip", "isles2017": "isles2017/ISLES2017_Training.zip"
    }  # fmt: skip
    for layout, file in zips.items():
        if not (folder / file).is_file():
            write_layout(
                folder / layout,
                layout,
                FLAGS[layout].value,
                FLAGS.seed,
                coarser=FLAGS.coarser,
                zipped=True,
                workers=FLAGS.workers,
            )
    cohort = folder / "cohort"
    result = cohort_import.import_sets(
        [str(folder / file) for file in zips.values()], cohort, workers=FLAGS.workers
    )
    found = [line for layout in zips for line in compare(cohort, folder / layout / "truth", layout)]
    rows = []
    for layout in zips:
        lines = [line for line in found if line["layout"] == layout]
        rows.append(summary(layout, lines))
    tables.show("imported, beside what was simulated", rows)
    for name, reason in result.failed.items():
        print(f"failed: {name}: {reason}")
    tables.show("the chain", [chain(cohort, folder / "mni", FLAGS.workers)])


def compare(cohort: Path, truth: Path, layout: str) -> list[dict[str, Any]]:
    """A line for each image of each imported patient of a layout, and one for its side.

    Args:
        cohort: that was imported.
        truth: folder that the layout's writer made.
        layout: key of :data:`IMAGES`.
    """
    from data_tools.volumes import load_volume

    known = {each["folder"].split("/")[-1]: (name, each) for name, each in truth_of(truth).items()}
    lines = []
    for file in sorted((cohort / "derivatives/import").glob(f"sub-{layout}*_import.json")):
        record = atomic.read_json(file)
        if record["copy_of"] is not None:
            continue
        participant = record["participant_id"]
        name, told = known[record["folder"].split("/")[-1]]
        about = {"layout": layout, "patient": participant}
        lines.append(about | {"what": "side", "wrong": int(record["side"] != told["side"])})
        for pattern, kind in IMAGES[layout].items():
            path = cohort / pattern.format(participant)
            if not path.is_file():
                lines.append(about | {"what": kind, "wrong": 1, "elsewhere": 1})
                continue
            image = load_volume(path, kind, may_be_constant=True)
            expected = load_volume(truth / f"{name}_{kind}.nii.gz", kind, may_be_constant=True)
            data = image.data
            if kind.upper() == "ADC":
                data = np.round(data * (1000 if data.max() < 100 else 1))
            lines.append(
                about
                | {"what": kind, "orientation": image.orientation}
                | differences(data, image.affine, expected.data, expected.affine)
            )
    return lines


def truth_of(folder: Path) -> Mapping[str, Any]:
    """What the writer of a layout says of each patient."""
    return atomic.read_json(folder / "truth.json")


def differences(
    data: NDArray, affine: NDArray, expected: NDArray, expected_affine: NDArray
) -> dict[str, int]:
    """Voxels that differ, and whether an image lies elsewhere or is mirrored.

    Args:
        data: [x, y, z].
        affine: index -> mm of it.
        expected: the same image, its axes in any order and direction.
        expected_affine: of that.
    """
    to_index = np.linalg.inv(affine) @ expected_affine
    index = np.indices(expected.shape).reshape(3, -1)
    there = to_index[:3, :3] @ index + to_index[:3, 3:]
    whole = np.rint(there).astype(int)
    limits = np.reshape(data.shape, (3, 1))
    if np.abs(there - whole).max() > 0.02 or not ((whole >= 0) & (whole < limits)).all():
        return {"wrong": expected.size, "elsewhere": 1, "swapped": 0}
    found = data[tuple(whole)].reshape(expected.shape)
    wrong = int((found != expected).sum())
    left_right = int(np.abs(expected_affine[0, :3]).argmax())
    mirrored = int((np.flip(found, left_right) != expected).sum())
    return {"wrong": wrong, "elsewhere": 0, "swapped": int(mirrored < wrong)}


def summary(layout: str, lines: list[dict[str, Any]]) -> dict[str, Any]:
    """One line of a layout."""
    images = [line for line in lines if line["what"] != "side"]
    orientations = Counter(line.get("orientation") for line in images)
    return {
        "layout": layout,
        "patients": len({line["patient"] for line in lines}),
        "images": len(images),
        "images exact": sum(not line["wrong"] for line in images),
        "voxels wrong": sum(line["wrong"] for line in images),
        "elsewhere": sum(line.get("elsewhere", 0) for line in images),
        "left-right swaps": sum(line.get("swapped", 0) for line in images),
        "sides wrong": sum(line["wrong"] for line in lines if line["what"] == "side"),
        "orientations": " ".join(f"{name} {n}" for name, n in sorted(orientations.items())),
    }


def chain(cohort: Path, mni: Path, workers: int) -> dict[str, Any]:
    """How many patients check_cohort and preprocess take."""
    from data_tools import cohort_faults, mni_cohort
    from data_tools.cohort import CohortError, read_participants

    everybody = len(read_participants(cohort))
    faulty: set[str] = set()
    try:
        cohort_faults.check(str(cohort), workers)
    except CohortError as error:
        faulty = {fault.participant for fault in error.faults}
        print(error)
    done, lost = mni_cohort.preprocess(str(cohort), str(mni), workers=workers)
    for each in lost:
        print(f"not preprocessed: {each.participant_id}: {each.reason}")
    return {
        "patients": everybody,
        "check_cohort without a fault": everybody - len(faulty),
        "preprocessed": len(done),
        "marked as derived": sum(each.quality.derived is not None for each in done),
    }


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))

"""Our Tmax beside a commercial program's, of the raw series of ISLES 2016 and 2017.

    python -m benchmarks.perfusion_isles --folder=ISLES2017_Training [--te_s=0.03] [--tr_s=1.5]

A case is a folder with a raw series (4DPWI) and a Tmax map, each in a folder of its name
(VSD.Brain.XX.O.MR_Tmax.128020/..., or SMIR.) or as MR_Tmax.nii(.gz). The archive says no echo time
(Tmax does not depend on it: 0.03 s is taken), and TR only in the series' headers, which are not
to be trusted: look at the printed TR, or give --tr_s. Slice timing is not known.

At Tmax >= 6 s of both, then at the threshold of ours that agrees best, each case left out in turn:
mean absolute difference, CCC, Dice, and kappa of DEFUSE 3 by the core of the ADC map (<= 620e-6
mm2/s, cleaned as hypoperfusion is; there is no DWI to confirm it). OT, the infarct after 90 days,
is not read. For orientation, of others: two commercial programs, n = 299: CCC 0.88, kappa 0.76;
n = 81: 20.5 mL apart on average; an open CT program and RAPID, n = 94: median Dice 0.88, kappa
0.74.
About a minute per case.
"""

import dataclasses
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from benchmarks.measuring import options, turns
from benchmarks.measuring.tables import Tables
from data_tools.runtime import command
from data_tools.runtime.errors import InputError

if TYPE_CHECKING:
    from data_tools.perfusion.threshold_fit import Agreement, Pair

FLAGS = flags.FlagValues()
flags.DEFINE_string(
    "folder", None, "Unpacked archive, a folder per case.", flag_values=FLAGS, required=True
)
flags.DEFINE_float("tr_s", None, "TR of all series, in s.", 0.2, 6.0, flag_values=FLAGS)
flags.DEFINE_float("te_s", 0.03, "Echo time, in s.", 0.005, 0.15, flag_values=FLAGS)
flags.DEFINE_bool("motion", True, "Correct motion.", flag_values=FLAGS)
flags.DEFINE_enum("fit", "volume", ["volume", "dice"], "Fit the threshold by.", flag_values=FLAGS)
options.out(FLAGS)

# Words in the names of files or their folders.
KINDS = {"series": "4DPWI", "tmax": "TMAX", "adc": "ADC"}
ENDINGS = (".nii", ".nii.gz")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """The files of a case.

    Attributes:
        name: ``training_1``.
        series: raw.
        tmax: of the other program.
        adc: None if there is none.
    """

    name: str
    series: Path
    tmax: Path
    adc: Path | None = None


def main() -> None:
    """Compare every case, then all of them."""
    from data_tools.perfusion import threshold_fit

    found = cases(Path(FLAGS.folder))
    tables = Tables(FLAGS.out, ("numpy", "scipy"), f"TE {FLAGS.te_s:g} s")
    rows, pairs = [], []
    for case in turns.progress(found, "cases"):
        try:
            line, pair = compare(case)
        except InputError as error:
            line, pair = {"case": case.name, "said": str(error)}, None
        rows.append(line)
        if pair is not None:
            pairs.append(pair)
    tables.show("cases", rows)
    result = threshold_fit.fit(pairs, FLAGS.fit)
    tables.show(
        "together",
        [
            agreement("at 6 s", result.at_six),
            agreement(f"calibrated, left out ({result.threshold_s:g} s by all)", result.left_out),
        ],
    )
    for warning in result.warnings:
        print(f"warning: {warning}")


def cases(folder: Path) -> list[Case]:
    """Every folder with a series and a Tmax map, in the order of their numbers.

    Raises:
        InputError: no folder, or none with both; several files of a kind.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "no such folder"
        raise InputError(f"--folder={folder}: {what}; expected the unpacked archive")
    found = []
    inside = [each for each in folder.iterdir() if each.is_dir() and each.name != "__MACOSX"]
    for each in sorted(inside, key=lambda path: [int(n) for n in re.findall(r"\d+", path.name)]):
        files = {kind: _only(each, word) for kind, word in KINDS.items()}
        if files["series"] and files["tmax"]:
            found.append(
                Case(name=each.name, series=files["series"], tmax=files["tmax"], adc=files["adc"])
            )
    if not found:
        raise InputError(
            f"{folder}: no folder of a case with a raw series (4DPWI) and a Tmax map; expected "
            "training_1/VSD.Brain.XX.O.MR_4DPWI.N/VSD.Brain.XX.O.MR_4DPWI.N.nii and the like"
        )
    return found


def _only(folder: Path, word: str) -> Path | None:
    """The image whose own name has the word among its parts."""
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if path.name.endswith(ENDINGS)
        and not path.name.startswith(".")
        and word in re.split(r"[._]", path.name.upper())
    ]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise InputError(f"{folder}: {names} are all {word}; expected one")
    return found[0] if found else None


def compare(case: Case) -> tuple[dict[str, Any], "Pair"]:
    """A case's line, and what is fitted by.

    Raises:
        InputError: a file or the scan cannot be used.
    """
    import numpy as np

    from data_tools import labels
    from data_tools.grid import TMAX_HYPOPERFUSION_S
    from data_tools.perfusion.examination import Method, examine
    from data_tools.perfusion.series import load_series
    from data_tools.perfusion.threshold_fit import AT_SIX, pair_of
    from data_tools.plausibility import check_tmax_seconds
    from data_tools.volumes import load_volume

    series = load_series(case.series, tr_s=FLAGS.tr_s or _header_tr_s(case.series),
                         te_s=FLAGS.te_s)  # fmt: skip
    theirs = load_volume(case.tmax, "Tmax", may_have_gaps=True)
    check_tmax_seconds(theirs)
    if theirs.data.shape != series.signal.shape[:3]:
        raise InputError(f"{case.tmax}: {theirs.data.shape} voxels; expected those of the series")
    found = examine(series, Method(motion=FLAGS.motion))
    late = labels.territories(theirs.data >= TMAX_HYPOPERFUSION_S, theirs.voxel_ml)
    core_ml = None if case.adc is None else _core_ml(case.adc)
    pair = pair_of(case.name, found.maps.tmax_s, found.brain, theirs.voxel_ml,
                   reference=late, core_ml=core_ml)  # fmt: skip
    both = found.brain & (theirs.data > 0)
    off_s = np.median((found.maps.tmax_s - theirs.data)[both]) if both.any() else np.nan
    line = {
        "case": case.name, "tr_s": round(found.tr_s, 3), "frames": series.signal.shape[3],
        "theirs_ml": round(pair.reference_ml, 1), "ours_ml": round(pair.volumes_ml[AT_SIX], 1),
        "dice": "" if pair.dice is None else round(pair.dice[AT_SIX], 3),
        "off_s": round(float(off_s), 2), "core_ml": "" if core_ml is None else round(core_ml, 1),
        "said": " | ".join(found.warnings),
    }  # fmt: skip
    return line, pair


def _header_tr_s(path: Path) -> float | None:
    """The step along the last axis of time in the header; None if it is no time in s."""
    import nibabel as nib

    zooms = nib.load(path).header.get_zooms()
    steps = [float(each) for each in zooms[3:]]
    return next((each for each in reversed(steps) if 0.2 <= each <= 6 and each != 1), None)


def _core_ml(path: Path) -> float:
    """ADC <= 620e-6 mm2/s without small clusters."""
    from data_tools import labels
    from data_tools.grid import ADC_CORE_UM2_PER_S
    from data_tools.overrides import ADC_UNITS
    from data_tools.plausibility import detect_adc_unit
    from data_tools.volumes import load_volume

    adc = load_volume(path, "ADC", may_have_gaps=True)
    brain = adc.data > 0
    values = adc.data * ADC_UNITS[detect_adc_unit(adc, brain)]
    low = labels.territories(brain & (values <= ADC_CORE_UM2_PER_S), adc.voxel_ml)
    return float(low.sum() * adc.voxel_ml)


def agreement(what: str, each: "Agreement") -> dict[str, Any]:
    """A line of the table of all cases."""
    return {"what": what} | {
        name: "n/a" if value is None else round(value, 3) if isinstance(value, float) else value
        for name, value in dataclasses.asdict(each).items()
    }


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))

"""How near our Tmax comes to what is known, from single curves to whole simulated scans.

    python -m benchmarks.perfusion [--phantoms=8] [--scans=40] [--seed=7] [--osipi=dsc_data.csv]

Curves: those of the simulator's bolus (gamma-variate of b = 1.5 s with a second passage), tissue
with an exponential residue, 90 s of scan. The literal matrix is the block-circulant one, its
truncated SVD taken by numpy. "Wrong side" and "off" are against the same curve without noise; noise
is that of single voxels, half of grey matter (a fall by 40%) and half of white matter (half its
blood volume), MTT 4 s, delays 0 to 8 s; smoothed as the program does it, and not smoothed. OSIPI's
curves are not part of this project (test/DSCmodels/data/dsc_data.csv of their
DCE-DSC-MRI_CodeCollection).

Phantoms: patients of ``simulate --dsc``, the whole chain with correction of motion (``--nomotion``:
heads that lie still) and a brain mask of its own. Dice and volume at Tmax >= 6 s in the true brain,
against the Tmax put in, both cleaned as labels are, where the head lay in the frames that a series
is brought to; over lesions of 10 mL and more. About a minute each.

Scans: of as many patients one sound scan and one with a planted fault, 64 x 64 voxels a slice,
through files. Motion is corrected only where the fault is a jump. Where the AIF's voxels lie, which
faults are told by name, and what is said of sound scans. About 10 s each.

Resources: one patient of 128 x 128 x 20 x 60, a process of its own.
"""

import csv
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absl import flags

from benchmarks.measuring import options, turns
from benchmarks.measuring.tables import Tables
from data_tools.runtime import command
from data_tools.runtime.errors import InputError

FLAGS = flags.FlagValues()
options.count("phantoms", 8, "Whole phantoms; 0 leaves them out.", FLAGS, lowest=0)
options.count("scans", 40, "Scans for arteries and faults; 0 leaves them out.", FLAGS, lowest=0)
flags.DEFINE_bool("resources", True, "Time and memory of one patient.", flag_values=FLAGS)
options.count("seed", 7, "Of the cohort.", FLAGS, lowest=0)
flags.DEFINE_bool("motion", True, "Correct motion in the phantoms.", flag_values=FLAGS)
flags.DEFINE_string("osipi", None, "CSV of OSIPI's reference curves.", flag_values=FLAGS)
options.out(FLAGS)

TR_S = 1.5
LENGTH_S = 90.0
MTT_S = (4.0, 8.0, 12.0)
# What is said of each fault.
TOLD = {
    "no_bolus": "no bolus",
    "late_start": "began too late",
    "truncated": "truncated",
    "no_tr": "TR is not known",
    "shuffled": "in the order of their times",
    "jump": "the head jumps by",
    "metal": "is there metal",
    "earlier_contrast": "gadolinium given before",
}
SMALL = 64
# Lesions that an error in % says something about.
MIN_LESION_ML = 10.0


def main() -> None:
    """Measure, print the aims beside."""
    if FLAGS.osipi and not Path(FLAGS.osipi).is_file():
        raise InputError(f"--osipi={FLAGS.osipi} is no file; expected OSIPI's dsc_data.csv")
    tables = Tables(FLAGS.out, ("numpy", "scipy"), f"seed {FLAGS.seed}")
    rows = [literal_matrix(), *delays(), offset(), *noise(FLAGS.seed)]
    if FLAGS.osipi:
        rows.append(osipi(FLAGS.osipi))
    rows += checks()
    tables.show("curves", rows)
    if FLAGS.scans:
        each = list(scans(FLAGS.scans, FLAGS.seed))
        tables.show("scans", each)
        tables.show("scans, all", scans_summary(each))
    if FLAGS.resources:
        tables.show("resources", list(resources(FLAGS.seed)))
    if FLAGS.phantoms:
        each = list(phantoms(FLAGS.phantoms, FLAGS.seed, FLAGS.motion))
        tables.show("phantoms", each)
        tables.show("phantoms, all", phantoms_summary(each))


def row(what: str, measured: str, aim: str, met: bool) -> dict[str, Any]:
    """A line beside its aim."""
    return {"what": what, "measured": measured, "aim": aim, "met": "yes" if met else "NO"}


def _curves(tr_s: float, delays_s: Any, mtt_s: float, **bolus: float) -> tuple[Any, Any]:
    """The AIF, and tissue curves [delays, frames] of CBV 1."""
    import numpy as np

    from data_tools.simulate.bolus import Bolus

    made = Bolus(arrival_s=15.0, **bolus)
    times_s = np.arange(round(LENGTH_S / tr_s)) * tr_s
    tissue = made.answer_at(times_s - np.reshape(delays_s, (-1, 1)), mtt_s)
    return made.aif(times_s).astype(np.float32), tissue


def literal_matrix() -> dict[str, Any]:
    """The filter against numpy's SVD of the matrix, noisy curves, three thresholds."""
    import numpy as np
    from scipy import linalg

    from data_tools.perfusion import deconvolution

    rng = np.random.default_rng(0)
    aif, curves = _curves(TR_S, [0, 3, 9], 5.0)
    aif = aif + rng.normal(0, 0.01, aif.shape)
    curves = curves + rng.normal(0, 0.01, curves.shape)
    matrix = linalg.circulant(np.pad(aif, (0, len(aif)))) * TR_S
    u, sizes, vt = np.linalg.svd(matrix)
    apart = []
    for threshold in (0.05, 0.10, 0.20):
        inverse = np.where(sizes >= threshold * sizes[0], 1 / np.maximum(sizes, 1e-12), 0)
        theirs = np.pad(curves, ((0, 0), (0, len(aif)))) @ (vt.T * inverse @ u.T).T
        ours = deconvolution.residue(curves, aif, tr_s=TR_S, threshold=threshold)
        apart.append(np.abs(ours - theirs).max() / np.abs(theirs).max())
    return row(
        "apart from a literal block-circulant SVD, of the largest value",
        f"{max(apart):.1e}", "<= 1e-5", max(apart) <= 1e-5,
    )  # fmt: skip


def delays() -> Iterator[dict[str, Any]]:
    """Tmax - delay and CBF over delays of -3 to 15 s, at MTT 4, 8 and 12 s."""
    import numpy as np

    from data_tools.perfusion import maps

    delays_s = np.arange(-3, 15.01, 0.25)
    for tr_s, most_s in ((1.0, 0.15), (1.5, 0.15), (2.0, 0.25), (2.2, 0.25)):
        spread_s, flow = [], []
        for mtt_s in MTT_S:
            aif, curves = _curves(tr_s, delays_s, mtt_s)
            tmax_s, height = maps.residue_peaks(curves, aif, tr_s=tr_s)
            spread_s.append(np.ptp(tmax_s - delays_s))
            flow.append(100 * np.ptp(height) / height.mean())
        yield row(
            f"delays -3 to 15 s, TR {tr_s:g} s: spread of Tmax - delay; of CBF",
            f"{max(spread_s):.2f} s; {max(flow):.1f}%", f"<= {most_s:g} s; <= 5%",
            max(spread_s) <= most_s and max(flow) <= 5,
        )  # fmt: skip


def offset() -> dict[str, Any]:
    """Mean of Tmax - delay; beside it that of an AIF without a second passage."""
    import numpy as np

    from data_tools.perfusion import maps

    delays_s = np.arange(-3, 15.01, 0.25)

    def offsets_s(**bolus: float) -> list[float]:
        found = []
        for mtt_s in MTT_S:
            aif, curves = _curves(TR_S, delays_s, mtt_s, **bolus)
            tmax_s, _ = maps.residue_peaks(curves, aif, tr_s=TR_S)
            found.append(float(np.mean(tmax_s - delays_s)))
        return found

    usual = offsets_s()
    first_only = offsets_s(recirculation=0.0, steady=0.0)
    said = ", ".join(f"{each:.2f}" for each in usual)
    return row(
        "offset at MTT 4, 8, 12 s (TR 1.5 s, b = 1.5 s)",
        f"{said} s; without a second passage {', '.join(f'{each:.2f}' for each in first_only)} s",
        "2.2 +- 0.15 s at MTT 4 s",
        abs(usual[0] - 2.2) <= 0.15,
    )


def noise(seed: int) -> Iterator[dict[str, Any]]:
    """SD of Tmax at SNR 50, voxels on the wrong side of 6 s, and off by more than 2 s."""
    import numpy as np

    from data_tools.perfusion import concentration, maps

    rng = np.random.default_rng(seed)
    delays_s = np.arange(0, 8.01, 0.25)
    aif, tissue = _curves(TR_S, delays_s, 4.0)
    tissue = -np.log(1 - 0.4) * tissue / tissue.max()
    side = 32
    for sd_voxels in (concentration.SMOOTHING_SD_VOXELS, 0.0):
        off_s, wrong = [], []
        for blood in (1.0, 0.5):
            clean_s, _ = maps.residue_peaks(blood * tissue, aif, tr_s=TR_S)
            for curve, true_s in zip(blood * tissue, clean_s, strict=True):
                there = np.exp(-curve) + rng.normal(0, 1 / 50, (side, side, 1, len(curve)))
                smooth = concentration.smoothed_in_plane(there.astype(np.float32), sd_voxels)
                found = concentration.concentration(smooth, slice(0, 9), 1.0)
                tmax_s, _ = maps.residue_peaks(found.reshape(-1, len(curve)), aif, tr_s=TR_S)
                off_s.append(tmax_s - true_s)
                wrong.append((tmax_s >= 6) != (true_s >= 6))
        sd_s = float(np.sqrt(np.mean(np.square(off_s))))
        far, wrong_share = 100 * np.mean(np.abs(off_s) > 2), 100 * np.mean(wrong)
        yield row(
            f"SNR 50, smoothed by {sd_voxels:g} voxels: SD; wrong side of 6 s; off by > 2 s",
            f"{sd_s:.2f} s; {wrong_share:.1f}%; {far:.2f}%", "<= 0.55 s; <= 5.5%; <= 2.5%",
            bool(sd_s <= 0.55 and wrong_share <= 5.5 and far <= 2.5),
        )  # fmt: skip


def osipi(path: str) -> dict[str, Any]:
    """OSIPI's 14 curves with their tolerance."""
    import numpy as np

    from data_tools.perfusion import maps

    with open(path, newline="") as lines:
        rows = list(csv.DictReader(lines))
    within = 0
    for each in rows:
        tissue, aif = (np.array(each[name].split(), np.float32) for name in ("C_tis", "C_aif"))
        one = np.ones((1, 1, 1), bool)
        made = maps.perfusion_maps(tissue[None, None, None], one, aif, tr_s=float(each["tr"]))
        cbv, cbf = float(each["cbv"]), float(each["cbf"])
        within += (
            abs(made.cbv.item() - cbv) <= 1 + 0.1 * cbv
            and abs(made.cbf.item() - cbf) <= 15 + 0.1 * cbf
        )
    return row(
        "OSIPI's curves: CBV within 1 + 10%, CBF within 15 + 10%",
        f"{within} of {len(rows)}", "14 of 14", within == len(rows) == 14,
    )  # fmt: skip


def checks() -> Iterator[dict[str, Any]]:
    """Each check of the maps, on maps that it has to find; none on sound ones."""
    import numpy as np

    from data_tools.perfusion import maps

    shape, affine = (24, 24, 10), np.diag([5.0, 5.0, 6.0, 1.0])
    brain = np.ones(shape, bool)
    sound = np.full(shape, 2.2, np.float32)
    sound[2:8, 4:18, 2:8] = 8.0
    zero = np.zeros(shape, np.float32)

    def told(tmax_s: Any, ttp_s: Any) -> tuple[str, ...]:
        made = maps.Maps(tmax_s=tmax_s, cbf=zero, cbv=zero, mtt_s=zero, ttp_s=ttp_s)
        return maps.check(made, brain, affine).warnings

    early, larger = sound.copy(), sound.copy()
    early[20:22] = -1.0
    larger[:10] = 8.0
    cases = {
        "sound maps": (told(sound, sound + 20), None),
        "8% of the brain at -1 s": (told(early, sound + 20), "Tmax is below -0.5 s"),
        "healthy side at 4.7 s": (told(sound + 2.5, sound + 20), "the median Tmax"),
        "Tmax 215 mL larger than TTP": (told(larger, sound + 20), "and TTP more than"),
    }
    for what, (warnings, wanted) in cases.items():
        met = any(wanted in each for each in warnings) if wanted else not warnings
        measured = "warned of" if warnings else "no warning"
        yield row(f"check: {what}", measured, "no warning" if wanted is None else "warning", met)


def phantoms(count: int, seed: int, motion: bool) -> Iterator[dict[str, Any]]:
    """Simulated scans, drawn as the simulator draws them, through the whole chain."""
    import numpy as np

    from data_tools import labels
    from data_tools.perfusion.examination import Method, examine
    from data_tools.simulate import dsc, simulate_patient

    for index in turns.progress(range(1, count + 1), "phantoms"):
        patient = simulate_patient(seed, index)
        made = dsc.acquire_dsc(patient)
        scan = made.scan
        if not motion:
            made = dsc.acquire_dsc(patient, dataclasses.replace(scan, motion_mm=0.0))
        series = _series_of(made)
        found = examine(series, Method(motion=motion))
        truth, brain = _truth_of(made) if motion else (made.truth.tmax_s, made.truth.brain)
        voxel_ml = abs(np.linalg.det(made.affine[:3, :3])) / 1000
        late, ours = (
            labels.territories(brain & (tmax_s >= 6), voxel_ml)
            for tmax_s in (truth, found.maps.tmax_s)
        )
        tissue = made.truth.vessels == 0
        off_s = (found.maps.tmax_s - truth)[brain & found.brain]
        yield {
            "patient": index, "tr_s": scan.repetition_time_s, "snr": scan.snr,
            "motion_mm": made.scan.motion_mm, "true_ml": round(late.sum() * voxel_ml, 1),
            "ml": round(ours.sum() * voxel_ml, 1),
            "dice": _dice(late, ours),
            # A vessel's curve is its own, the truth there that of tissue; labels leave none out.
            "dice_without_vessels": _dice(late & tissue, ours & tissue),
            "off_s": round(float(np.median(off_s)), 2),
            **_kinds(made, found.arterial_input), "warnings": len(found.warnings),
        }  # fmt: skip


def _dice(one: Any, other: Any) -> float | str:
    both = one.sum() + other.sum()
    return round(2 * float((one & other).sum()) / float(both), 3) if both else ""


def _series_of(made: Any) -> Any:
    from data_tools.perfusion.series import Series

    return Series(
        signal=made.signal,
        affine=made.affine,
        times_s=made.times_s,
        slice_times_s=made.slice_times_s,
        echo_time_s=made.scan.echo_time_s,
    )


def _truth_of(made: Any) -> tuple[Any, Any]:
    """Tmax and brain where the head lay in the middle of the frames that series are brought to."""
    import numpy as np
    from scipy import ndimage

    from data_tools.perfusion.motion import FIRST_FRAMES

    truth = made.truth
    pose = np.median(truth.poses[FIRST_FRAMES], axis=0)
    # Turns there are below a degree: their median is as good as a rotation.
    to_truth = np.linalg.inv(made.affine) @ np.linalg.inv(pose) @ made.affine

    def there(image: Any) -> Any:
        return ndimage.affine_transform(image.astype(np.float32), to_truth, order=1)

    share = there(truth.brain)
    tmax_s = np.divide(
        there(truth.tmax_s * truth.brain), share, out=np.zeros_like(share), where=share > 0.5
    )
    return tmax_s, share > 0.5


def _kinds(made: Any, artery: Any) -> dict[str, int]:
    """Where the AIF's voxels lie, by the vessels put in."""
    from data_tools.simulate.vessels import ARTERY, LATE_ARTERY, VEIN

    kinds = made.truth.vessels[tuple(artery.voxels.T)]
    names = {"artery": ARTERY, "tissue": 0, "vein": VEIN, "late_artery": LATE_ARTERY}
    return {name: int((kinds == kind).sum()) for name, kind in names.items()}


def scans(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Of each patient a sound scan and one with a fault, written, read and examined."""
    import tempfile

    from data_tools.perfusion.examination import Method, examine
    from data_tools.perfusion.series import load_series
    from data_tools.simulate import dsc, simulate_patient
    from data_tools.simulate.dsc_files import write_series

    def told(made: Any, folder: str) -> tuple[list[str], Any]:
        """What is said of a scan; and its AIF, if it was not refused."""
        path = Path(folder, "dsc.nii.gz")
        write_series(path, made, 3.0)
        try:
            series = load_series(path)
            found = examine(series, Method(motion=made.scan.fault == "jump"))
        except InputError as error:
            return [str(error)], None
        return [*series.warnings, *found.warnings], found.arterial_input

    for index in turns.progress(range(1, count + 1), "scans"):
        patient = simulate_patient(seed, index)
        fault = list(TOLD)[index % len(TOLD)]
        drawn = dsc.draw_scan(patient, matrix=SMALL, motion_mm=0.0)
        with tempfile.TemporaryDirectory() as folder:
            sound = dsc.acquire_dsc(patient, drawn)
            alarms, artery = told(sound, folder)
            spoilt = dsc.acquire_dsc(patient, dataclasses.replace(drawn, fault=fault))
            said, left = told(spoilt, folder)
        yield {
            "patient": index, "tr_s": drawn.repetition_time_s, "snr": drawn.snr,
            **(_kinds(sound, artery) if artery else {}), "sound": " | ".join(alarms),
            "fault": fault, "named": any(TOLD[fault] in each for each in said),
            "refused": left is None, "said": " | ".join(said),
        }  # fmt: skip


def scans_summary(each: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Arteries, faults and false alarms over all scans."""
    found = [one for one in each if "artery" in one]
    wrong = sum(one["vein"] + one["late_artery"] > 0 for one in found)
    named = sum(one["named"] for one in each)
    alarms = sum(bool(one["sound"]) for one in each)
    lost = len(each) - len(found)
    by_fault = {fault: [one for one in each if one["fault"] == fault] for fault in TOLD}
    rows = [
        row(
            "AIF: sound scans with a voxel in a vein or behind the occlusion",
            f"{wrong} of {len(found)}", "0", wrong == 0,
        ),
        row("faults told by name", f"{named} of {len(each)}", "all", named == len(each)),
        row("sound scans refused; warned of", f"{lost}; {alarms - lost} of {len(each)}", "0",
            alarms == 0),
    ]  # fmt: skip
    for fault, ones in by_fault.items():
        if ones:
            told, refused = (sum(one[key] for one in ones) for key in ("named", "refused"))
            rows.append(
                row(f"fault {fault}: named; of these refused", f"{told} of {len(ones)}; {refused}",
                    "all named", told == len(ones))
            )  # fmt: skip
    return rows


def resources(seed: int) -> Iterator[dict[str, Any]]:
    """Seconds and peak memory of a patient of 128 x 128 x 20 x 60."""
    import time

    import numpy as np

    from data_tools.perfusion import maps
    from data_tools.perfusion.examination import Method, examine
    from data_tools.runtime import peak_memory
    from data_tools.simulate import dsc, simulate_patient

    patient = simulate_patient(seed, 1)
    scan = dsc.draw_scan(patient, matrix=128, slices=20, frames=60, motion_mm=2.0)
    series = _series_of(dsc.acquire_dsc(patient, scan))
    for motion, most_s in ((False, 20), (True, 60)):
        peak_memory.reset()
        began, cpu = time.perf_counter(), time.process_time()
        found = examine(series, Method(motion=motion))
        took, busy = time.perf_counter() - began, time.process_time() - cpu
        gib = peak_memory.read_mb() / 1024
        size = " x ".join(map(str, series.signal.shape))
        yield row(
            f"{size} {'with' if motion else 'without'} correction of motion",
            f"{took:.1f} s ({busy:.1f} s of processor); {gib:.2f} GiB",
            f"<= {most_s} s; <= 2 GiB", took <= most_s and gib <= 2,
        )  # fmt: skip
    began = time.perf_counter()
    maps.perfusion_maps(
        found.concentration, found.brain, found.arterial_input.curve, tr_s=found.tr_s
    )
    took = time.perf_counter() - began
    yield row(
        f"deconvolution and maps of {int(np.count_nonzero(found.brain))} voxels",
        f"{took:.1f} s", "<= 2 s", took <= 2,
    )  # fmt: skip


def phantoms_summary(each: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Medians over lesions that are large enough."""
    import numpy as np

    large = [one for one in each if one["true_ml"] >= MIN_LESION_ML]
    if not large:
        return [row("phantoms", f"none has {MIN_LESION_ML:g} mL", ">= 0.96; within 5%", False)]
    dice = float(np.median([one["dice"] for one in large]))
    percent = 100 * np.array([one["ml"] / one["true_ml"] - 1 for one in large])
    return [
        row(
            f"{len(large)} phantoms over {MIN_LESION_ML:g} mL: median Dice at 6 s; volume",
            f"{dice:.3f}; {np.median(percent):+.1f}% ({(abs(percent) <= 5).sum()} within 5%)",
            ">= 0.96; within 5%",
            dice >= 0.96 and abs(np.median(percent)) <= 5,
        )
    ]


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))

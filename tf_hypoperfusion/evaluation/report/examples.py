"""Patients in pictures: truth and prediction in three planes, as in the paper's Figures 3, S4, S5.

And, as in its Figure S1, segmentations that a person edited.

Each function returns a matplotlib figure, or in words why there is none.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from data_tools import flow, intensity, labels, mni_patient
from data_tools.grid import GRID_AFFINE, UNKNOWN_SIDE
from data_tools.pictures import HYPOPERFUSION, MEASURED, SKY_BLUE, YELLOW
from data_tools.runtime.errors import InputError
from data_tools.volumes import load_volume, require_grid
from tf_hypoperfusion.config import PROBABILITY_THRESHOLD
from tf_hypoperfusion.evaluation.report.patients import LVO, Patients
from tf_hypoperfusion.inference import wording

MAPS = (
    "desc-normalised_dwi", "desc-truth_mask", "desc-hypoperfusion_probseg", "desc-coverage_mask",
)  # fmt: skip
ROW_HEIGHT_IN = 3.1
# Of Figure S1: colour and line of each.
SEGMENTATIONS = {"computed": (YELLOW, "--"), "edited": (SKY_BLUE, ":"), "used": (MEASURED, "-")}

# A word about a patient, and the patient.
Picked = Sequence[tuple[str, str]]


def of_all(patients: Patients) -> Figure | str:
    """The best, median and worst patient."""
    return _best_median_worst(patients, _ranked(patients), "no patient with a lesion")


def by_lvo(patients: Patients) -> Figure | str:
    """Figure 3: a patient with and one without large vessel occlusion, each of median Dice."""
    ranked = _ranked(patients)
    lvo, known = (ranked["occlusion"].isin(words) for words in (LVO, flow.TERRITORIES))
    picked = [
        (word, names[len(names) // 2])
        for word, members in (
            ("with large vessel occlusion, median", ranked[lvo]),
            ("without large vessel occlusion, median", ranked[known & ~lvo]),
        )
        if (names := list(members["participant_id"]))
    ]
    return _draw(patients, picked) if picked else "no patient with a lesion and a known occlusion"


def without_core(patients: Patients) -> Figure | str:
    """Figure S4: patients whose core is 0 mL."""
    ranked = _ranked(patients)
    return _best_median_worst(
        patients, ranked[ranked["core_ml"] == 0], "no patient with a lesion and a core of 0 mL"
    )


def without_lvo(patients: Patients) -> Figure | str:
    """Figure S5: patients without large vessel occlusion."""
    ranked = _ranked(patients)
    none = ranked["occlusion"].isin(flow.TERRITORIES) & ~ranked["occlusion"].isin(LVO)
    return _best_median_worst(
        patients, ranked[none], "no patient with a lesion and no large vessel occlusion"
    )


def edited(patients: Patients) -> Figure | str:
    """Figure S1: segmentations as computed, as a person edited them, and the truth that was used.

    The patients with the most, the middle and the least tissue in which the truth differs from
    Tmax >= 6 s united with the core, as it was computed. Without Tmax nothing was: they come last.
    """
    table = patients.table
    if "truth_from" not in table:
        return "patients.csv does not say whose segmentation was edited"
    table = table[table["truth_from"] != labels.truth_from(False, False)].set_index(
        "participant_id"
    )
    if table.empty:
        return "no patient's segmentation was edited"
    cohort = patients.volumes
    if cohort is None:
        return (
            "the evaluation does not say which MNI cohort its records were built from; run "
            "build_records (it keeps what is there) and evaluate again, or evaluate with "
            "--cohort=MNI"
        )
    changed_ml = {}
    for name, row in table.iterrows():
        try:
            found = _segmentations(cohort, str(name), row["side"])
        except InputError as error:
            return f"the volumes of {cohort} cannot be read: {error}; evaluate with --cohort=MNI"
        used_ml = found.volumes_ml["used"]
        if abs(used_ml - row["truth_ml"]) > 0.01:
            return (
                f"the truth of {name} is {used_ml:.2f} mL in {cohort} and {row['truth_ml']:.2f} in "
                "patients.csv: the cohort has changed since; build the records and evaluate again"
            )
        changed_ml[str(name)] = found.changed_ml
    names = sorted(changed_ml, key=lambda name: -1.0 if (ml := changed_ml[name]) is None else ml,
                   reverse=True)  # fmt: skip
    shown = list(dict.fromkeys((names[0], names[len(names) // 2], names[-1])))
    figure, grid = _black(len(shown))
    for line, name in zip(grid, shown, strict=True):
        found = _segmentations(cohort, name, table.loc[name, "side"])
        outlines = [(mask, *SEGMENTATIONS[word]) for word, mask in found.masks.items()]
        _draw_planes(line[:3], found.dwi, outlines)
        said = [f"{word} {wording.ml(volume_ml)}" for word, volume_ml in found.volumes_ml.items()]
        if found.changed_ml is None:
            said.append("no Tmax: not computed")
        else:
            said.append(f"used and computed differ\nin {wording.ml(found.changed_ml)}")
        text = "\n".join([name, table.loc[name, "truth_from"], "", *said])
        line[3].text(0.02, 0.5, text, color="white", fontsize=10, va="center")
    figure.suptitle(
        "Segmentation as computed from Tmax and core (yellow, dashed), as edited (blue, dotted), "
        "and the truth\nthat was used (orange), on DWI; the patient's left is on the right",
        color="white", fontsize=10,
    )  # fmt: skip
    return figure


@dataclasses.dataclass(frozen=True)
class _Segmentations:
    """DWI, and the masks of a patient by word, inside coverage; no computed one without Tmax.

    The truth that was used comes first, so that the broken lines of the others lie on it.
    """

    dwi: NDArray[np.float32]
    masks: dict[str, NDArray[np.bool_]]
    voxel_ml: float

    @property
    def volumes_ml(self) -> dict[str, float]:
        return {word: float(mask.sum() * self.voxel_ml) for word, mask in self.masks.items()}

    @property
    def changed_ml(self) -> float | None:
        """Tissue in which the truth differs from what was computed; None without Tmax."""
        if "computed" not in self.masks:
            return None
        return float((self.masks["used"] ^ self.masks["computed"]).sum() * self.voxel_ml)


def _segmentations(cohort: Path, name: str, side: str) -> _Segmentations:
    patient, label, _ = mni_patient.load_labelled(cohort, {"participant_id": name, "side": side})
    dwi, _ = intensity.normalise(patient.dwi, patient.adc_um2_per_s, patient.brain)
    masks = {"used": label.truth}
    if patient.tmax_s is not None:
        masks["computed"] = label.hypoperfusion | label.core
    if patient.truth is not None:
        masks["edited"] = patient.truth & label.coverage
    return _Segmentations(dwi, masks, patient.voxel_ml)


def _ranked(patients: Patients) -> pd.DataFrame:
    """Patients with a lesion, the highest Dice first."""
    lesions = patients.table[patients.table["dice"].notna()]
    return lesions.sort_values("dice", ascending=False, kind="stable")


def _best_median_worst(patients: Patients, ranked: pd.DataFrame, otherwise: str) -> Figure | str:
    names = list(ranked["participant_id"])
    if not names:
        return otherwise
    picked = {"best": names[0], "median": names[len(names) // 2], "worst": names[-1]}
    shown = {name: word for word, name in reversed(picked.items())}  # each patient once
    return _draw(patients, [(word, name) for word, name in picked.items() if shown[name] == word])


def _draw(patients: Patients, picked: Picked) -> Figure | str:
    if "voxel_ml" not in patients.table or not all(
        patients.map_file(name, MAPS[0]).is_file() for _, name in picked
    ):
        return "no maps beside patients.csv; evaluate with --maps"
    figure, grid = _black(len(picked))
    rows = patients.table.set_index("participant_id")
    for line, (word, name) in zip(grid, picked, strict=True):
        row = rows.loc[name]
        try:
            arrays = _example(patients, name)
        except InputError as error:
            return f"{error}; delete evaluation/ and evaluate again"
        truth_ml, predicted_ml = ((a.sum() * row["voxel_ml"]) for a in arrays[1:])
        if max(abs(truth_ml - row["truth_ml"]), abs(predicted_ml - row["predicted_ml"])) > 0.01:
            return (
                f"the maps of {name} hold {truth_ml:.2f} and {predicted_ml:.2f} mL, patients.csv "
                f"{row['truth_ml']:.2f} and {row['predicted_ml']:.2f}; evaluate again"
            )
        dwi, truth, prediction = arrays
        _draw_planes(line[:3], dwi, [(truth, MEASURED, "-"), (prediction, HYPOPERFUSION, "-")])
        line[3].text(0.02, 0.5, _words(word, name, row), color="white", fontsize=10, va="center")
    figure.suptitle(
        "DWI with true (orange) and predicted (green) hypoperfusion; the patient's left is on "
        "the right", color="white", fontsize=10,
    )  # fmt: skip
    return figure


def _black(patients: int) -> tuple[Figure, NDArray]:
    """A figure with three planes and a place for words for each patient."""
    figure = Figure(
        figsize=(9.6, ROW_HEIGHT_IN * patients), facecolor="black", layout="constrained"
    )
    FigureCanvasAgg(figure)
    grid = figure.subplots(
        patients, 4, gridspec_kw={"width_ratios": [1, 1, 1, 0.75]}, squeeze=False
    )
    for axes in grid[:, 3]:
        axes.set_axis_off()
    for axes, title in zip(grid[0], ("Axial", "Coronal", "Sagittal"), strict=False):
        axes.set_title(title, color="white", fontsize=10)
    return figure, grid


def _words(word: str, name: str, row: pd.Series) -> str:
    occlusion = row["occlusion"] if isinstance(row["occlusion"], str) else "unknown occlusion"
    side = "unknown side" if row["side"] == UNKNOWN_SIDE else row["side"]
    age = "unknown age" if np.isnan(row["age"]) else f"{row['age']:.0f} years"
    sex = row["sex"] if isinstance(row["sex"], str) else "unknown sex"
    nihss = "unknown" if np.isnan(row["nihss"]) else f"{row['nihss']:.0f}"
    return (
        f"{word} Dice {row['dice']:.2f}\n\n{name}\n{age}, {sex}\n{side}, {occlusion}\n"
        f"NIHSS {nihss}\n\n"
        f"true {wording.ml(row['truth_ml'])}\npredicted {wording.ml(row['predicted_ml'])}\n"
        f"core {wording.ml(row['core_ml'])}"
    )


def _example(patients: Patients, name: str) -> tuple[NDArray, NDArray, NDArray]:
    """DWI, truth and prediction, both inside coverage, as all that is counted."""
    dwi, truth, probability, coverage = (
        require_grid(load_volume(patients.map_file(name, what), what, may_be_constant=True), what)
        for what in MAPS
    )
    covered = coverage > 0
    return dwi, truth > 0, (probability >= PROBABILITY_THRESHOLD) & covered


def _draw_planes(
    axes_of_planes, dwi: NDArray, outlines: Sequence[tuple[NDArray[np.bool_], str, str]]
) -> None:
    """DWI in three planes, with outlines of masks, each of a colour and a line style."""
    # The slice of each axis that shows most of all that is outlined.
    all_of_it = np.logical_or.reduce([mask for mask, _, _ in outlines]).astype(int)
    for axes, axis in zip(axes_of_planes, (2, 1, 0), strict=True):
        others = tuple(a for a in range(3) if a != axis)
        k = int(np.argmax(all_of_it.sum(axis=others)))
        axes.imshow(np.take(dwi, k, axis).T, cmap="gray", vmin=0, vmax=2.5, origin="lower")
        for mask, colour, style in outlines:
            section = np.take(mask, k, axis).T.astype(float)
            if section.any():
                axes.contour(section, [0.5], colors=[colour], linestyles=[style], linewidths=1.4)
        axes.set_axis_off()
        mm = GRID_AFFINE[axis, 3] + GRID_AFFINE[axis, axis] * k
        letters = "PA" if axis == 0 else "RL"
        if axis != 0:
            axes.invert_xaxis()
        for x, y, text in (
            (0.02, 0.92, letters[0]), (0.93, 0.92, letters[1]),
            (0.5, -0.08, f"{'xyz'[axis]} = {mm:.0f} mm"),
        ):  # fmt: skip
            align = "center" if x == 0.5 else "left"
            axes.text(x, y, text, color="white", fontsize=8, ha=align, transform=axes.transAxes)

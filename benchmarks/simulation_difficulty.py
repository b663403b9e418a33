"""How hard is the simulated cohort? Simple rivals, which must not solve it.

    python -m benchmarks.simulation_difficulty --cohort=DIR [--out=DIR/difficulty.csv]

DIR is a simulated MNI cohort. Each rival is fitted on half of the patients, its threshold is
chosen on a quarter and it is tested on the last quarter; the quarters rotate, so every patient is
tested once by rivals that never saw it. Voxels are those of the stroke's hemisphere (the whole
brain if bilateral) with perfusion coverage; Dice and AUC leave out patients without a lesion, as
in the paper. "All cues together" is no rival but a sign of what there is to learn: boosted trees
on everything the rivals see plus smoothed ratios to the other side.

What was seen on 413 simulated patients, seed 2023 (31 min on one busy core), stands in RESULTS.md.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import flags
from numpy.typing import NDArray

from benchmarks.measuring import options, tables
from data_tools.grid import VOXEL_ML, hemisphere
from data_tools.intensity import normalise
from data_tools.labels import make_labels
from data_tools.quartiles import quartiles
from data_tools.runtime import atomic, command
from data_tools.runtime.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

FLAGS = flags.FlagValues()
options.folder("cohort", "participants.tsv", "a simulated MNI cohort.", FLAGS)
options.out(FLAGS, "CSV of every patient's Dice and AUC.")
flags.DEFINE_string(
    "network",
    None,
    "patients.csv of tf_hypoperfusion.evaluate: set the network beside the rivals on the patients "
    "in it, with the table that --out holds, if it does.",
    flag_values=FLAGS,
)
options.count("patients", 0, "Only the first so many; 0 is all.", FLAGS, lowest=0)

RIVAL_COLUMNS = ("patient", "rival", "dice", "auc", "core")
QUARTERS = 4
FIT_VOXELS = 1500  # drawn from each patient to fit a model
FAR_MM = 80.0  # distance to the core where there is none
FEATURES = (
    "adc", "dwi", "adc_ratio", "dwi_ratio",
    "core_mm", "core_log_ml", "no_core", "nihss",
    "adc_ratio_4mm", "dwi_ratio_4mm", "adc_ratio_8mm", "dwi_ratio_8mm",
    "x", "y", "z",
)  # fmt: skip
RATIOS = ("adc", "dwi", "adc_ratio", "dwi_ratio")


class Patient:
    """Voxels of one patient: features [n, 15] float16, truth [n] bool, core [n] bool.

    A right-sided stroke is mirrored, so that the stroke's side is always the left.
    """

    def __init__(self, images, side: str, nihss: float, number: int = 0):
        from scipy import ndimage

        self.number = number  # of sub-NNNN: cohorts may leave some out

        made = make_labels(
            images.dwi,
            images.adc_um2_per_s,
            images.tmax_s,
            brain=images.brain,
            coverage=images.coverage,
            voxel_ml=VOXEL_ML,
        )
        flip = slice(None, None, -1) if side == "right" else slice(None)
        dwi, adc = (v[flip] for v in normalise(images.dwi, images.adc_um2_per_s, images.brain))
        core = made.core[flip]
        where = (made.coverage & hemisphere(side))[flip]
        if core.any():
            core_mm = ndimage.distance_transform_edt(~core, sampling=2.0)
        else:
            core_mm = np.full(core.shape, FAR_MM)
        tissue = ((adc > 0) & (adc < 1.6)).astype(np.float32)
        columns = [adc, dwi, *(_log_ratio(v, tissue, 0) for v in (adc, dwi)), core_mm]
        columns += [np.full(adc.shape, value) for value in (
            np.log1p(core.sum() * VOXEL_ML), float(not core.any()), nihss / 21
        )]  # fmt: skip
        columns += [_log_ratio(v, tissue, mm / 2) for mm in (4, 8) for v in (adc, dwi)]
        columns += list(np.indices(adc.shape) / 10.0)
        self.features = np.stack([c[where] for c in columns], axis=1).astype(np.float16)
        self.truth = made.truth[flip][where]
        self.core = core[where]
        self.where = np.flatnonzero(where)

    def columns(self, names: tuple[str, ...]) -> NDArray[np.float32]:
        """Some features by name: [n, len(names)] float32."""
        return self.features[:, [FEATURES.index(n) for n in names]].astype(np.float32)


def _log_ratio(image, tissue, sigma_voxels: float):
    """Log ratio to the mirrored voxel, both smoothed within tissue; 0 where one is missing."""
    from scipy import ndimage

    value, weight = image * tissue, tissue
    if sigma_voxels:
        value, weight = (ndimage.gaussian_filter(v, sigma_voxels) for v in (value, weight))
    value = np.where(weight > 0.05, value / np.maximum(weight, 0.05), 0)
    both = (value > 0) & (value[::-1] > 0)
    ratio = np.log(np.where(both, value, 1) / np.where(both, value[::-1], 1))
    return np.clip(ratio, -2, 2)


def _map_score(train: list[Patient]):
    """Mean truth of the training patients, stroke side left: p -> score of each voxel."""
    from data_tools.grid import GRID_SHAPE

    total, count = np.zeros(np.prod(GRID_SHAPE)), np.zeros(np.prod(GRID_SHAPE))
    for patient in train:
        total[patient.where] += patient.truth
        count[patient.where] += 1
    # Two pseudo-patients without lesion keep the edge of the brain from extremes.
    mean = (total / (count + 2)).reshape(GRID_SHAPE)
    both = np.maximum(mean, mean[::-1])  # bilateral strokes ask for the right half too

    def score(patient: Patient) -> NDArray[np.float32]:
        return both.ravel()[patient.where].astype(np.float32)

    return score


def _sample(patients: list[Patient], design) -> tuple[NDArray, NDArray]:
    rng = np.random.default_rng(0)
    rows, truths = [], []
    for patient in patients:
        pick = rng.choice(len(patient.truth), FIT_VOXELS, replace=False)
        rows.append(design(patient)[pick])
        truths.append(patient.truth[pick])
    return np.concatenate(rows), np.concatenate(truths)


def _fitted(model, train: list[Patient], design):
    model.fit(*_sample(train, design))
    return lambda patient: model.predict_proba(design(patient))[:, 1]


def rivals(train: list[Patient]) -> dict:
    """Name -> function that scores every voxel of a patient; fitted on ``train``."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    territory = _map_score(train)

    def adc_alone(patient):
        return -patient.columns(("adc",))[:, 0] - 10 * (patient.columns(("adc",))[:, 0] == 0)

    def dilated_core(patient):
        return -patient.columns(("core_mm",))[:, 0]

    def map_and_core(patient):
        p = territory(patient)[:, None]
        logit = np.log((p + 0.005) / (1.005 - p))
        mm, log_ml, none, nihss = patient.columns(("core_mm", "core_log_ml", "no_core", "nihss")).T
        near = np.exp(-mm / 15) * (1 - none)
        more = np.stack([near, np.exp(-mm / 40) * (1 - none), log_ml, none, nihss, log_ml**2], 1)
        scaled = np.concatenate([logit, logit * nihss[:, None], logit * none[:, None]], axis=1)
        return np.concatenate([scaled, more, near[:, None] * nihss[:, None]], axis=1)

    def ratios(patient):
        values = patient.columns(RATIOS)
        return np.concatenate([values, values**2], axis=1)

    def everything(patient):
        return np.concatenate([patient.features.astype(np.float32), territory(patient)[:, None]], 1)

    def logistic():
        return make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))

    trees = HistGradientBoostingClassifier(max_iter=100, min_samples_leaf=200, random_state=0)
    return {
        "ADC threshold": adc_alone,
        "core dilated": dilated_core,
        "territory map": territory,
        "map, core distance, NIHSS": _fitted(logistic(), train, map_and_core),
        "logistic on DWI/ADC ratios": _fitted(logistic(), train, ratios),
        "(all cues together)": _fitted(trees, train, everything),
    }


def dice(prediction: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """2 |A and B| / (|A| + |B|); 0 if both are empty."""
    total = prediction.sum() + truth.sum()
    return float(2 * (prediction & truth).sum() / total) if total else 0.0


def best_threshold(score, patients: list[Patient]) -> float:
    """The threshold of the highest mean Dice over patients with a lesion."""
    few = slice(None, None, 5)  # every fifth voxel is enough to choose by
    parts = [(score(p)[few], p.core[few], p.truth[few]) for p in patients if p.truth.any()]
    grid = np.unique(np.quantile(np.concatenate([s for s, _, _ in parts]), np.arange(0.3, 1, 0.01)))
    means = [np.mean([dice((s >= level) | c, t) for s, c, t in parts]) for level in grid]
    return float(grid[int(np.argmax(means))])


def compare(patients: list[Patient]) -> list[dict]:
    """One line per patient, rival: dice, auc. The core is part of every prediction."""
    from sklearn.metrics import roc_auc_score
    from tqdm import tqdm

    lines = []
    number = np.arange(len(patients))
    for turn in tqdm(range(QUARTERS), desc="fitting and testing", unit="quarter"):
        quarter = (number + turn) % QUARTERS
        train, choose, test = (
            [patients[k] for k in number[np.isin(quarter, which)]] for which in ((0, 1), (2,), (3,))
        )
        for name, score in rivals(train).items():
            level = best_threshold(score, choose)
            for patient in test:
                if patient.truth.any():
                    s = score(patient)
                    overlap = dice((s >= level) | patient.core, patient.truth)
                    auc = roc_auc_score(patient.truth, s)
                    core = bool(patient.core.any())
                    line = {"patient": patient.number, "rival": name, "dice": overlap, "auc": auc}
                    lines.append({**line, "core": core})
    return lines


def load(cohort: str, limit: int = 0) -> list[Patient]:
    """All patients of a simulated MNI cohort; a missing NIHSS counts as 14, the median."""
    from tqdm import tqdm

    from data_tools.cohort import read_participants
    from data_tools.simulate.cohort import patient_number
    from data_tools.simulate.measure import read_mni

    table = read_participants(cohort).fillna({"nihss": 14.0}).sort_values("participant_id")
    if not (limit == 0 or QUARTERS <= limit <= len(table)) or len(table) < QUARTERS:
        raise InputError(
            f"{limit or len(table)} patients of the {len(table)} in {cohort}; expected "
            f"{QUARTERS} or more, and no more than there are"
        )
    rows = list(table[["participant_id", "side", "nihss"]].itertuples(index=False))
    return [
        Patient(read_mni(cohort, patient_number(name)), side, nihss, patient_number(name))
        for name, side, nihss in tqdm(rows[: limit or None], desc="reading", unit="patient")
    ]


def main() -> None:
    """Print the table; every aim beside it."""
    import pandas as pd

    if FLAGS.network and not Path(FLAGS.network).is_file():
        raise InputError(f"--network={FLAGS.network}: no such file; expected a patients.csv")
    network = FLAGS.network and tables.read(FLAGS.network, ("participant_id", "dice"))
    if FLAGS.network and FLAGS.out and Path(FLAGS.out).is_file():
        table = tables.read(FLAGS.out, RIVAL_COLUMNS)
        print(f"the rivals are those of {FLAGS.out}, made before")
    else:
        table = pd.DataFrame(compare(load(FLAGS.cohort, FLAGS.patients)))
        if FLAGS.out:
            atomic.write_text(FLAGS.out, table.to_csv(index=False))
    print("Simulated cohort: simple rivals, median (IQR), patients with a lesion, held out")
    print(f"{'rival':<28} {'Dice':>18} {'with core':>10} {'no core':>8} {'AUC':>18}")
    for name, part in table.groupby("rival", sort=False):
        d, a = (quartiles(part[c]) or (np.nan,) * 3 for c in ("dice", "auc"))
        core, none = part[part.core].dice.median(), part[~part.core].dice.median()
        spread = [f"{v[1]:.2f} ({v[0]:.2f}-{v[2]:.2f})" for v in (d, a)]
        print(f"{name:<28} {spread[0]:>18} {core:>10.2f} {none:>8.2f} {spread[1]:>18}")
    print("aim: the best rival's median Dice between 0.35 and 0.55 (the paper's network: 0.61)")
    if network is not None:
        print_network(table, network)


def print_network(table: "pd.DataFrame", patients: "pd.DataFrame") -> None:
    """Each rival's Dice beside the network's on the same patients, with a paired test."""
    from scipy import stats

    number = patients["participant_id"].astype(str).str.removeprefix("sub-")
    if not (number.str.isdecimal().all() and number.astype(int).isin(table["patient"]).any()):
        raise InputError(
            f"{FLAGS.network} has no patient of {FLAGS.cohort}; expected sub-NNNN of that cohort"
        )
    number = number.astype(int)
    network = patients.set_index(number)["dice"].dropna()
    print(f"\nthe trained network on its test patients: median Dice {network.median():.2f}")
    print(
        f"{'rival, same patients':<28} {'n':>4} {'Dice':>5} {'network better by':>18} {'in':>4} P"
    )
    for name, part in table.groupby("rival", sort=False):
        both = part.set_index("patient")["dice"].to_frame("rival").join(network, how="inner")
        gain = both["dice"] - both["rival"]
        p = stats.wilcoxon(gain).pvalue
        print(
            f"{name:<28} {len(both):>4} {both['rival'].median():>5.2f} {gain.median():>18.2f} "
            f"{(gain > 0).sum():>4} {p:.0e} (Wilcoxon, paired)"
        )


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))

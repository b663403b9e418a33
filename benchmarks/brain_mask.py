"""How far do the brain and the prediction move when the images change by next to nothing?

    python -m benchmarks.brain_mask [--patients=6] [--dwi=A.nii.gz,B.nii.gz --adc=...] [--model=DIR]

Each head as it is and changed: the ADC times 0.98 to 1.02, both images rounded to whole numbers,
noise of 0.1%, and sampled (cubic splines) on a grid that is turned by half a degree or moved by
1 mm. The spread is the largest volume over the smallest, less 1. Masks compared: ours; nilearn's
``compute_epi_mask`` (the widest gap of the histogram); Otsu's threshold. All get the lifted image
and fill holes within a slice. Simulated heads know their true brain: Dice and mL beside it.

With --model the predicted mL too, and here the header alone is turned and moved as well: with the
brain and the fit to the template of the head as it is, with a brain of its own, with a fit of its
own too. What the first moves, the network moves: it is told where ADC is under 620, and scale and
sampling change that.
"""

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

from absl import flags

from benchmarks.measuring import options, turns
from benchmarks.measuring.tables import Tables
from data_tools.runtime import command
from data_tools.runtime.errors import InputError

FLAGS = flags.FlagValues()
options.count("patients", 6, "Simulated heads.", FLAGS)
options.count("seed", 2023, "Of the simulated heads.", FLAGS, lowest=0)
flags.DEFINE_list("dwi", [], "DWI of further heads, NIfTI.", flag_values=FLAGS)
flags.DEFINE_list("adc", [], "Their ADC maps, in the same order.", flag_values=FLAGS)
flags.DEFINE_string("model", None, "A trained model, for the predictions.", flag_values=FLAGS)
options.count("stride", 16, "Slices between the windows of a prediction.", FLAGS)
options.out(FLAGS)

FACTORS = (0.98, 0.99, 0.995, 0.999, 1.001, 1.005, 1.01, 1.02)
NOISE = 0.001
TURN_DEG, SHIFT_MM = 0.5, 1.0
# A prediction takes seconds: some of each kind.
PREDICTED = (
    "ADC x 0.98", "ADC x 0.999", "ADC x 1.001", "ADC x 1.02", "whole numbers", "noise",
    "turned about x by +0.5", "moved along z by +1",
    "header turned about x by +0.5", "header moved along z by +1",
)  # fmt: skip
NIHSS = 12  # of every head: how the network answers to it is no question here


@dataclasses.dataclass(frozen=True, kw_only=True)
class Head:
    """Images on one grid.

    Attributes:
        truth: the true brain, where it is known.
        side: of the stroke.
        to_first: [4, 4], its millimetres -> those of the head as it is.
    """

    name: str
    dwi: Any
    adc: Any
    truth: Any = None
    side: str = "left"
    to_first: Any = None


def main() -> None:
    """Change every head in every way and print the tables."""
    if len(FLAGS.dwi) != len(FLAGS.adc):
        raise InputError(f"{len(FLAGS.dwi)} of --dwi and {len(FLAGS.adc)} of --adc; expected pairs")
    heads = [read(dwi, adc) for dwi, adc in zip(FLAGS.dwi, FLAGS.adc, strict=True)]
    heads += [simulated(FLAGS.seed, k) for k in range(1, FLAGS.patients + 1)]
    tables = Tables(FLAGS.out, ("scipy", "nilearn", "antspyx"), f"seed {FLAGS.seed}")
    found = [of_masks(head) for head in turns.progress(heads, "masks")]
    title = "brain: mL of the head as it is, and spread in %"
    tables.show(title, [row for rows in found for row in rows])
    if FLAGS.model:
        rows = predictions(heads)
        tables.show("prediction: mL of the head as it is, and spread in mL", rows)


def read(dwi: str, adc: str) -> Head:
    """A head from files."""
    from data_tools import patient

    native = patient.load_native(dwi, adc)
    return Head(name=dwi.rsplit("/", 1)[-1], dwi=native.dwi, adc=native.adc.data)


def simulated(seed: int, index: int) -> Head:
    """A simulated head, and the brain that it was made of, as the scanner's slices see it."""
    import numpy as np

    from data_tools.simulate import anatomy, simulate_patient
    from data_tools.transform import resample
    from data_tools.volumes import Volume

    patient = simulate_patient(seed, index)
    native = patient.native
    brain = Volume(patient.anatomy.brain, anatomy.MODEL_AFFINE)
    # Averaged across the thickness of a slice, in three samples.
    parts = []
    for place in (-1 / 3, 0, 1 / 3):
        affine = native.affine.copy()
        affine[:3, 3] += place * affine[:3, 2]
        to_native = np.linalg.inv(native.native_to_mni)
        parts.append(resample(brain, to_native, native.dwi.shape, affine))
    return Head(
        name=patient.participant_id,
        dwi=Volume(native.dwi, native.affine, patient.participant_id),
        adc=native.adc_um2_per_s,
        truth=np.mean(parts, axis=0) > 0.5,
        side=patient.plan.side,
    )


def changed(head: Head) -> dict[str, Head]:
    """The head as it is, and in every way that ought not to matter."""
    import numpy as np

    rng = np.random.default_rng(0)

    def other(dwi: Any, adc: Any, affine: Any = None) -> Head:
        affine = head.dwi.affine if affine is None else affine
        data = np.asarray(dwi, np.float32)
        volume = dataclasses.replace(head.dwi, data=data, affine=affine)
        return dataclasses.replace(head, dwi=volume, adc=np.asarray(adc, np.float32), truth=None)

    dwi, adc = head.dwi.data, head.adc
    ways = {"as it is": head}
    ways |= {f"ADC x {factor:g}": other(dwi, adc * factor) for factor in FACTORS}
    ways["whole numbers"] = other(np.round(dwi), np.round(adc))
    noise = [1 + NOISE * rng.standard_normal(dwi.shape) for _ in range(2)]
    ways["noise"] = other(dwi * noise[0], adc * noise[1])
    for name, move in moves(head).items():
        affine = move @ head.dwi.affine
        ways[name] = other(sampled(head, dwi, affine), sampled(head, adc, affine), affine)
        turned = other(dwi, adc, affine)
        ways[f"header {name}"] = dataclasses.replace(turned, to_first=np.linalg.inv(move))
    return ways


def moves(head: Head) -> dict[str, Any]:
    """Turns about the head's middle and shifts along the axes, [4, 4]."""
    import numpy as np

    middle = (head.dwi.affine @ [*((np.array(head.adc.shape) - 1) / 2), 1])[:3]
    found = {}
    for axis, letter in enumerate("xyz"):
        one, two = (k for k in range(3) if k != axis)
        for sign in (-1, 1):
            turn, shift = np.eye(4), np.eye(4)
            angle = np.deg2rad(sign * TURN_DEG)
            turn[one, one] = turn[two, two] = np.cos(angle)
            turn[one, two], turn[two, one] = -np.sin(angle), np.sin(angle)
            turn[:3, 3] = middle - turn[:3, :3] @ middle
            shift[axis, 3] = sign * SHIFT_MM
            found[f"turned about {letter} by {sign * TURN_DEG:+g}"] = turn
            found[f"moved along {letter} by {sign * SHIFT_MM:+g}"] = shift
    return found


def sampled(head: Head, data: Any, affine: Any) -> Any:
    """An image on another grid. Cubic: linear sampling takes the noise away, as no scanner does."""
    import numpy as np
    from scipy import ndimage

    index = np.linalg.inv(head.dwi.affine) @ affine
    found = ndimage.affine_transform(data, index[:3, :3], index[:3, 3], order=3, mode="nearest")
    return np.clip(found, 0, data.max())


def ours(head: Head) -> Any:
    """The mask that patients get."""
    from data_tools import brain_of_dwi

    return brain_of_dwi.brain_mask(head.dwi, head.adc) & (head.adc > 0)


def by_gap(head: Head) -> Any:
    """nilearn's mask."""
    import numpy as np
    from nibabel import Nifti1Image
    from nilearn.masking import compute_epi_mask

    image = Nifti1Image(lifted(head, 250e-6).astype(np.float32), head.dwi.affine)
    return filled(head, np.asarray(compute_epi_mask(image).dataobj) > 0)


def by_otsu(head: Head) -> Any:
    """The threshold between two classes of the least variance, opened, its largest part."""
    import numpy as np
    from scipy import ndimage

    signal = lifted(head, 500e-6)
    values = np.sort(signal[signal > 0])
    below = np.arange(1, len(values))
    sums = np.cumsum(values)
    gap = sums[:-1] / below - (sums[-1] - sums[:-1]) / (len(values) - below)
    threshold = values[np.argmax(below * (len(values) - below) * gap**2)]
    parts, _ = ndimage.label(ndimage.binary_opening(signal > threshold, iterations=2))
    return filled(head, parts == 1 + np.argmax(np.bincount(parts.ravel())[1:]))


def lifted(head: Head, s_per_um2: float) -> Any:
    """The DWI as if its b-value were lower."""
    import numpy as np

    return np.maximum(head.dwi.data, 0) * np.exp(np.clip(head.adc, 0, 3000) * s_per_um2)


def filled(head: Head, mask: Any) -> Any:
    """Without holes in any slice, inside what the ADC map shows."""
    import numpy as np
    from scipy import ndimage

    from data_tools.brain_of_dwi import slice_axis

    axis = slice_axis(head.dwi.affine)
    slices = [ndimage.binary_fill_holes(each) for each in np.moveaxis(mask, axis, 0)]
    return np.moveaxis(np.stack(slices), 0, axis) & (head.adc > 0)


MASKS: dict[str, Callable[[Head], Any]] = {"ours": ours, "histogram gap": by_gap, "Otsu": by_otsu}


def of_masks(head: Head) -> list[dict[str, Any]]:
    """A line for each mask."""
    ways = {way: each for way, each in changed(head).items() if not way.startswith("header")}
    rows = []
    for name, mask in MASKS.items():
        ml = {way: float(mask(each).sum() * each.dwi.voxel_ml) for way, each in ways.items()}
        row = {"head": head.name, "mask": name, "ml": round(ml["as it is"])}
        if head.truth is not None:
            found = mask(head)
            dice = 2 * (found & head.truth).sum() / (found.sum() + head.truth.sum())
            row |= {"true_ml": round(float(head.truth.sum() * head.dwi.voxel_ml))}
            row |= {"dice": round(float(dice), 4)}
        rows.append(row | {k: f"{100 * v:.2f}" for k, v in spreads(ml, relative=True).items()})
    return rows


def spreads(ml: dict[str, float], *, relative: bool) -> dict[str, float]:
    """From the smallest to the largest volume, by kind of change; each kind holds the first."""
    kinds = {"adc": "ADC", "rounding": "whole", "noise": "noise", "turn": "turned", "move": "moved"}
    if not relative:
        kinds["header"] = "header"
    first = next(iter(ml.values()))
    found = {}
    for kind, start in (*kinds.items(), ("all", "")):
        each = [first, *(value for way, value in ml.items() if way.startswith(start))]
        low, high = min(each), max(each)
        found[kind] = (high / low - 1 if low else float("inf")) if relative else high - low
    return found


def predictions(heads: list[Head]) -> list[dict[str, Any]]:
    """Three lines for each head."""
    from data_tools import registration
    from data_tools.transform import Transform
    from tf_hypoperfusion.inference import predictors
    from tf_hypoperfusion.inference.prediction import volume_predictor

    model = predictors.load(FLAGS.model)
    answer = volume_predictor(model.predict, FLAGS.stride, model.cores)
    rows: list[dict[str, Any]] = []
    for head in turns.progress(heads, "predictions"):
        ways = changed(head)
        brain = ours(head)
        fit = registration.register(head.dwi, head.adc, brain).transform
        first = predicted_ml(head, brain, fit, answer)
        ml = {held: {"as it is": first} for held in ("brain and fit", "fit", "neither")}
        for way in PREDICTED:
            each = ways[way]
            there = fit if each.to_first is None else Transform(fit.affine @ each.to_first)
            same, own = brain_on(each, head, brain), ours(each)
            again = registration.register(each.dwi, each.adc, own).transform
            ml["brain and fit"][way] = predicted_ml(each, same, there, answer)
            ml["fit"][way] = predicted_ml(each, own, there, answer)
            ml["neither"][way] = predicted_ml(each, own, again, answer)
        for held, found in ml.items():
            row = {"head": head.name, "held": held, "ml": f"{first:.2f}"}
            rows.append(row | {k: f"{v:.2f}" for k, v in spreads(found, relative=False).items()})
    return rows


def brain_on(head: Head, first: Head, brain: Any) -> Any:
    """The brain of the head as it is, on the grid of another."""
    import numpy as np

    from data_tools.transform import resample

    there = dataclasses.replace(first.dwi, data=brain.astype(np.float32))
    back = np.eye(4) if head.to_first is None else np.linalg.inv(head.to_first)
    return resample(there, back, head.adc.shape, head.dwi.affine) > 0.5


def predicted_ml(head: Head, brain: Any, transform: Any, answer: Any) -> float:
    """Hypoperfusion on the patient's own grid."""
    from data_tools.intensity import parenchyma
    from data_tools.patient import MniPatient
    from tf_hypoperfusion.clinical import ClinicalFacts

    adc = transform.bring(dataclasses.replace(head.dwi, data=head.adc))
    there = transform.bring_mask(brain, head.dwi) & (adc > 0)
    mni = MniPatient(
        dwi=transform.bring(head.dwi),
        adc_um2_per_s=adc,
        brain=there,
        coverage=there,
        transform=transform,
    )
    said = answer(mni, ClinicalFacts(side=head.side, nihss=NIHSS))
    probability = transform.back(said.mean, head.dwi)
    return float(((probability >= 0.5) & parenchyma(head.adc, brain)).sum() * head.dwi.voxel_ml)


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))

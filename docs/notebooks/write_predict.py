"""Write docs/notebooks/predict.ipynb: run its cells, and keep what they print and show.

    python -m docs.notebooks.write_predict

The cells stand here; no Jupyter is needed. Each cell is run as a notebook would run it: what it
prints is kept, and so is the value of its last line, as a picture where it has one.
"""

import ast
import base64
import contextlib
import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).with_name("predict.ipynb")

# Kind and source, by turns.
CELLS = [
    "markdown",
    """# Predict hypoperfusion from Python

Find the tissue starved of blood in acute stroke from diffusion MRI alone: DWI, the ADC map, the
side of the stroke and the NIHSS score.

**The patient below is SIMULATED, and so were the patients that the demonstration model was trained
on.** What you see shows how the software is used. It says nothing about medicine. Research
software, not a medical device; not for clinical decisions.""",
    "code",
    """from data_tools.simulate import simulate_cohort

# Images as a scanner gives them: DWI, ADC map and, to compare with, Tmax of perfusion imaging.
simulate_cohort("cohort", patients=1, seed=5)
dwi = "cohort/sub-0001/dwi/sub-0001_dwi.nii.gz"
adc = "cohort/sub-0001/dwi/sub-0001_ADC.nii.gz"
tmax = "cohort/derivatives/perfusion/sub-0001/perf/sub-0001_Tmax.nii.gz\"""",
    "markdown",
    """## Five lines

Each image is a path, a nibabel image, or an array with its affine. `load_model()` without a path
takes the demonstration model; give it your own `best.keras` files or an export.""",
    "code",
    """import tf_hypoperfusion as hp

model = hp.load_model()
result = model.predict(dwi, adc, side="left", nihss=15, age=72)
page = result.save("result")
result""",
    "markdown",
    """## The figures

`unsure` means that perfusion imaging would tell: the calibrated interval of the volume lies on both
sides of a criterion. Read the warnings before the figures.""",
    "code",
    """low, high = result.details.answer.interval_ml
print(f"hypoperfusion    {result.hypoperfusion_ml:.1f} mL, between {low:.0f} and {high:.0f} mL")
print(f"core             {result.core_ml:.1f} mL")
print(f"mismatch ratio   {result.mismatch_ratio:.1f}")
print(f"target mismatch  {result.target_mismatch} (DEFUSE 3)")
for warning in result.warnings:
    print("warning:", warning)""",
    "markdown",
    """## The pictures

`result.save` wrote `report.html`, the page to read, and masks and probability as NIfTI files on the
grid of the DWI. The arrays are at hand too: `result.hypoperfusion`, `result.core`,
`result.probability`, all on that grid. Here they are in the slice that has most hypoperfusion,
beside the Tmax map that perfusion imaging gave.""",
    "code",
    """import nibabel
from matplotlib.figure import Figure
from nibabel.processing import resample_from_to
from PIL import Image

image = nibabel.load(dwi)
tmax_s = resample_from_to(nibabel.load(tmax), image, order=1).get_fdata()
k = result.hypoperfusion.sum(axis=(0, 1)).argmax()


# Radiological convention: the patient's left is on the right.
def show(axes, title, volume, contours, **options):
    axes.imshow(volume[:, :, k].T, origin="lower", **options)
    for mask, colour in contours:
        axes.contour(mask[:, :, k].T, levels=[0.5], colors=[colour], linewidths=1.5)
    axes.set(xlim=(18, 108), ylim=(12, 114))
    axes.set_title(title, fontsize=9)
    axes.axis("off")


predicted, core, measured = result.hypoperfusion, result.core, tmax_s >= 6
figure = Figure(figsize=(7.5, 3.9), layout="tight")
left, right = figure.subplots(1, 2)
both = [(predicted, "#009E73"), (core, "#CC79A7")]
show(left, "DWI: core (purple), predicted (green)", image.get_fdata(), both, cmap="gray")
both = [(measured, "white"), (predicted, "#009E73")]
title = "Tmax 0 to 12 s: measured (white), predicted (green)"
show(right, title, tmax_s, both, cmap="inferno", vmin=0, vmax=12)
figure.suptitle("SIMULATED patient", fontsize=10)
figure.savefig("beside.png", dpi=72)
Image.open("beside.png")""",
    "markdown",
    """## Beside perfusion imaging

A Tmax map of the same patient, or a mask that a person drew (`truth=`), shows how far the answer is
from what perfusion imaging found. It does not change the answer.""",
    "code",
    """found = hp.evaluate(result, tmax=tmax)
measured = "yes" if found.target_mismatch else "no"
print(f"measured   {found.truth_ml:.1f} mL at Tmax >= 6 s, target mismatch {measured}")
print(f"predicted  {found.predicted_ml:.1f} mL, target mismatch {result.target_mismatch}")
print(f"Dice       {found.dice:.2f}")""",
]


def cells() -> list[tuple[str, str]]:
    """Kind and source of each."""
    return list(zip(CELLS[::2], CELLS[1::2], strict=True))


def run(folder: str | Path) -> list[list[dict[str, Any]]]:
    """The outputs of each cell of code, as a notebook keeps them.

    Args:
        folder: where the cells write.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    before = os.getcwd()
    os.chdir(folder)
    try:
        return [_outputs(source, names) for kind, source in cells() if kind == "code"]
    finally:
        os.chdir(before)


def _outputs(source: str, names: dict[str, Any]) -> list[dict[str, Any]]:
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        exec(compile(tree, "<cell>", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)
    found: list[dict[str, Any]] = []
    if text := printed.getvalue():
        found.append({"name": "stdout", "output_type": "stream", "text": _lines(text)})
    if value is not None:
        data: dict[str, Any] = {"text/plain": _lines(repr(value))}
        if hasattr(value, "_repr_png_"):
            data = {
                "image/png": base64.b64encode(value._repr_png_()).decode(),
                "text/plain": ["<picture>"],
            }
        found.append({"data": data, "metadata": {}, "output_type": "display_data"})
    return found


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def notebook(outputs: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """The file's content.

    Args:
        outputs: of :func:`run`.
    """
    of_code = iter(outputs)
    made: list[dict[str, Any]] = []
    for number, (kind, source) in enumerate(cells()):
        cell: dict[str, Any] = {
            "cell_type": kind,
            "id": f"cell-{number}",
            "metadata": {},
            "source": _lines(source),
        }
        if kind == "code":
            cell |= {"execution_count": None, "outputs": next(of_code)}
        made.append(cell)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {
        "cells": made,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def main() -> None:
    """Run the cells and write the notebook."""
    with tempfile.TemporaryDirectory() as folder:
        made = notebook(run(folder))
    NOTEBOOK.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

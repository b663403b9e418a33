"""Write ``glass_brain.json``: nilearn's drawings of a brain as lines in mm of the template.

python docs/reference/write_glass_brain.py

The page draws them without nilearn, whose plotting takes seconds to load.
"""

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb
from nilearn.plotting import glass_brain

from data_tools.runtime import atomic
from tf_hypoperfusion.inference.page.glass_brain import LINES

STEP_MM = 2.0


def lines_of(direction: str) -> list[dict]:
    """The lines of one view: grey level on black, width in points, and points in mm."""
    # nilearn places its drawings over the template by numbers found by hand, known to it alone.
    path, transform = glass_brain._get_json_and_transform(direction)
    lines = []
    for each in json.loads(Path(path).read_text(encoding="utf-8"))["paths"]:
        look = {"grey": round(1 - to_rgb(each["edgecolor"])[0], 2), "width": each["linewidth"]}
        last = None
        for item in each["items"]:
            corners = transform.transform(item["pts"])
            points = [[round(float(mm), 1) for mm in point] for point in flattened(corners)]
            if last is not None and item["pts"][0] == last:
                lines[-1]["points"] += points[1:]
            else:
                lines.append({**look, "points": points})
            last = item["pts"][-1]
    return lines


def flattened(corners: np.ndarray) -> np.ndarray:
    """Points along a Bezier curve of any degree."""
    length = sum(np.linalg.norm(b - a) for a, b in pairwise(corners))
    t = np.linspace(0, 1, max(math.ceil(length / STEP_MM), 1) + 1)[:, np.newaxis]
    degree = len(corners) - 1
    return sum(
        math.comb(degree, k) * (1 - t) ** (degree - k) * t**k * corner
        for k, corner in enumerate(corners)
    )


if __name__ == "__main__":
    made = {view: lines_of(view) for view in "xyz"}
    atomic.write_text(LINES, json.dumps(made, separators=(",", ":")) + "\n")

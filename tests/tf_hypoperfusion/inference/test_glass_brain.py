"""The glass brain: each half in its view, the drawing where nilearn has it, the core outlined."""

import json
import runpy

import numpy as np
import pytest
from helpers import PROJECT

from data_tools import drawing
from data_tools.grid import GRID_ORIGIN_MM, GRID_SHAPE, VOXEL_MM
from data_tools.pictures import CORE
from tf_hypoperfusion.inference.page import glass_brain

pytestmark = pytest.mark.quick

LEFT, FRONT, RIGHT, ABOVE = range(4)


def views(probability=None, core=None):
    """RGB of each view, and of the bar."""
    empty = np.zeros(GRID_SHAPE, np.float32)
    image = np.asarray(
        glass_brain.draw(
            empty if probability is None else probability,
            np.zeros(GRID_SHAPE, bool) if core is None else core,
        ),
        np.float32,
    )
    assert image.shape == (glass_brain.HEIGHT, glass_brain.WIDTH, 3)
    edges = np.cumsum([0] + [view.size[1] + glass_brain.GAP for view in glass_brain.VIEWS])
    return [image[:, a:b] for a, b in zip(edges, edges[1:], strict=False)]


def place(view):
    """Row and column of what is coloured, as shares."""
    found = np.argwhere(np.ptp(view, axis=-1) > 40)
    return None if not len(found) else found.mean(axis=0) / view.shape[:2]


def lesion(x, y, z, value=0.9):
    volume = np.zeros(GRID_SHAPE, np.float32)
    volume[x : x + 8, y : y + 8, z : z + 8] = value
    return volume


def test_a_lesion_of_the_left_is_on_the_right_and_seen_from_the_left():
    seen = views(lesion(15, 80, 40))  # left, in front, above
    assert place(seen[RIGHT]) is None
    assert place(seen[LEFT])[1] < 0.4  # looked at from the left, the front is on the left
    assert place(seen[FRONT])[1] > 0.6 and place(seen[ABOVE])[1] > 0.6
    assert place(seen[LEFT])[0] < 0.5 and place(seen[ABOVE])[0] < 0.4
    seen = views(lesion(70, 80, 40))
    assert place(seen[LEFT]) is None
    assert place(seen[RIGHT])[1] > 0.6  # and from the right on the right
    assert place(seen[FRONT])[1] < 0.4


def test_less_than_the_threshold_is_not_drawn():
    assert all(place(view) is None for view in views(lesion(15, 80, 40, 0.499)))
    exactly = views(lesion(15, 80, 40, 0.5))
    assert place(exactly[LEFT]) is not None


def test_the_core_is_outlined_and_not_filled():
    core = lesion(15, 50, 30) > 0
    colour = np.array(drawing.rgb(CORE))
    found = np.abs(views(core=core)[LEFT] - colour).max(axis=-1) < 40
    rows, columns = np.nonzero(found)
    assert np.ptp(rows) + 1 == pytest.approx(8 * glass_brain.VOXEL_PX, abs=3)
    assert np.ptp(columns) + 1 == pytest.approx(8 * glass_brain.VOXEL_PX, abs=3)
    assert not found[rows.min() + 5 : rows.max() - 4, columns.min() + 5 : columns.max() - 4].any()


@pytest.mark.parametrize("view", glass_brain.VIEWS, ids=["left", "front", "right", "above"])
def test_drawing_and_images_share_their_millimetres(view):
    """A block as large as the drawing, in mm, covers it to the pixel."""
    axes = [axis for axis in range(3) if axis != view.axis]
    lines = json.loads(glass_brain.LINES.read_text())["xyz"[view.axis]]
    points = np.concatenate([line["points"] for line in lines])
    volume = np.zeros((91, 109, 92), np.uint8)  # the grid, and more above: the drawing is higher
    block = [slice(None)] * 3
    for column, axis in enumerate(axes):
        voxels = (points[:, column] - GRID_ORIGIN_MM[axis]) / VOXEL_MM + 0.5
        block[axis] = slice(max(int(voxels.min()), 0), int(voxels.max()) + 1)
    volume[tuple(block)] = 1
    drawn = sum(glass_brain._lines(view).values()) > 0.3
    shown = drawing.enlarged(view.flat(volume), view.size) > 0
    for axis in range(2):
        lines, voxels = (np.flatnonzero(each.any(axis=axis)) for each in (drawn, shown))
        # Below, the grid ends before the brain does.
        assert lines[0] == pytest.approx(voxels[0], abs=4)
        if axis == 0 or view.axis == 2:
            assert lines[-1] == pytest.approx(voxels[-1], abs=4)


def test_the_lines_are_nilearns():
    """The file is what its script writes from nilearn's drawings."""
    pytest.importorskip("nilearn.plotting")
    script = runpy.run_path(str(PROJECT / "docs/reference/write_glass_brain.py"))
    assert json.loads(glass_brain.LINES.read_text()) == {
        view: script["lines_of"](view) for view in "xyz"
    }


def test_the_bar_shows_which_colours_can_appear():
    left, top, right, bottom = glass_brain.BAR
    image = np.asarray(glass_brain.draw(np.zeros(GRID_SHAPE), np.zeros(GRID_SHAPE, bool)))
    bar = image[top:bottom, (left + right) // 2].astype(int)
    assert np.abs(bar[0] - drawing.heat_colours(drawing.GREENS)[-1]).max() <= 2
    middle = len(bar) // 2
    assert np.ptp(bar[: middle - 2], axis=-1).min() > 40  # colours from 0.5 on
    assert np.ptp(bar[middle + 2 :], axis=-1).max() == 0  # grey below

"""The linear fit against poses and scales that are known; on the template and simple bodies."""

import dataclasses
import itertools

import numpy as np
import pytest
from scipy import linalg
from scipy.spatial.transform import Rotation

from data_tools import linear_fit
from data_tools.template import template
from data_tools.transform import resample
from data_tools.volumes import Volume

pytestmark = pytest.mark.quick

# Every direction of the axes, of the faces' diagonals and of the cube's.
AXES = [
    np.array(axis) / np.linalg.norm(axis)
    for axis in itertools.product((-1, 0, 1), repeat=3)
    if any(axis)
]
STRETCH = np.diag([0.85, 0.9, 0.8]) @ np.array([[1, 0.03, 0], [0, 1, -0.04], [0.02, 0, 1]])
NATIVE_SHAPE, NATIVE_AFFINE = (70, 80, 28), np.diag([3.0, -3.0, 6.0, 1.0])
NATIVE_AFFINE[:3, 3] = -105, 130, -90


@pytest.fixture(scope="module")
def target():
    return linear_fit.Target(template()["tissue"])


@pytest.fixture(scope="module")
def head(target):
    """The template's tissue as a smaller, sheared brain in thick slices; and its way back."""
    forth = placed(STRETCH, target.centre_mm, [4.0, -7, 9])
    image = template()["tissue"]
    data = resample(image, forth, NATIVE_SHAPE, NATIVE_AFFINE)
    return Volume(data, NATIVE_AFFINE), np.linalg.inv(forth)


def placed(linear, centre_mm, shift_mm):
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = centre_mm - linear @ centre_mm + shift_mm
    return matrix


def turned(axis, degrees):
    return Rotation.from_rotvec(np.deg2rad(degrees) * np.asarray(axis)).as_matrix()


def worst_mm(found, true, image):
    index = np.argwhere(image.data > 0.5)[::7]
    points = index @ image.affine[:3, :3].T + image.affine[:3, 3]
    apart = (found - true)[:3]
    return np.linalg.norm(points @ apart[:, :3].T + apart[:, 3], axis=1).max()


def test_a_known_affine_is_found_to_a_fraction_of_a_voxel(target, head):
    image, true = head
    assert worst_mm(linear_fit.fit(target, image), true, image) < 0.5


@pytest.mark.parametrize("degrees", [40, 60])
@pytest.mark.parametrize("axis", AXES[::4], ids=lambda axis: str(np.sign(axis).astype(int)))
def test_any_pose_gives_the_same_fit(target, head, axis, degrees):
    image, true = head
    pose = placed(turned(axis, degrees), np.array([0.0, 10, 0]), np.roll([60, -60, 30], degrees))
    posed = dataclasses.replace(image, affine=pose @ image.affine)
    found = linear_fit.fit(target, posed) @ pose
    assert worst_mm(found, true, image) < 0.5


@pytest.mark.parametrize("kept", [slice(14, None), slice(None, 24)], ids=["below", "above"])
@pytest.mark.parametrize("axis", AXES[::9], ids=lambda axis: str(np.sign(axis).astype(int)))
def test_what_was_not_imaged_does_not_count(target, head, kept, axis):
    # Up to where the end slice shows 0.8 of the largest one: beyond, a head is refused.
    image, true = head
    affine = image.affine.copy()
    affine[:3, 3] += affine[:3, 2] * (kept.start or 0)
    pose = placed(turned(axis, 30), np.zeros(3), [0, 40, -20])
    cut = Volume(np.ascontiguousarray(image.data[:, :, kept]), pose @ affine)
    assert worst_mm(linear_fit.fit(target, cut) @ pose, true, image) < 1.5


def test_the_same_image_gets_the_same_bits(target, head):
    first, again = (linear_fit.fit(target, head[0]) for _ in range(2))
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("kind", ["rigid", "similarity"])
def test_a_kind_keeps_what_it_must_not_change(target, head, kind):
    image, _ = head
    linear = linear_fit.fit(target, image, kind)[:3, :3]
    scales = linalg.svdvals(linear)
    assert np.ptp(scales) < 1e-6
    assert (abs(scales[0] - 1) < 1e-6) == (kind == "rigid")
    assert np.linalg.det(linear) > 0


def test_a_rigid_fit_from_a_start_is_exact_for_a_mask():
    there = np.indices((40, 44, 30)).reshape(3, -1).T * 4.0
    body = (((there - [80, 90, 60]) / [56, 64, 40]) ** 2).sum(1) < 1
    notch = (there[:, 0] < 70) & (there[:, 1] > 100)
    mask = Volume((body & ~notch).reshape(40, 44, 30).astype(np.float32), np.diag([4.0, 4, 4, 1]))
    pose = placed(turned([0, 0, 1], 8), np.array([80.0, 90, 60]), [6, -9, 4])
    moved = dataclasses.replace(mask, affine=pose @ mask.affine)
    found = linear_fit.fit(linear_fit.Target(mask), moved, "rigid", np.eye(4))
    assert worst_mm(found @ pose, np.eye(4), mask) < 0.1


def test_parameters_of_a_turn_are_a_turn():
    parameters = np.zeros((3, 4))
    parameters[:, :3] = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 0]]) * np.pi / 3
    parameters[:, :3] *= linear_fit.UNIT_MM
    rate = np.zeros((4, 4))
    rate[:3, :3] = parameters[:, :3] / linear_fit.UNIT_MM
    got = linear_fit._motion(parameters.ravel(), np.zeros(3))
    np.testing.assert_allclose(got, linalg.expm(rate), atol=1e-12)
    np.testing.assert_allclose(got[:3, :3], turned([0, 0, 1], 60), atol=1e-12)


def test_the_normal_equations_are_those_of_the_whole_jacobian(target, head):
    points = target.points(linear_fit.SEARCH)
    rng = np.random.default_rng(1)
    shown = points.values + rng.normal(0, 0.1, points.values.shape).astype(np.float32)
    shown[:3] = np.nan  # not imaged
    slope = (points.slope + linear_fit._slope(shown, 8.0)) / 2
    jacobian = (slope[:, None] * points.places[None]).reshape(12, -1).T.astype(float)
    seen = np.isfinite(jacobian).all(axis=1)
    wanted = (shown - points.values).ravel()[seen].astype(float)
    expected = np.linalg.lstsq(jacobian[seen], wanted, rcond=None)[0]
    got = linear_fit._step(points, shown, linear_fit.DIRECTIONS["affine"])
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)


def test_an_empty_image_has_no_fit(target):
    empty = Volume(np.zeros((10, 10, 10), np.float32), np.eye(4))
    assert np.isnan(linear_fit.fit(target, empty)).all()

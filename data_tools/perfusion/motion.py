"""Rigid motion over time: every frame of a series brought to where the head lay in its first ones.

Contrast changes the images far more than motion does, so a frame is not compared with one fixed
image. Each is explained as a sum of images B_k, moved rigidly:

    I_t(M_t x)  ~  sum_k c_tk B_k(x),

in weighted least squares of c_t and of the six parameters of M_t together, by Gauss-Newton. B is
first the mean of the first frames alone; then also what contrast may make of it: that mean times
smooth functions of the place, of its own brightness, and of edges without their direction. These
hold nothing that looks like motion, unlike the principal components of the aligned series, which
keep what the alignment got wrong: with those the frames of the bolus were 0.2 to 0.5 mm off, and
late tissue at the brain's edge was lost. Voxels that contrast changes more than others count less,
w = 1 / (1 + (d / median d)^2), where d is the change, and so do those that are explained badly.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from data_tools import rigid
from data_tools.perfusion.motion_traces import without_traces

# Frames that the first image is the mean of; not the first two, which may be brighter.
FIRST_FRAMES = slice(2, 8)
# Voxels in a slice are joined to about this size, and blurred by as much: far jumps, then fine.
COARSE_MM, FINE_MM = 7.0, 3.6
COARSE_STEPS, FINE_STEPS = 15, 6
BLUR_SHARE, SLICE_BLUR_VOXELS = 0.55, 0.4
# A step is the last that moves no further: mm, or degrees.
DONE = 0.005
HEAD_SHARE, HEAD_PERCENTILE = 0.15, 98
# What is explained worse than this many medians counts half. With 2 what tells the tilt of few
# slices counted too little: up to 0.59 mm off in a slab of 50 mm, 0.46 with 4.
WELL_EXPLAINED = 4.0
# Brightness and places of the images are told in these.
BRIGHT_PERCENTILE, HEAD_RADIUS_MM, EDGE_MM = 90, 60.0, 4.0
# The change by contrast is what this many frames exceed, so that single ones do not count.
CHANGED_FRAMES = 6
# Smaller ones are the method's own; resampling would do more harm.
STILL_MM = 0.1
JUMP_MM, FAR_MM = 4.0, 10.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Motion:
    """A series without its motion, and what that was.

    Attributes:
        signal: float32 (X, Y, Z, T), at least 0.
        poses: (T, 4, 4), mm where a point lies in the corrected series -> where it lay at a frame.
        shifts_mm: (T, 3), of the middle of the image, along RAS.
        turns_deg: (T, 3), about the axes of RAS: a rotation vector.
        displacement_mm: (T,), the largest of six points 50 mm from the middle.
        warnings: sentences.
    """

    signal: NDArray[np.float32]
    poses: NDArray[np.float64]
    shifts_mm: NDArray[np.float64]
    turns_deg: NDArray[np.float64]
    displacement_mm: NDArray[np.float64]
    warnings: tuple[str, ...] = ()


def correct_motion(
    signal: NDArray[np.float32], affine: NDArray[np.float64], times_s: NDArray[np.float64]
) -> Motion:
    """Find and undo rigid motion from frame to frame, and the traces that it leaves.

    Motion within a frame is not seen. A head that does not move by 0.1 mm is left as it is.

    Args:
        signal: (X, Y, Z, T), any unit; a head that is brighter than what is around it.
        affine: (4, 4), index -> mm, RAS+.
        times_s: (T,), start of each frame, ascending.
    """
    shape = signal.shape[:3]
    centre_mm = (affine @ [*((np.array(shape) - 1) / 2), 1])[:3]
    parameters = np.zeros((signal.shape[3], 6))
    coarse = _Points.of(signal, affine, centre_mm, COARSE_MM)
    if coarse.places.shape[1]:
        model = coarse.model([coarse.first_image()])
        for frame in range(len(parameters)):  # a head that has jumped stays there
            start = parameters[max(frame - 1, 0)]
            parameters[frame] = coarse.fit(frame, model, start, steps=COARSE_STEPS)
        fine = _Points.of(signal, affine, centre_mm, FINE_MM)
        for points in (coarse, fine, fine):
            model = points.model(*points.images(parameters))
            parameters = np.stack([
                points.fit(frame, model, start, steps=FINE_STEPS)
                for frame, start in enumerate(parameters)
            ])  # fmt: skip
        # The middle of the first frames is where the series is brought to.
        parameters -= np.median(parameters[FIRST_FRAMES], axis=0)
    poses = np.stack([rigid.pose(each, centre_mm) for each in parameters])
    displacement_mm = rigid.apart_mm(poses, np.eye(4), centre_mm)
    moved = signal
    if displacement_mm.max() > STILL_MM:
        motion_mm = parameters * np.repeat([1, np.deg2rad(rigid.RADIUS_MM)], 3)
        step_s = float(np.median(np.diff(times_s)))
        moved = _resampled(signal, affine, poses, motion_mm=motion_mm, step_s=step_s)
    return Motion(
        signal=moved,
        poses=poses,
        shifts_mm=parameters[:, :3],
        turns_deg=parameters[:, 3:],
        displacement_mm=displacement_mm,
        warnings=_warnings(poses, displacement_mm, centre_mm),
    )


def jumps_of_outline(signal: NDArray[np.float32], affine: NDArray[np.float64]) -> tuple[str, ...]:
    """A warning where the middle of the head's outline jumps: cheap, for motion left as it is.

    What moves out of the slices or turns is not seen.

    Args:
        signal: (X, Y, Z, T), any unit.
        affine: (4, 4), index -> mm, RAS+.
    """
    middles_mm = []
    for frame in np.moveaxis(signal, 3, 0):
        head = _head(frame)
        sums = [head.sum(axis=tuple(k for k in range(3) if k != axis)) for axis in range(3)]
        count = max(int(head.sum()), 1)
        index = [each @ np.arange(len(each)) / count for each in sums]
        middles_mm.append(affine[:3, :3] @ index)
    steps_mm = np.linalg.norm(np.diff(middles_mm, axis=0), axis=1)
    if not steps_mm.size or steps_mm.max() <= JUMP_MM:
        return ()
    at = int(steps_mm.argmax())
    return (
        f"the head jumps by about {steps_mm[at]:.0f} mm between frames {at + 1} and {at + 2} of "
        "the perfusion series, and motion was not corrected: run again with motion correction",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Model:
    """What frames are explained by, at n points.

    Attributes:
        images: (k, n).
        slopes: (k, 6, n), how each changes by the parameters.
        weights: (n,).
    """

    images: NDArray[np.float32]
    slopes: NDArray[np.float32]
    weights: NDArray[np.float32]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Points:
    """A series at a coarser size, and the points of the head at which it is looked at.

    Attributes:
        frames: float32 (x, y, z, T), blurred.
        to_index: (4, 4), mm -> index.
        centre_mm: about which heads turn.
        head: bool (x, y, z).
        places: (4, n), mm of the head's voxels, and 1.
    """

    frames: NDArray[np.float32]
    to_index: NDArray[np.float64]
    centre_mm: NDArray[np.float64]
    head: NDArray[np.bool_]
    places: NDArray[np.float64]

    @classmethod
    def of(
        cls, signal: NDArray[np.float32], affine: NDArray, centre_mm: NDArray, size_mm: float
    ) -> "_Points":
        spacing_mm = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
        joined = np.maximum(np.rint(size_mm / spacing_mm[:2]).astype(int), 1)
        kept = [signal.shape[k] // joined[k] * joined[k] for k in range(2)]
        to_fine = np.diag([*joined, 1.0, 1.0])
        to_fine[:2, 3] = (joined - 1) / 2
        coarse = affine @ to_fine
        blur = [*(BLUR_SHARE * size_mm / (spacing_mm[:2] * joined)), SLICE_BLUR_VOXELS]
        frames = np.empty((*(k // j for k, j in zip(kept, joined, strict=True)),
                           *signal.shape[2:]), np.float32)  # fmt: skip
        for k in range(signal.shape[3]):
            whole = signal[: kept[0], : kept[1], :, k]
            parts = whole.reshape(
                frames.shape[0], joined[0], frames.shape[1], joined[1], signal.shape[2]
            )
            frames[..., k] = ndimage.gaussian_filter(parts.mean(axis=(1, 3)), blur)
        mean = frames[..., FIRST_FRAMES].mean(axis=3)
        head = ndimage.binary_dilation(_head(mean), iterations=2)
        index = np.stack([*np.nonzero(head), np.ones(int(head.sum()))])
        return cls(
            frames=frames,
            to_index=np.linalg.inv(coarse),
            centre_mm=centre_mm,
            head=head,
            places=coarse @ index,
        )

    def first_image(self) -> NDArray[np.float32]:
        """Mean of the first frames, at the points."""
        return self.frames[..., FIRST_FRAMES].mean(axis=3)[self.head]

    def images(
        self, parameters: NDArray[np.float64]
    ) -> tuple[list[NDArray[np.float32]], NDArray[np.float32]]:
        """What frames are explained by, and the weight of each point.

        Args:
            parameters: (T, 6), by which the series is aligned.
        """
        aligned = np.stack([
            self.at(frame, each, mode="nearest") for frame, each in enumerate(parameters)
        ], axis=1)  # fmt: skip
        first = aligned[:, FIRST_FRAMES].mean(axis=1)
        gain = np.median(aligned / np.maximum(first, 1e-6)[:, None], axis=0)
        change = ndimage.uniform_filter1d(np.abs(aligned - first[:, None] * gain), 3, axis=1)
        largest = np.sort(change, axis=1)[:, -min(CHANGED_FRAMES, change.shape[1])]
        weights = 1 / (1 + (largest / max(float(np.median(largest)), 1e-6)) ** 2)
        return [first, *self._by_contrast(first)], weights.astype(np.float32)

    def at(self, frame: int, parameters: NDArray[np.float64], mode: str) -> NDArray[np.float32]:
        """A frame where the points lie by these parameters."""
        index = (self.to_index @ rigid.pose(parameters, self.centre_mm))[:3] @ self.places
        return ndimage.map_coordinates(
            self.frames[..., frame], index, order=1, mode=mode, cval=np.nan, prefilter=False
        )

    def model(
        self, images: list[NDArray[np.float32]], weights: NDArray[np.float32] | None = None
    ) -> _Model:
        """With the slopes of images at the points; no weights are equal ones."""
        return _Model(
            images=np.stack(images).astype(np.float32),
            slopes=np.stack([self._slope(each) for each in images]),
            weights=np.ones(images[0].shape, np.float32) if weights is None else weights,
        )

    def fit(
        self, frame: int, model: _Model, start: NDArray[np.float64], *, steps: int
    ) -> NDArray[np.float64]:
        """The six parameters of a frame: mm and degrees."""
        parameters, shares, trusted = start, None, np.ones_like(model.weights)
        for _ in range(steps):
            shown = self.at(frame, parameters, mode="constant")
            seen = np.isfinite(shown)
            counts = np.where(seen, model.weights, 0) * trusted
            shown = np.nan_to_num(shown)
            if shares is None:
                shares = _solved(model.images, counts, shown)
            slope = np.tensordot(shares.astype(np.float32), model.slopes, axes=1)
            found = _solved(np.concatenate([-slope, model.images]), counts, shown)
            step, shares = found[:6], found[6:]
            parameters = parameters + step
            if np.abs(step).max() < DONE:
                break
            if len(model.images) > 1 and seen.any():
                # With one image alone contrast itself is explained badly.
                wrong = np.abs(shown + step @ slope - shares @ model.images)
                limit = max(WELL_EXPLAINED * float(np.median(wrong[seen])), 1e-6)
                trusted = (1 / (1 + (wrong / limit) ** 2)).astype(np.float32)
        return parameters

    def _by_contrast(self, image: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """What contrast may add to an image at the points, none of it like motion."""
        x, y, z = (self.places[:3] - self.centre_mm[:, None]) / HEAD_RADIUS_MM
        bright = image / max(float(np.percentile(image, BRIGHT_PERCENTILE)), 1e-6)
        whole = np.zeros(self.head.shape, np.float32)
        whole[self.head] = bright
        step_mm = 1 / np.linalg.norm(self.to_index[:3, :3], axis=1)
        slopes = np.gradient(whole, *(step_mm / EDGE_MM))
        edge = np.sqrt(sum(each**2 for each in slopes))[self.head]
        bend = sum(
            np.gradient(each, step, axis=k)
            for k, (each, step) in enumerate(zip(slopes, step_mm / EDGE_MM, strict=True))
        )[self.head]
        smooth = (x, y, z, x * x, y * y, z * z, x * y, x * z, y * z)
        found = [image * each for each in (bright, bright**2, *smooth)]
        found += [image * bright * each for each in (x, y, z)]
        scale = image.max()
        found += [scale * each for each in (edge, edge * bright, bend, bend * bright)]
        return [each.astype(np.float32) for each in found]

    def _slope(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """How an image at the points changes by each parameter: (6, n)."""
        whole = np.zeros(self.head.shape, np.float32)
        whole[self.head] = image
        slope = self.to_index[:3, :3].T @ np.stack(np.gradient(whole))[:, self.head]
        turned = np.cross((self.places[:3] - self.centre_mm[:, None]).T, slope.T).T
        return np.concatenate([slope, np.deg2rad(turned)]).astype(np.float32)


def _solved(rows: NDArray, weight: NDArray, wanted: NDArray) -> NDArray[np.float64]:
    """Weighted least squares: what sum of the rows, [m, n], is nearest to ``wanted``, [n]."""
    weighted = rows * weight
    return np.linalg.lstsq(
        (weighted @ rows.T).astype(float), (weighted @ wanted).astype(float), rcond=None
    )[0]


def _resampled(
    signal: NDArray[np.float32],
    affine: NDArray[np.float64],
    poses: NDArray[np.float64],
    *,
    motion_mm: NDArray[np.float64],
    step_s: float,
) -> NDArray[np.float32]:
    """Cubic splines in the head, without traces; what is around it stays, for it is noise."""
    mean = signal[..., FIRST_FRAMES].mean(axis=3)
    head = ndimage.binary_dilation(_head(ndimage.gaussian_filter(mean, 1.0)), iterations=3)
    places = np.stack([*np.nonzero(head), np.ones(int(head.sum()))])
    values = np.empty((places.shape[1], len(poses)), np.float32)
    for k, pose in enumerate(poses):
        index = (np.linalg.inv(affine) @ pose @ affine)[:3] @ places
        values[:, k] = ndimage.map_coordinates(signal[..., k], index, order=3, mode="mirror")
    moved = signal.copy()
    moved[head] = without_traces(
        np.maximum(values, 0), motion_mm, step_s=step_s, first_frames=FIRST_FRAMES
    )
    return moved


def _head(mean: NDArray[np.float32]) -> NDArray[np.bool_]:
    return mean > HEAD_SHARE * np.percentile(mean, HEAD_PERCENTILE)


def _warnings(
    poses: NDArray[np.float64], displacement_mm: NDArray[np.float64], centre_mm: NDArray
) -> tuple[str, ...]:
    found = []
    steps_mm = rigid.apart_mm(poses[1:], poses[:-1], centre_mm)
    if steps_mm.size and steps_mm.max() > JUMP_MM:
        at = int(steps_mm.argmax())
        found.append(
            f"the head jumps by {steps_mm[at]:.1f} mm between frames {at + 1} and {at + 2} of the "
            "perfusion series; motion within a frame cannot be undone, so look at the curves"
        )
    if displacement_mm.max() > FAR_MM:
        found.append(
            f"the head moves by up to {displacement_mm.max():.1f} mm during the perfusion series; "
            "slices at its ends may be lost"
        )
    return tuple(found)

"""The bridge to ANTs (antspyx): one linear or deformable fit of one image to another.

Affines here are RAS+ millimetres, as everywhere; ITK's LPS stays inside this file.
"""

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from data_tools.grid import GRID_AFFINE, GRID_SHAPE
from data_tools.runtime import progress
from data_tools.runtime.quiet import native_stderr_silenced
from data_tools.transform import Transform, resample
from data_tools.volumes import Volume

# RAS millimetres (NIfTI) <-> LPS millimetres (ITK): the first two axes change sign.
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
SEED = 1  # of ANTs' sampling


def fit_linear(fixed: Volume, moving: Volume, kind: str, **options: Any) -> NDArray[np.float64]:
    """One linear fit by ANTs: [4, 4], millimetres of ``moving`` -> of ``fixed``.

    The same images get the same fit, to the last bit.
    """
    ants = _ants()
    with _fitting("fitting the head to the template by ANTs") as folder:
        ants.registration(
            _to_ants(fixed), _to_ants(moving), kind, outprefix=f"{folder}/", **options
        )  # fmt: skip
        return _matrix(f"{folder}/0GenericAffine.mat")


def fit_deformable(
    fixed: Volume, moving: Volume, start: Transform, left_out: NDArray[np.bool_] | None
) -> Transform:
    """A deformable fit (SyN) on top of an affine one.

    Args:
        fixed: what to fit to: the template.
        moving: what to bend: the patient.
        start: the affine fit.
        left_out: bool, on the grid of ``moving``: out of the cost.
    """
    ants = _ants()
    options: dict[str, Any] = {}
    if left_out is not None and left_out.any():
        # Its swelling and brightness must not be bent away; a rim more, for its blurred edge.
        kept = ~ndimage.binary_dilation(left_out, iterations=2)
        options = {"moving_mask": _to_ants(dataclasses.replace(moving, data=kept))}
    to_native = LPS @ np.linalg.inv(start.affine) @ LPS
    with _fitting("bending the head to the template by ANTs (SyN)") as folder:
        affine = ants.create_ants_transform(
            transform_type="AffineTransform", matrix=to_native[:3, :3], translation=to_native[:3, 3]
        )
        ants.write_transform(affine, f"{folder}/start.mat")
        done = ants.registration(
            _to_ants(fixed), _to_ants(moving), "SyNOnly",
            initial_transform=f"{folder}/start.mat", outprefix=f"{folder}/", **options,
        )  # fmt: skip
        back, forth = (
            _field(next(path for path in done[name] if path.endswith(".nii.gz")))
            for name in ("fwdtransforms", "invtransforms")
        )
    return dataclasses.replace(start, back_mm=back, forth_mm=forth)


@contextlib.contextmanager
def _fitting(what: str) -> Iterator[str]:
    """A folder for files of ANTs, which holds Python's lock while it works."""
    with (
        progress.doing_alone(what),
        tempfile.TemporaryDirectory(prefix="hypoperfusion-") as folder,
        native_stderr_silenced(),
    ):
        yield folder


def _ants() -> Any:
    """ANTs on one thread and with a seed: over threads it sums in no fixed order.

    One costs two seconds more.
    """
    import ants

    ants.config.set_ants_deterministic(on=True, seed_value=SEED)
    return ants


def _matrix(path: str) -> NDArray[np.float64]:
    import ants

    transform = ants.read_transform(path)
    # ITK: y = A (x - c) + c + t takes a point of the template to the patient, in LPS.
    parameters = np.asarray(transform.parameters, dtype=np.float64)
    centre = np.asarray(transform.fixed_parameters, dtype=np.float64)
    to_native = np.eye(4)
    to_native[:3, :3] = parameters[:9].reshape(3, 3)
    to_native[:3, 3] = parameters[9:] + centre - to_native[:3, :3] @ centre
    return np.linalg.inv(LPS @ to_native @ LPS)


def _field(path: str) -> NDArray[np.float32]:
    """A displacement field of ITK, on the MNI grid, in RAS millimetres."""
    import nibabel as nib

    image: Any = nib.load(path)
    vectors = np.asarray(image.dataobj, np.float32)[:, :, :, 0] * np.diag(LPS)[:3]
    parts = [
        resample(Volume(vectors[..., k], image.affine), np.eye(4), GRID_SHAPE, GRID_AFFINE)
        for k in range(3)
    ]
    return np.stack(parts, axis=-1)


def _to_ants(volume: Volume) -> Any:
    import ants

    lps = LPS @ volume.affine
    spacing = np.sqrt((lps[:3, :3] ** 2).sum(axis=0))
    return ants.from_numpy(
        np.ascontiguousarray(volume.data, dtype=np.float32),
        origin=lps[:3, 3].tolist(),
        spacing=spacing.tolist(),
        direction=lps[:3, :3] / spacing,
    )

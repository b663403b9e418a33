"""Native space -> MNI and back: one 4 x 4 matrix per patient, found by ANTs.

The brain mask comes from nilearn's ``compute_epi_mask`` (made for EPI, which DWI is), the
template is the ICBM 2009a symmetric T1 that nilearn ships.
"""

import functools

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from data_tools.grid import GRID_AFFINE, GRID_SHAPE
from data_tools.volumes import Volume

# RAS millimetres (NIfTI) <-> LPS millimetres (ITK): the first two axes change sign.
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def brain_mask(dwi: Volume) -> NDArray[np.bool_]:
    """Brain of a b = 1000 image, skull on or off; bool of the image's shape.

    All False where nilearn finds no brain (an empty or a one-slice image).
    """
    import warnings

    import nibabel as nib
    from nilearn.masking import MaskWarning, compute_epi_mask

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MaskWarning)
        image = nib.Nifti1Image(np.maximum(dwi.data, 0), dwi.affine)
        return np.asarray(compute_epi_mask(image).dataobj) > 0


@functools.cache
def template_on_grid() -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The template's T1 (brain only) and brain mask on the MNI grid."""
    from nilearn.datasets import load_mni152_brain_mask, load_mni152_template

    images = []
    for image in (load_mni152_template(resolution=2), load_mni152_brain_mask(resolution=2)):
        volume = Volume(np.asarray(image.dataobj, dtype=np.float32), image.affine)
        images.append(resample(volume, np.eye(4), GRID_SHAPE, GRID_AFFINE))
    return images[0], images[1] > 0.5


def register_affine(dwi: Volume, brain: NDArray[np.bool_], seed: int = 1) -> NDArray[np.float64]:
    """Affine fit of a patient's brain to the template by mutual information (ANTs).

    Args:
        dwi: b = 1000 image in native space. brain: its mask. seed: of ANTs' sampling.

    Returns:
        float64 [4, 4]: native millimetres -> MNI millimetres, both RAS+.
    """
    import ants
    from nilearn.datasets import load_mni152_template

    # On one thread and with a seed the same patient gets the same fit, to the last bit, for two
    # seconds more; over threads ANTs sums in no fixed order.
    ants.config.set_ants_deterministic(on=True, seed_value=seed)
    template = load_mni152_template(resolution=2)
    fixed = _to_ants(np.asarray(template.dataobj, dtype=np.float32), template.affine)
    moving = _to_ants(np.where(brain, np.maximum(dwi.data, 0), 0), dwi.affine)
    fit = ants.registration(fixed, moving, type_of_transform="Affine")
    transform = ants.read_transform(fit["fwdtransforms"][0])
    # ITK: y = A (x - c) + c + t takes a point of the template to the patient, in LPS.
    parameters = np.asarray(transform.parameters, dtype=np.float64)
    centre = np.asarray(transform.fixed_parameters, dtype=np.float64)
    to_native = np.eye(4)
    to_native[:3, :3] = parameters[:9].reshape(3, 3)
    to_native[:3, 3] = parameters[9:] + centre - to_native[:3, :3] @ centre
    return np.linalg.inv(LPS @ to_native @ LPS)


def resample(
    volume: Volume,
    to_target: NDArray[np.float64],
    shape: tuple[int, int, int],
    affine: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Trilinear resampling onto another grid, in another space.

    Args:
        volume: what to resample; its orientation does not matter.
        to_target: [4, 4], millimetres of the volume -> millimetres of the target.
        shape, affine: the target grid.

    Returns:
        float32 of ``shape``; 0 outside the volume. No value outside the range of the input, so
        no negative ADC can arise; threshold masks at 0.5.
    """
    to_index = np.linalg.inv(volume.affine) @ np.linalg.inv(to_target) @ affine
    return ndimage.affine_transform(
        volume.data, to_index[:3, :3], to_index[:3, 3], output_shape=shape, order=1
    ).astype(np.float32)


def _to_ants(data: NDArray, affine: NDArray):
    import ants

    lps = LPS @ affine
    spacing = np.sqrt((lps[:3, :3] ** 2).sum(axis=0))
    return ants.from_numpy(
        np.ascontiguousarray(data, dtype=np.float32),
        origin=lps[:3, 3].tolist(),
        spacing=spacing.tolist(),
        direction=lps[:3, :3] / spacing,
    )

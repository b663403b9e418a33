"""The template every patient is brought to: ICBM 152 2009a, symmetric, as nilearn ships it.

One file of 8-bit maps at 2 mm, so that nothing has to be resampled (nor nilearn imported) to fit a
patient. ``docs/reference/write_template.py`` makes it; its licence lies beside it.
"""

import functools
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from data_tools.grid import GRID_AFFINE, GRID_SHAPE
from data_tools.transform import resample
from data_tools.volumes import Volume

FILE = Path(__file__).with_name("icbm152") / "template_2mm.nii.gz"
# The file's volumes: T1 and the sum of grey and white matter, both brain only, and the brain.
MAPS = ("t1", "tissue", "brain")
STEPS = 255  # of 8 bits, from 0 to 1


@functools.cache
def template() -> dict[str, Volume]:
    """The template at 2 mm, 0 to 1: ``t1`` and ``tissue`` (grey and white), ``brain`` 0 or 1."""
    image: Any = nib.load(FILE)
    stored = np.asarray(image.dataobj)
    maps = np.moveaxis(stored, -1, 0).astype(np.float32, order="C") / STEPS
    return {
        name: Volume(data, image.affine, f"the template's {name}")
        for name, data in zip(MAPS, maps, strict=True)
    }


@functools.cache
def template_on_grid() -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The template's tissue (0 to 1) and brain mask on the MNI grid."""
    whole = template()
    tissue, brain = (
        resample(whole[name], np.eye(4), GRID_SHAPE, GRID_AFFINE) for name in ("tissue", "brain")
    )
    return tissue, brain > 0.5

"""Random changes of a training slab, each a function of its seed alone.

The mirror is the predecessor's and on by default; the rest goes beyond the paper and is off.
TensorFlow's stateless random numbers are used, so that a resumed run draws what an uninterrupted
one would.
"""

import math

import numpy as np
import tensorflow as tf

from data_tools.grid import SIDES, SLAB_SHAPE, mirrored_side

# Errors of a registration: rotation in the axial plane, degrees; scale; shift, voxels of 2 mm.
MAX_ROTATION_DEG, MAX_SCALE, MAX_SHIFT_VOXELS = 8.0, 0.08, 3.0
# Scanners and sequences: contrast of DWI and ADC; noise, as a share of the parenchymal mean.
DWI_SCALE, ADC_SCALE, MAX_NOISE = 0.15, 0.08, 0.06

_MIRRORED_SIDE = np.array([SIDES.index(mirrored_side(side)) for side in SIDES])
# Reversed, and moved back by one.
_MIRRORED_COLUMNS = np.roll(np.arange(SLAB_SHAPE[0])[::-1], -1).astype(np.int32)
_VOLUMES = ("dwi", "adc", "adc_mask", "truth", "coverage")


def mirror_slab(slab: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Exchange left and right of image, masks, truth, coverage *and* side together.

    The brain's midline is column 63 of 128, so the frame is reversed and moved back by one
    column; the column that wraps round is margin.
    """
    mirrored = dict(slab)
    for name in _VOLUMES:
        mirrored[name] = tf.gather(slab[name], _MIRRORED_COLUMNS)
    mirrored["side"] = tf.gather(tf.constant(_MIRRORED_SIDE, tf.int64), slab["side"])
    return mirrored


def augment_slab(slab: dict[str, tf.Tensor], seed: tf.Tensor) -> dict[str, tf.Tensor]:
    """A small affine of everything but the side, other contrast, and noise inside the head.

    Args:
        slab: as of ``data_tools.records.parse_slab``.
        seed: int64 (2,).

    Returns:
        The same fields and dtypes. Masks stay 0/1. The side is kept: half a head stays half a head.
    """
    draws = tf.random.stateless_uniform((6,), seed, -1.0, 1.0)
    moved = _affine(slab, draws[:4])
    gains = {"dwi": 1 + DWI_SCALE * draws[4], "adc": 1 + ADC_SCALE * draws[5]}
    level = MAX_NOISE * tf.random.stateless_uniform((), seed + 1)
    noise = level * tf.random.stateless_normal((2, *SLAB_SHAPE), seed + 2)
    for k, name in enumerate(("dwi", "adc")):
        head = tf.cast(moved[name] > 0, tf.float32)
        moved[name] = tf.maximum(moved[name] * gains[name] + noise[k] * head, 0.0)
    return moved


def _affine(slab: dict[str, tf.Tensor], draws: tf.Tensor) -> dict[str, tf.Tensor]:
    """Rotate, scale and shift in the axial plane, about the frame's centre; draws are in -1..1."""
    angle = draws[0] * math.radians(MAX_ROTATION_DEG)
    scale = 1 + draws[1] * MAX_SCALE
    cosine, sine = tf.cos(angle) * scale, tf.sin(angle) * scale
    centre = (tf.constant(SLAB_SHAPE[:2], tf.float32) - 1) / 2
    shift = draws[2:4] * MAX_SHIFT_VOXELS
    # Rows are x and columns y of the volume: where each voxel of the result comes from.
    column = centre[1] - cosine * centre[1] - sine * centre[0] + shift[0]
    row = centre[0] + sine * centre[1] - cosine * centre[0] + shift[1]
    transform = [cosine, sine, column, -sine, cosine, row, 0.0, 0.0]
    stacked = tf.concat([tf.cast(slab[name], tf.float32) for name in _VOLUMES], axis=-1)
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=stacked[tf.newaxis],
        transforms=tf.stack(transform)[tf.newaxis],
        output_shape=SLAB_SHAPE[:2],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )[0]
    result = dict(slab)
    for name, volume in zip(_VOLUMES, tf.split(moved, len(_VOLUMES), axis=-1), strict=True):
        volume = tf.ensure_shape(volume, SLAB_SHAPE)
        if slab[name].dtype != tf.float32:
            volume = tf.cast(volume >= 0.5, slab[name].dtype)
        result[name] = volume
    return result

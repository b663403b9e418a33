"""What :mod:`request_checks` is written in, by TensorFlow: the functions of :mod:`numpy_arrays`.

They make operations of a graph that TensorFlow Serving runs, without any Python.
"""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

isfinite, round, where, maximum, minimum = (
    tf.math.is_finite, tf.round, tf.where, tf.maximum, tf.minimum
)  # fmt: skip
argmin, argmax, sqrt, clip = tf.argmin, tf.argmax, tf.sqrt, tf.clip_by_value
any, all, max, sum = tf.reduce_any, tf.reduce_all, tf.reduce_max, tf.reduce_sum
constant, cast, cumsum, divide = tf.constant, tf.cast, tf.math.cumsum, tf.math.divide_no_nan
select = tf.boolean_mask


def count(mask: tf.Tensor) -> tf.Tensor:
    """How many are true, in float64."""
    return tf.cast(tf.math.count_nonzero(mask), tf.float64)


def size(values: tf.Tensor) -> tf.Tensor:
    """How many there are, in float64."""
    return tf.cast(tf.size(values), tf.float64)


def take(values: tf.Tensor, index: tf.Tensor, axis: int = 0) -> tf.Tensor:
    """Values at places along an axis."""
    return tf.gather(values, index, axis=axis)


def ravel(values: tf.Tensor) -> tf.Tensor:
    """All values in one row."""
    return tf.reshape(values, (-1,))


def median_of(values: tf.Tensor) -> tf.Tensor:
    """The median as numpy has it; 0 of nothing."""
    ordered = tf.concat([tf.sort(values), tf.zeros(1, values.dtype)], axis=0)
    count = tf.size(values)
    last = tf.maximum(count - 1, 0)
    return (ordered[last // 2] + ordered[(last + 1) // 2]) / 2


def mean_of(values: tf.Tensor, where: tf.Tensor) -> tf.Tensor:
    """Mean inside a mask, summed in float64."""
    return tf.cast(tf.reduce_mean(tf.cast(tf.boolean_mask(values, where), tf.float64)), tf.float32)


def eroded(mask: tf.Tensor, box: Sequence[int]) -> tf.Tensor:
    """Where a box around a voxel lies in the mask; beyond the grid is outside."""
    margin = [[width // 2, width // 2] for width in box]
    outside = tf.pad(tf.cast(~mask, tf.float32), margin, constant_values=1.0)
    reached = outside[tf.newaxis, ..., tf.newaxis]
    for axis, width in enumerate(box):
        if width > 1:
            window = [width if k == axis else 1 for k in range(3)]
            reached = tf.nn.max_pool3d(reached, window, 1, "VALID")
    return reached[0, ..., 0] == 0


def coarse(volume: tf.Tensor, step: int) -> tf.Tensor:
    """Means of cubes of so many voxels; what is left at the end is left out."""
    return tf.nn.avg_pool3d(volume[tf.newaxis, ..., tf.newaxis], step, step, "VALID")[0, ..., 0]


def box_mean(volume: tf.Tensor, width: int) -> tf.Tensor:
    """Means of cubes around each voxel; beyond the grid is 0, or does not count."""
    return tf.nn.avg_pool3d(volume[tf.newaxis, ..., tf.newaxis], width, 1, "SAME")[0, ..., 0]


def each(
    function: Callable[..., tuple[tf.Tensor, tf.Tensor]], *stacked: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Two float64 of each row of the tensors."""
    spec = (tf.TensorSpec((), tf.float64), tf.TensorSpec((), tf.float64))
    return tf.map_fn(lambda row: function(*row), stacked, fn_output_signature=spec)


def is_one_of(word: tf.Tensor, words: Sequence[str]) -> tf.Tensor:
    """Whether a word is among others."""
    return tf.reduce_any(tf.constant(words) == word)


def choose(words: Sequence[str], index: tf.Tensor) -> tf.Tensor:
    """One of several words."""
    return tf.constant(words)[index]


def number(value: tf.Tensor, digits: int = 2) -> tf.Tensor:
    """With so many digits after the point."""
    return tf.strings.as_string(value, precision=digits)


def short_number(value: tf.Tensor) -> tf.Tensor:
    """With six digits at most."""
    return tf.strings.as_string(value, shortest=True)


def text(*parts: Any) -> tf.Tensor:
    """Parts of a sentence, joined."""
    return tf.strings.join(parts)


def refuse(rules: Sequence[tuple[tf.Tensor, Any]]) -> tf.Operation:
    """Refuse, when run, with the reason of the first condition that does not hold.

    Returns:
        What the rest has to wait for.
    """
    right = tf.stack([holds for holds, _ in rules])
    reasons = tf.stack([tf.convert_to_tensor(reason) for _, reason in rules])
    first = tf.argmax(tf.cast(~right, tf.int32))
    return tf.debugging.Assert(tf.reduce_all(right), [reasons[first]])

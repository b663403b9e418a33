"""Random windows of patients, made to look otherwise each time, on the device in ``jax.numpy``.

Every change is a function of its key alone. The order is that of life: the head lies otherwise,
the scanner shades, scales and blurs, preparation finds another brain and divides by the mean. The
twin of :mod:`tf_hypoperfusion.training.augmentation`, which changes the slabs of records.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data_tools.grid import (
    ADC_CORE_UM2_PER_S,
    ADC_CSF_UM2_PER_S,
    FRAME_SHAPE,
    GRID_SHAPE,
    NIHSS_MISSING,
    SIDES,
    SLAB_SLICES,
    mirrored_side,
    side_frame,
    window_about_brain,
)
from tf_hypoperfusion.training.gpu.patients import BRAIN, CORE, COVERAGE, HELD, TRUTH
from tf_hypoperfusion.training.randomisation import (
    CENTRE,
    ERRING,
    LARGE_MM,
    OF_NEIGHBOUR,
    SIDE_NOT_TOLD,
    SMALL_MM,
    SMALL_SHARE,
    Randomisation,
    spline_basis,
)

# What draws its random numbers of its own.
KEYS = (
    "place", "labels", "mask", "dwi_bias", "adc_bias", "gain", "noise", "blur", "adc_scale", "drop",
)  # fmt: skip
MIRROR_SUM = 126  # a column and its mirror image, as tf_hypoperfusion.training.augmentation
MIRRORED = np.array([SIDES.index(mirrored_side(side)) for side in SIDES])
SIDE_FRAMES = np.stack([side_frame(side) for side in SIDES]).astype(np.float32)

# Amounts that are arrays of the device are arguments of a compiled function, not part of it: one
# function serves every setting.
jax.tree_util.register_dataclass(
    Randomisation, [field.name for field in dataclasses.fields(Randomisation)], []
)


def _used(*amounts: Any) -> bool:
    """Whether a change has to be computed: always where its amount is given at run time."""
    return any(not isinstance(amount, (int, float)) or amount > 0 for amount in amounts)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawn:
    """What a window is of; scalars, or arrays of as many as there are windows.

    Attributes:
        who: index of the patient.
        start: first slice.
        mirrored: left and right exchanged.
        changed: by the amounts that ``key`` draws.
        key: of all that is random about it.
    """

    who: Any
    start: Any
    mirrored: Any
    changed: Any
    key: Any


def windows(
    patients: dict[str, Any],
    key: Any,
    *,
    settings: Randomisation,
    count: int,
    frame: tuple[int, int],
    mirror: bool = True,
) -> tuple[dict[str, Any], Any]:
    """Random windows of 16 slices of random patients.

    Args:
        patients: :meth:`Patients.arrays`, on the device.
        key: of all that is drawn.
        settings: how they are changed.
        count: windows.
        frame: columns and rows that the network computes.
        mirror: exchange left and right in half of them.

    Returns:
        The network's inputs, ``image`` float32 (count, 128, 128, 16, 4), 0 outside ``frame``, and
        ``nihss`` (count, 1); truth, coverage and core of the frame, float32 (count, columns, rows,
        16, 3).
    """
    draws = jax.random.split(key, 5)
    drawn = Drawn(
        who=jax.random.randint(draws[0], (count,), 0, len(patients["nihss"])),
        start=jax.random.randint(draws[1], (count,), 0, GRID_SHAPE[2] - SLAB_SLICES + 1),
        mirrored=jax.random.bernoulli(draws[2], 0.5, (count,)) & mirror,
        changed=jax.random.bernoulli(draws[3], settings.share, (count,)),
        key=jax.random.split(draws[4], count),
    )
    return jax.vmap(functools.partial(window, patients, settings=settings, frame=frame))(drawn)


def window(
    patients: dict[str, Any], drawn: Drawn, *, settings: Randomisation, frame: tuple[int, int]
) -> tuple[dict[str, Any], Any]:
    """The window of one draw; see :func:`windows`."""
    keys = dict(zip(KEYS, jax.random.split(drawn.key, len(KEYS)), strict=True))
    amount = drawn.changed.astype(jnp.float32)
    slab = _moved(patients, drawn, keys, settings=settings, frame=frame)
    if _used(settings.mask_error):
        slab = _with_other_brain(keys["mask"], slab, settings.mask_error * amount)
    mean = patients["adc_mean"][drawn.who]
    slab = _scanned(keys, slab, mean, amount=amount, settings=settings)
    side = patients["side"][drawn.who]
    inputs = _prepared(keys, slab, mean, amount=amount, settings=settings) | {
        "nihss": patients["nihss"][drawn.who],
        "side": jnp.where(drawn.mirrored, jnp.asarray(MIRRORED)[side], side),
    }
    inputs = _some_dropped(keys["drop"], inputs, amount=amount, settings=settings)
    place = window_about_brain(frame)
    side_channel = jnp.asarray(SIDE_FRAMES[(slice(None), *place)])[inputs["side"]]
    channels = [
        *(inputs[name].astype(jnp.float16).astype(jnp.float32) for name in ("dwi", "adc")),
        inputs["adc_mask"],
        jnp.broadcast_to(side_channel[:, :, jnp.newaxis], slab["dwi"].shape),
    ]
    coverage = slab["coverage"] & slab["brain"]
    learnt = [slab["truth"] & coverage, coverage, slab["core"] & coverage]
    y_true = jnp.stack(learnt, axis=-1).astype(jnp.float32)
    image = in_frame(jnp.stack(channels, axis=-1), frame)
    return {"image": image, "nihss": inputs["nihss"][jnp.newaxis]}, y_true


def in_frame(image: Any, frame: tuple[int, int]) -> Any:
    """[columns, rows, ...] of a frame -> [128, 128, ...], with zeros."""
    place = window_about_brain(frame)
    margin = [(p.start, size - p.stop) for p, size in zip(place, FRAME_SHAPE, strict=True)]
    return jnp.pad(image, [*margin, *[(0, 0)] * (image.ndim - 2)])


def _moved(patients, drawn, keys, *, settings, frame):
    """Images and labels of the frame: shifted, turned, scaled, mirrored.

    A place's slices and channels lie together in memory, so that a resampled voxel is four reads.
    """

    def cut(name):
        at = (drawn.who, 0, 0, drawn.start)
        return jax.lax.dynamic_slice(patients[name], at, (1, *HELD, SLAB_SLICES))[0]

    amount = drawn.changed.astype(jnp.float32)
    turn, size, *shift = amount * jax.random.uniform(keys["place"], (4,), minval=-1.0, maxval=1.0)
    angle, scale = turn * (math.pi / 180) * settings.rotation_deg, 1 + size * settings.scale
    shift = jnp.stack(shift) * settings.shift_voxels
    apart = amount * settings.label_shift_voxels * jax.random.normal(keys["labels"], (2,))

    def sample(channels, shift):
        stacked = jnp.stack([channel.astype(jnp.float32) for channel in channels], axis=-1)
        flat = stacked.reshape(HELD[0] * HELD[1], SLAB_SLICES * len(channels))
        x, y = _origin(frame, drawn.mirrored, angle=angle, scale=scale, shift=shift)
        moved = _bilinear(flat, x, y).reshape(*frame, SLAB_SLICES, len(channels))
        return [moved[..., k] for k in range(len(channels))]

    flags = cut("flags")
    dwi, adc, brain = sample([cut("dwi"), cut("adc"), flags & BRAIN > 0], shift)
    learnt = [flags & bit > 0 for bit in (TRUTH, COVERAGE, CORE)]
    truth, coverage, core = sample(learnt, shift + apart)
    brain = brain >= 0.5
    return {
        "dwi": jnp.where(brain, dwi, 0),
        "adc": jnp.where(brain, adc, 0),
        "brain": brain,
        "truth": truth >= 0.5,
        "coverage": coverage >= 0.5,
        "core": core >= 0.5,
    }


def _origin(frame, mirrored, *, angle, scale, shift):
    """Where each voxel of the frame comes from, in voxels of the held window: x and y."""
    place, held = window_about_brain(frame), window_about_brain(HELD)
    x = jnp.arange(place[0].start, place[0].stop, dtype=jnp.float32)[:, jnp.newaxis]
    y = jnp.arange(place[1].start, place[1].stop, dtype=jnp.float32)[jnp.newaxis]
    x = jnp.where(mirrored, MIRROR_SUM - x, x)
    x, y = x - CENTRE[0], y - CENTRE[1]
    cosine, sine = jnp.cos(angle) * scale, jnp.sin(angle) * scale
    from_x = cosine * x - sine * y + CENTRE[0] + shift[0] - held[0].start
    from_y = sine * x + cosine * y + CENTRE[1] + shift[1] - held[1].start
    return from_x, from_y


def _bilinear(flat, x, y):
    """Rows of [columns * rows, n] at places between them; 0 beyond the edges."""
    x0, y0 = jnp.floor(x), jnp.floor(y)
    total = 0.0
    for dx in (0, 1):
        for dy in (0, 1):
            column, row = x0 + dx, y0 + dy
            weight = (1 - jnp.abs(x - column)) * (1 - jnp.abs(y - row))
            inside = (column >= 0) & (column < HELD[0]) & (row >= 0) & (row < HELD[1])
            index = jnp.clip(column, 0, HELD[0] - 1) * HELD[1] + jnp.clip(row, 0, HELD[1] - 1)
            found = flat[index.astype(jnp.int32).reshape(-1)]
            total += (weight * inside).reshape(-1, 1) * found
    return total


def smooth_field(key: Any, shape: tuple[int, ...], spacing_mm: float) -> Any:
    """A random field: mean 0, SD 1, no detail under ``spacing_mm``.

    Normal numbers on a coarse lattice, joined by cubic B-splines, as the simulated heads have it.
    """
    bases = [jnp.asarray(spline_basis(size, spacing_mm)) for size in shape]
    lattice = jax.random.normal(key, [basis.shape[1] for basis in bases])
    return jnp.einsum("xi,yj,zk,ijk->xyz", *bases, lattice)


def _bias(key: Any, shape: tuple[int, ...], sd: Any) -> Any:
    """A field that multiplies, of two scales; the log has this SD."""
    large, small, part = jax.random.split(key, 3)
    share = SMALL_SHARE * jax.random.uniform(part)
    both = jnp.sqrt(1 - share) * smooth_field(large, shape, LARGE_MM)
    return jnp.exp(sd * (both + jnp.sqrt(share) * smooth_field(small, shape, SMALL_MM)))


def _pooled(image: Any) -> Any:
    """The largest of a voxel and its eight neighbours in the slice."""
    return jax.lax.reduce_window(image, -jnp.inf, jax.lax.max, (3, 3, 1), (1, 1, 1), "SAME")


def _with_other_brain(key, slab, share):
    """A brain mask that lacks a voxel's rim in some places and has one too many in others.

    What is too many is skull or eye: some share of the brightest neighbour; it is covered where its
    neighbour is, and no tissue at risk.
    """
    where, wrong, level = jax.random.split(key, 3)
    brain = slab["brain"]
    field = smooth_field(where, brain.shape, SMALL_MM)
    wrong = jax.random.bernoulli(wrong, share)
    solid = brain.astype(jnp.float32)
    rim = brain & (-_pooled(-solid) < 0.5)
    outer = ~brain & (_pooled(solid) > 0.5)
    lost, won = wrong & rim & (field > ERRING), wrong & outer & (field < -ERRING)
    low, high = OF_NEIGHBOUR
    of_dwi, of_adc = jax.random.uniform(level, (2,), minval=low, maxval=high)
    covered = _pooled(slab["coverage"].astype(jnp.float32)) > 0.5
    return slab | {
        "dwi": jnp.where(won, of_dwi * _pooled(slab["dwi"]), slab["dwi"]),
        "adc": jnp.where(won, of_adc * _pooled(slab["adc"]), slab["adc"]),
        "brain": (brain & ~lost) | won,
        "coverage": slab["coverage"] | (won & covered),
    }


def _scanned(keys, slab, mean, *, amount, settings):
    """Shading, contrast, noise and blur along z."""
    dwi, adc, brain = slab["dwi"], slab["adc"], slab["brain"]
    shape = dwi.shape
    low, high = settings.dwi_bias
    if _used(high):
        key, field = jax.random.split(keys["dwi_bias"])
        dwi *= _bias(field, shape, amount * jax.random.uniform(key, minval=low, maxval=high))
    if _used(settings.adc_bias):
        key, field = jax.random.split(keys["adc_bias"])
        sd = amount * jax.random.uniform(key, maxval=settings.adc_bias)
        adc *= _bias(field, shape, sd)
    if _used(settings.dwi_gain, settings.dwi_gamma):
        gain, gamma = jnp.exp(
            amount
            * jnp.array([settings.dwi_gain, settings.dwi_gamma])
            * jax.random.normal(keys["gain"], (2,))
        )
        # Of an exponent of 1 a power is not always the number itself.
        powered = jnp.maximum(dwi, 1e-6) ** gamma
        dwi = gain * jnp.where((amount > 0) & (dwi > 0), powered, dwi)
    if _used(settings.noise):
        level, *each = jax.random.split(keys["noise"], 4)
        of_dwi, of_adc = amount * settings.noise * jax.random.uniform(level, (2,))
        real, imaginary, of_map = (jax.random.normal(key, shape) for key in each)
        dwi = jnp.sqrt((dwi + of_dwi * real) ** 2 + (of_dwi * imaginary) ** 2)
        adc = jnp.maximum(adc + of_adc * mean * of_map, 0)
    if _used(settings.blur):
        share = amount * settings.blur * jax.random.uniform(keys["blur"])
        dwi, adc = _blurred(dwi, share), _blurred(adc, share)
    return slab | {"dwi": jnp.where(brain, dwi, 0), "adc": jnp.where(brain, adc, 0)}


def _blurred(image: Any, share: Any) -> Any:
    """Along z; the end slices have a neighbour like themselves."""
    padded = jnp.pad(image, ((0, 0), (0, 0), (1, 1)), mode="edge")
    return (1 - 2 * share) * image + share * (padded[..., :-2] + padded[..., 2:])


def _prepared(keys, slab, mean, *, amount, settings):
    """ADC as its map says -> the ratio to the parenchymal mean, and the ADC mask.

    A map that is wrong everywhere has a mean that is as wrong, so only mask and CSF change.
    """
    scale = 1.0
    if _used(settings.adc_scale):
        wrong = jax.random.uniform(keys["adc_scale"], minval=-1.0, maxval=1.0)
        scale = 1 + amount * settings.adc_scale * wrong
    adc, mean = slab["adc"] * scale, mean * scale
    tissue = (adc > 0) & (adc < ADC_CSF_UM2_PER_S)
    return {
        "dwi": slab["dwi"],
        "adc": jnp.where(tissue, adc / mean, 0),
        "adc_mask": ((adc > 0) & (adc < ADC_CORE_UM2_PER_S)).astype(jnp.float32),
    }


def _some_dropped(key, inputs, *, amount, settings):
    """Without what a patient may lack; of DWI and ADC at most one."""
    draws = jax.random.uniform(key, (3,))
    no_dwi = amount * settings.drop_dwi > draws[0]
    no_adc = amount * settings.drop_adc > 1 - draws[0]
    no_nihss = amount * settings.drop_nihss > draws[1]
    no_side = amount * settings.drop_side > draws[2]
    return {
        "dwi": jnp.where(no_dwi, 0, inputs["dwi"]),
        "adc": jnp.where(no_adc, 0, inputs["adc"]),
        "adc_mask": jnp.where(no_adc, 0, inputs["adc_mask"]),
        "nihss": jnp.where(no_nihss, NIHSS_MISSING, inputs["nihss"]),
        "side": jnp.where(no_side, SIDE_NOT_TOLD, inputs["side"]),
    }

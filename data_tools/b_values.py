"""Images of several b-values -> trace image and ADC map, whatever file they came from.

A shell is what belongs together: images whose b-values differ little. Of the shells that make a
trace image the one nearest to b = 1000 s/mm2 is the DWI. ADC is the slope of ``ln S`` over b,
each image counted at its own b, from the lowest b up to :data:`FIT_RANGE_S_PER_MM2`.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from data_tools import agreement, alignment, brain_of_dwi
from data_tools.dicom.study import Source
from data_tools.grid import LOW_B_MAX_S_PER_MM2, MIN_B_S_PER_MM2, WANTED_B_S_PER_MM2
from data_tools.overrides import NONE, Overrides
from data_tools.runtime.errors import InputError, counted
from data_tools.volumes import PLAIN, Reading, Volume, require_contrast

# With another b than the paper's the same tissue has another contrast.
B_RANGE_S_PER_MM2 = (900.0, 1200.0)
# ln S falls in a straight line here: below, blood in the capillaries bends it (0 apart, which
# every scanner's map uses), above, the walls of cells do.
FIT_RANGE_S_PER_MM2 = (MIN_B_S_PER_MM2, 1300.0)
# b-values of one shell differ by what the imaging gradients add. A wider step is tried only where
# shells of the first hold single directions each.
SHELL_STEPS_S_PER_MM2 = (25.0, 100.0)
# Directions on one line within 8 degrees are one.
SAME_DIRECTION_COSINE = 0.99
MIN_DIRECTIONS = 3
# Smallest eigenvalue of the mean of d d^T: 1/3 of directions spread evenly, and of three at right
# angles; three at 75 degrees to each other have 0.25.
MIN_SPREAD = 0.25
# Above free water at body temperature; only noise is higher.
ADC_MAX_UM2_PER_S = 4000.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diffusion:
    """What the network needs of a diffusion study.

    Attributes:
        trace: image of the b-value used.
        adc: on the grid of the trace image, in the unit of its file; 1e-6 mm2/s if computed.
        computed: whether ADC was computed from the images.
        b_value: s/mm2; None if nothing says it.
        notes: what was done and found, for people.
        warnings: what they should look at.
        dicom_source: the scanner's slices, if it came as DICOM files.
    """

    trace: Volume
    adc: Volume | None
    b_value: float | None
    computed: bool = False
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    dicom_source: Source | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Series:
    """Images of one grid with different diffusion weighting, from one file or several.

    Attributes:
        data: float32 [x, y, z, image].
        affine: float64 [4, 4], index -> mm, RAS+.
        b_values: s/mm2, of each image; NaN where nothing says it.
        directions: [image, 3], unit vectors in any one frame; zeros for a trace image and for
            b = 0; NaN where nothing says it, infinite where it is only said to be one direction.
        reading: what reading the file showed.
        is_dicom: whether b-values and directions stand in the images' own files.
    """

    data: NDArray[np.float32]
    affine: NDArray[np.float64]
    b_values: NDArray[np.float64]
    directions: NDArray[np.float64]
    reading: Reading = PLAIN
    is_dicom: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Shell:
    """Images whose b-values belong together.

    Attributes:
        b_value: s/mm2, mean of what makes the trace image; NaN if unknown.
        images: which ones make it.
        weights: of each of them; their sum is 1.
        own_b: s/mm2, of each of them.
        words: of what directions they are.
        is_trace: whether their mean is a trace image.
        known: whether their directions are.
    """

    b_value: float
    images: NDArray[np.int_]
    weights: NDArray[np.float64]
    own_b: NDArray[np.float64]
    words: str
    is_trace: bool
    known: bool

    @property
    def text(self) -> str:
        """The b-value for people."""
        return "unknown" if np.isnan(self.b_value) else f"{self.b_value:.4g}"

    def mean_log(
        self, data: NDArray[np.float32], below: "_Shell | None" = None
    ) -> NDArray[np.float64]:
        """Mean of ln S at the shell's b; minus infinity where one of the signals is not above 0.

        Where its images differ in b, a direction of higher b would pass for one of faster
        diffusion: each one's fall from a lower shell is counted at its own b first.

        Args:
            data: [x, y, z, image].
            below: the shell of lowest b; None leaves every image at its own.
        """
        total = np.zeros(data.shape[:3])
        low = None
        if below is not None and np.ptp(self.own_b) > 0:
            low = below.mean_log(data)
        with np.errstate(divide="ignore", invalid="ignore"):
            for image, weight, own in zip(self.images, self.weights, self.own_b, strict=True):
                logs = np.log(np.maximum(data[..., image], 0).astype(np.float64))
                if low is not None and below is not None:
                    share = (self.b_value - below.b_value) / (own - below.b_value)
                    logs = np.where(np.isfinite(low), low + share * (logs - low), logs)
                total += weight * logs
        return total

    def mean(self, data: NDArray[np.float32], below: "_Shell | None" = None) -> NDArray[np.float32]:
        """Geometric mean as of :meth:`mean_log`; 0 where one of the signals is not above 0."""
        if len(self.images) == 1:
            return data[..., self.images[0]]
        return np.exp(self.mean_log(data, below)).astype(np.float32)


def of_series(
    label: str,
    series: Series,
    adc: Volume | None = None,
    need_adc: bool = True,
    *,
    overrides: Overrides = NONE,
    may_lack_adc: bool = False,
) -> Diffusion:
    """Trace image and ADC map of a series.

    Args:
        label: where the series came from, for messages: a path, or folder and series.
        series: one image at least.
        adc: the ADC map, if there is one already; it may lie on another grid.
        need_adc: without one, compute it or complain.
        overrides: ``b_value`` and ``few_directions`` are looked at.
        may_lack_adc: without an image of low b, do without an ADC map.

    Raises:
        InputError: no shell with b of 500 s/mm2 and more, none that makes a trace image, no image
            of low b to compute ADC from, an empty trace image, an ADC map that lies elsewhere.
    """
    values, warnings = _with_said_b(series.b_values, overrides)
    series = dataclasses.replace(series, b_values=values)
    shells, chosen = _choose(label, values, series.directions, overrides)
    if overrides.b_value is not None and len(values) > 1:
        shells, chosen, more = _at_said_b(shells, chosen, overrides.b_value)
        warnings += more
    low = _low_shell(values, series.directions)
    trace = _checked(chosen.mean(series.data, low), series, label)
    notes = [*series.reading.notes, *_trace_notes(chosen, values)]
    if not chosen.is_trace:
        warnings.append(
            f"DWI: b = {chosen.text} s/mm2 is of {chosen.words}, and was taken for a trace "
            "image as --few_directions says: ADC and core are wrong where fibres run one way"
        )
    elif 1 < len(chosen.images) < MIN_DIRECTIONS and not chosen.known:
        warnings.append(
            f"DWI: {len(chosen.images)} images of b = {chosen.text} s/mm2 were averaged, and no "
            f"file says their directions{'' if series.is_dicom else ' (no .bvec)'}: ADC and core "
            "are wrong if they are of single directions"
        )
    computed = False
    if adc is not None:
        aligned = alignment.onto(adc, trace, "ADC map")
        adc, notes, warnings = (
            aligned.volume,
            [*notes, *adc.reading.notes, *aligned.notes],
            [*warnings, *aligned.warnings],
        )
        if chosen.is_trace:
            warnings += _scale_warnings(series, trace, adc, [low, *shells])
    elif need_adc and not (may_lack_adc and low is None):
        computed = True
        if low is None:
            raise InputError(_no_low(label, values))
        if np.isnan(chosen.b_value):
            where = "" if series.is_dicom else "a .bval or .json beside it, or "
            raise InputError(
                f"DWI {label}: no file says its b-value, so no ADC can be computed from it and the "
                f"b = 0 image; expected {where}--b_value"
            )
        used = [low, *(s for s in shells if _serves(s, chosen))]
        data = _own_adc(series, used)
        adc = dataclasses.replace(trace, data=data, path=f"computed from {label}")
        notes.append(_adc_note(used))
    b_value = None if np.isnan(chosen.b_value) else round(chosen.b_value, 1)
    return Diffusion(
        trace=trace,
        adc=adc,
        b_value=b_value,
        computed=computed,
        notes=tuple(notes),
        warnings=(*warnings, *_b_warnings(b_value)),
    )


def _own_adc(series: Series, used: Sequence[_Shell]) -> NDArray[np.float32]:
    """From shells, that of lowest b first."""
    low, *others = used
    logs = [low.mean_log(series.data), *(each.mean_log(series.data, low) for each in others)]
    return compute_adc(
        np.stack(logs, axis=-1),
        [shell.b_value for shell in used],
    )


def _scale_warnings(
    series: Series, trace: Volume, adc: Volume, shells: Sequence[_Shell | None]
) -> tuple[str, ...]:
    """A given map against the ADC of its own series, if that has what it takes.

    Args:
        series: all images.
        trace: the DWI.
        adc: the map.
        shells: the first of low b, or None.
    """
    low_b, high_b = FIT_RANGE_S_PER_MM2
    low, *others = shells
    used = [s for s in others if s is not None and s.is_trace and low_b <= s.b_value <= high_b]
    if low is None or not used:
        return ()
    own = _own_adc(series, [low, *used])
    brain = brain_of_dwi.brain_mask(trace)
    return agreement.check_scale(adc, own, brain, bool((series.b_values > high_b).any()))


def compute_adc(mean_log: NDArray[np.floating], b_values: Sequence[float]) -> NDArray[np.float32]:
    """Mono-exponential ADC (Stejskal and Tanner 1965), by least squares over ln S.

    ``-sum((b - mean b) (ln S - mean ln S)) / sum((b - mean b)^2)``; of two b-values that is
    ``ln(S_low / S_high) / (b_high - b_low)``.

    Args:
        mean_log: ln S, [..., b-value]; minus infinity where there is no signal.
        b_values: s/mm2, two at least, not all the same.

    Returns:
        1e-6 mm2/s, 0 to 4000; 0 where any signal is absent.

    >>> float(compute_adc(np.log([[95.123, 36.788]]), [50, 1000])[0].round())
    1000.0
    """
    b = np.asarray(b_values, np.float64)
    b = b - b.mean()
    seen = np.isfinite(mean_log).all(axis=-1)
    values = np.where(seen[..., np.newaxis], mean_log, 0.0)
    adc = -1e6 * (values @ b) / (b @ b)
    return np.clip(np.where(seen, adc, 0), 0, ADC_MAX_UM2_PER_S).astype(np.float32)


def _with_said_b(
    values: NDArray[np.float64], overrides: Overrides
) -> tuple[NDArray[np.float64], list[str]]:
    """The b-values, those that nothing says and that of a single image replaced by what is said."""
    said = overrides.b_value
    if said is None:
        return values, []
    unknown = np.isnan(values)
    if unknown.any():
        return np.where(unknown, said, values), []
    if len(values) > 1:
        # Of none that could be the DWI the highest is, as the person knows better than the files.
        highest = (values > values.min()) & (values >= values.max() - SHELL_STEPS_S_PER_MM2[0])
        if values.max() >= MIN_B_S_PER_MM2 or not highest.any():
            return values, []
        return np.where(highest, said, values), [_contradiction(said, values[highest])]
    warnings = []
    if abs(values[0] - said) > 1:
        warnings.append(_contradiction(said, values))
    return np.array([said]), warnings


def _contradiction(said: float, values: Iterable[float]) -> str:
    return (
        f"DWI: b = {said:g} s/mm2 was taken as --b_value says, and its files say {_listed(values)}"
    )


def _choose(
    label: str,
    values: NDArray[np.float64],
    directions: NDArray[np.float64],
    overrides: Overrides,
) -> tuple[list[_Shell], _Shell]:
    """Every shell of 500 s/mm2 and more (or of unknown b), and the one that is the DWI."""
    tried = [_shells(values, directions, step) for step in SHELL_STEPS_S_PER_MM2]
    if not tried[0]:
        small = " Are they in ms/um2? They must be in s/mm2." if 0 < values.max() <= 10 else ""
        differ = len(values) == 1 or values.max() > values.min()
        other = " If the files are wrong, --b_value says the right one." if differ else ""
        which = "its b-value is" if len(values) == 1 else "its b-values are"
        raise InputError(
            f"DWI {label}: {which} {_listed(values)} s/mm2; expected images of b about "
            f"1000 s/mm2, {MIN_B_S_PER_MM2:g} at least.{small}{other}"
        )
    wanted = WANTED_B_S_PER_MM2
    near = _near(tried, overrides.b_value)
    if near is not None:
        wanted, tried = overrides.b_value or wanted, near

    def nearest(shells: Iterable[_Shell]) -> list[_Shell]:
        # Of unknown b only where no other is there.
        return sorted(shells, key=lambda s: (np.isnan(s.b_value), abs(s.b_value - wanted)))

    for shells in tried:
        made = nearest(shell for shell in shells if shell.is_trace)
        if made:
            return shells, made[0]
    chosen = nearest(tried[0])[0]
    if overrides.few_directions:
        return tried[0], chosen
    raise InputError(
        f"DWI {label}: its images of b = {chosen.text} s/mm2 are of {chosen.words}; expected a "
        f"trace image, or {MIN_DIRECTIONS} directions and more, spread evenly. Give the trace "
        "image that the scanner made; --few_directions takes these, with a warning, but ADC and "
        "core are then wrong where fibres run one way."
    )


def _near(tried: list[list[_Shell]], said: float | None) -> list[list[_Shell]] | None:
    """The shells of the b-value that a person says; None if there are none of it."""
    if said is None:
        return None
    of_it = [
        [shell for shell in shells if abs(shell.b_value - said) <= step]
        for shells, step in zip(tried, SHELL_STEPS_S_PER_MM2, strict=True)
    ]
    return of_it if of_it[0] else None


def _at_said_b(
    shells: list[_Shell], chosen: _Shell, said: float
) -> tuple[list[_Shell], _Shell, list[str]]:
    """The DWI's shell counted at the b-value that a person says, if it is not that of the files."""
    if np.isnan(chosen.b_value) or abs(chosen.b_value - said) <= SHELL_STEPS_S_PER_MM2[0]:
        return shells, chosen, []
    moved = dataclasses.replace(chosen, b_value=said, own_b=chosen.own_b * said / chosen.b_value)
    return [moved], moved, [_contradiction(said, [chosen.b_value])]


def _serves(shell: _Shell, chosen: _Shell) -> bool:
    """Whether ADC is computed from a shell: from the DWI's, and from others in the range."""
    low, high = FIT_RANGE_S_PER_MM2
    return shell is chosen or (shell.is_trace and low <= shell.b_value <= high)


def _shells(
    values: NDArray[np.float64], directions: NDArray[np.float64], step: float
) -> list[_Shell]:
    """Shells of 500 s/mm2 and more, and one of the images whose b nothing says."""
    found: list[list[int]] = []
    last = -np.inf
    for image in np.argsort(values, kind="stable"):  # NaN comes last
        if values[image] < MIN_B_S_PER_MM2:
            continue
        if np.isnan(values[image]):
            together = bool(found) and np.isnan(last)
        else:
            together = values[image] - last <= step
        if together:
            found[-1].append(int(image))
        else:
            found.append([int(image)])
        last = values[image]
    return [_shell(values, directions, np.array(sorted(images))) for images in found]


def _shell(
    values: NDArray[np.float64], directions: NDArray[np.float64], images: NDArray[np.int_]
) -> _Shell:
    own = directions[images]
    length = np.linalg.norm(own, axis=1)
    known = np.isfinite(length)
    whole = known & (length < 0.05)
    is_trace, words = True, ""
    if whole.any():
        images, words = images[whole], "trace images"
        weights = np.full(len(images), 1 / len(images))
    elif not known.any():
        unnamed = int(np.isinf(length).sum())
        is_trace = not 0 < unnamed < MIN_DIRECTIONS
        words = "unknown directions"
        if unnamed:
            words = f"{counted(unnamed, 'direction')} that no file names"
        weights = np.full(len(images), 1 / len(images))
    else:
        images = images[known]
        unit = own[known] / length[known, np.newaxis]
        groups = _directions(unit)
        count = groups.max() + 1
        # Each direction counts once, however often it was measured.
        weights = 1 / (count * np.bincount(groups)[groups])
        axes = np.stack([unit[np.flatnonzero(groups == k)[0]] for k in range(count)])
        spread = float(np.linalg.eigvalsh(axes.T @ axes / count)[0])
        is_trace = bool(count >= MIN_DIRECTIONS and spread >= MIN_SPREAD)
        words = _direction_words(axes, is_trace)
    b_value = float(weights @ values[images])
    return _Shell(b_value=b_value, images=images, weights=weights, own_b=values[images],
                  words=words, is_trace=is_trace, known=bool(known.any()))  # fmt: skip


def _direction_words(axes: NDArray[np.float64], is_trace: bool) -> str:
    count = len(axes)
    words = counted(count, "direction")
    if is_trace:
        return words
    shown = ", ".join("(" + " ".join(f"{x:.2f}" for x in axis) + ")" for axis in axes[:4])
    uneven = " only" if count < MIN_DIRECTIONS else " that are not spread evenly"
    return f"{words}{uneven}: {shown}{', ...' if count > 4 else ''}"


def _directions(unit: NDArray[np.float64]) -> NDArray[np.int_]:
    """Number of the direction of each image; one and its opposite are the same."""
    axes: list[NDArray[np.float64]] = []
    groups = []
    for one in unit:
        same = [k for k, axis in enumerate(axes) if abs(axis @ one) > SAME_DIRECTION_COSINE]
        if not same:
            axes.append(one)
        groups.append(same[0] if same else len(axes) - 1)
    return np.array(groups)


def _low_shell(values: NDArray[np.float64], directions: NDArray[np.float64]) -> _Shell | None:
    """The images of the lowest b, whose signal the others are compared with; None without any."""
    lowest = np.nanmin(values) if np.isfinite(values).any() else np.nan
    if not lowest <= LOW_B_MAX_S_PER_MM2:
        return None
    images = np.flatnonzero(values <= lowest + SHELL_STEPS_S_PER_MM2[0])
    return _shell(values, directions, images)


def _no_low(label: str, values: NDArray[np.float64]) -> str:
    if len(values) == 1:
        return (
            f"DWI {label}: is one image, from which no ADC can be computed; expected an ADC "
            "map, or a series with b = 0 and its .bval, or the b = 0 image as well"
        )
    lowest = np.nanmin(values) if np.isfinite(values).any() else np.nan
    return (
        f"DWI {label}: the series holds no image of b = 0 (nor of up to "
        f"{LOW_B_MAX_S_PER_MM2:g} s/mm2; its lowest is {lowest:g}), so no ADC can be computed; "
        "expected an ADC map"
    )


def _trace_notes(chosen: _Shell, values: NDArray[np.float64]) -> list[str]:
    notes = []
    total = len(values)
    if np.isnan(chosen.b_value):
        notes.append("DWI: no file says its b-value")
    if total > 1:
        what = f"geometric mean of {len(chosen.images)}" if len(chosen.images) > 1 else "one"
        notes.append(
            f"DWI: {what} of {total} images, b = {chosen.text} s/mm2, {chosen.words}; the series "
            f"has b = {_listed(values)}"
        )
    if not chosen.known:
        which = "whether it is a trace image" if len(chosen.images) == 1 else "their directions"
        notes.append(f"DWI: no file says {which}")
    return notes


def _adc_note(used: list[_Shell]) -> str:
    words = [f"{shell.text} s/mm2 ({_count(shell)})" for shell in used]
    return (
        f"ADC computed from b = {', '.join(words[:-1])} and b = {words[-1]}, "
        f"{'ln(S_low / S_high) / (b_high - b_low)' if len(used) == 2 else 'least squares of ln S'}"
    )


def _count(shell: _Shell) -> str:
    return counted(len(shell.images), "image")


def _listed(values: Iterable[float]) -> str:
    """Different values in order; those that nothing says as a question mark."""
    known = np.unique(np.round([v for v in values if not np.isnan(v)], 1) + 0.0)  # no minus 0
    words = [f"{value:g}" for value in known]
    if any(np.isnan(v) for v in values):
        words.append("unknown")
    return ", ".join(words)


def _checked(data: NDArray[np.float32], series: Series, label: str) -> Volume:
    require_contrast(data, series.reading.absent, f"DWI {label}")
    return Volume(data, series.affine, label, series.reading)


def _b_warnings(b_value: float | None) -> tuple[str, ...]:
    low, high = B_RANGE_S_PER_MM2
    if b_value is None or low <= b_value <= high:
        return ()
    return (
        f"the DWI has b = {b_value:g} s/mm2; the network was made for about 1000: lesions "
        f"are {'fainter' if b_value < low else 'brighter'} than it expects",
    )

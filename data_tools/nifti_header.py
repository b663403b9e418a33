"""Where a NIfTI file says that its voxels lie: qform, sform, pixdim, and what if they differ.

Qform and pixdim are one reading, the sform another. Lengths decide about mL, so they must agree, or
one of the readings must be the patient's own without doubt. Place and turn bear on no volume.
"""

import dataclasses

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from data_tools.runtime.errors import InputError

# A voxel outside this range is no clinical brain MRI (micro-imaging, or an affine in metres).
VOXEL_RANGE_MM = (0.3, 12.0)
# Programs write lengths with two or three digits (0.86 for 0.8594); three lengths of this much are
# 1.5% in mL.
SAME_LENGTH = 0.005
# What a voxel holds may differ by so much unsaid.
SAME_VOLUME = 0.002
SAME_PLACE_MM, SAME_TURN_DEG = 1.0, 1.0
# From here on it is no turn of a head, but another axis.
MIN_AXIS_COSINE = 0.9
SCANNER, ALIGNED, TALAIRACH, MNI = 1, 2, 3, 4
CODE_NAMES = {SCANNER: "scanner", ALIGNED: "aligned", TALAIRACH: "Talairach", MNI: "MNI"}
METRE, MICRON = 1, 3
TO_MM = {METRE: 1000.0, MICRON: 0.001}
TO_S = {8: 1.0, 16: 1e-3, 24: 1e-6}


@dataclasses.dataclass(frozen=True)
class Place:
    """Where voxels lie.

    Attributes:
        affine: float64 [4, 4], index -> mm, RAS+.
        notes: which reading was taken, if there were two.
        other: the reading that was not taken, if it differs in place or turn only.
    """

    affine: NDArray[np.float64]
    notes: tuple[str, ...] = ()
    other: NDArray[np.float64] | None = None


def place_of(image: nib.Nifti1Pair, label: str) -> Place:
    """Where the voxels of an image lie.

    Args:
        image: 3D or more.
        label: what and path, for messages.

    Raises:
        InputError: no orientation, a damaged or sheared one, lengths that cannot be, or two
            readings of which none can be preferred.
    """
    header = image.header
    if len(image.shape) < 3:
        raise InputError(f"{label}: has shape {image.shape}; expected one 3D volume, or a series")
    try:
        (qform, q_code), (sform, s_code) = (
            header.get_qform(coded=True), header.get_sform(coded=True)
        )  # fmt: skip
    except (HeaderDataError, ValueError) as error:
        raise InputError(f"{label}: the qform in the header is damaged ({error})") from error
    if not q_code and not s_code:
        raise InputError(
            f"{label}: qform and sform codes are both 0, so left and right are unknown; expected "
            "an orientation in the header. Convert the scanner's DICOM files again (dcm2niix)."
        )
    for form, code in ((sform, s_code), (qform, q_code)):
        if code:
            check_finite(form, label)
    if q_code and s_code:
        place = _of_two(
            _Reading("qform", qform, int(q_code)), _Reading("sform", sform, int(s_code)),
            np.array(image.shape[:3]), label,
        )  # fmt: skip
    elif s_code:
        place = _of_sform(sform, np.asarray(header["pixdim"][1:4], np.float64), label)
    else:
        place = Place(qform)
    place = _in_mm(place, int(header["xyzt_units"]) & 7)
    check_axes(place.affine, label)
    return place


def frame_step_s(image: nib.Nifti1Pair) -> float | None:
    """Time from frame to frame in s, by the header of a series.

    Args:
        image: 3D or more. Of (X, Y, Z, 1, T) either axis may hold it.

    Returns:
        None without a unit of time, of a single image, and of 0 or 1, which programs leave that do
        not fill it in.
    """
    unit = TO_S.get(int(image.header["xyzt_units"]) & 56)
    axes = [axis for axis, size in enumerate(image.shape) if axis > 2 and size > 1]
    if unit is None or len(axes) != 1:
        return None
    steps = [float(image.header["pixdim"][1 + axis]) for axis in (axes[0], 3)]
    said = [step for step in steps if np.isfinite(step) and step not in (0, 1)]
    return said[0] * unit if said else None


def check_finite(affine: NDArray[np.float64], label: str) -> None:
    """Refuse an affine that is none.

    Args:
        affine: [4, 4].
        label: what and path, for messages.

    Raises:
        InputError: numbers that are not finite, or axes in one plane.
    """
    lengths = _lengths(affine)
    # Of unit vectors, so that voxels of any size, an affine in metres too, pass this check.
    if not np.isfinite(affine).all() or not (
        lengths.min() > 0 and abs(np.linalg.det(affine[:3, :3] / lengths)) > 1e-3
    ):
        raise InputError(f"{label}: the affine is singular or not finite; orientation is unknown")


def check_axes(affine: NDArray[np.float64], label: str) -> None:
    """Refuse voxels of impossible size, and axes that are not at right angles.

    Args:
        affine: [4, 4].
        label: what and path, for messages.

    Raises:
        InputError: see above.
    """
    lengths = _lengths(affine)
    if lengths.min() < VOXEL_RANGE_MM[0] or lengths.max() > VOXEL_RANGE_MM[1]:
        raise InputError(
            f"{label}: voxels of {_mm(lengths)} mm; expected "
            f"{VOXEL_RANGE_MM[0]:g} to {VOXEL_RANGE_MM[1]:g} mm. Is the affine in millimetres?"
        )
    axes = affine[:3, :3] / lengths
    shear = np.abs(axes.T @ axes - np.eye(3)).max()
    if shear > 0.01:
        raise InputError(
            f"{label}: the axes are not at right angles (cosine {shear:.3f}); expected an affine "
            "without shear. Resample the image to an orthogonal grid first."
        )


@dataclasses.dataclass(frozen=True)
class _Reading:
    name: str
    affine: NDArray[np.float64]
    code: int

    @property
    def text(self) -> str:
        """For people: name, code, lengths and what a voxel holds."""
        lengths = _lengths(self.affine)
        word = CODE_NAMES.get(self.code, "other")
        return (
            f"{self.name} (code {self.code}, {word}) has voxels of {_mm(lengths)} mm, "
            f"{lengths.prod() / 1000:.4g} mL each"
        )


def _of_two(q: _Reading, s: _Reading, shape: NDArray[np.int_], label: str) -> Place:
    axes = [reading.affine[:3, :3] / _lengths(reading.affine) for reading in (q, s)]
    if (axes[0] * axes[1]).sum(axis=0).min() < MIN_AXIS_COSINE:
        raise InputError(
            f"{label}: qform ({''.join(nib.aff2axcodes(q.affine))}) and sform "
            f"({''.join(nib.aff2axcodes(s.affine))}) point in different directions, so left "
            "and right are unsure; find out which is right and set both to it."
        )
    turn_deg = _turn_deg(axes[0], axes[1])
    middles = [nib.affines.apply_affine(r.affine, (shape - 1) / 2) for r in (q, s)]
    apart_mm = float(np.linalg.norm(middles[0] - middles[1]))
    elsewhere = (
        f"their middles lie {apart_mm:.3g} mm apart and they are turned by {turn_deg:.3g} degrees"
    )
    if not _same_lengths(_lengths(q.affine), _lengths(s.affine)):
        # A fit to a template moves and turns the head; without, a length was changed by hand.
        is_fit = turn_deg > 0.01 or np.linalg.norm(q.affine[:3, 3] - s.affine[:3, 3]) > 0.01
        if s.code in (TALAIRACH, MNI) and q.code in (SCANNER, ALIGNED) and is_fit:
            return Place(
                q.affine,
                (
                    f"{label.split()[0]}: {s.text}, those of a template; {q.text}, the patient's "
                    f"own, and was taken ({elsewhere})",
                ),
            )
        raise InputError(
            f"{label}: {q.text}; {s.text}; {elsewhere}. Only one can be right, and volumes in mL "
            "hang on it; find out which, and set qform, sform and pixdim to it."
        )
    volumes = [_lengths(reading.affine).prod() for reading in (q, s)]
    rounded: tuple[str, ...] = ()
    if abs(volumes[1] / volumes[0] - 1) > SAME_VOLUME:
        rounded = (f"{label.split()[0]}: {q.text}; {s.text}; the sform was taken",)
    if apart_mm <= SAME_PLACE_MM and turn_deg <= SAME_TURN_DEG:
        return Place(s.affine, rounded)
    if q.code == s.code:
        raise InputError(
            f"{label}: {q.text}; {s.text}; {elsewhere}, though both say that they are of the same "
            "space. Find out which is right, and set both to it."
        )
    note = (
        f"{label.split()[0]}: qform (code {q.code}, {CODE_NAMES.get(q.code, 'other')}) and sform "
        f"(code {s.code}, {CODE_NAMES.get(s.code, 'other')}) have the same lengths, but "
        f"{elsewhere}; the sform was taken, as NIfTI programs do"
    )
    return Place(s.affine, (note, *rounded), q.affine)


def _of_sform(sform: NDArray[np.float64], pixdim: NDArray[np.float64], label: str) -> Place:
    """Without a qform: lengths of the sform, if pixdim says the same, or nothing at all."""
    lengths = _lengths(sform)
    pixdim = np.abs(pixdim)
    if _same_lengths(pixdim, lengths):
        return Place(sform)
    # 1 1 1 is what programs leave that do not fill it in; no fit scales an axis by a half or two.
    empty = not np.isfinite(pixdim).all() or pixdim.min() <= 0 or (pixdim == 1).all()
    if empty and (np.nan_to_num(pixdim).min() <= 0 or np.abs(np.log2(lengths)).max() > 1):
        return Place(
            sform,
            (
                f"{label.split()[0]}: pixdim was never filled in ({_mm(pixdim)}); the sform's "
                f"voxels of {_mm(lengths)} mm were taken",
            ),
        )
    raise InputError(
        f"{label}: the sform has voxels of {_mm(lengths)} mm, {lengths.prod() / 1000:.4g} mL each; "
        f"pixdim has {_mm(pixdim)} mm, {pixdim.prod() / 1000:.4g} mL each; and there is no qform. "
        "Only one can be right, and volumes in mL hang on it; find out which, and set qform, sform "
        "and pixdim to it."
    )


def _in_mm(place: Place, unit: int) -> Place:
    """A place whose header says metres or micrometres, if it is in them."""
    factor = TO_MM.get(unit)
    if factor is None:
        return place
    low, high = VOXEL_RANGE_MM
    lengths = _lengths(place.affine)
    name = "metres" if unit == METRE else "micrometres"
    if low <= lengths.min() and lengths.max() <= high:
        note = f"the header says {name}, which voxels of {_mm(lengths)} cannot be in; mm were taken"
        return dataclasses.replace(place, notes=(*place.notes, note))
    scale = np.diag([factor, factor, factor, 1.0])
    other = None if place.other is None else scale @ place.other
    note = f"the header is in {name}, and was read so"
    return Place(scale @ place.affine, (*place.notes, note), other)


def _lengths(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sqrt((affine[:3, :3] ** 2).sum(axis=0))


def _same_lengths(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    return np.allclose(one, other, rtol=SAME_LENGTH, atol=0)


def _turn_deg(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    # Of the difference's length: the arc cosine of 1 less a rounding would be no turn at all.
    chord = np.linalg.norm(one - other) / (2 * np.sqrt(2))
    return float(np.degrees(2 * np.arcsin(min(1.0, chord))))


def _mm(lengths: NDArray[np.float64]) -> str:
    return " x ".join(f"{length:.4g}" for length in lengths)

"""Real heads for strokes to be painted into: their table, and each as it is seen each time.

A few heads are to serve many patients, so each is mirrored every second time, bent a little and
given another evenness, which leaves its tissue, noise and artefacts as the scanner made them.
"""

import dataclasses
import functools
import hashlib
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from data_tools import text_table
from data_tools.grid import (
    GRID_SHAPE,
    SIDES,
    VOXEL_MM,
    WANTED_B_S_PER_MM2,
    mirrored_side,
    patient_voxel_ml,
)
from data_tools.patient import NativePatient, load_native, on_grid, to_mni
from data_tools.runtime.errors import InputError, counted
from data_tools.simulate.anatomy import (
    GRID_IN_MODEL,
    MODEL_ORIGIN_MM,
    MODEL_SHAPE,
    Anatomy,
    deepness,
    model_mm,
    smooth_field,
    template,
)
from data_tools.simulate.appearance import Streams, Tissue
from data_tools.transform import Transform
from data_tools.volumes import Volume, load_mask

COLUMNS = ("head", "dwi", "adc", "b0", "side", "lesion")
REQUIRED = ("head", "dwi", "side")
NOTHING = ("", "n/a")
# Of ADC: below, a voxel is all tissue; from the second on all fluid.
TISSUE_ADC_UM2_PER_S, FLUID_ADC_UM2_PER_S = 1100.0, Tissue().csf_adc_um2_per_s
# How differently a head is seen each time: SD of places, of brightness and of the ADC's scale.
BEND_MM, BEND_SCALE_MM = 2.0, 36.0
GAIN_SD, GAIN_SCALE_MM = 0.03, 45.0
ADC_SCALE_SD = 0.015
# Around the head's own lesion nothing counts.
LESION_MARGIN_VOXELS = 1
MIRROR = np.diag([-1.0, 1.0, 1.0, 1.0])


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadFiles:
    """One line of the table.

    Attributes:
        name: of the head.
        dwi: image or folder of DICOM files.
        adc: image; None computes it from the DWI.
        b0: image of b = 0, if it is apart.
        side: of the head's own lesion; None if it has none.
        lesion: mask of that lesion; None if it was not drawn.
    """

    name: str
    dwi: Path
    adc: Path | None
    b0: Path | None
    side: str | None
    lesion: Path | None

    def existing(self) -> list[Path]:
        """The files that are named."""
        return [path for path in (self.dwi, self.adc, self.b0, self.lesion) if path is not None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Head:
    """A head, registered.

    Attributes:
        files: where it comes from.
        native: its images.
        affine: native mm -> MNI mm.
        lesion: mask of its own lesion, or None.
    """

    files: HeadFiles
    native: NativePatient
    affine: NDArray[np.float64]
    lesion: Volume | None

    @property
    def voxel_ml(self) -> float:
        """mL of the patient's tissue in a voxel of the MNI grid."""
        return patient_voxel_ml(self.affine)

    @property
    def b_s_per_mm2(self) -> float:
        """Of the DWI; the usual one where no file says it."""
        return self.native.b_value or WANTED_B_S_PER_MM2

    @property
    def voxel_size_mm(self) -> NDArray[np.float64]:
        """Of the DWI's voxels, along the axes of MNI space: [3]."""
        axes = np.abs(self.affine[:3, :3] @ self.native.dwi.affine[:3, :3])
        return axes.max(axis=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seen:
    """A head as it is seen this time; volumes are on the MNI grid.

    Attributes:
        dwi: float32, any unit.
        adc_um2_per_s: float32.
        brain: bool.
        own_lesion: bool, what does not count; none where it was not drawn.
        own_side: of the head's own lesion, or None.
        mirrored: left is right.
        affine: native mm -> MNI mm, of the mirrored native space if it is.
        anatomy: what of it is tissue, for the stroke to happen in.
    """

    dwi: NDArray[np.float32]
    adc_um2_per_s: NDArray[np.float32]
    brain: NDArray[np.bool_]
    own_lesion: NDArray[np.bool_]
    own_side: str | None
    mirrored: bool
    affine: NDArray[np.float64]
    anatomy: Anatomy


@functools.cache
def read(table: str) -> tuple[HeadFiles, ...]:
    """The heads of a tab-separated table; files lie beside it or are named from the root.

    Raises:
        InputError: no table, a file that is not there, a side that is none, or a name twice.
    """
    path = Path(table)
    faults: list[str] = []
    found: list[HeadFiles] = []
    for line in text_table.read(path, COLUMNS, REQUIRED).lines:
        where = f"{path} line {line.number}"
        if line.fault:
            faults.append(f"{where}: {line.fault}")
            continue
        head = _head(line.cells, path.parent)
        if not head.name:
            faults.append(f"{where}: the head has no name")
        if head.name in [other.name for other in found]:
            faults.append(f"{where}: {head.name} stands there twice; expected another name")
        faults += [f"{where}: no such file: {p}" for p in head.existing() if not p.exists()]
        if head.side is not None and head.side not in SIDES:
            faults.append(
                f"{where}: side is {head.side!r}; expected {', '.join(SIDES)}, or n/a where the "
                "head has no lesion of its own"
            )
        found.append(head)
    if faults:
        raise InputError("\n".join(faults))
    return tuple(found)


def _head(cells: dict[str, str], beside: Path) -> HeadFiles:
    paths = {
        name: None if cells.get(name, "") in NOTHING else beside / cells[name]
        for name in ("dwi", "adc", "b0", "lesion")
    }
    side = cells["side"].casefold()
    return HeadFiles(
        name=cells["head"],
        dwi=paths["dwi"] or beside / "no DWI named",
        adc=paths["adc"],
        b0=paths["b0"],
        side=None if side in NOTHING else side,
        lesion=paths["lesion"],
    )


def describe(table: str | os.PathLike) -> str:
    """Number of heads, and a checksum of names, sides and sizes, to know the table again."""
    found = read(str(table))
    lines = [
        f"{head.name} {head.side} {' '.join(str(p.stat().st_size) for p in head.existing())}"
        for head in found
    ]
    checksum = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]
    return f"{counted(len(found), 'head')}, {checksum}"


@functools.cache
def load(files: HeadFiles) -> Head:
    """Read, check and register a head; it is kept for the next patient.

    Raises:
        InputError: naming the head.
    """
    try:
        native = load_native(files.dwi, files.adc, b0=files.b0)
        affine = to_mni(native)[0].transform.affine
        lesion = None if files.lesion is None else load_mask(files.lesion, "lesion")
    except InputError as error:
        raise InputError(f"head {files.name}: {error}") from error
    return Head(files=files, native=native, affine=affine, lesion=lesion)


def see(head: Head, streams: Streams, mirrored: bool) -> Seen:
    """A head on the MNI grid, bent and mirrored, and the anatomy that its images show.

    Args:
        head: of :func:`load`.
        streams: the patient's random numbers.
        mirrored: left becomes right.
    """
    rng = streams.of("bent head")
    shift_mm = [np.float32(BEND_MM) * smooth_field(rng, BEND_SCALE_MM) for _ in range(3)]
    back_mm = np.stack([field[GRID_IN_MODEL] for field in shift_mm], axis=-1)
    transform = Transform(head.affine, back_mm=back_mm)
    mni = on_grid(head.native, transform)
    lesion = np.zeros(GRID_SHAPE, bool)
    if head.lesion is not None:
        drawn = transform.bring_mask(head.lesion.data > 0, head.lesion)
        lesion = ndimage.binary_dilation(drawn, iterations=LESION_MARGIN_VOXELS)
    dwi, adc, brain = mni.dwi, mni.adc_um2_per_s, mni.brain
    source_mm = model_mm() + np.stack(shift_mm)
    affine, side = head.affine, head.files.side
    if mirrored:
        dwi, adc = dwi[::-1].copy(), adc[::-1].copy()
        brain, lesion = brain[::-1].copy(), lesion[::-1].copy()
        source_mm = source_mm[:, ::-1] * np.array([-1, 1, 1], np.float32).reshape(3, 1, 1, 1)
        affine = MIRROR @ affine @ MIRROR
        side = None if side is None else mirrored_side(side)
    rng = streams.of("evenness")
    gain = np.exp(np.float32(GAIN_SD) * smooth_field(rng, GAIN_SCALE_MM)[GRID_IN_MODEL])
    adc = adc * np.float32(np.exp(ADC_SCALE_SD * np.clip(rng.normal(), -2, 2)))
    return Seen(
        dwi=dwi * gain,
        adc_um2_per_s=adc,
        brain=brain,
        own_lesion=lesion,
        own_side=side,
        mirrored=mirrored,
        affine=affine,
        anatomy=anatomy_of(adc, brain, source_mm),
    )


def anatomy_of(
    adc_um2_per_s: NDArray[np.float32],
    brain: NDArray[np.bool_],
    source_mm: NDArray[np.float32],
) -> Anatomy:
    """What a head's images show of it: fluid by its ADC; grey and white as the template has them.

    Args:
        adc_um2_per_s: on the MNI grid.
        brain: the same.
        source_mm: [3, x, y, z], the template's coordinate of every voxel of the model grid.
    """
    whole, fluid, white = np.zeros((3, *MODEL_SHAPE), np.float32)
    whole[GRID_IN_MODEL] = brain
    span = FLUID_ADC_UM2_PER_S - TISSUE_ADC_UM2_PER_S
    fluid[GRID_IN_MODEL] = brain * np.clip((adc_um2_per_s - TISSUE_ADC_UM2_PER_S) / span, 0, 1)
    inside = np.flatnonzero(whole)
    points = source_mm.reshape(3, -1)[:, inside]
    index = (points - np.array(MODEL_ORIGIN_MM, np.float32)[:, None]) / np.float32(VOXEL_MM)
    grey_there, white_there = (
        ndimage.map_coordinates(channel, index, order=1, prefilter=False)
        for channel in template()[:2]
    )
    share = white_there / np.maximum(grey_there + white_there, np.float32(1e-3))
    white.ravel()[inside] = (1 - fluid.ravel()[inside]) * share
    deep = np.zeros(MODEL_SHAPE, np.float32)
    deep.ravel()[inside] = deepness(points)
    return Anatomy(
        template_mm=np.ascontiguousarray(source_mm, np.float32),
        grey=whole - fluid - white,
        white=white,
        csf=fluid,
        brain=whole,
        scalp=np.zeros(MODEL_SHAPE, np.float32),
        deep=deep,
    )

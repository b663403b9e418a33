"""The raw perfusion scan of a simulated patient: dynamic susceptibility contrast (DSC), 4D.

Its Tmax is the patient's own field: what threshold filters make of a noise-free scan (see
:mod:`data_tools.simulate.bolus`). Every voxel follows

    S(t) = S0 exp(-TE DR2*(t)),   DR2*(t) = k CBV h(t - delay, MTT) + vessels,

sampled anew at each frame where the head then lies, slice after slice as the scanner takes them;
noise is Rician. Not simulated: leakage, T1, the phase of arteries in partial volume, motion within
a frame.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from data_tools import rigid
from data_tools.grid import VOXEL_MM
from data_tools.runtime.errors import InputError
from data_tools.simulate import signals
from data_tools.simulate.anatomy import MODEL_AFFINE, MODEL_SHAPE, Anatomy
from data_tools.simulate.bolus import OFFSET_AT_S, Bolus
from data_tools.simulate.images import NATIVE_TO_MNI_SCALE
from data_tools.simulate.patient import SimulatedPatient
from data_tools.simulate.vessels import ARTERY, LATE_ARTERY, VEIN, Vessels, make_vessels

# mL/100 g, and s: of healthy tissue.
GREY_CBV, WHITE_CBV, CORE_CBV_SHARE = 4.0, 2.0, 0.45
MTT_S, WHITE_MORE_S, CORE_MORE_S = 4.0, 0.8, 2.0
# Late tissue keeps contrast longer: s of MTT for each s of Tmax beyond the first number.
MTT_LATE_FROM_S, MTT_PER_TMAX = 3.5, 0.75
MTT_MAX_S = 12.0
# Delta R2* at the bolus' height, 1/s: a drop by a third in grey matter at TE 30 ms.
GREY_PEAK_PER_S = 14.0
# Collaterals fill late arteries this much before the tissue, and this broadly.
LATE_ARTERY_BEFORE_S, LATE_ARTERY_SPREAD_S = 0.8, 2.0
VEIN_DELAY_S, VEIN_SPREAD_S = 1.0, 4.5
# T2*-weighted signal of a gradient echo, arbitrary unit.
GREY_S0, WHITE_S0, CSF_S0, SCALP_S0, BLOOD_S0 = 1.0, 0.85, 1.5, 0.3, 0.9
LEVEL = 600.0  # of grey matter in the file
REST_FRAME = 4
CHUNK = 8192  # points whose fields stay in the processor's cache
# A vessel that adds this share of grey matter's peak is one in the truth.
VESSEL_SHARE = 0.2
VOID_RADIUS_MM, VOID_AT_MM = 26.0, (-40.0, -10.0, 20.0)
JUMP_MM = 8.0
CUT_AFTER_S = 25.0
AFTER_S = (45.0, 75.0)  # from the arrival of contrast to the end of the scan
EARLIER_S, EARLIER_SHARE = 22.0, 0.8

FAULTS = {
    "no_bolus": "contrast never came",
    "late_start": "the scan began as contrast came: fewer than three frames before it",
    "truncated": "the scan ends 25 s after contrast came",
    "no_tr": "no file says the repetition time",
    "no_te": "no file says the echo time",
    "shuffled": "the volumes are in another order than they were taken",
    "jump": "the head jumps by 8 mm at the height of the bolus, and stays there",
    "metal": "no signal in a ball of 26 mm radius",
    "earlier_contrast": "another bolus came 22 s before, and is still being washed out",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scan:
    """How a DSC series is taken.

    Attributes:
        repetition_time_s: TR, from frame to frame.
        echo_time_s: TE.
        frames: how many.
        snr: of grey matter before contrast; infinite is none.
        bolus: when contrast comes, and how.
        strength: of the bolus, times the usual.
        interleaved: every second slice first; otherwise one after the other.
        motion_mm: the largest that a point 50 mm from the middle moves; 0 is none.
        brighter_start: how much brighter the first frame is, before the signal is steady, as a
            share; the next one half as much.
        matrix: voxels along a slice's edge; None as the patient has them.
        slices: how many, about the middle one; None as the patient has them.
        fault: one of :data:`FAULTS`, or None.
    """

    repetition_time_s: float = 1.5
    echo_time_s: float = 0.03
    frames: int = 60
    snr: float = 50.0
    bolus: Bolus = Bolus(arrival_s=12.0)
    strength: float = 1.0
    interleaved: bool = True
    motion_mm: float = 0.0
    brighter_start: float = 0.0
    matrix: int | None = None
    slices: int | None = None
    fault: str | None = None

    def __post_init__(self) -> None:
        if self.fault is not None and self.fault not in FAULTS:
            raise InputError(f"fault is {self.fault!r}; expected one of {', '.join(FAULTS)}")

    @property
    def times_s(self) -> NDArray[np.floating]:
        """Start of each frame."""
        return np.arange(self.frames) * self.repetition_time_s

    @property
    def long_enough_s(self) -> NDArray[np.floating]:
        """Start of each frame, of a scan that ends 45 s after contrast comes or later."""
        least = int(np.ceil((self.bolus.arrival_s + AFTER_S[0]) / self.repetition_time_s))
        return np.arange(max(self.frames, least)) * self.repetition_time_s

    def slice_times_s(self, slices: int) -> NDArray[np.float64]:
        """When each slice is taken within a frame."""
        order = np.arange(slices)
        if self.interleaved:  # of an odd number the first slice begins, of an even one the second
            first = 1 - slices % 2
            order = np.concatenate([order[first::2], order[1 - first :: 2]])
        times = np.empty(slices)
        times[order] = np.arange(slices) * self.repetition_time_s / slices
        return times


@dataclasses.dataclass(frozen=True, kw_only=True)
class DscTruth:
    """What was put into a scan, on its grid where the head lay at frame 4, before contrast.

    Attributes:
        tmax_s: float32; 0 outside the brain, as the next three.
        delay_s: behind the arteries that are not late.
        mtt_s: mean transit time.
        cbv_ml_per_100g: blood volume.
        brain: bool.
        vessels: uint8: 0, or vessels.ARTERY, LATE_ARTERY, VEIN.
        aif: (T,), 1 at the peak, at the start of each frame.
        poses: (T, 4, 4), scanner mm where a point lies in the truth -> where it lay at a frame.
    """

    tmax_s: NDArray[np.float32]
    delay_s: NDArray[np.float32]
    mtt_s: NDArray[np.float32]
    cbv_ml_per_100g: NDArray[np.float32]
    brain: NDArray[np.bool_]
    vessels: NDArray[np.uint8]
    aif: NDArray[np.float64]
    poses: NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DscImages:
    """A raw scan.

    Attributes:
        signal: float32 whole numbers (X, Y, Z, T), arbitrary unit.
        affine: index -> scanner mm, RAS+.
        times_s: (T,), start of each frame.
        slice_times_s: (Z,), within a frame.
        scan: how it was taken.
        truth: what it shows.
    """

    signal: NDArray[np.float32]
    affine: NDArray[np.float64]
    times_s: NDArray[np.float64]
    slice_times_s: NDArray[np.float64]
    scan: Scan
    truth: DscTruth


def draw_scan(patient: SimulatedPatient, **given: object) -> Scan:
    """How this patient is scanned: TR 1.0 to 2.2 s, TE 25 to 30 ms, SNR 30 to 100.

    The scan ends 45 s to 75 s after contrast comes.

    Args:
        patient: whose random numbers are drawn.
        **given: fields of :class:`Scan` that are not drawn.
    """
    rng = patient.streams.of("dsc scan")
    repetition_s = float(rng.choice([1.0, 1.2, 1.4, 1.5, 1.6, 1.8, 2.0, 2.2]))
    arrival_s, after_s = rng.uniform(9, 15), rng.uniform(*AFTER_S)
    bolus = Bolus(
        arrival_s=round(arrival_s, 2),
        width_s=round(rng.uniform(1.3, 2.0), 2),
        recirculation=round(rng.uniform(0.1, 0.25), 3),
        recirculation_after_s=round(rng.uniform(10, 15), 2),
        steady=round(rng.uniform(0.03, 0.08), 3),
    )
    drawn = Scan(
        repetition_time_s=repetition_s,
        echo_time_s=float(rng.choice([0.025, 0.028, 0.03])),
        frames=int(np.ceil((arrival_s + after_s) / repetition_s)),
        snr=round(float(np.exp(rng.uniform(np.log(30), np.log(100)))), 1),
        bolus=bolus,
        strength=round(rng.uniform(0.8, 1.3), 3),
        interleaved=bool(rng.random() < 0.8),
        motion_mm=round(float(rng.uniform(0.3, 4.0)), 2),
        brighter_start=round(rng.uniform(0.1, 0.3), 2) if rng.random() < 0.3 else 0.0,
    )
    return dataclasses.replace(drawn, **given)  # type: ignore[arg-type]


def acquire_dsc(patient: SimulatedPatient, scan: Scan | None = None) -> DscImages:
    """Take the raw perfusion scan of a patient, on the grid of the patient's Tmax.

    Everything else of the patient stays as it was: the random numbers are the scan's own.

    Args:
        patient: of :func:`data_tools.simulate.simulate_patient`.
        scan: how; None draws it.
    """
    scan = draw_scan(patient) if scan is None else scan
    rng = patient.streams.of("dsc")
    affine, shape = _grid(patient.native.tmax_affine, patient.native.tmax_s.shape, scan)
    fields = _Fields.of(rng, patient, affine, scan)
    slice_times_s = scan.slice_times_s(shape[2])
    poses = _poses(rng, scan, affine, shape)
    to_model = np.linalg.inv(MODEL_AFFINE) @ patient.native_to_mni
    sigma = 0.0 if np.isinf(scan.snr) else LEVEL / scan.snr
    frames, bolus = scan.times_s, _bolus(scan)
    if scan.fault == "truncated":
        frames = frames[frames < bolus.arrival_s + CUT_AFTER_S]
    signal = np.empty((*shape, len(frames)), np.float32)
    where = np.nonzero(_may_hold_head(fields, to_model, affine, shape=shape, poses=poses))
    points = np.stack([*where, np.ones(len(where[0]))]).astype(float)
    taken_s = slice_times_s[where[2]]
    offsets = scan.bolus.offset_s(scan.long_enough_s)
    for k, start_s in enumerate(frames):
        index = (to_model @ np.linalg.inv(poses[k]) @ affine)[:3] @ points
        shown = fields.at(index)
        level = np.zeros(shape, np.float32)
        level[where] = LEVEL * shown["s0"] * _brightness(scan, k)
        if scan.fault != "no_bolus":
            added = _delta_r2(shown, start_s + taken_s, bolus=bolus, offsets=offsets, scan=scan)
            level[where] *= np.exp(-scan.echo_time_s * added)
        real, imaginary = rng.standard_normal((2, *shape), dtype=np.float32) * np.float32(sigma)
        signal[..., k] = np.rint(np.hypot(level + real, imaginary))
    if scan.fault == "shuffled":
        signal = signal[..., rng.permutation(len(frames))]
    truth = _truth(fields.at((to_model @ affine)[:3] @ points), where, shape, offsets=offsets)
    return DscImages(
        signal=signal,
        affine=affine,
        times_s=frames.astype(np.float64),
        slice_times_s=slice_times_s,
        scan=scan,
        truth=DscTruth(**truth, aif=bolus.aif(frames), poses=poses[: len(frames)]),
    )


def _grid(
    affine: NDArray[np.float64], shape: tuple[int, ...], scan: Scan
) -> tuple[NDArray[np.float64], tuple[int, int, int]]:
    """The grid of the scan: the patient's, or with other numbers of voxels over the same place."""
    matrix, slices = scan.matrix or shape[0], scan.slices or shape[2]
    factors = np.array([shape[0] / matrix, shape[1] / matrix, 1])
    change = np.diag([*factors, 1.0])
    change[:2, 3] = (factors[:2] - 1) / 2
    change[2, 3] = (shape[2] - slices) / 2
    return affine @ change, (matrix, matrix, slices)


def _bolus(scan: Scan) -> Bolus:
    """That of the scan, or the one that a fault makes of it."""
    if scan.fault == "late_start":
        return dataclasses.replace(scan.bolus, arrival_s=0.5 * scan.repetition_time_s)
    return scan.bolus


def _brightness(scan: Scan, frame: int) -> float:
    return 1 + scan.brighter_start * {0: 1.0, 1: 0.5}.get(frame, 0.0)


@dataclasses.dataclass(frozen=True)
class _Fields:
    """What the head is like on the model grid, as voxels of this size see it.

    Attributes:
        names: of the columns.
        values: float32 (voxels of the model grid, names).
    """

    names: tuple[str, ...]
    values: NDArray[np.float32]

    @classmethod
    def of(
        cls, rng: np.random.Generator, patient: SimulatedPatient, affine: NDArray, scan: Scan
    ) -> "_Fields":
        head, lesion, scanner = patient.anatomy, patient.lesion, patient.look.scanner
        vessels = make_vessels(rng, head, lesion.tmax_s)
        found = _tissue(head, lesion.tmax_s, lesion.core, rng=rng, vessels=vessels)
        if scan.fault == "metal":
            away = (head.template_mm - np.reshape(VOID_AT_MM, (3, 1, 1, 1))) ** 2
            found["s0"] *= away.sum(axis=0) > VOID_RADIUS_MM**2
        (found["s0"],) = signals.distort((found["s0"], found["s0"]), head, scanner)[:1]
        for name in found.keys() - {"s0"}:
            (_, found[name]) = signals.distort((found[name], found[name]), head, scanner)
        # A voxel of size d sees a box, of SD d / sqrt(12) along each axis. One that saw a point
        # would make detail between voxels come and go, and not move, as the head moves.
        sizes_mm = np.linalg.norm(affine[:3, :3], axis=0) * NATIVE_TO_MNI_SCALE
        sd_voxels = sizes_mm / VOXEL_MM / np.sqrt(12)
        names = tuple(found)
        values = np.empty((np.prod(MODEL_SHAPE), len(names)), np.float32)
        for column, name in enumerate(names):
            values[:, column] = ndimage.gaussian_filter(found[name], sd_voxels).ravel()
        return cls(names, values)

    def at(self, index: NDArray[np.float64]) -> dict[str, NDArray[np.float32]]:
        """Every field at places of the model grid, [3, n], linear between voxels; 0 outside."""
        total = np.empty((index.shape[1], len(self.names)), np.float32)
        for start in range(0, len(total), CHUNK):
            part = slice(start, start + CHUNK)
            total[part] = self._at(index[:, part])
        return dict(zip(self.names, np.ascontiguousarray(total.T), strict=True))

    def _at(self, index: NDArray[np.float64]) -> NDArray[np.float32]:
        low = np.floor(index).astype(np.int64)
        share = (index - low).astype(np.float32)
        inside = ((low >= 0) & (low < np.reshape(MODEL_SHAPE, (3, 1)) - 1)).all(axis=0)
        strides = (MODEL_SHAPE[1] * MODEL_SHAPE[2], MODEL_SHAPE[2], 1)
        start = np.where(inside, np.array(strides) @ low, 0)
        total = np.zeros((index.shape[1], len(self.names)), np.float32)
        along = np.stack([1 - share, share])
        for i, j, k in np.ndindex(2, 2, 2):
            weight = inside * along[i, 0] * along[j, 1] * along[k, 2]
            total += weight[:, None] * self.values[start + np.dot((i, j, k), strides)]
        return total


def _tissue(
    head: Anatomy, tmax_s: NDArray, core: NDArray, *, rng: np.random.Generator, vessels: Vessels
) -> dict[str, NDArray[np.float32]]:
    """Signal, blood and times on the model grid, not yet blurred by voxels."""
    dead = ndimage.gaussian_filter(core.astype(np.float32), 0.5)
    s0 = GREY_S0 * head.grey + WHITE_S0 * head.white + CSF_S0 * head.csf + SCALP_S0 * head.scalp
    s0 *= 1 + 0.06 * head.field(rng, 7.0) + 0.05 * head.field(rng, 45.0)
    blood = vessels.artery + vessels.late_artery + vessels.vein
    s0 = np.maximum(s0, BLOOD_S0 * np.minimum(blood / 100, 1))
    cbv = GREY_CBV * head.grey + WHITE_CBV * head.white
    cbv *= np.clip(1 + 0.12 * head.field(rng, 10.0), 0.6, 1.4)
    cbv *= 1 - (1 - CORE_CBV_SHARE) * dead
    mtt_s = MTT_S + WHITE_MORE_S * head.white + CORE_MORE_S * dead
    mtt_s = mtt_s + MTT_PER_TMAX * np.maximum(tmax_s - MTT_LATE_FROM_S, 0)
    return {
        "s0": s0.astype(np.float32),
        "brain": head.brain,
        "cbv": cbv.astype(np.float32),
        "mtt": np.minimum(mtt_s, MTT_MAX_S).astype(np.float32),
        "tmax": tmax_s,
        "artery": vessels.artery,
        "late_artery": vessels.late_artery,
        "vein": vessels.vein,
    }


def _delta_r2(
    shown: dict[str, NDArray[np.float32]],
    times_s: NDArray[np.float64],
    *,
    bolus: Bolus,
    offsets: NDArray[np.float64],
    scan: Scan,
) -> NDArray[np.float32]:
    """Delta R2* in 1/s of voxels, each at its own time."""
    added = _contrast(shown, times_s, bolus, offsets)
    if scan.fault == "earlier_contrast":
        added += EARLIER_SHARE * _contrast(shown, times_s + EARLIER_S, bolus, offsets)
    return np.float32(scan.strength) * added


def _contrast(
    shown: dict[str, NDArray[np.float32]],
    times_s: NDArray[np.float64],
    bolus: Bolus,
    offsets: NDArray[np.float64],
) -> NDArray[np.float32]:
    unit = GREY_PEAK_PER_S / GREY_CBV / _peak_of_tissue(bolus)
    added = unit * shown["cbv"] * bolus.answer_at(times_s - _delay_s(shown, offsets), shown["mtt"])
    added += shown["artery"] * bolus.input_at(times_s)
    some = np.flatnonzero(shown["late_artery"] > 0)
    late_s = shown["tmax"][some] - np.interp(MTT_S, OFFSET_AT_S, offsets) - LATE_ARTERY_BEFORE_S
    added[some] += shown["late_artery"][some] * bolus.answer_at(
        times_s[some] - np.maximum(late_s, 0), LATE_ARTERY_SPREAD_S
    )
    some = np.flatnonzero(shown["vein"] > 0)
    added[some] += shown["vein"][some] * bolus.answer_at(
        times_s[some] - VEIN_DELAY_S, VEIN_SPREAD_S
    )
    return added.astype(np.float32)


def _peak_of_tissue(bolus: Bolus) -> float:
    """Height of the answer of healthy tissue, by which concentrations are scaled."""
    times_s = bolus.arrival_s + np.arange(0, 30, 0.1)
    return float(bolus.answer_at(times_s, MTT_S).max())


def _delay_s(
    shown: dict[str, NDArray[np.float32]], offsets: NDArray[np.float64]
) -> NDArray[np.float32]:
    return (shown["tmax"] - np.interp(shown["mtt"], OFFSET_AT_S, offsets)).astype(np.float32)


def _truth(
    shown: dict[str, NDArray[np.float32]],
    where: tuple[NDArray[np.intp], ...],
    shape: tuple[int, int, int],
    *,
    offsets: NDArray[np.float64],
) -> dict[str, NDArray]:
    brain = shown["brain"] > 0.5
    least = VESSEL_SHARE * GREY_PEAK_PER_S
    by_kind = np.stack([shown[name] for name in ("artery", "late_artery", "vein")])
    kinds = np.array([ARTERY, LATE_ARTERY, VEIN])[by_kind.argmax(axis=0)]
    values = {
        "tmax_s": shown["tmax"] * brain,
        "delay_s": _delay_s(shown, offsets) * brain,
        "mtt_s": shown["mtt"] * brain,
        "cbv_ml_per_100g": shown["cbv"] * brain,
        "brain": brain,
        "vessels": np.where(by_kind.max(axis=0) >= least, kinds, 0).astype(np.uint8),
    }
    whole = {}
    for name, value in values.items():
        whole[name] = np.zeros(shape, value.dtype)
        whole[name][where] = value
    return whole


def _may_hold_head(
    fields: _Fields, to_model: NDArray, affine: NDArray, *, shape: tuple, poses: NDArray
) -> NDArray[np.bool_]:
    """Voxels of the scan that show some of the head at any frame."""
    index = np.indices(shape).reshape(3, -1)
    points = np.concatenate([index, np.ones((1, index.shape[1]))])
    seen = np.zeros(index.shape[1], bool)
    for pose in np.unique(poses[:: max(len(poses) // 8, 1)].round(6), axis=0):
        shown = fields.at((to_model @ np.linalg.inv(pose) @ affine)[:3] @ points)
        seen |= (shown["s0"] > 0) | (shown["brain"] > 0)
    return ndimage.binary_dilation(seen.reshape(shape), iterations=2)


def _poses(
    rng: np.random.Generator, scan: Scan, affine: NDArray, shape: tuple[int, int, int]
) -> NDArray[np.float64]:
    """Where the head lies at each frame: it drifts, and turns twice at once. [T, 4, 4], mm."""
    steps = rng.normal(0, 1, (scan.frames, 6))
    for frame in rng.integers(1, scan.frames, 2):
        steps[frame] += rng.normal(0, 8, 6)
    steps[0] = 0
    drift = np.cumsum(steps, axis=0) * (1, 1, 1, 0.6, 0.4, 0.4)
    drift -= drift[min(REST_FRAME, scan.frames - 1)]
    centre_mm = (affine @ [*((np.array(shape) - 1) / 2), 1])[:3]

    def moved(share: float) -> NDArray[np.float64]:
        return np.stack([rigid.pose(share * each, centre_mm) for each in drift])

    little = 1e-3
    largest_mm = float(rigid.apart_mm(moved(little), np.eye(4), centre_mm).max())
    poses = moved(scan.motion_mm / largest_mm * little if scan.motion_mm else 0.0)
    if scan.fault == "jump":
        peak_s = scan.bolus.arrival_s + 3 * scan.bolus.width_s
        poses[scan.times_s >= peak_s, 1, 3] += JUMP_MM
    return poses

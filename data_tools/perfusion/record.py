"""What is measured of a patient's perfusion scan: ``qc.json``, and the sidecars of the maps.

Tmax is a matter of convention. What made it is named wherever it goes.
"""

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from data_tools import file_names
from data_tools.perfusion.examination import Examination
from data_tools.perfusion.maps import VOLUMES_AT_S
from data_tools.perfusion.series import Series
from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError

QUALITY = "qc.json"
GENERATED_BY = "data_tools.perfusion"
# Raised when what is computed from the same files changes, so that old maps are not kept.
PERFUSION_VERSION = 2
NOT_EQUIVALENT = "not RAPID-equivalent until calibrated"
NOTICE = "Research use only. Not a medical device; not for clinical decisions."
# As people write them.
METHOD_NAMES = {"csvd": "cSVD", "osvd": "oSVD", "tikhonov": "Tikhonov"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convention:
    """What decides about Tmax besides the patient.

    Attributes:
        version: of this program's computation of maps.
        deconvolution: ``csvd``, ``osvd`` or ``tikhonov``.
        threshold: of the deconvolution.
        tr_s: from frame to frame.
        te_s: echo time.
        arterial_input: ``automatic``, ``region`` or ``voxel``.
        smoothing_sd_voxels: within a slice.
        motion_corrected: over time.
    """

    version: int
    deconvolution: str
    threshold: float
    tr_s: float
    te_s: float
    arterial_input: str
    smoothing_sd_voxels: float
    motion_corrected: bool

    def in_words(self) -> str:
        """For tables and titles.

        >>> Convention(version=1, deconvolution="csvd", threshold=0.1, tr_s=1.5, te_s=0.03,
        ...            arterial_input="automatic", smoothing_sd_voxels=0.7,
        ...            motion_corrected=True).in_words()
        'cSVD, threshold 0.1, TR 1.5 s, AIF automatic'
        """
        return (
            f"{METHOD_NAMES.get(self.deconvolution, self.deconvolution)}, threshold "
            f"{self.threshold:g}, TR {self.tr_s:.3g} s, AIF {self.arterial_input}"
        )

    def to_sidecar(self) -> dict[str, Any]:
        """As BIDS writes names in the ``.json`` beside a map."""
        return {
            "GeneratedBy": {"Name": GENERATED_BY, "Version": str(self.version)},
            "Deconvolution": self.deconvolution,
            "DeconvolutionThreshold": self.threshold,
            "RepetitionTime": self.tr_s,
            "EchoTime": self.te_s,
            "ArterialInput": self.arterial_input,
            "SmoothingSDVoxels": self.smoothing_sd_voxels,
            "MotionCorrection": self.motion_corrected,
            "Equivalence": NOT_EQUIVALENT,
            "Notice": NOTICE,
        }


def convention_of(image: Path) -> Convention | None:
    """What made a map, by the ``.json`` beside it; None of a map of another program.

    Args:
        image: such as ``sub-0001_Tmax.nii.gz``.
    """
    try:
        known = file_names.sidecar(image)
        if known["GeneratedBy"]["Name"] != GENERATED_BY:
            return None
        return Convention(
            version=int(known["GeneratedBy"]["Version"]),
            deconvolution=str(known["Deconvolution"]),
            threshold=float(known["DeconvolutionThreshold"]),
            tr_s=float(known["RepetitionTime"]),
            te_s=float(known["EchoTime"]),
            arterial_input=str(known["ArterialInput"]),
            smoothing_sd_voxels=float(known["SmoothingSDVoxels"]),
            motion_corrected=bool(known["MotionCorrection"]),
        )
    except (InputError, KeyError, TypeError, ValueError):
        return None


def equivalence(threshold_s: float | None) -> str:
    """What maps of this program are worth beside a commercial one's.

    Args:
        threshold_s: of the site's calibration; None without one.
    """
    if threshold_s is None:
        return NOT_EQUIVALENT
    return f"calibrated, hypoperfusion from {threshold_s:g} s on"


def check_version(image: Path | None) -> None:
    """Refuse a map that an earlier or later version of this program made.

    Args:
        image: None, and a map of another program, pass.

    Raises:
        InputError: naming the map.
    """
    made_by = None if image is None else convention_of(image)
    if made_by is not None and made_by.version != PERFUSION_VERSION:
        raise InputError(
            f"{image}: made by version {made_by.version} of {GENERATED_BY}, and this is version "
            f"{PERFUSION_VERSION}, whose maps differ; run python -m {GENERATED_BY} again"
        )


def of_map(image: Path | None) -> "PerfusionQuality | None":
    """The figures of the scan of which this program made a map; None of any other map.

    Args:
        image: ``.../sub-0001/perf/sub-0001_Tmax.nii.gz``.
    """
    if image is None or convention_of(image) is None:
        return None
    content = atomic.read_json(image.parent.parent / QUALITY)
    with contextlib.suppress(KeyError, TypeError):
        return PerfusionQuality.from_json(content)
    return None


@dataclasses.dataclass(frozen=True, kw_only=True)
class PerfusionQuality:
    """The figures of one patient's perfusion scan.

    Attributes:
        participant_id: ``sub-0001``.
        verdict: poor where there is a warning.
        warnings: what a person should look at.
        notes: what was decided about the files.
        convention: what made Tmax.
        equivalence: that it is not that of a commercial program, or by what it was calibrated.
        tmax_volumes_ml: at Tmax >= 4, 6, 8 and 10 s, by the number of seconds.
        site_threshold_s: from which on Tmax is hypoperfusion by the site's calibration; None
            without one.
        site_volume_ml: at Tmax of that and more.
        intensity_ratio: HIR, volume at 10 s / at 6 s; None where there is none at 6 s.
        relative_ttp_ml: TTP over 4.5 s later than the healthier half's median; beside 6 s of Tmax.
        healthy_tmax_s: median of the healthier half.
        early_share: of the brain, Tmax below -0.5 s.
        brain_ml: where the maps hold something.
        frames: of the series.
        baseline_frames: before the bolus.
        arrival_s: of the bolus.
        drop_share: of the brain's mean signal, at the peak.
        aif_voxels: indices in the file from 0, the earliest first.
        aif_arrival_s: median of the voxels, after the first frame.
        aif_peak_s: likewise.
        aif_width_s: likewise, at half of the height.
        aif_per_s: the curve, one value for each frame.
        largest_motion_mm: of points 50 mm from the middle; None where motion was not corrected.
        seconds: that it took.
        peak_memory_mb: that it held.
        fingerprint: checksum of the files and settings it was made of.
        inputs: checksum of the files alone; empty in what earlier versions wrote.
        settings: the flags it was made with; empty for the usual ones.
        files: checksum of each file that was written.
        notice: that it is research software.
    """

    participant_id: str
    verdict: Literal["good", "poor"]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    convention: Convention
    equivalence: str = NOT_EQUIVALENT
    tmax_volumes_ml: Mapping[str, float]
    site_threshold_s: float | None = None
    site_volume_ml: float | None = None
    intensity_ratio: float | None
    relative_ttp_ml: float
    healthy_tmax_s: float
    early_share: float
    brain_ml: float
    frames: int
    baseline_frames: int
    arrival_s: float
    drop_share: float
    aif_voxels: tuple[tuple[int, ...], ...]
    aif_arrival_s: float
    aif_peak_s: float
    aif_width_s: float
    aif_per_s: tuple[float, ...]
    largest_motion_mm: float | None
    seconds: float
    peak_memory_mb: int
    fingerprint: str
    inputs: str = ""
    settings: str = ""
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notice: str = NOTICE

    def to_json(self) -> dict[str, Any]:
        """What ``qc.json`` holds."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "PerfusionQuality":
        """Read what :meth:`to_json` wrote; keys of later versions are left out.

        Of what earlier versions wrote, keys with a default may be missing.

        Args:
            content: of ``qc.json``.

        Raises:
            KeyError, TypeError: it is not such a content.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        known = {name: content[name] for name in names if name in content}
        for name in ("warnings", "notes", "aif_per_s"):
            known[name] = tuple(known[name])
        known["aif_voxels"] = tuple(map(tuple, known["aif_voxels"]))
        return cls(**known | {"convention": Convention(**known["convention"])})


def measured(
    participant: str,
    series: Series,
    examined: Examination,
    *,
    voxel_ml: float,
    fingerprint: str,
    inputs: str,
    settings: str,
    seconds: float,
    peak_memory_mb: int,
) -> PerfusionQuality:
    """The figures of an examination, rounded for people.

    Args:
        participant: name.
        series: that was examined.
        examined: what came of it.
        voxel_ml: of the series.
        fingerprint: checksum of files and settings.
        inputs: checksum of the files alone.
        settings: the flags that were given.
        seconds: that it took.
        peak_memory_mb: that it held.
    """
    warnings = (*series.warnings, *examined.warnings)
    bolus, artery, motion = examined.bolus, examined.arterial_input, examined.motion
    shapes = artery.shapes
    return PerfusionQuality(
        participant_id=participant,
        verdict="poor" if warnings else "good",
        warnings=warnings,
        notes=series.notes,
        convention=Convention(
            version=PERFUSION_VERSION,
            deconvolution=examined.method.deconvolution,
            threshold=examined.threshold,
            tr_s=round(examined.tr_s, 6),
            te_s=series.echo_time_s,
            arterial_input=artery.how,
            smoothing_sd_voxels=examined.method.smoothing_sd_voxels,
            motion_corrected=motion is not None,
        ),
        tmax_volumes_ml={f"{at:g}": round(examined.volumes_ml[at], 2) for at in VOLUMES_AT_S},
        intensity_ratio=_rounded(examined.intensity_ratio, 3),
        relative_ttp_ml=round(examined.check.relative_ttp_ml, 2),
        healthy_tmax_s=round(examined.check.healthy_tmax_s, 2),
        early_share=round(examined.check.early_share, 4),
        brain_ml=round(float(examined.brain.sum() * voxel_ml), 1),
        frames=series.signal.shape[3],
        baseline_frames=bolus.baseline_frames.stop - bolus.baseline_frames.start,
        arrival_s=round(bolus.arrival_s, 2),
        drop_share=round(bolus.drop_share, 4),
        aif_voxels=tuple(
            tuple(map(int, voxel)) for voxel in artery.voxels[:, np.argsort(series.axes)]
        ),
        aif_arrival_s=_median(shapes.arrival_s),
        aif_peak_s=_median(shapes.peak_s),
        aif_width_s=_median(shapes.width_s),
        aif_per_s=tuple(round(float(value), 3) for value in artery.curve),
        largest_motion_mm=None if motion is None else _rounded(motion.displacement_mm.max(), 2),
        seconds=round(seconds, 1),
        peak_memory_mb=peak_memory_mb,
        fingerprint=fingerprint,
        inputs=inputs,
        settings=settings,
    )


def _median(values: NDArray[np.float64]) -> float:
    return round(float(np.median(values)), 2)


def _rounded(value: Any, digits: int) -> float | None:
    return None if value is None else round(float(value), digits)

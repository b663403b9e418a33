"""One patient's raw perfusion series -> maps, sidecars, ``qc.json`` and ``qc.png`` on disk.

``qc.json`` is written last and holds a checksum of all input and of every file: whoever has it is
done. Maps of another program, and ours that a person changed, are never replaced unasked.
"""

import contextlib
import dataclasses
import hashlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools.cohort import PerfusionFiles, find_perfusion_files, perfusion_folder
from data_tools.dicom.dynamic import NoScanOverTime
from data_tools.perfusion import picture, record
from data_tools.perfusion.examination import Method, examine
from data_tools.perfusion.maps import cleaned_ml
from data_tools.perfusion.record import PerfusionQuality, convention_of
from data_tools.perfusion.series import Series, load_series
from data_tools.runtime import atomic, peak_memory
from data_tools.runtime.errors import InputError
from data_tools.volumes import Volume, apart_mm, load_mask, load_volume, save_volume

# Name in the file, field of Maps, unit and what it is, as BIDS has them.
MAPS = (
    ("CBF", "cbf", "mL/100 mL/min", "Cerebral blood flow by the scale of the arterial input"),
    ("CBV", "cbv", "mL/100 mL", "Cerebral blood volume by the scale of the arterial input"),
    ("MTT", "mtt_s", "s", "Mean transit time, CBV / CBF"),
    ("TTP", "ttp_s", "s", "Time from the first frame to the peak of concentration"),
    ("Tmax", "tmax_s", "s", "Time to maximum of the residue function"),
)
PICTURE = "qc.png"
KEPT = "The maps of an earlier run were kept"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What a person says of series, and how maps are made.

    Attributes:
        tr_s: TR where the file says none or a wrong one.
        te_s: TE, the same.
        series: of DICOM files: which one.
        voxel: of the artery, indices from 0.
        method: how.
    """

    tr_s: float | None = None
    te_s: float | None = None
    series: str | None = None
    voxel: tuple[int, int, int] | None = None
    method: Method = dataclasses.field(default_factory=Method)

    def in_flags(self) -> str:
        """As a person gives them to the command; empty for the usual ones.

        >>> Options(te_s=0.03, method=Method(motion=False)).in_flags()
        '--te_s=0.03 --nomotion_correction'
        """
        voxel = None if self.voxel is None else ",".join(map(str, self.voxel))
        usual = self.method.deconvolution == Method().deconvolution
        given = {
            "tr_s": self.tr_s,
            "te_s": self.te_s,
            "dicom_series": self.series,
            "aif": voxel,
            "method": None if usual else self.method.deconvolution,
            "threshold": self.method.threshold,
        }
        words = [f"--{name}={value}" for name, value in given.items() if value is not None]
        return " ".join(words if self.method.motion else [*words, "--nomotion_correction"])


@dataclasses.dataclass(frozen=True)
class Made:
    """A patient with maps.

    Attributes:
        quality: contents of its qc.json.
        kept: whether it was done before, with the same files and settings.
    """

    quality: PerfusionQuality
    kept: bool


def make_maps(
    participant: str,
    files: PerfusionFiles,
    folder: Path,
    *,
    maps_folder: Path | None = None,
    options: Options | None = None,
    overwrite: bool = False,
) -> Made:
    """Examine a series and write its maps; what was done before with the same input is kept.

    Args:
        participant: name of the files.
        files: the series, and a mask of its artery.
        folder: for qc.json and qc.png.
        maps_folder: for the maps; None takes ``perf`` in ``folder``.
        options: None takes the usual ones.
        overwrite: do it again, and replace maps of ours that a person changed.

    Raises:
        NoScanOverTime: a folder of DICOM files holds no perfusion series.
        InputError: the series cannot be used; maps that would be replaced are not ours, or were
            changed.
    """
    options = options or Options()
    maps_folder = maps_folder or folder / "perf"
    fingerprint = _fingerprint(files, options)
    if not overwrite:
        before = _done_before(folder, maps_folder, fingerprint)
        if before is not None:
            return Made(before, kept=True)
    check_own(participant, folder, maps_folder, overwrite=overwrite)
    for place in (folder, maps_folder):
        atomic.check_writable(place)
    began = time.monotonic()
    peak_memory.reset()
    series = load_series(files.series, tr_s=options.tr_s, te_s=options.te_s, series=options.series)
    artery = options.voxel if files.artery is None else _region(files.artery, series)
    try:
        examined = examine(series, options.method, artery=artery)
    except InputError as error:
        raise series.noticed(InputError(f"{series.label}: {error}")) from error
    quality = record.measured(
        participant,
        series,
        examined,
        voxel_ml=Volume(examined.maps.tmax_s, series.affine).voxel_ml,
        fingerprint=fingerprint,
        inputs=_inputs(files),
        settings=options.in_flags(),
        seconds=time.monotonic() - began,
        peak_memory_mb=peak_memory.read_mb(),
    )
    drawn = picture.draw(series, examined, quality)
    (folder / record.QUALITY).unlink(missing_ok=True)
    written: list[Path] = []
    try:
        for name, field, unit, what in MAPS:
            image = _map_path(maps_folder, participant, name)
            about = {"Units": unit, "Description": what} | quality.convention.to_sidecar()
            # First what says that the map is ours, for a run that is killed in between: never
            # beside an older map, which may have been made in another way.
            image.unlink(missing_ok=True)
            written += [image, _sidecar_path(image)]
            atomic.write_json(_sidecar_path(image), about)
            note = f"{participant} {name}, {record.NOT_EQUIVALENT}"
            stored = series.as_stored(getattr(examined.maps, field))
            save_volume(image, stored, series.stored_affine, note)
        written.append(folder / PICTURE)
        atomic.write_bytes(folder / PICTURE, drawn)
        sums = {path.name: atomic.sha256(path) for path in written}
        quality = dataclasses.replace(quality, files=sums)
        atomic.write_json(folder / record.QUALITY, quality.to_json())
    except OSError:  # a full disk: no half patient
        for path in written:
            path.unlink(missing_ok=True)
        raise
    return Made(quality, kept=False)


def count_at(made: Made, folder: Path, threshold_s: float | None) -> Made:
    """Say in ``qc.json`` how much is late by a site's own threshold, without making maps again.

    Args:
        made: of :func:`make_maps`.
        folder: of qc.json; the maps are in ``perf``.
        threshold_s: of the site's calibration; None takes away what an earlier one said.
    """
    quality = made.quality
    if threshold_s == quality.site_threshold_s:
        return made
    volume_ml = None
    if threshold_s is not None:
        tmax = load_volume(_map_path(folder / "perf", quality.participant_id, "Tmax"), "Tmax")
        volume_ml = round(cleaned_ml(tmax.data >= threshold_s, tmax.voxel_ml), 2)
    quality = dataclasses.replace(
        quality,
        equivalence=record.equivalence(threshold_s),
        site_threshold_s=threshold_s,
        site_volume_ml=volume_ml,
    )
    atomic.write_json(folder / record.QUALITY, quality.to_json())
    return Made(quality, kept=made.kept)


def check_own(
    participant: str, folder: Path, maps_folder: Path, *, overwrite: bool = False
) -> None:
    """Refuse to replace a map of another program or patient, or one that a person changed since.

    Args:
        participant: name of the files.
        folder: of qc.json.
        maps_folder: of the maps.
        overwrite: changed ones may be replaced.

    Raises:
        InputError: naming the files.
    """
    known = atomic.read_json(folder / record.QUALITY)
    sums = known.get("files")
    sums = sums if isinstance(sums, dict) else {}
    other = known.get("participant_id", participant)
    if other != participant:
        raise InputError(
            f"{folder}: holds the maps of {other}; expected a folder of its own for {participant}. "
            "Choose another --out, or give the same --participant"
        )
    there = [
        path for name, *_ in MAPS if (path := _map_path(maps_folder, participant, name)).is_file()
    ]
    foreign = [path.name for path in there if convention_of(path) is None]
    if foreign:
        raise InputError(
            f"{maps_folder}: not written by this program, and never replaced by it: "
            f"{', '.join(foreign)}. Choose another --out, or move them away"
        )
    changed = [path.name for path in there if sums and sums.get(path.name) != atomic.sha256(path)]
    if changed and not overwrite:
        raise InputError(
            f"{maps_folder}: changed since this program wrote them: {', '.join(changed)}. Move "
            "them away, or give --overwrite"
        )


def settle_older(
    participant: str, files: PerfusionFiles | None, folder: Path, options: Options
) -> str:
    """Remove older maps of ours if they are of other files than those that cannot be used now.

    Maps of the same files are good: this time a flag was forgotten or wrong, not the series.

    Args:
        participant: name of the files.
        files: the series and the mask of its artery; None if they cannot be found.
        folder: of qc.json; the maps are in ``perf``.
        options: that failed.

    Returns:
        What to say of maps that were kept; empty where there are none of ours.
    """
    known = atomic.read_json(folder / record.QUALITY)
    maps_folder = folder / "perf"
    images = [_map_path(maps_folder, participant, name) for name, *_ in MAPS]
    ours = [image for image in images if image.is_file()]
    if not ours and not known:
        return ""
    try:
        check_own(participant, folder, maps_folder)
        inputs = "" if files is None else _inputs(files)
    except InputError:
        return ""
    except OSError:  # a network that is away for a while, for instance
        return f"{KEPT}: whether the series has changed cannot be seen now."
    if inputs and inputs == known.get("inputs"):
        return kept_in_words(known, options)
    for path in (*ours, *map(_sidecar_path, ours), folder / record.QUALITY, folder / PICTURE):
        path.unlink(missing_ok=True)
    return ""


def kept_in_words(known: Mapping[str, Any], options: Options) -> str:
    """That older maps are still there, and of which settings they are.

    Args:
        known: content of their qc.json.
        options: that failed.
    """
    before = str(known.get("settings", ""))
    if before == options.in_flags():
        return f"{KEPT}."
    return f"{KEPT}. They were made with other settings: {before or 'the usual ones'}."


def check_current(cohort: str | os.PathLike, participant: str, tmax: Path | None) -> None:
    """Refuse a Tmax map of ours that is of another version, or whose series has changed since.

    A series that is no longer there says nothing against its map.

    Args:
        cohort: folder of the raw cohort.
        participant: ``sub-0001``.
        tmax: None, and a map of another program, pass.

    Raises:
        InputError: naming the map.
    """
    record.check_version(tmax)
    known = record.of_map(tmax)
    if known is None or not known.inputs:
        return
    files, faults = find_perfusion_files(cohort, participant)
    if faults:
        raise InputError("\n".join(fault.what for fault in faults))
    if files is None or _inputs(files) == known.inputs:
        return
    if files.series.is_dir():  # which may be that of the DWI alone
        try:
            load_series(files.series)
        except NoScanOverTime:
            return
        except InputError:
            pass
    flags = f" {known.settings}" if known.settings else ""
    raise InputError(
        f"{tmax}: the series or the arterial mask has changed since this map was made; run python "
        f"-m {record.GENERATED_BY}{flags} again, or remove the map"
    )


def _region(path: Path, series: Series) -> NDArray[np.bool_]:
    """A mask of the artery, on the grid of the series' file."""
    label = f"arterial mask {path}"
    if path.is_dir():
        raise InputError(f"{label}: is a folder; expected the file of a mask")
    mask = load_mask(path, "arterial mask")
    there = Volume(series.as_stored(series.signal[..., 0]), series.stored_affine)
    expected = "expected a mask drawn on the series itself"
    if mask.data.shape != there.data.shape:
        raise InputError(
            f"{label}: has {' x '.join(map(str, mask.data.shape))} voxels, and {series.label} "
            f"{' x '.join(map(str, there.data.shape))}; {expected}"
        )
    if not mask.same_grid(there):
        far_mm = apart_mm(mask.affine, there.affine, there.data.shape)
        raise InputError(
            f"{label}: has as many voxels as {series.label}, and lies up to {far_mm:.3g} mm away "
            f"from it by its header; {expected}"
        )
    if not (mask.data > 0).any():
        raise InputError(f"{label}: is empty; mark at least one voxel of an artery")
    return mask.data > 0


def _inputs(files: PerfusionFiles) -> str:
    """Checksum of what files hold, whatever they are called.

    Raises:
        OSError: one cannot be read.
    """
    digest = hashlib.sha256()
    for path in files.existing():
        digest.update(bytes.fromhex(atomic.sha256(path)))
    return digest.hexdigest()


def _fingerprint(files: PerfusionFiles, options: Options) -> str:
    digest = hashlib.sha256(f"{record.PERFUSION_VERSION} {options}".encode())
    for path in files.existing():
        digest.update(path.name.encode())
        if path.is_file():  # else its reader says what is wrong
            digest.update(bytes.fromhex(atomic.sha256(path)))
    return digest.hexdigest()


def _done_before(folder: Path, maps_folder: Path, fingerprint: str) -> PerfusionQuality | None:
    """What an earlier run says, if it had the same input and its files are as it wrote them."""
    known = atomic.read_json(folder / record.QUALITY)
    if known.get("fingerprint") != fingerprint:
        return None
    with contextlib.suppress(KeyError, TypeError, ValueError, OSError):
        done = PerfusionQuality.from_json(known)
        places = {name: folder if name == PICTURE else maps_folder for name in done.files}
        if all(atomic.sha256(places[name] / name) == s for name, s in done.files.items()):
            return done
    return None


def tmax_path(cohort: str, participant: str) -> Path:
    """Where a patient's Tmax map of this program lies in ``derivatives/perfusion``."""
    return _map_path(perfusion_folder(cohort, participant) / "perf", participant, "Tmax")


def _map_path(folder: Path, participant: str, name: str) -> Path:
    return folder / f"{participant}_{name}.nii.gz"


def _sidecar_path(image: Path) -> Path:
    return image.with_name(image.name.removesuffix(".nii.gz") + ".json")

"""Our Tmax maps beside a site's reference -> the site's threshold, as files.

The reference of a patient is, anywhere below its folder, one of

    sub-*_Tmax.nii.gz                        s; at >= 6 s, cleaned as labels are
    sub-*_desc-hypoperfusion_mask.nii.gz     0 and 1
    volumes.tsv                              participant_id, hypoperfusion_ml and perhaps core_ml

and its core a ``sub-*_desc-core_mask.nii.gz`` there or in the cohort's ``derivatives/masks``.
"""

import dataclasses
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools import file_names, labels, text_table
from data_tools.cohort import PERFUSION
from data_tools.grid import TMAX_HYPOPERFUSION_S
from data_tools.perfusion import calibration_picture, threshold_fit
from data_tools.perfusion.record import METHOD_NAMES, NOTICE, Convention, convention_of
from data_tools.perfusion.threshold_fit import By, Calibration, Pair, pair_of
from data_tools.plausibility import check_tmax_seconds
from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError
from data_tools.transform import resample
from data_tools.volumes import Volume, load_mask, load_volume

RESULT, TABLE, PICTURE = "calibration.json", "calibration.csv", "calibration.png"
VOLUMES = "volumes.tsv"
VOLUME_COLUMNS = ("participant_id", "hypoperfusion_ml", "core_ml")
TMAX, MASK, CORE = "_tmax", "_desc-hypoperfusion_mask", "_desc-core_mask"
# Of our brain, in the reference's field of view: less is another patient or another place.
LEAST_SHARE = 0.3
# What makes two Tmax maps of ours comparable; TR and AIF differ from patient to patient.
ALIKE = ("version", "deconvolution", "threshold", "smoothing_sd_voxels")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibrated:
    """A calibration and of whom it was made.

    Attributes:
        result: the threshold, and what it is worth.
        convention: what our maps have in common.
        left_out: reason by patient, of those with maps of ours.
    """

    result: Calibration
    convention: dict[str, Any]
    left_out: dict[str, str]


def calibrate(
    cohort: str | os.PathLike,
    reference_dir: str | os.PathLike,
    out: str | os.PathLike,
    *,
    by: By = "volume",
) -> Calibrated:
    """Fit the threshold and write calibration.json, calibration.csv and calibration.png.

    A patient whose reference cannot be used is left out with the reason, and stops no other.

    Args:
        cohort: folder with ``derivatives/perfusion`` of this program.
        reference_dir: folder of the reference.
        out: folder of the three files, ``cohort/derivatives/perfusion`` for labels to find them.
        by: ``volume`` or ``dice``.

    Raises:
        InputError: no maps of ours, or of several methods; no reference; too few of both.
    """
    root, reference = Path(cohort), Path(reference_dir)
    check_reference(reference)
    ours = _ours(root)
    convention = _common(ours)
    table = _volumes(reference)
    theirs, cores = _images(reference), _images(root / "derivatives" / "masks")
    pairs, left_out = [], {}
    for participant, path in ours.items():
        try:
            own = [image for image in theirs if image.name.startswith(f"{participant}_")]
            core = [image for image in cores if image.name.startswith(f"{participant}_")]
            pairs.append(_pair(participant, path, own, core=core, said=table.get(participant)))
        except InputError as error:
            left_out[participant] = str(error)
    try:
        result = threshold_fit.fit(pairs, by)
    except InputError as error:
        reasons = "".join(f"\n  {name}: {why}" for name, why in left_out.items())
        raise InputError(f"{reference}: {error}{reasons}") from error
    found = Calibrated(result=result, convention=convention, left_out=left_out)
    folder = Path(out)
    atomic.write_csv(folder / TABLE, result.rows())
    atomic.write_bytes(folder / PICTURE, calibration_picture.draw(result))
    content = result.to_json() | {
        "convention": convention,
        "reference": str(reference.resolve()),
        "left_out_patients": left_out,
        "notice": NOTICE,
    }
    atomic.write_json(folder / RESULT, content)
    return found


def check_reference(folder: str | os.PathLike) -> None:
    """Refuse what is no folder of reference maps.

    Raises:
        InputError: it is not there, or a file.
    """
    if not Path(folder).is_dir():
        what = "is a file" if Path(folder).exists() else "no such folder"
        raise InputError(
            f"--calibrate={folder}: {what}; expected the folder with another program's maps"
        )


def threshold_s(folder: str | os.PathLike, convention: Convention) -> float | None:
    """The calibrated threshold for a Tmax map of this program; None where there is none.

    Args:
        folder: where :func:`calibrate` wrote.
        convention: what made the map, of :func:`data_tools.perfusion.record.convention_of`.

    Raises:
        InputError: the file is damaged, or is that of maps made in another way.
    """
    path = Path(folder, RESULT)
    if not path.exists():
        return None
    known = atomic.read_json(path)
    value, made = known.get("threshold_s"), known.get("convention")
    low, high = threshold_fit.THRESHOLDS_S[[0, -1]]
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InputError(
            f"{path}: threshold_s is {value!r}; expected {low:g} to {high:g}. Calibrate again, or "
            f"remove the file to take {TMAX_HYPOPERFUSION_S:g} s"
        )
    if made != _kept(convention):
        raise InputError(
            f"{path} is for maps made with {_in_words(made)}, and these were made with "
            f"{_in_words(_kept(convention))}; make the maps in the same way, calibrate again, or "
            "move the file away"
        )
    return float(value)


def threshold_in(cohorts: Sequence[str | os.PathLike], convention: Convention) -> float | None:
    """The calibrated threshold for a Tmax map of this program; the first cohort's counts.

    Args:
        cohorts: folders with ``derivatives/perfusion``.
        convention: what made the map.

    Raises:
        InputError: as :func:`threshold_s`.
    """
    folders = (Path(each, "derivatives", PERFUSION) for each in cohorts)
    found = (threshold_s(folder, convention) for folder in folders)
    return next((each for each in found if each is not None), None)


def threshold_of_map(cohorts: Sequence[str | os.PathLike], tmax: Path | None) -> float | None:
    """The same by the map itself; None of a map of another program, or without a map.

    Args:
        cohorts: folders with ``derivatives/perfusion``.
        tmax: the map.

    Raises:
        InputError: as :func:`threshold_s`.
    """
    made_by = None if tmax is None else convention_of(tmax)
    return None if made_by is None else threshold_in(cohorts, made_by)


def _kept(convention: Convention) -> dict[str, Any]:
    return {name: getattr(convention, name) for name in ALIKE}


def _in_words(made: Any) -> str:
    """What maps of ours have in common, as ``_kept`` or a file says it.

    >>> _in_words({"version": 1, "deconvolution": "csvd", "threshold": 0.1,
    ...            "smoothing_sd_voxels": 0.7})
    'cSVD, threshold 0.1, smoothing 0.7 voxels (version 1)'
    """
    if not isinstance(made, dict) or not set(ALIKE) <= set(made):
        return "settings that it does not name"
    method = str(made["deconvolution"])
    return (
        f"{METHOD_NAMES.get(method, method)}, threshold {made['threshold']}, smoothing "
        f"{made['smoothing_sd_voxels']} voxels (version {made['version']})"
    )


def _ours(root: Path) -> dict[str, Path]:
    """Tmax maps of this program by patient."""
    folder = root / "derivatives" / PERFUSION
    found = {
        image.name[: -len("_Tmax.nii.gz")]: image
        for image in sorted(file_names.files_below(folder))
        if image.name.endswith("_Tmax.nii.gz") and convention_of(image) is not None
    }
    if not found:
        raise InputError(
            f"{folder}: no Tmax map of this program; run python -m data_tools.perfusion on the raw "
            "series first. Where the reference maps lie there, give that run another --out"
        )
    return found


def _common(ours: dict[str, Path]) -> dict[str, Any]:
    """What made all maps."""
    ways: dict[str, list[str]] = {}
    kept = {}
    for participant, path in ours.items():
        made = convention_of(path)
        if made is not None:
            kept = _kept(made)
            ways.setdefault(_in_words(kept), []).append(participant)
    if len(ways) > 1:
        said = "; ".join(f"{way}: {', '.join(names[:5])}" for way, names in ways.items())
        raise InputError(
            f"the Tmax maps were made in {len(ways)} ways ({said}); expected one. Make all maps "
            "again with the same flags"
        )
    return kept


def _images(folder: Path) -> list[Path]:
    return [path for path in sorted(file_names.files_below(folder)) if _ending(path)]


def _ending(path: Path) -> str:
    """Which of the three it is, by its name; empty if none."""
    if not file_names.ending(path.name):
        return ""
    stem = file_names.stem(path.name).lower()
    return next((each for each in (TMAX, MASK, CORE) if stem.endswith(each)), "")


def _volumes(folder: Path) -> dict[str, dict[str, float | None]]:
    """What ``volumes.tsv`` says of each patient; empty without it."""
    path = folder / VOLUMES
    if not path.exists():
        return {}
    found: dict[str, dict[str, float | None]] = {}
    for line in text_table.read(path, VOLUME_COLUMNS, VOLUME_COLUMNS[:2]).lines:
        name = line.cells.get("participant_id", "")
        if line.fault or name in found:
            raise InputError(f"{path}: line {line.number}: {line.fault or f'{name} again'}")
        found[name] = {
            column: _volume(f"{path}: line {line.number}", column, line.cells.get(column, ""))
            for column in VOLUME_COLUMNS[1:]
        }
    return found


def _volume(where: str, column: str, said: str) -> float | None:
    if said.lower() in ("", "n/a"):
        return None
    try:
        value = float(said)
    except ValueError:
        value = math.nan
    if not 0 <= value < 3000:
        raise InputError(f"{where}: {column} is {said!r}; expected mL, or n/a")
    return value


def _pair(
    participant: str,
    path: Path,
    theirs: list[Path],
    *,
    core: list[Path],
    said: dict[str, float | None] | None,
) -> Pair:
    """Our map and the reference of a patient."""
    ours = load_volume(path, "Tmax")
    brain = ours.data != 0
    said = said or {}
    reference: NDArray[np.bool_] | float | None = said.get("hypoperfusion_ml")
    images = [image for image in theirs if _ending(image) in (TMAX, MASK)]
    if len(images) > 1:
        names = ", ".join(image.name for image in images)
        raise InputError(f"several references ({names}); expected one")
    if images:
        reference = _mask_on(images[0], ours, brain)
    if reference is None:
        raise InputError("no reference")
    core_ml = said.get("core_ml")
    cores = [image for image in theirs if _ending(image) == CORE] or core
    if core_ml is None and cores:
        mask = load_mask(cores[0], "core mask")
        core_ml = float(mask.data.sum() * mask.voxel_ml)
    return pair_of(
        participant, ours.data, brain, ours.voxel_ml, reference=reference, core_ml=core_ml
    )


def _mask_on(path: Path, ours: Volume, brain: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Hypoperfusion of the reference, on our grid."""
    if convention_of(path) is not None:
        raise InputError(f"the reference {path} was made by this program; expected another one's")
    if _ending(path) == MASK:
        image = load_mask(path, "hypoperfusion mask")
    else:
        image = load_volume(path, "reference Tmax", may_have_gaps=True)
        check_tmax_seconds(image)
        late = labels.territories(image.data >= TMAX_HYPOPERFUSION_S, image.voxel_ml)
        image = dataclasses.replace(image, data=late.astype(np.float32))
    if image.same_grid(ours):
        return image.data > 0
    where = ours.data.shape, ours.affine
    field = dataclasses.replace(image, data=np.ones_like(image.data))
    if (resample(field, np.eye(4), *where)[brain] > 0.5).mean() < LEAST_SHARE:
        raise InputError(f"the reference {path} does not lie where our map is")
    return resample(image, np.eye(4), *where) > 0.5


def summary(found: Calibrated) -> Iterator[str]:
    """What a command prints of it."""
    result = found.result
    yield (
        f"Tmax >= {result.threshold_s:g} s in these maps agrees best with the reference at "
        f"{TMAX_HYPOPERFUSION_S:g} s, n = {len(result.pairs)}, by {result.fitted_by}"
    )
    for what, each in (
        ("at 6 s", result.at_six),
        ("each patient at the threshold of the others", result.left_out),
    ):
        parts = [f"{each.bias_ml:+.1f} mL", f"mean absolute difference {each.mean_absolute_ml:.1f}"]
        for name, value in (
            ("CCC", each.concordance),
            ("median Dice", each.dice),
            (f"kappa of DEFUSE 3 (n = {each.n_core})", each.kappa),
        ):
            if value is not None:
                parts.append(f"{name} {value:.2f}")
        yield f"  {what}: {', '.join(parts)}"
    yield from (f"warning: {each}" for each in result.warnings)
    yield from (f"left out: {name}: {why}" for name, why in found.left_out.items())

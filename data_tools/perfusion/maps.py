"""Concentrations and the arterial curve -> Tmax, CBF, CBV, MTT and TTP; volumes and checks.

Tmax is what the deconvolution makes it: a tissue without delay has 2 to 3 s, more with a longer
transit, a wider artery or a higher threshold (the offset). "Tmax >= 6 s" is therefore a convention
of SVD-type methods, and not that of any one commercial program.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from data_tools import labels
from data_tools.grid import TMAX_HYPOPERFUSION_S
from data_tools.perfusion import deconvolution
from data_tools.volumes import Volume

# Tissue before the AIF: of the healthy side where the artery is chosen late. What is earlier is
# noise, and so is what is later than 30 s.
EARLIEST_S, LATEST_S = -5.0, 30.0
# Values for each frame when the peak is sought; with 1 the parabola is off by up to 0.13 s at TR
# 2.2 s, with 2 by 0.04 s.
PER_FRAME = 2
VOXELS_AT_ONCE = 16384
PERCENT = 100.0
SECONDS_A_MINUTE = 60.0

VOLUMES_AT_S = (4.0, 6.0, 8.0, 10.0)
RELATIVE_TTP_S = 4.5
EARLY_S, MAX_EARLY_SHARE = -0.5, 0.05
HEALTHY_TMAX_S = (0.5, 4.5)
MAX_APART_ML = 20.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Maps:
    """The maps of a patient, each float32 [X, Y, Z], 0 outside the brain.

    Attributes:
        tmax_s: lag of the residue's peak behind the AIF; negative where tissue is earlier.
        cbf: mL/100 mL/min, by the AIF's scale and without a correction for haematocrit.
        cbv: mL/100 mL, likewise.
        mtt_s: CBV / CBF; 0 where CBF is.
        ttp_s: peak of the concentration, after the first frame.
    """

    tmax_s: NDArray[np.float32]
    cbf: NDArray[np.float32]
    cbv: NDArray[np.float32]
    mtt_s: NDArray[np.float32]
    ttp_s: NDArray[np.float32]


def perfusion_maps(
    concentration: NDArray[np.float32],
    brain: NDArray[np.bool_],
    aif: NDArray[np.float32],
    *,
    tr_s: float,
    method: str = "csvd",
    threshold: float | None = None,
) -> Maps:
    """All maps of the voxels of a brain.

    * Tmax: lag of the largest value of the residue from 5 s before the AIF to 30 s after it, or to
      the last lag at which the AIF's peak is still within the scan; the peak between its values is
      that of a parabola through three of them.
    * CBF: that largest value, x 60 x 100.
    * CBV: area of the tissue's concentration / area of the AIF, x 100.
    * MTT: CBV / CBF x 60 (central volume theorem).
    * TTP: time of the largest concentration, by a parabola.

    Args:
        concentration: [X, Y, Z, T] in 1/s.
        brain: bool [X, Y, Z]; an empty one gives maps of 0.
        aif: [T] in 1/s.
        tr_s: seconds from frame to frame.
        method: of the deconvolution.
        threshold: of the deconvolution; None takes its usual one.

    Raises:
        InputError: as :func:`deconvolution.residue`.
    """
    found = {field.name: np.zeros(brain.shape, np.float32) for field in dataclasses.fields(Maps)}
    flat = {name: image.reshape(-1) for name, image in found.items()}
    curves = concentration.reshape(-1, concentration.shape[-1])
    inside = np.flatnonzero(brain)
    for start in range(0, len(inside), VOXELS_AT_ONCE):
        at = inside[start : start + VOXELS_AT_ONCE]
        chosen = curves[at]
        tmax_s, flow = residue_peaks(chosen, aif, tr_s=tr_s, method=method, threshold=threshold)
        flat["tmax_s"][at] = tmax_s
        flat["cbf"][at] = np.maximum(flow, 0) * SECONDS_A_MINUTE * PERCENT
        flat["cbv"][at] = np.maximum(chosen.sum(axis=-1), 0) / aif.sum() * PERCENT
        flat["ttp_s"][at] = peak_times_s(chosen, tr_s)
    cbf, cbv = found["cbf"], found["cbv"]
    np.divide(cbv * np.float32(SECONDS_A_MINUTE), cbf, out=found["mtt_s"], where=cbf > 0)
    return Maps(**found)


def residue_peaks(
    concentration: NDArray[np.float32],
    aif: NDArray[np.float32],
    *,
    tr_s: float,
    method: str = "csvd",
    threshold: float | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Tmax in s and the residue's height there in 1/s, of each curve; see :func:`perfusion_maps`.

    Args:
        concentration: [n, T].
        aif: [T], the same unit.
        tr_s: seconds from frame to frame.
        method: of the deconvolution.
        threshold: of the deconvolution; None takes its usual one.

    Returns:
        ``(tmax_s, height)``, float32 [n] each; of no curve two empty arrays.
    """
    residues = deconvolution.residue(
        concentration, aif, tr_s=tr_s, method=method, threshold=threshold, per_frame=PER_FRAME
    )
    step_s = tr_s / PER_FRAME
    seen_s = (len(aif) - 1 - int(aif.argmax())) * tr_s
    first = -int(-EARLIEST_S // step_s)
    last = int(min(LATEST_S, seen_s) // step_s)
    # One more on either side for the parabola; negative lags stand at the end.
    window = residues[:, np.arange(first - 1, last + 2)]
    steps, height = _peaks(window)
    return ((first - 1 + steps) * step_s).astype(np.float32), height


def peak_times_s(concentration: NDArray[np.float32], tr_s: float) -> NDArray[np.float32]:
    """Time of each curve's largest value after the first frame; float32 [n].

    Curves are smoothed by (1, 2, 1) / 4 over time, so that noise on a flat top decides less.
    """
    smooth = concentration.copy()
    smooth[:, 1:-1] = (
        concentration[:, :-2] + 2 * concentration[:, 1:-1] + concentration[:, 2:]
    ) / 4
    return (_peaks(smooth)[0] * tr_s).astype(np.float32)


def _peaks(curves: NDArray) -> tuple[NDArray, NDArray]:
    """Position, in steps, and height of the largest value that is not at either end; [n] each."""
    at = 1 + curves[:, 1:-1].argmax(axis=-1)
    row = np.arange(len(curves))
    before, here, after = curves[row, at - 1], curves[row, at], curves[row, at + 1]
    bend = before - 2 * here + after
    # At the window's ends the largest value need not be a peak.
    is_peak = (bend < 0) & (before <= here) & (after <= here)
    shift = np.where(is_peak, (before - after) / np.where(is_peak, 2 * bend, 1), 0)
    return at + shift, here - (before - after) * shift / 4


def volumes_ml(
    tmax_s: NDArray[np.float32], brain: NDArray[np.bool_], voxel_ml: float
) -> dict[float, float]:
    """mL at Tmax >= 4, 6, 8 and 10 s, cleaned as the labels are.

    Clusters under 1 mL are noise, and thin skins what motion leaves at the brain's edge.

    Returns:
        Volume by threshold in s; none is larger than the one before.
    """
    return {at_s: cleaned_ml(brain & (tmax_s >= at_s), voxel_ml) for at_s in VOLUMES_AT_S}


def hypoperfusion_intensity_ratio(volumes: dict[float, float]) -> float | None:
    """Volume at Tmax >= 10 s / volume at Tmax >= 6 s; None where there is nothing at 6 s.

    Olivot et al., Stroke 2014;45:1018.

    >>> hypoperfusion_intensity_ratio({6.0: 80.0, 10.0: 20.0})
    0.25
    """
    at_6 = volumes[TMAX_HYPOPERFUSION_S]
    return volumes[VOLUMES_AT_S[-1]] / at_6 if at_6 > 0 else None


def halves(
    brain: NDArray[np.bool_], affine: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The brain's left and right half, divided in the middle of its x in mm.

    Returns:
        Two of bool, the shape of ``brain``; all False of an empty one.
    """
    x_mm = np.tensordot(affine[0, :3], np.indices(brain.shape), axes=1) + affine[0, 3]
    if not brain.any():
        return brain.copy(), brain.copy()
    left = x_mm < (x_mm[brain].max() + x_mm[brain].min()) / 2
    return brain & left, brain & ~left


def healthy_half(
    tmax_s: NDArray[np.float32], brain: NDArray[np.bool_], affine: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """The half of :func:`halves` with less at Tmax >= 6 s."""
    late = tmax_s >= TMAX_HYPOPERFUSION_S
    left, right = halves(brain, affine)
    return left if (late & left).sum() <= (late & right).sum() else right


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """What the maps say of themselves.

    Attributes:
        early_share: of the brain, Tmax below -0.5 s.
        healthy_tmax_s: median of the healthy half.
        healthy_ttp_s: likewise; from here on relative TTP counts.
        relative_ttp_ml: TTP more than 4.5 s later than that.
        warnings: sentences.
    """

    early_share: float
    healthy_tmax_s: float
    healthy_ttp_s: float
    relative_ttp_ml: float
    warnings: tuple[str, ...]


def check(maps: Maps, brain: NDArray[np.bool_], affine: NDArray[np.float64]) -> Check:
    """Is the AIF early enough, is the healthy side healthy, and does TTP agree?

    TTP needs no AIF and no deconvolution: tissue whose TTP is over 4.5 s later than the healthy
    half's is about as large as that of Tmax >= 6 s.

    Args:
        maps: of the patient.
        brain: bool; not empty.
        affine: voxel to mm, RAS+.
    """
    voxel_ml = Volume(maps.tmax_s, affine).voxel_ml
    healthy = healthy_half(maps.tmax_s, brain, affine)
    early = float((maps.tmax_s[brain] < EARLY_S).mean())
    tmax_s = float(np.median(maps.tmax_s[healthy]))
    ttp_s = float(np.median(maps.ttp_s[healthy]))
    by_tmax = cleaned_ml(brain & (maps.tmax_s >= TMAX_HYPOPERFUSION_S), voxel_ml)
    by_ttp = cleaned_ml(brain & (maps.ttp_s - ttp_s > RELATIVE_TTP_S), voxel_ml)
    warnings = []
    if early > MAX_EARLY_SHARE:
        warnings.append(
            f"Tmax is below {EARLY_S:g} s in {100 * early:.0f}% of the brain: the arterial curve "
            "is late, perhaps from a vein or from behind the occlusion. Choose another one"
        )
    if not HEALTHY_TMAX_S[0] <= tmax_s <= HEALTHY_TMAX_S[1]:
        warnings.append(
            f"the median Tmax of the healthier half of the brain is {tmax_s:.1f} s; expected "
            f"{HEALTHY_TMAX_S[0]:g} to {HEALTHY_TMAX_S[1]:g} s. Check the arterial curve; both "
            "halves may be late"
        )
    if abs(by_tmax - by_ttp) > MAX_APART_ML:
        warnings.append(
            f"Tmax >= {TMAX_HYPOPERFUSION_S:g} s has {by_tmax:.0f} mL, and TTP more than "
            f"{RELATIVE_TTP_S:g} s later than healthy tissue {by_ttp:.0f} mL; expected at most "
            f"{MAX_APART_ML:g} mL between them. Check the arterial curve and the maps"
        )
    return Check(
        early_share=early,
        healthy_tmax_s=tmax_s,
        healthy_ttp_s=ttp_s,
        relative_ttp_ml=by_ttp,
        warnings=tuple(warnings),
    )


def cleaned_ml(mask: NDArray[np.bool_], voxel_ml: float) -> float:
    """Volume of late tissue, cleaned as the labels are: that of large, thick clusters."""
    return float(labels.territories(mask, voxel_ml).sum() * voxel_ml)

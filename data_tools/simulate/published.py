"""A cohort's figures beside the published ones: what the paper says, and whether we come near.

Published by Yu et al., Radiology 2023;307(1):e220882 unless said otherwise.
"""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from data_tools import criteria
from data_tools.quartiles import quartiles

if TYPE_CHECKING:
    import pandas as pd

# Aims: medians this near to the paper's and inside its IQR; shares within so many points.
MEDIAN_WITHIN = 0.20
POINTS_WITHIN = 10.0
RHO_WITHIN = 0.10

# Median and quartiles.
NIHSS = (14.0, 9.0, 19.0)
CORE_ML = (19.0, 6.0, 49.0)
HYPOPERFUSION_ML = (82.0, 43.0, 132.0)
MISMATCH_RATIO = (3.9, 2.2, 14.3)
RHO_NIHSS_HYPOPERFUSION = 0.5
# To the other side, mean and SD over patients (PMC7973621).
RATIOS = {
    "adc_ratio": {"core": (0.63, 0.12), "penumbra": (0.90, 0.11), "oligaemia": (0.96, 0.05)},
    "dwi_ratio": {"core": (1.84, 0.41), "penumbra": (1.13, 0.08), "oligaemia": (1.08, 0.07)},
}


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of the table: what, published, simulated, and whether the aim is met."""

    what: str
    published: str
    simulated: str
    met: bool | None = None

    @property
    def verdict(self) -> str:
        """``yes``, ``no``, or nothing where there is no aim."""
        return "" if self.met is None else ("yes" if self.met else "no")

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """The line as text."""
        return self.what, self.published, self.simulated, self.verdict


TITLES = ("", "published", "simulated", "aim met")


def compare(table: "pd.DataFrame") -> list[Line]:
    """The cohort's figures beside the published ones.

    Args:
        table: participants with the columns of :class:`data_tools.simulate.measure.Measured`.
    """
    age, nihss, core, hypo = (
        table[name].to_numpy(float) for name in ("age", "nihss", "core_ml", "hypoperfusion_ml")
    )
    ratio = criteria.mismatch_ratio(hypo, core)
    mismatch = criteria.target_mismatch(hypo, core)
    known = ~np.isnan(age) & ~np.isnan(nihss)
    dawn = criteria.dawn(age, nihss, core)
    side, site = table["side"], table["occlusion"]
    lvo = site.isin(["ICA", "M1"]).to_numpy()
    some = (core > 0) & (table["tmax_ml"].to_numpy() > 0)
    one = (table["core_pieces"] == 1) & (table["tmax_pieces"] == 1) & (table["core_inside"] >= 0.5)
    return [
        Line("patients", "413", str(len(table))),
        Line("age, mean ± SD, years", "67 ± 15", _mean_sd(age, 0)),
        Line("without age", "2 of 413", f"{np.isnan(age).sum()} of {len(age)}"),
        _share("male", 50, table["sex"] == "M"),
        _share("ICA or M1 occluded", 72, lvo),
        _share("M2 or M3 occluded", 22, site.isin(["M2", "M3"])),
        _share("M4 or no occlusion", 6, site.isin(["M4", "none"])),
        _share("left", 53, side == "left"),
        _share("right", 45, side == "right"),
        _share("bilateral", 2, side == "bilateral"),
        _median("NIHSS", NIHSS, nihss),
        Line("without NIHSS", "not said", f"{np.isnan(nihss).sum()} of {len(nihss)}"),
        _median("core, mL", CORE_ML, core),
        _share("core 0 mL", 21, core == 0),
        _median("hypoperfusion (with core), mL", HYPOPERFUSION_ML, hypo),
        _median("mismatch ratio", MISMATCH_RATIO, ratio),
        _share("target mismatch (DEFUSE 3)", 69, mismatch),
        _share("… core visible", 70, mismatch[core > 0]),
        _share("… core 0 mL", 64, mismatch[core == 0]),
        _share("… ICA or M1", 74, mismatch[lvo]),
        _share("… other", 47, mismatch[~lvo]),
        _share("DAWN's sensitivity for it", 50, dawn[known & mismatch]),
        _share("DAWN's specificity for it", 89, ~dawn[known & ~mismatch]),
        _rho("rho of NIHSS and hypoperfusion", nihss, hypo, aim=RHO_NIHSS_HYPOPERFUSION),
        _rho("rho of NIHSS and core", nihss, core, aim=None),
        _share("one core inside one Tmax lesion (DEFUSE)", 28, one[some]),
        _near("median share over 10 s of Tmax >= 6 s (DEFUSE 2)", 0.40, table["share_over_10_s"]),
        *(
            _contrast(key, tissue, table[f"{key}_{tissue}"])
            for key, tissues in RATIOS.items()
            for tissue in tissues
        ),
    ]


def _mean_sd(values, digits: int) -> str:
    values = values[~np.isnan(values)]
    if not values.size:
        return "n/a"
    return f"{values.mean():.{digits}f} ± {values.std():.{digits}f}"


def _median(what: str, published: tuple[float, float, float], values) -> Line:
    found = quartiles(values)
    if found is None:
        return Line(what, _spread(*published), "n/a")
    low, middle, high = found
    near = abs(middle - published[0]) <= MEDIAN_WITHIN * published[0]
    inside = published[1] <= middle <= published[2]
    return Line(what, _spread(*published), _spread(middle, low, high), bool(near and inside))


def _spread(middle: float, low: float, high: float) -> str:
    return f"{middle:.3g} ({low:.3g}–{high:.3g})"


def _share(what: str, published: float, mask) -> Line:
    mask = np.asarray(mask, bool)
    if not mask.size:
        return Line(what, f"{published}%", "n/a")
    percent = 100 * mask.mean()
    met = bool(abs(percent - published) <= POINTS_WITHIN)
    return Line(what, f"{published}%", f"{percent:.0f}%", met)


def _rho(what: str, one, two, *, aim: float | None) -> Line:
    published = "" if aim is None else f"about {aim}"
    known = ~np.isnan(one) & ~np.isnan(two)
    if known.sum() < 3:
        return Line(what, published, "n/a")
    rho = float(stats.spearmanr(one[known], two[known])[0])
    met = None if aim is None else bool(abs(rho - aim) <= RHO_WITHIN)
    return Line(what, published, f"{rho:.2f}", met)


def _near(what: str, published: float, values) -> Line:
    values = np.asarray(values, float)
    if np.isnan(values).all():
        return Line(what, f"{published:.2f}", "n/a")
    middle = float(np.nanmedian(values))
    met = bool(abs(middle - published) <= MEDIAN_WITHIN * published)
    return Line(what, f"{published:.2f}", f"{middle:.2f}", met)


def _contrast(key: str, tissue: str, values: "pd.Series") -> Line:
    mean, sd = RATIOS[key][tissue]
    known = values.dropna().to_numpy(float)
    met = bool(abs(known.mean() - mean) <= sd) if known.size else None
    image = {"adc_ratio": "ADC", "dwi_ratio": "DWI"}[key]
    what = f"{image}, {tissue} to other side (PMC7973621)"
    return Line(what, f"{mean:.2f} ± {sd:.2f}", _mean_sd(known, 2), met)

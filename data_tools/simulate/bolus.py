"""The contrast bolus of a simulated DSC scan: arterial input, tissue's answer, what Tmax it has.

The arterial input is a gamma-variate with its recirculation. Tissue is fed by it after a delay and
keeps it for a mean transit time (MTT), its residue function exp(-t / MTT).

Tmax of a residue deconvolved by a truncated singular value decomposition is not the delay: the
truncation smooths, so without noise Tmax = delay + offset, and the offset depends on MTT, TR, the
width of the arterial input and the threshold. A patient's Tmax is meant by that convention: the
delay of each voxel is its Tmax less the offset that its MTT has in this scan, by the filter of
:meth:`Bolus.offset_s`.
"""

import dataclasses
import functools

import numpy as np
from numpy.typing import NDArray

# Of the convention: frequencies at which the arterial input is weaker than this, times its
# strongest, are left out.
THRESHOLD = 0.10
# Rise of the gamma-variate: its peak comes after RISE x width.
RISE = 3.0
STEP_S = 0.05  # of the tables
BEFORE_S, AFTER_S = 30.0, 260.0  # that they hold
MTT_RANGE_S, MTT_STEP_S = (0.5, 16.0), 0.25
OFFSET_AT_S = (2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 12.0, 16.0)
OFFSET_DELAYS_S = np.linspace(0, 6.6, 23)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bolus:
    """When and how contrast comes.

    Attributes:
        arrival_s: at the large arteries, from the start of the scan.
        width_s: b of the gamma-variate t^3 exp(-t / b).
        recirculation: height of the second passage, times the first.
        recirculation_after_s: how much later it comes.
        steady: what stays in the blood, times the peak.
    """

    arrival_s: float
    width_s: float = 1.5
    recirculation: float = 0.18
    recirculation_after_s: float = 12.0
    steady: float = 0.05

    def aif(self, times_s: NDArray[np.floating]) -> NDArray[np.float64]:
        """Arterial input at some times: 1 at the peak of the first passage, any shape.

        AIF(t) = g(t, b) + recirculation g(t - after, 2 b) + steady (1 - exp(-s / after)), where
        s = t - arrival, g(t, b) = (s / 3b)^3 exp(3 - s / b), and both are 0 where s < 0.
        """
        since = np.asarray(times_s, float) - self.arrival_s
        again = _gamma_variate(since - self.recirculation_after_s, 2 * self.width_s)
        stays = 1 - np.exp(-np.maximum(since, 0) / self.recirculation_after_s)
        return (
            _gamma_variate(since, self.width_s) + self.recirculation * again + self.steady * stays
        )

    @functools.cached_property
    def _tables(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The input, and the answers of tissue by MTT, each STEP_S: [n], [MTT, n]."""
        times_s = np.arange(-BEFORE_S, AFTER_S, STEP_S)
        aif = self.aif(times_s)
        since_s = times_s + BEFORE_S
        count = 2 * len(times_s)
        spectrum = np.fft.rfft(aif, count)
        rows = []
        for mtt_s in np.arange(MTT_RANGE_S[0], MTT_RANGE_S[1] + MTT_STEP_S / 2, MTT_STEP_S):
            kernel = np.exp(-since_s / mtt_s)
            kernel /= kernel.sum()
            rows.append(np.fft.irfft(spectrum * np.fft.rfft(kernel, count), count)[: len(times_s)])
        return aif.astype(np.float32), np.stack(rows).astype(np.float32)

    def input_at(self, times_s: NDArray[np.floating]) -> NDArray[np.float32]:
        """As :meth:`aif`, from a table: for many times."""
        return _looked_up(self._tables[0][None], 0, times_s)

    def answer_at(
        self, times_s: NDArray[np.floating], mtt_s: NDArray[np.floating] | float
    ) -> NDArray[np.float32]:
        """Concentration in tissue of CBV 1: the input convolved with exp(-t / MTT) / MTT.

        Args:
            times_s: since the start of the scan, less the delay; any shape.
            mtt_s: of the same shape, or one; rounded to MTT_STEP_S.
        """
        level = np.clip((np.asarray(mtt_s) - MTT_RANGE_S[0]) / MTT_STEP_S, 0, None)
        table = self._tables[1]
        return _looked_up(table, np.minimum(np.rint(level).astype(int), len(table) - 1), times_s)

    def offset_s(self, times_s: NDArray[np.floating]) -> NDArray[np.float64]:
        """Tmax less delay without noise, at each MTT of :data:`OFFSET_AT_S`.

        The residue is the inverse Fourier transform of C(f) / AIF(f), both padded with as many
        zeros, over the frequencies where |AIF(f)| > 0.10 max |AIF|; its peak is that of a parabola
        through the three highest frames. The mean over delays of 0 to 6.6 s is taken, for it
        varies with where a delay falls between two frames.

        Args:
            times_s: of the frames, evenly spaced; the length of the scan counts too.
        """
        step_s, count = times_s[1] - times_s[0], 2 * len(times_s)
        fed = np.fft.rfft(self.aif(times_s), count)
        kept = np.abs(fed) > THRESHOLD * np.abs(fed).max()
        mtt_s = np.repeat(OFFSET_AT_S, len(OFFSET_DELAYS_S))
        delay_s = np.tile(OFFSET_DELAYS_S, len(OFFSET_AT_S))
        curves = self.answer_at(times_s - delay_s[:, None], mtt_s[:, None])
        quotient = np.where(kept, np.fft.rfft(curves, count) / np.where(kept, fed, 1), 0)
        residue = np.fft.irfft(quotient, count)
        peak = residue.argmax(axis=1)
        row = np.arange(len(peak))
        before, top, after = (residue[row, (peak + k) % count] for k in (-1, 0, 1))
        tmax = peak + 0.5 * (before - after) / (before - 2 * top + after)
        tmax = np.where(tmax > count / 2, tmax - count, tmax) * step_s
        return (tmax - delay_s).reshape(len(OFFSET_AT_S), -1).mean(axis=1)


def _gamma_variate(since_s: NDArray[np.float64], width_s: float) -> NDArray[np.float64]:
    since_s = np.maximum(since_s, 0)
    return (since_s / (RISE * width_s)) ** RISE * np.exp(RISE - since_s / width_s)


def _looked_up(table: NDArray[np.float32], row, times_s) -> NDArray[np.float32]:
    """Linear between a table's times; its ends beyond them."""
    place = (np.asarray(times_s, np.float32) + np.float32(BEFORE_S)) / np.float32(STEP_S)
    place = np.clip(place, 0, table.shape[1] - 2)
    index = place.astype(np.int64)
    share = place - index
    flat = index + np.asarray(row) * table.shape[1]
    values = table.ravel()
    low = values[flat]
    return (low + share * (values[flat + 1] - low)).astype(np.float32)

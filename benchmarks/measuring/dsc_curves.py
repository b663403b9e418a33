"""Noise-free curves of a bolus: an arterial one, and of tissue with a known delay and transit."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import fft

STEP_S = 0.01


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bolus:
    """Where the arterial curve comes from: ``(t - arrival)^a exp(-(t - arrival) / b)``, peak 1.

    Attributes:
        arrival_s: after the first frame.
        a: power.
        b_s: its width.
        length_s: of the scan.
        second_share: height of the second passage, ``second_s`` later and three times as wide.
        second_s: see there.
    """

    arrival_s: float = 15.0
    a: float = 3.0
    b_s: float = 1.5
    length_s: float = 90.0
    second_share: float = 0.0
    second_s: float = 12.0

    def at(self, times_s: NDArray) -> NDArray[np.float64]:
        """The arterial curve; same shape."""
        first = gamma_variate(times_s - self.arrival_s, self.a, self.b_s)
        late_s = times_s - self.arrival_s - self.second_s
        return first + self.second_share * gamma_variate(late_s, self.a, 3 * self.b_s)

    def frames_s(self, tr_s: float) -> NDArray[np.float64]:
        """Times of the frames."""
        return np.arange(round(self.length_s / tr_s)) * tr_s


def gamma_variate(times_s: NDArray, a: float, b_s: float) -> NDArray[np.float64]:
    """``t^a exp(-t / b)`` with a peak of 1 at ``a b``; 0 before 0."""
    share = np.maximum(times_s, 0) / (a * b_s)
    return share**a * np.exp(a * (1 - share))


def tissue(
    bolus: Bolus, tr_s: float, delays_s: Sequence[float] | NDArray, mtt_s: float
) -> NDArray[np.float64]:
    """Curves of a well-mixed tissue with CBV 1 (flow 1 / MTT), each later by its delay.

    Returns:
        float64 [delays, frames], in the unit of the arterial curve.
    """
    fine_s = np.arange(0, bolus.length_s + 20, STEP_S)
    length = 2 * len(fine_s)
    outflow = np.exp(-fine_s / mtt_s) / mtt_s
    curve = fft.irfft(fft.rfft(bolus.at(fine_s), length) * fft.rfft(outflow, length), length)
    curve = curve[: len(fine_s)] * STEP_S
    frames_s = bolus.frames_s(tr_s)
    return np.array([np.interp(frames_s - delay, fine_s, curve, left=0) for delay in delays_s])

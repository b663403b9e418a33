"""Curves of the simulator's bolus: of tissue with known delays and transit."""

import numpy as np


def frames_s(tr_s, length_s=90.0):
    """Start of each frame of a scan."""
    return np.arange(round(length_s / tr_s)) * tr_s


def tissue(bolus, times_s, delays_s, mtt_s):
    """[delays, times], CBV 1, in the unit of the arterial curve."""
    return bolus.answer_at(times_s - np.reshape(delays_s, (-1, 1)), mtt_s).astype(np.float64)

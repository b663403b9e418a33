"""Curves of the simulator's bolus, of tissue with known delays and transit; small raw series."""

import shutil

import numpy as np

from data_tools.simulate import dsc, simulate_patient
from data_tools.simulate.dsc_files import write_series

SMALL = {"repetition_time_s": 2.0, "frames": 40, "snr": 60.0, "matrix": 64, "slices": 8}


def frames_s(tr_s, length_s=90.0):
    """Start of each frame of a scan."""
    return np.arange(round(length_s / tr_s)) * tr_s


def tissue(bolus, times_s, delays_s, mtt_s):
    """[delays, times], CBV 1, in the unit of the arterial curve."""
    return bolus.answer_at(times_s - np.reshape(delays_s, (-1, 1)), mtt_s).astype(np.float64)


def write_small(cohort, name, **scan):
    """A raw series of 64 x 64 x 8 voxels in place of a patient's Tmax map.

    Args:
        cohort: of simulated patients of seed 7; changed.
        name: ``sub-0001``.
        scan: more of :class:`data_tools.simulate.dsc.Scan`.
    """
    patient = simulate_patient(7, int(name[-4:]))
    small = dsc.Scan(**{**SMALL, **scan})
    write_series(cohort / name / "perf" / f"{name}_dsc.nii.gz", dsc.acquire_dsc(patient, small), 3)
    shutil.rmtree(cohort / "derivatives" / "perfusion" / name, ignore_errors=True)

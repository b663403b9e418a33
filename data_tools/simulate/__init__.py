"""Simulated stroke patients: what the system as a whole is tested and measured on.

Everything made here is called simulated, on disk and in print. Three doors: a cohort on disk
(:func:`simulate_cohort`, ``python -m data_tools.simulate``), the layout of a public data set
(:func:`write_layout`, ``--layout``) and one patient in memory (:func:`simulate_patient`).
"""

# The functions import what they need when called, so that --help answers at once.


def simulate_cohort(out, patients, seed, **options):
    """Write a simulated cohort; see :func:`data_tools.simulate.cohort.simulate_cohort`."""
    from data_tools.simulate import cohort

    return cohort.simulate_cohort(out, patients, seed, **options)


def simulate_patient(seed, index, lesions=None, noise=1.0, **options):
    """One patient in memory; see :func:`data_tools.simulate.patient.simulate_patient`."""
    from data_tools.simulate import patient

    return patient.simulate_patient(seed, index, lesions, noise, **options)


def write_layout(out, layout, patients, seed, **options):
    """Write a public data set's layout; see ``write_layout`` of ``simulate/layouts/writer.py``."""
    from data_tools.simulate.layouts import writer

    return writer.write_layout(out, layout, patients, seed, **options)

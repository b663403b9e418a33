"""Simulated patients in the layouts of public data sets, to test what reads those."""

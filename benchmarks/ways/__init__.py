"""Ways of computing the same network, each measured in a process of its own.

A way is a module whose ``prepare(settings)`` gives a function to time and facts about it; see
:mod:`benchmarks.measuring.turns`. The modules import their framework alone, so they also run in an
environment that has nothing else of this project's.
"""

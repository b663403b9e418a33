"""The page that a person reads: one patient's result, and the index of many."""

from tf_hypoperfusion.inference.page.page import render

__all__ = ["render"]

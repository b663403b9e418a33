"""The page that a person reads: one patient's result, and the index of many."""

from tf_hypoperfusion.inference.page.page import write_page

__all__ = ["write_page"]

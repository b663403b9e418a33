"""TFRecord shards -> trained attention U-Net -> hypoperfused volume and target mismatch.

    import tf_hypoperfusion as hp

    result = hp.load_model().predict("dwi.nii.gz", "adc.nii.gz", side="left", nihss=15)

Research software, not a medical device.
"""

import importlib
from typing import Any

__version__ = "0.1.0"
_API = ("Model", "Result", "load_model")
# The command's module may be called too: it hides every function of its name.
_CALLED_MODULE = "evaluate"


def __getattr__(name: str) -> Any:
    """The interface for Python, imported when it is first asked for: ``import`` takes no time."""
    if name == _CALLED_MODULE:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _API:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.api"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_API, _CALLED_MODULE])

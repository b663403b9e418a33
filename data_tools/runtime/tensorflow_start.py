"""TensorFlow started in the way that every command wants it: fast on any x86 CPU, quiet, and alike
whatever the user's environment says of Keras.
"""

import functools
import os
import sys
from collections.abc import Callable
from typing import TypeVar

from data_tools.runtime.errors import InputError
from data_tools.runtime.progress import doing
from data_tools.runtime.quiet import native_stderr_silenced

T = TypeVar("T")


def prepare() -> None:
    """Import TensorFlow for the first time; call it before anything imports Keras.

    Without ``TF_ENABLE_ONEDNN_OPTS=1`` TensorFlow uses oneDNN only where the CPU has AVX-512 VNNI
    or better; its own 3D convolutions are several times slower (BUILD_NOTES, Speed). A value that
    the user has set stays. Called again, it does nothing.

    Raises:
        InputError: Keras was imported before, on another backend than TensorFlow.
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    # These are for other programs: our networks need TensorFlow and the Keras that is installed.
    os.environ["TF_USE_LEGACY_KERAS"] = "0"
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "tensorflow"
    elif (backend := sys.modules["keras"].backend.backend()) != "tensorflow":
        raise InputError(
            f"Keras runs on {backend} here, and was started before; expected TensorFlow: set "
            "KERAS_BACKEND=tensorflow, or import tf_hypoperfusion's modules before keras"
        )
    with doing("starting TensorFlow"), native_stderr_silenced():
        import tensorflow as tf

        tf.config.list_physical_devices()


def counted_alone(function: Callable[..., T]) -> Callable[..., T]:
    """A function for ``tf.function`` whose tracings are counted apart from those of its like.

    TensorFlow warns of a function that is traced again and again, and knows functions by their
    code. That of five networks is the same, each traced once. A partial is known by itself.
    """
    return functools.partial(function)

"""TensorFlow started in the way that every command wants it: fast on any x86 CPU, and quiet."""

import os

from data_tools.runtime.quiet import native_stderr_silenced


def prepare() -> None:
    """Import TensorFlow for the first time; call it before anything imports Keras.

    Without ``TF_ENABLE_ONEDNN_OPTS=1`` TensorFlow uses oneDNN only where the CPU has AVX-512 VNNI
    or better; its own 3D convolutions are several times slower (BUILD_NOTES, Speed). A value that
    the user has set stays. Called again, it does nothing.
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    with native_stderr_silenced():
        import tensorflow as tf

        tf.config.list_physical_devices()

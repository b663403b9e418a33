"""What TensorFlow computes on here, in words; and a warning where it misses a card."""

import sys
from collections import Counter

from data_tools.runtime import graphics_card, processor, tensorflow_start
from data_tools.runtime.errors import counted

tensorflow_start.prepare()

import tensorflow as tf  # noqa: E402


def announce() -> None:
    """Print the device, and a warning where there is a card that TensorFlow does not see."""
    print(f"device  {in_words()}", flush=True)
    if warning := overlooked():
        print(f"WARNING: {warning}", file=sys.stderr, flush=True)


def in_words() -> str:
    """GPUs by name, or else the CPU and its cores."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return f"{processor.in_words()}; TensorFlow {tf.__version__} sees no GPU"
    names = Counter(
        tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus
    )
    each = [name if count == 1 else f"{count} x {name}" for name, count in names.items()]
    return f"{counted(len(gpus), 'GPU')}: {', '.join(each)}"


def overlooked() -> str | None:
    """That an NVIDIA card is there and TensorFlow sees none, and what to do; None if it is well."""
    if tf.config.list_physical_devices("GPU") or graphics_card.hidden():
        return None
    cards = graphics_card.nvidia()
    if not cards:
        return None
    return (
        f"this machine has {', '.join(cards)}, but TensorFlow sees no GPU and computes on the CPU. "
        f"{_advice()}"
    )


def _advice() -> str:
    if sys.platform == "win32":
        return (
            "TensorFlow uses no GPU on Windows itself; install this program in WSL 2 with the "
            "extra gpu"
        )
    if not tf.test.is_built_with_cuda():
        return "This build of TensorFlow has no CUDA; install the package tensorflow from PyPI"
    return (
        "Install its CUDA libraries with the extra gpu (pip install '.[gpu]'), check the driver "
        "with nvidia-smi, and run the command again. CUDA_VISIBLE_DEVICES=-1 hides the card, and "
        "this warning"
    )

"""Which arithmetic this machine is fast in."""

import tensorflow as tf

from data_tools.runtime import processor
from data_tools.runtime.errors import InputError

# What oneDNN needs to take bfloat16 at all. Without it TensorFlow's own convolutions sum in
# bfloat16: gradients of a first layer were 40% off on such a machine.
CPU_FLAGS_TO_SUM_RIGHT = ("avx512f", "amx_bf16")
AUTO = "auto"
GPU_CAPABILITY = (8, 0)  # Ampere and later


def choose_precision(wanted: str) -> tuple[str, str]:
    """Resolve ``auto``, and refuse what the machine cannot do.

    Args:
        wanted: ``auto``, ``float32``, ``bfloat16`` or ``float16``.

    Returns:
        The precision, and why, in words.

    Raises:
        InputError: float16 without a GPU, bfloat16 on a processor known to sum it wrongly.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if wanted == "float16" and not gpus:
        raise InputError(
            "precision is float16, but there is no GPU, and CPUs have no float16 convolution; "
            "expected --precision=bfloat16 or float32 here"
        )
    flags = processor.flags()
    if wanted == "bfloat16" and not gpus and flags and not flags & set(CPU_FLAGS_TO_SUM_RIGHT):
        raise InputError(
            "precision is bfloat16, but this CPU has no AVX-512, without which TensorFlow sums "
            "bfloat16 in bfloat16 and its gradients are wrong; expected --precision=float32 here"
        )
    if wanted != AUTO:
        return wanted, "as set"
    if gpus:
        details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        able = all(d.get("compute_capability", (0, 0)) >= GPU_CAPABILITY for d in details)
        name = details[0].get("device_name", "the GPU")
    else:
        flag = next((flag for flag in processor.BFLOAT16_FLAGS if flag in flags), None)
        able, name = flag is not None, f"the CPU ({flag})" if flag else "the CPU"
    if able:
        return "bfloat16", f"{name} multiplies bfloat16"
    return "float32", f"{name} has no bfloat16 arithmetic"

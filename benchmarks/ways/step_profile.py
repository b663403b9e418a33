"""Where the time of a training step goes: TensorFlow's operations, and oneDNN's reorders in them.

On one thread, so that operations follow each other and their times add up to the step's. Each
counts with the shortest of its times, which a busy machine lengthens least.
"""

import collections
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

STEPS = 3
REORDER = re.compile(r"^onednn_verbose.*,exec,cpu,reorder,.*,([0-9.e-]+)$", re.MULTILINE)
NAMED_OTHERS = 6


def take_one_thread() -> None:
    """Before TensorFlow computes anything."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def shares(step: Callable[[], Any]) -> dict[str, Any]:
    """``profile``: milliseconds of a step by kind; ``reorders_ms``, which are part of them.

    Args:
        step: one optimizer step.
    """
    step()
    step()
    shortest: dict[str, float] = {}
    for _ in range(STEPS):
        for name, milliseconds in _operations(step).items():
            shortest[name] = min(milliseconds, shortest.get(name, milliseconds))
    kinds: dict[str, float] = collections.defaultdict(float)
    others: dict[str, float] = collections.defaultdict(float)
    for name, milliseconds in shortest.items():
        kind = _kind(name)
        kinds[kind or "everything else"] += milliseconds
        if kind is None:
            others[name.rsplit(":", 1)[1]] += milliseconds
    most = [f"{name} {ms:.0f}" for name, ms in _longest_first(others)[:NAMED_OTHERS]]
    return {
        "profile": dict(_longest_first(kinds)),
        "others_ms": ", ".join(most),
        "reorders_ms": min(_reorders_ms(step) for _ in range(STEPS)),
    }


def _longest_first(milliseconds: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(milliseconds.items(), key=lambda item: item[1], reverse=True)


def _operations(step: Callable[[], Any]) -> dict[str, float]:
    """Milliseconds of each operation, by ``name:type``."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    taken: dict[str, float] = collections.defaultdict(float)
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        step()
        tf.profiler.experimental.stop()
        space = xplane_pb2.XSpace()
        space.ParseFromString(next(Path(folder).rglob("*.xplane.pb")).read_bytes())
    for plane in space.planes:
        if not plane.name.startswith("/host:CPU"):
            continue
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                # Others are spans of the runtime, which hold operations: "Executor::Process".
                if re.fullmatch(r"[^: ]+:\w+", name):
                    taken[name] += event.duration_ps / 1e9
    return taken


def _kind(name: str) -> str | None:
    """What an operation is for, as a line of the table; None for the many small ones."""
    name, operation = name.rsplit(":", 1)
    forward = name.startswith("attention_unet")
    if "Conv3DBackpropFilter" in operation:
        return "convolutions: gradient by weights"
    if "Conv3D" in operation:
        return "convolutions: forward" if forward else "convolutions: gradient by inputs"
    if "BatchNorm" in operation:
        return "normalisation: forward" if forward else "normalisation: gradient"
    return "pooling" if "Pool" in operation else None


def _reorders_ms(step: Callable[[], Any]) -> float:
    """What oneDNN says of its reorders during a step (environment: ``ONEDNN_VERBOSE=1``)."""
    with tempfile.TemporaryFile() as told:
        usual = os.dup(1)
        os.dup2(told.fileno(), 1)
        try:
            step()
        finally:
            os.dup2(usual, 1)
            os.close(usual)
        told.seek(0)
        return sum(map(float, REORDER.findall(told.read().decode(errors="replace"))))

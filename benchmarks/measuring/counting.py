"""What a network computes, counted."""

from typing import Any


def convolution_gflop(model: Any) -> float:
    """Multiplications and additions of one slab's forward pass through the convolutions, 1e9."""
    total = 0.0
    for layer in model.layers:
        kernel = getattr(layer, "kernel", None)
        if kernel is not None:
            transposed = "Transpose" in type(layer).__name__
            voxels = (layer.input if transposed else layer.output).shape[1:4]
            size = 1
            for length in (*voxels, *kernel.shape):
                size *= length
            total += 2 * size
    return total / 1e9

"""MONAI's datasets over the same slabs: read from a memory-map, as float32, mirrored at random."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset, DataLoader, PersistentDataset
from monai.transforms import Compose, MapTransform, RandFlipd

KEYS = ("image", "y_true")


class ReadSlabd(MapTransform):
    """Slab number -> float32 tensor (channels first) from the memory-map of its key."""

    def __init__(self, folder: str):
        super().__init__(KEYS)
        self.arrays = {key: np.load(f"{folder}/{key}.npy", mmap_mode="r") for key in KEYS}

    def __call__(self, data):
        return {
            key: torch.from_numpy(np.moveaxis(self.arrays[key][data[key]], -1, 0).astype("f4"))
            for key in KEYS
        }


def prepare(way: dict[str, Any]) -> tuple[Callable[[], Any], dict[str, Any]]:
    """The call of one way: ``dataset`` cache, persistent or map; ``batches`` a call."""
    torch.set_num_threads(way["threads"])
    folder, batch = way["folder"], way["batch"]
    count = len(np.load(f"{folder}/image.npy", mmap_mode="r"))
    items = [dict.fromkeys(KEYS, k) for k in range(count)]
    transforms = Compose([ReadSlabd(folder), RandFlipd(KEYS, 0.5, spatial_axis=0)])
    if way["dataset"] == "cache":
        dataset = CacheDataset(items, transforms, num_workers=way["threads"], progress=False)
    elif way["dataset"] == "persistent":
        dataset = PersistentDataset(items, transforms, cache_dir=f"{folder}/persistent")
        for k in range(count):  # fill the cache, which is not what is measured
            dataset[k]
    else:
        import monai

        dataset = monai.data.Dataset(items, transforms)
    loader = DataLoader(
        dataset, batch_size=batch, shuffle=True, num_workers=way["workers"], drop_last=True,
        persistent_workers=way["workers"] > 0,
    )  # fmt: skip

    def forever():
        while True:
            yield from loader

    batches = forever()

    def call():
        for _ in range(way["batches"]):
            next(batches)

    import monai

    return call, {"versions": f"MONAI {monai.__version__}, PyTorch {torch.__version__}"}

"""Train MONAI's AttentionUnet on slabs that lie in a folder; leaves history.csv and model.onnx."""

import contextlib
import copy
import csv
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.ways.torch_network import composite_loss, monai_network
from data_tools.grid import FRAME_SHAPE, window_about_brain

MIRRORED = np.roll(np.arange(128)[::-1], -1)  # as tf_hypoperfusion.training.augmentation


class Answer(nn.Module):
    """The network with this project's inputs and output: channels last, NIHSS, the whole frame."""

    def __init__(self, net: nn.Module, window: tuple[slice, slice]):
        super().__init__()
        self.net, self.window = net, window

    def forward(self, image: torch.Tensor, nihss: torch.Tensor) -> torch.Tensor:
        """[b, 128, 128, 16, 4], [b, 1] (not used) -> probability [b, 128, 128, 16, 1]."""
        x = image.permute(0, 4, 1, 2, 3)[(slice(None), slice(None), *self.window)]
        p = torch.sigmoid(self.net(x).float())
        left, back = (w.start for w in self.window)
        right, front = (n - w.stop for n, w in zip(FRAME_SHAPE, self.window, strict=True))
        p = nn.functional.pad(p, (0, 0, back, front, left, right))
        return p.permute(0, 2, 3, 4, 1) + 0 * nihss.reshape(-1, 1, 1, 1, 1)


@torch.no_grad()
def follow(average: nn.Module, net: nn.Module, momentum: float, step: int) -> None:
    """Move the averaged network towards the trained one, as tf_hypoperfusion.training.step does."""
    if not momentum:
        return
    momentum = min(momentum, (1 + step) / (10 + step))
    pairs = zip(average.state_dict().values(), net.state_dict().values(), strict=True)
    for old, new in pairs:
        if old.is_floating_point():  # the others count batches
            old.lerp_(new, 1 - momentum)


def main(place: Path) -> None:
    """Train by ``config.json`` of a fold of ours."""
    config = json.loads((place / "config.json").read_text())
    model, training = config["model"], config["training"]
    columns, rows = map(int, model["frame"].split("x"))
    window = window_about_brain((columns, rows))
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(training["seed"])
    rng = np.random.default_rng(training["seed"])
    net = monai_network(model["base_filters"], model["poolings"], model["dropout"])
    net = net.to(memory_format=torch.channels_last_3d)
    kept = copy.deepcopy(net) if training["ema_momentum"] else net  # is validated and saved
    optimizer = torch.optim.Adam(net.parameters(), lr=training["learning_rate"], eps=1e-7)
    half = training["precision"] != "float32"
    epochs, size = training["epochs"], training["batch_size"]
    names = ("image", "y_true")
    slabs = {
        role: [np.load(place / f"{role}_{name}.npy", mmap_mode="r") for name in names]
        for role in ("train", "validation")
    }

    def batch(role: str, chosen: np.ndarray, mirror: bool) -> list[torch.Tensor]:
        found = []
        flipped = rng.random(len(chosen)) < 0.5 if mirror else np.zeros(len(chosen), bool)
        for array in slabs[role]:
            part = array[np.sort(chosen)].astype(np.float32)
            part[flipped] = part[flipped][:, :, MIRRORED]
            if part.shape[1] == 4:  # the image, whose last channel is the side: all 1 if bilateral
                one_sided = flipped & (part[:, 3].min(axis=(1, 2, 3)) == 0)
                side = array[np.sort(chosen)[one_sided], 3]
                part[one_sided, 3] = 1 - side
            part = part[(slice(None), slice(None), *window)]
            tensor = torch.from_numpy(np.ascontiguousarray(part))
            found.append(tensor.contiguous(memory_format=torch.channels_last_3d))
        return found

    def loss_of(network: nn.Module, image: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16) if half else contextlib.nullcontext():
            logit = network(image)
        weights = {name: training[name] for name in ("bce_weight", "dice_weight", "volume_weight")}
        return composite_loss(truth, torch.sigmoid(logit.float()), **weights)

    count = len(slabs["train"][0])
    steps, best = count // size, float("inf")
    history: list[dict[str, float]] = []
    ratio = training["final_learning_rate_ratio"] ** (1 / max(epochs - 1, 1))
    for epoch in range(epochs):
        began = time.monotonic()
        for group in optimizer.param_groups:
            group["lr"] = training["learning_rate"] * ratio**epoch
        net.train()
        order, total = rng.permutation(count), 0.0
        for k in range(steps):
            optimizer.zero_grad(set_to_none=True)
            chosen = order[k * size : (k + 1) * size]
            loss = loss_of(net, *batch("train", chosen, training["mirror"])).mean()
            loss.backward()
            optimizer.step()
            follow(kept, net, training["ema_momentum"], epoch * steps + k)
            total += float(loss)
        kept.eval()
        losses = []
        with torch.inference_mode():
            for first in range(0, len(slabs["validation"][0]), size):
                last = min(first + size, len(slabs["validation"][0]))
                chosen = np.arange(first, last)
                losses += loss_of(kept, *batch("validation", chosen, False)).tolist()
        row = {
            "epoch": epoch + 1,
            "learning_rate": training["learning_rate"] * ratio**epoch,
            "seconds": round(time.monotonic() - began, 2),
            "composite": total / steps,
            "val_composite": float(np.mean(losses)),
        }
        history.append(row)
        print(
            f"epoch {epoch + 1}/{epochs}  " + "  ".join(f"{k} {v:.4g}" for k, v in row.items()),
            flush=True,
        )
        if row["val_composite"] < best:
            best = row["val_composite"]
            torch.save(kept.state_dict(), place / "best.pt")
    with open(place / "history.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(history[0]))
        writer.writeheader()
        writer.writerows(history)
    net.load_state_dict(torch.load(place / "best.pt"))
    answer = Answer(net.eval().to(memory_format=torch.contiguous_format), window)
    example = torch.zeros(2, 128, 128, 16, 4), torch.zeros(2, 1)
    free = torch.export.Dim("batch", min=1, max=64)
    torch.onnx.export(
        answer,
        example,
        place / "model.onnx",
        input_names=["image", "nihss"],
        output_names=["probability"],
        dynamic_shapes={"image": {0: free}, "nihss": {0: free}},
        dynamo=True,
        external_data=False,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""The same network, and MONAI's AttentionUnet of equal width, in PyTorch."""

import contextlib
from collections.abc import Callable
from importlib import metadata
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def prepare(way: dict[str, Any]) -> tuple[Callable[[], Any], dict[str, Any]]:
    """The call of one way: ``net`` ours or monai, ``task`` infer or train, ``precision``,
    ``layout`` default or channels_last, ``compiled`` by torch.compile or not.
    """
    torch.set_num_threads(way["threads"])
    torch.manual_seed(0)
    slabs = dict(np.load(f"{way['folder']}/slabs.npz"))
    image = torch.from_numpy(slabs["image"]).permute(0, 4, 1, 2, 3).contiguous()
    nihss = torch.from_numpy(slabs["nihss"])
    monai = way["net"] == "monai"
    shape = way["base_filters"], way["poolings"], way["dropout"]
    net = monai_network(*shape) if monai else Network(*shape)
    facts: dict[str, Any] = {"versions": f"PyTorch {torch.__version__}"}
    if monai:
        facts["versions"] = f"MONAI {metadata.version('monai')}, {facts['versions']}"
    else:
        net.take(dict(np.load(f"{way['folder']}/weights.npz")))
    network = (lambda image, nihss: torch.sigmoid(net(image))) if monai else net
    net.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(image[:1], nihss[:1])
    gflop = counter.get_total_flops() / 1e9
    half = way["precision"] == "bfloat16"
    autocast = torch.autocast("cpu", torch.bfloat16) if half else contextlib.nullcontext()
    if way["layout"] == "channels_last":
        net = net.to(memory_format=torch.channels_last_3d)
        image = image.contiguous(memory_format=torch.channels_last_3d)
    if way.get("compiled"):
        network = torch.compile(network)
    count, together = len(image), way["together"]

    if way["task"] == "infer":
        if not monai:
            with torch.inference_mode(), autocast:
                answer = network(image[:1], nihss[:1])
            expected = np.load(f"{way['folder']}/probability.npy")
            facts["difference"] = float(np.abs(answer[0, 0].numpy() - expected[0, ..., 0]).max())

        def call():
            with torch.inference_mode(), autocast:
                for first in range(0, count, together):
                    network(image[first : first + together], nihss[first : first + together])

        return call, {**facts, "gflop": gflop * count}

    net.train()
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-4, eps=1e-7)
    truth = torch.from_numpy(slabs["truth"][:together]).permute(0, 4, 1, 2, 3)

    def step():
        optimizer.zero_grad(set_to_none=True)
        with autocast:
            predicted = network(image[:together], nihss[:together])
        composite_loss(truth, predicted.float()).mean().backward()
        optimizer.step()

    return step, {**facts, "gflop": 3 * together * gflop}


def composite_loss(
    truth: torch.Tensor,
    predicted: torch.Tensor,
    *,
    bce_weight: float = 1.0,
    dice_weight: float = 0.5,
    volume_weight: float = 0.25,
) -> torch.Tensor:
    """As ``training.losses``, with the channels (truth and coverage, probability) first."""
    coverage, axes = truth[:, 1:], (1, 2, 3, 4)
    t, p = truth[:, :1] * coverage, predicted * coverage
    each = nn.functional.binary_cross_entropy(predicted, truth[:, :1], reduction="none") * coverage
    entropy = each.sum(axes) / coverage.sum(axes).clamp(min=1)
    total = t.sum(axes) + p.sum(axes)
    dice = 1 - (2 * (t * p).sum(axes) + 1) / (total + 1)
    volume = (p.sum(axes) - t.sum(axes)).abs() / (total + 1)
    return bce_weight * entropy + dice_weight * dice + volume_weight * volume


def monai_network(filters: int, poolings: int, dropout: float) -> nn.Module:
    """MONAI's AttentionUnet with the same widths; it takes no NIHSS and gives a logit."""
    from monai.networks.nets import AttentionUnet

    widths = [filters * 2**level for level in range(poolings + 1)]
    return AttentionUnet(3, 4, 1, channels=widths, strides=(2,) * poolings, dropout=dropout)


class Network(nn.Module):
    """``model.attention_unet`` with batch normalisation, layer by layer under its names."""

    def __init__(self, filters: int, poolings: int, dropout: float):
        super().__init__()
        self.poolings, self.parts = poolings, nn.ModuleDict()
        self.pool, self.dropout = nn.MaxPool3d(2), nn.Dropout3d(dropout)
        width = 4
        for level in range(poolings + 1):
            name = "bottleneck" if level == poolings else f"encoder{level}"
            width = self._blocks(name, width, filters * 2**level, 2)
        width = self._blocks("bottleneck_fused", width + 1, width, 1)
        for level in reversed(range(poolings)):
            f = filters * 2**level
            self.parts[f"decoder{level}_up"] = nn.ConvTranspose3d(width, f, 2, 2)
            for part, take, give in (("g", f, f), ("x", f, f), ("psi", f, 1)):
                self.parts[f"gate{level}_{part}"] = nn.Conv3d(take, give, 1)
                self.parts[f"gate{level}_{part}_norm"] = nn.BatchNorm3d(give, 1e-3, 0.01)
            width = self._blocks(f"decoder{level}", 2 * f, f, 2)
        self.parts["logit"] = nn.Conv3d(width, 1, 1)

    def _blocks(self, name: str, width: int, filters: int, count: int) -> int:
        for i in range(count):
            self.parts[f"{name}_norm{i}"] = nn.BatchNorm3d(width, 1e-3, 0.01)
            self.parts[f"{name}_conv{i}"] = nn.Conv3d(width, filters, 3, padding=1)
            width = filters
        return width

    def _run(self, name: str, x: torch.Tensor, count: int) -> torch.Tensor:
        for i in range(count):
            x = torch.relu(self.parts[f"{name}_conv{i}"](self.parts[f"{name}_norm{i}"](x)))
        return x

    def _project(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return self.parts[f"{name}_norm"](self.parts[name](x))

    def forward(self, image: torch.Tensor, nihss: torch.Tensor) -> torch.Tensor:
        """[b, 4, 128, 128, 16], [b, 1] -> probability [b, 1, 128, 128, 16]."""
        x, skips = image, []
        for level in range(self.poolings):
            x = self._run(f"encoder{level}", x, 2)
            skips.append(x)
            x = self.dropout(self.pool(x))
        x = self._run("bottleneck", x, 2)
        field = nihss.to(x.dtype)[:, :, None, None, None].expand(-1, -1, *x.shape[2:])
        x = self._run("bottleneck_fused", torch.cat([x, field], 1), 1)
        for level in reversed(range(self.poolings)):
            g, skip = self.parts[f"decoder{level}_up"](x), skips[level]
            total = self._project(f"gate{level}_g", g) + self._project(f"gate{level}_x", skip)
            gate = torch.sigmoid(self._project(f"gate{level}_psi", torch.relu(total)))
            x = self._run(f"decoder{level}", torch.cat([skip * gate, g], 1), 2)
            x = self.dropout(x)
        return torch.sigmoid(self.parts["logit"](x).float())

    def take(self, weights: dict[str, np.ndarray]) -> None:
        """Load ``layer/0``, ``layer/1``... as Keras orders them."""
        for name, part in self.parts.items():
            given = [
                torch.from_numpy(weights[f"{name}/{k}"])
                for k in range(4)
                if f"{name}/{k}" in weights
            ]
            if isinstance(part, nn.BatchNorm3d):
                slots = [part.weight, part.bias, part.running_mean, part.running_var]
            else:
                slots = [part.weight, part.bias]
                given[0] = given[0].permute((4, 3, 0, 1, 2))
            with torch.no_grad():
                for slot, value in zip(slots, given, strict=True):
                    slot.copy_(value)

"""Trains three small networks with Brevitas (8, 4 and 2 bits) and writes what the tests read.

For each width: the QCDQ file that Brevitas exports, and what its own float simulation answers on
test images. ``python tests/golden/make_brevitas.py`` writes them into this folder.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

SIDE_PX, CLASSES, STEPS, BATCH = 16, 10, 80, 64
SIDECAR = 'layout = "NCHW"\nmean = [0.5, 0.5, 0.5]\nstd = [0.25, 0.25, 0.25]\n'
WIDTHS = (8, 4, 2)


def images(count: int, *, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Noisy pictures of ten coarse patterns: pixels ``(count, 3, 16, 16)``, and which pattern."""
    coarse = np.random.default_rng(0).integers(40, 216, (CLASSES, 3, 4, 4))
    patterns = np.kron(coarse, np.ones((1, 1, 4, 4), np.int64))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    noisy = patterns[labels] + rng.normal(0, 110, (count, 3, SIDE_PX, SIDE_PX))
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8), labels


def write(
    folder: Path, bits: int, *, shown: NDArray[np.uint8], channels: int = 16, steps: int = STEPS
) -> NDArray[np.float32]:
    """Writes ``qcdq-<bits>.onnx`` and its sidecar; the simulation's logits of ``shown``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _written(folder, bits, shown=shown, channels=channels, steps=steps)


def _written(
    folder: Path, bits: int, *, shown: NDArray[np.uint8], channels: int, steps: int
) -> NDArray[np.float32]:
    import torch
    from brevitas.export import export_onnx_qcdq
    from torch import nn

    torch.manual_seed(bits)
    network = _network(bits, channels)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    pixels, labels = images(BATCH * steps, seed=1)
    for step in range(steps):
        part = slice(step * BATCH, (step + 1) * BATCH)
        answer = network.train()(_normalised(pixels[part]))
        loss = nn.functional.cross_entropy(answer, torch.from_numpy(labels[part]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    path = folder / f"qcdq-{bits}.onnx"
    blank = torch.zeros(1, 3, SIDE_PX, SIDE_PX)
    export_onnx_qcdq(
        network, args=blank, export_path=str(path), dynamo=False,
        input_names=["image"], output_names=["scores"],
        dynamic_axes={"image": {0: "N"}, "scores": {0: "N"}},
    )  # fmt: skip
    path.with_suffix(".toml").write_text(SIDECAR)
    with torch.no_grad():
        logits: NDArray[np.float32] = network(_normalised(shown)).numpy()
    return logits


def _normalised(pixels: NDArray[np.uint8]) -> torch.Tensor:
    import torch

    return (torch.from_numpy(pixels).float() / 255 - 0.5) / 0.25


def _network(bits: int, channels: int) -> torch.nn.Module:
    """Three convolutions with batch norm, a residual sum, max and global average pooling."""
    from brevitas import nn as quantized
    from brevitas.quant import (
        Int8ActPerTensorFloat,
        Int8WeightPerChannelFloat,
        Int32Bias,
        Uint8ActPerTensorFloat,
    )
    from torch import nn

    def conv(before: int, after: int, *, stride: int = 1, width: int = bits) -> nn.Module:
        return quantized.QuantConv2d(
            before, after, 3, stride=stride, padding=1, bias=False,
            weight_quant=Int8WeightPerChannelFloat, weight_bit_width=width,
        )  # fmt: skip

    def signed(*, tells_scale: bool = False) -> nn.Module:
        return quantized.QuantIdentity(
            act_quant=Int8ActPerTensorFloat, bit_width=8, return_quant_tensor=tells_scale
        )

    def relu() -> nn.Module:
        return quantized.QuantReLU(act_quant=Uint8ActPerTensorFloat, bit_width=bits)

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image = signed()
            narrow, wide = channels, 2 * channels
            self.stem = nn.Sequential(conv(3, narrow, width=8), nn.BatchNorm2d(narrow), relu())
            self.branch = nn.Sequential(conv(narrow, narrow), nn.BatchNorm2d(narrow), signed())
            self.joined, self.pool = relu(), nn.MaxPool2d(2)
            self.deep = nn.Sequential(conv(narrow, wide, stride=2), nn.BatchNorm2d(wide), relu())
            self.mean = nn.Sequential(
                nn.AdaptiveAvgPool2d(1), nn.Flatten(), signed(tells_scale=True)
            )
            self.scores = quantized.QuantLinear(
                wide, CLASSES, bias=True, weight_bit_width=8, bias_quant=Int32Bias,
                weight_quant=Int8WeightPerChannelFloat, return_quant_tensor=False,
            )  # fmt: skip

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            x = self.stem(self.image(pixels))
            x = self.pool(self.joined(self.branch(x) + x))
            scores: torch.Tensor = self.scores(self.mean(self.deep(x)))
            return scores

    return Network()


if __name__ == "__main__":
    here = Path(__file__).parent
    shown, _ = images(400, seed=2)
    for width in WIDTHS:
        np.savez_compressed(here / f"qcdq-{width}.npz", logits=write(here, width, shown=shown))

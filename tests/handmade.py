"""Small integer graphs made by hand, which together hold every node type at any width."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qadtr_edge.integer import graph as g
from qadtr_edge.integer.graph import IntegerGraph, Node, Tensor
from qadtr_edge.types import QuantSpec

Range = Literal["relu", "signed", "unsigned"]


def images(count: int, *, size: int = 8, seed: int = 0) -> NDArray[np.uint8]:
    """Noise, with some whole images at the rails: ``(count, 3, size, size)``."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, 3, size, size), dtype=np.uint8)
    pixels[1::5] = 255 * rng.integers(0, 2, pixels[1::5].shape, dtype=np.uint8)
    return pixels


class Builder:
    """Builds one graph front to back; every method returns the name of the tensor it made."""

    def __init__(
        self, *, bits: int = 8, size: int = 8, seed: int = 0, unsigned: bool = False,
        powers_of_two: bool = False, classes: int = 10,
    ) -> None:  # fmt: skip
        self.rng = np.random.default_rng(seed)
        self.bits, self.classes = bits, classes
        self.spec = QuantSpec(bits=bits, activations="unsigned" if unsigned else "signed")
        self.powers_of_two = powers_of_two
        self.nodes: list[Node] = []
        image = Tensor("images", (3, size, size), 2.0**-7, -128, 127, 128)
        self.tensors = {"images": image}
        self.rms = {"images": 0.58}  # rough size of the real values, to choose scales that fit

    def scale(self, value: float) -> float:
        """``value`` as a float32, or the nearest power of two in the strict profile."""
        if self.powers_of_two:
            return float(2.0 ** np.rint(np.log2(value)))
        return float(np.float32(value))

    def tensor(
        self, name: str, shape: tuple[int, ...], scale: float, kind: Range = "relu",
        bits: int | None = None,
    ) -> Tensor:  # fmt: skip
        bits = bits or self.bits
        half = 2 ** (bits - 1)
        if kind == "signed":
            made = Tensor(name, shape, scale, -half, half - 1, 128)
        elif self.spec.activations == "unsigned":
            made = Tensor(name, shape, scale, 0, 2 * half - 1, 0)
        else:
            made = Tensor(name, shape, scale, 0, half - 1, 0)
        self.tensors[name] = made
        return made

    def weights(
        self, shape: tuple[int, ...], bits: int
    ) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.int32]]:
        top = 2 ** (bits - 1) - 1
        codes = self.rng.integers(-top, top + 1, shape).astype(np.int8)
        scales = self.rng.uniform(1.0, 3.0, shape[0]) / max(top, 1) / np.sqrt(codes[0].size)
        scales = np.array([self.scale(s) for s in scales], np.float32)
        bias = self.rng.integers(-20 * top, 20 * top + 1, shape[0]).astype(np.int32)
        return codes, scales, bias

    def fitting(self, rms: float, kind: Range, bits: int | None = None) -> float:
        """A scale at which values of this size use most codes and saturate now and then."""
        bits = bits or self.bits
        is_wide = kind == "relu" and self.spec.activations == "unsigned"
        return self.scale(rms * self.rng.uniform(1.8, 2.6) / 2 ** (bits - (0 if is_wide else 1)))

    def product_rms(self, x: str, weight: NDArray[np.int8], scale: NDArray[np.float32]) -> float:
        """Size of a weighted layer's results before ReLU."""
        real = weight.reshape(len(weight), -1) * scale[:, None]
        return self.rms[x] * float(np.sqrt((real**2).sum(1).mean()))

    def conv(
        self, x: str, channels: int, *, name: str, kernel: int = 3, stride: int = 1,
        padding: int | None = None, groups: int = 1, dilation: int = 1, kind: Range = "relu",
        scale: float | None = None, bits: int | None = None, weight_bits: int | None = None,
    ) -> str:  # fmt: skip
        source = self.tensors[x]
        pad = kernel // 2 * dilation if padding is None else padding
        depth, height, width = source.shape
        out = [(s + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1 for s in (height, width)]
        weight, weight_scale, bias = self.weights(
            (channels, depth // groups, kernel, kernel), weight_bits or self.bits
        )
        rms = self.product_rms(x, weight, weight_scale)
        y = self.tensor(
            f"{name}.out", (channels, *out), scale or self.fitting(rms, kind, bits), kind, bits
        )
        self.rms[y.name] = rms if kind == "signed" else rms / 2**0.5
        self.nodes.append(
            g.Conv(name, x, y.name, weight, weight_scale, bias, (stride, stride), (pad,) * 4,
                 (dilation, dilation), groups)
        )  # fmt: skip
        return y.name

    def linear(self, x: str, features: int, *, name: str, kind: Range = "relu") -> str:
        source = self.tensors[x]
        weight, weight_scale, bias = self.weights((features, *source.shape), self.bits)
        rms = self.product_rms(x, weight, weight_scale)
        y = self.tensor(f"{name}.out", (features,), self.fitting(rms, kind), kind)
        self.rms[y.name] = rms if kind == "signed" else rms / 2**0.5
        self.nodes.append(g.Linear(name, x, y.name, weight, weight_scale, bias))
        return y.name

    def node(self, made: Node, shape: tuple[int, ...], like: str, **changes: float | int) -> str:
        """Appends ``made``; its output is described as ``like``, with ``changes``."""
        self.tensors[made.y] = replace(self.tensors[like], name=made.y, shape=shape, **changes)
        self.rms[made.y] = self.rms[like]
        self.nodes.append(made)
        return made.y

    def finish(self, x: str) -> IntegerGraph:
        """Flatten, if need be, and classifier."""
        shape = self.tensors[x].shape
        if len(shape) > 1:
            x = self.node(g.Flatten("flatten", x, "flat"), (int(np.prod(shape)),), x)
        weight, weight_scale, bias = self.weights((self.classes, *self.tensors[x].shape), 8)
        self.nodes.append(g.Linear("classifier", x, "logits", weight, weight_scale, bias))
        return IntegerGraph(
            nodes=tuple(self.nodes), tensors=self.tensors, input="images", logits="logits",
            classes=self.classes, spec=self.spec, source={"model": "handmade"},
        )  # fmt: skip


def residual(
    *, bits: int = 8, size: int = 8, seed: int = 0, unsigned: bool = False, tied: bool = True,
    powers_of_two: bool = False, width: int = 8,
) -> IntegerGraph:  # fmt: skip
    """Two residual blocks with an option-A shortcut, as in a CIFAR ResNet."""
    b = Builder(bits=bits, size=size, seed=seed, unsigned=unsigned, powers_of_two=powers_of_two)
    x = b.conv("images", width, name="stem", bits=8, weight_bits=7, kind="relu")
    for index, stride in enumerate((1, 2)):
        block = f"block{index}"
        source = b.tensors[x]
        step = source.scale if tied else b.scale(source.scale * b.rng.uniform(0.6, 1.4))
        narrow = b.scale(source.scale * (source.high + 1) / 2 ** (bits - 1))
        codes = b.node(
            g.Requantize(f"{block}.narrow", x, f"{block}.in"), source.shape, x,
            scale=narrow, high=min(source.high, 2**bits - 1 if unsigned else 2 ** (bits - 1) - 1),
        )  # fmt: skip
        inner = b.conv(codes, width * stride, name=f"{block}.conv1", stride=stride)
        branch = b.conv(
            inner, width * stride, name=f"{block}.conv2", kind="signed", scale=step, bits=8
        )
        skip = x
        if stride > 1:
            half = (source.shape[1] + 1) // 2
            skip = b.node(
                g.Subsample(f"{block}.skip", x, f"{block}.half", (stride, stride)),
                (width, half, half), x,
            )  # fmt: skip
            skip = b.node(
                g.PadChannels(f"{block}.pad", skip, f"{block}.wide", width // 2, width // 2),
                (2 * width, half, half), x,
            )  # fmt: skip
        out = b.scale(step if tied else step * b.rng.uniform(0.8, 1.6))
        x = b.node(
            g.Add(f"{block}.add", branch, skip, f"{block}.sum"), b.tensors[branch].shape, skip,
            scale=out,
        )  # fmt: skip
    source = b.tensors[x]
    pooled = b.node(
        g.GlobalAveragePool("pool", x, "pooled"), (source.shape[0], 1, 1), x,
        scale=b.scale(source.scale * 0.6),
    )  # fmt: skip
    return b.finish(pooled)


def plain(*, bits: int = 8, size: int = 8, seed: int = 0, unsigned: bool = False) -> IntegerGraph:
    """A VGG-like stack: max and average pooling, a hidden g.Linear."""
    b = Builder(bits=bits, size=size, seed=seed, unsigned=unsigned)
    x = b.conv("images", 8, name="conv1", weight_bits=7)
    x = b.node(g.MaxPool("pool1", x, "half", (2, 2), (2, 2)), (8, size // 2, size // 2), x)
    x = b.conv(x, 12, name="conv2", dilation=2)
    quarter = size // 4
    x = b.node(
        g.AveragePool("pool2", x, "quarter", (2, 2), (2, 2)), (12, quarter, quarter), x,
        scale=b.scale(b.tensors[x].scale * 0.7),
    )  # fmt: skip
    x = b.node(g.Flatten("flatten0", x, "row"), (12 * quarter * quarter,), x)
    return b.finish(b.linear(x, 16, name="hidden"))


def mobile(*, bits: int = 8, size: int = 8, seed: int = 0, unsigned: bool = False) -> IntegerGraph:
    """Inverted residuals: expand, depthwise, signed projection, signed residual sum."""
    b = Builder(bits=bits, size=size, seed=seed, unsigned=unsigned)
    x = b.conv("images", 8, name="stem", stride=2, weight_bits=7)
    x = b.conv(x, 8, name="project0", kernel=1, kind="signed")
    for index in range(2):
        wide = b.conv(x, 24, name=f"expand{index}", kernel=1)
        deep = b.conv(wide, 24, name=f"depthwise{index}", groups=24)
        thin = b.conv(
            deep, 8, name=f"project{index + 1}", kernel=1, kind="signed", scale=b.tensors[x].scale
        )
        x = b.node(g.Add(f"add{index}", thin, x, f"sum{index}"), b.tensors[x].shape, x)
    x = b.conv(x, 16, name="head", kernel=1, groups=2)
    pooled = b.node(
        g.GlobalAveragePool("pool", x, "pooled"), (16, 1, 1), x, scale=b.tensors[x].scale * 0.75
    )
    return b.finish(pooled)


def swish(*, bits: int = 8, size: int = 8, seed: int = 0, unsigned: bool = False) -> IntegerGraph:
    """SiLU and hard-swish branches joined by a concatenation with unequal scales."""
    b = Builder(bits=bits, size=size, seed=seed, unsigned=unsigned)
    x = b.conv("images", 8, name="stem", weight_bits=7, kind="signed", scale=b.scale(0.02), bits=8)
    source = b.tensors[x]
    gate = b.node(
        g.Sigmoid("silu.sigmoid", x, "gate"), source.shape, x,
        scale=2.0**-8 if unsigned else 2.0**-7, low=0, high=255 if unsigned else 127, zero_point=0,
    )  # fmt: skip
    silu_scale = b.scale(source.scale * 0.9)
    silu = b.node(g.Mul("silu.mul", x, gate, "silu"), source.shape, x, scale=silu_scale)
    six = b.scale(6 / 255) if unsigned else b.scale(6 / 127)
    shifted = b.node(
        g.AddConstant("hswish.add", x, "shifted", 100, b.scale(0.03)), source.shape, gate, scale=six
    )
    sixth = b.node(
        g.Rescale("hswish.sixth", shifted, "sixth"), source.shape, shifted, scale=b.scale(six / 6)
    )
    hard_scale = b.scale(source.scale * 0.8)
    hard = b.node(g.Mul("hswish.mul", x, sixth, "hard"), source.shape, x, scale=hard_scale)
    below = b.node(
        g.AddConstant("minus", hard, "below", -50, b.scale(0.01)), source.shape, hard,
        scale=b.scale(0.025),
    )  # fmt: skip
    relu = b.node(g.Requantize("relu", below, "relu"), source.shape, below, low=0)
    x = b.node(
        g.Concat("join", (silu, below, relu), "joined"), (24, *source.shape[1:]), below,
        scale=b.fitting(0.5, "signed"), low=-(2 ** (bits - 1)), high=2 ** (bits - 1) - 1,
    )  # fmt: skip
    x = b.conv(x, 12, name="head", stride=2)
    return b.finish(x)


def join(*, bits: int = 8, size: int = 8, seed: int = 0, unsigned: bool = False) -> IntegerGraph:
    """A concatenation of equal scales, and pooling with padding."""
    b = Builder(bits=bits, size=size, seed=seed, unsigned=unsigned)
    x = b.conv("images", 8, name="stem", weight_bits=7)
    shared = b.fitting(2 * b.rms[x], "signed")
    left = b.conv(x, 4, name="left", kernel=1, kind="signed", scale=shared)
    right = b.conv(x, 8, name="right", kind="signed", scale=shared)
    shape = (12, size, size)
    x = b.node(g.Concat("join", (left, right), "joined"), shape, left)
    half = (12, size // 2, size // 2)
    x = b.node(g.MaxPool("pool", x, "half", (3, 3), (2, 2), (1, 1, 1, 1)), half, x)
    x = b.node(
        g.AveragePool("mean", x, "mean.out", (3, 3), (1, 1), (1, 1, 1, 1)), half, x,
        scale=b.scale(shared * 0.7),
    )  # fmt: skip
    return b.finish(x)


FOREIGN = {"PixelTable", "Dequantize"}
"""Node types that only files made elsewhere hold; ``foreign_files.py`` makes such files."""

GRAPHS = {"residual": residual, "plain": plain, "mobile": mobile, "swish": swish, "join": join}

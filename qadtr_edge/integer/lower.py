"""Lowering: from a ``QuantNet`` at one width to the integer graph.

Batch norm folds into scale and bias, weights become codes, biases int32 on the grid
``scale_x * weight_scale``, ReLU and narrow widths clamps. Nothing is tuned here: the codes are the
ones training saw.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from ..errors import BadInput, Unsupported
from ..models.layers import PadChannels, Subsample
from ..models.plan import Plan, Site
from ..models.quantnet import QuantNet
from ..models.steps import MOVES, Step
from ..quant.codes import check_bits, zero_point
from ..types import FLOAT_BITS
from . import graph as g

_BIAS_LIMIT = 2**30  # accumulator head room: int32 holds the bias and every product sum beside it
_LEAST_SCALE = 1e-30  # a float32 that products and quotients of scales keep away from zero


@torch.no_grad()
def lower(net: QuantNet, *, bits: int, source: Mapping[str, str] | None = None) -> g.IntegerGraph:
    """The integer graph of ``net`` at ``bits`` (2 to 8, one of its widths).

    ``source`` is stored in the graph for provenance. Raises ``BadInput`` for a width it does not
    hold and ``Unsupported`` naming a step that no integer operation can hold.
    """
    if check_bits(bits) == FLOAT_BITS:
        raise BadInput("The float model has no integer graph.", "Choose a width from 2 to 8.")
    selected, was_training = net.bits, net.training
    net.select(bits).eval()
    blank = torch.zeros(1, 3, net.image_px, net.image_px)
    shapes = {name: tuple(value.shape[1:]) for name, value in net.run(blank).items()}
    net.select(selected).train(was_training)
    builder = _Builder(net, net.plans[bits], bits, shapes)
    for step in net.steps:
        builder.add(step)
    return g.IntegerGraph(
        nodes=tuple(builder.nodes),
        tensors=builder.tensors,
        input=net.steps[0].name,
        logits=net.steps[-1].name,
        classes=net.classes,
        spec=replace(net.spec, bits=bits),
        source=dict(source or {}),
        notes=net.notes,
    )


class _Builder:
    """Nodes and tensors of the graph under construction."""

    def __init__(
        self, net: QuantNet, points: Plan, bits: int, shapes: dict[str, tuple[int, ...]]
    ) -> None:
        self.net, self.points, self.bits, self.shapes = net, points, bits, shapes
        self.nodes: list[g.Node] = []
        self.tensors: dict[str, g.Tensor] = {}

    def add(self, step: Step) -> None:
        if step.op != "linear" or step is not self.net.steps[-1]:
            self._tensor(step.name, self.points.sites[step.name], step)
        if step.op == "input":
            return
        node = self._weighted(step) if step.op in ("conv", "linear") else self._plain(step)
        self.nodes.append(node)
        if step.name in self.points.narrow:
            narrow = f"{step.name}:narrow"
            self._tensor(narrow, self.points.narrow[step.name], None)
            self.nodes.append(g.Requantize(narrow, step.name, narrow))

    def _tensor(self, name: str, site: Site, step: Step | None) -> None:
        scale = float(self.net.scale(site, self.bits))
        low, high = site.codes
        if step is not None and (step.op in MOVES or step.op == "rescale"):
            source = self.tensors[step.inputs[0]]
            low, high = source.low, source.high
        if step is not None and step.clip == "relu6":
            low, high = 0, min(high, int(np.rint(np.float32(6.0) / np.float32(scale))))
        container = zero_point(site.codes)
        self.tensors[name] = g.Tensor(name, self.shapes[name], scale, low, high, container)

    def _weighted(self, step: Step) -> g.Node:
        source = step.inputs[0]
        x = f"{source}:narrow" if source in self.points.narrow else source
        codes, scale, bias = self.net.layer(step).folded(self.bits)
        weight = codes.numpy().astype(np.int8)
        weight_scale = scale.numpy().astype(np.float32)
        real = bias.double().numpy()
        # Where batch norm switched a channel off only its bias is left, on a grid of its own.
        smallest = np.maximum(np.abs(real) / (self.tensors[x].scale * _BIAS_LIMIT), _LEAST_SCALE)
        dead = weight_scale < smallest
        weight[dead] = 0
        weight_scale[dead] = 2 * smallest[dead]
        step_size = np.float64(self.tensors[x].scale) * weight_scale.astype(np.float64)
        whole = np.rint(real / step_size).astype(np.int32)
        layer = self.net.layer(step)
        if not layer.is_conv:
            return g.Linear(step.name, x, step.name, weight, weight_scale, whole)
        top, left = pair(layer.padding)
        return g.Conv(
            step.name, x, step.name, weight, weight_scale, whole,
            stride=pair(layer.stride), padding=(top, left, top, left),
            dilation=pair(layer.dilation), groups=layer.groups,
        )  # fmt: skip

    def _plain(self, step: Step) -> g.Node:
        name, x, module = step.name, step.inputs[0], step.module
        match step.op:
            case "add":
                return g.Add(name, x, step.inputs[1], name)
            case "mul":
                return g.Mul(name, x, step.inputs[1], name)
            case "add_constant":
                scale = 2.0 ** (math.floor(math.log2(step.constant)) - 6)  # 7-bit codes: 3 is exact
                return g.AddConstant(name, x, name, round(step.constant / scale), scale)
            case "rescale":
                return g.Rescale(name, x, name)
            case "sigmoid":
                return g.Sigmoid(name, x, name)
            case "concat":
                return g.Concat(name, step.inputs, name)
            case "clip":
                return g.Requantize(name, x, name)
            case "global_average_pool":
                return g.GlobalAveragePool(name, x, name)
            case "flatten":
                return g.Flatten(name, x, name)
        if isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
            kernel, stride = pair(module.kernel_size), pair(module.stride)
            pad = pair(module.padding)
            padding = (pad[0], pad[1], pad[0], pad[1])
            if isinstance(module, nn.MaxPool2d):
                return g.MaxPool(name, x, name, kernel, stride, padding)
            return g.AveragePool(
                name, x, name, kernel, stride, padding, count_include_pad=module.count_include_pad
            )
        if isinstance(module, Subsample):
            return g.Subsample(name, x, name, (module.stride, module.stride))
        if isinstance(module, PadChannels):
            return g.PadChannels(name, x, name, module.before, module.after)
        raise Unsupported(f"The step {name!r} ({step.op}) has no integer form.", "Remove it.")


def pair(value: str | int | tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of a torch geometry argument, which may be one number for both."""
    assert not isinstance(value, str)  # padding by name is refused when the model is traced
    return (value, value) if isinstance(value, int) else (value[0], value[1])

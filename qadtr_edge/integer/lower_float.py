"""Lowering the float width of a ``QuantNet``: the yardstick's description, batch norm folded."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from ..errors import Unsupported
from ..models.layers import PIXEL_DIVISOR, PadChannels, Subsample
from ..models.quantnet import QuantNet
from ..models.steps import Step
from ..types import FLOAT_BITS
from . import float_graph as f
from . import graph as g
from .lower import pair


def lower_float(net: QuantNet, *, source: Mapping[str, str] | None = None) -> f.FloatGraph:
    """The float graph of ``net``. ``BadInput`` when it does not hold the width 32.

    ``source`` is stored for provenance. The weights and biases have batch norm folded in, as
    an engine would do for itself.
    """
    selected = net.bits
    net.select(FLOAT_BITS)
    nodes = [node for step in net.steps[1:] for node in _nodes(net, step)]
    net.select(selected)
    return f.FloatGraph(
        nodes=tuple(nodes),
        input=net.steps[0].name,
        input_scale=1 / PIXEL_DIVISOR,
        image=(3, net.image_px, net.image_px),
        logits=net.steps[-1].name,
        classes=net.classes,
        source=dict(source or {}),
        notes=net.notes,
    )


def _nodes(net: QuantNet, step: Step) -> list[f.FloatNode]:
    """The step's operation and, where it is followed by one, its ReLU as a node of its own."""
    if step.op == "clip":
        return [_clip(step, step.inputs[0])]
    if step.clip == "none":
        return [_operation(net, step, step.name)]
    before = f"{step.name}/before"
    return [_operation(net, step, before), _clip(step, before)]


def _clip(step: Step, x: str) -> f.Clip:
    name = step.name if step.op == "clip" else f"{step.name}/{step.clip}"
    return f.Clip(name, x, step.name, 0.0, 6.0 if step.clip == "relu6" else None)


def _operation(net: QuantNet, step: Step, y: str) -> f.FloatNode:
    name, x, module = step.name, step.inputs[0], step.module
    match step.op:
        case "conv" | "linear":
            layer = net.layer(step)
            weight, bias = (part.detach().numpy().copy() for part in layer.folded_float())
            if not layer.is_conv:
                return f.FloatLinear(name, x, y, weight, bias)
            top, left = pair(layer.padding)
            return f.FloatConv(
                name, x, y, weight, bias, stride=pair(layer.stride),
                padding=(top, left, top, left), dilation=pair(layer.dilation),
                groups=layer.groups,
            )  # fmt: skip
        case "add":
            return g.Add(name, x, step.inputs[1], y)
        case "mul":
            return g.Mul(name, x, step.inputs[1], y)
        case "add_constant":
            return f.Shift(name, x, y, step.constant)
        case "rescale":
            return f.Multiply(name, x, y, step.constant)
        case "sigmoid":
            return g.Sigmoid(name, x, y)
        case "concat":
            return g.Concat(name, step.inputs, y)
        case "global_average_pool":
            return g.GlobalAveragePool(name, x, y)
        case "flatten":
            return g.Flatten(name, x, y)
    if isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
        kernel, stride = pair(module.kernel_size), pair(module.stride)
        padding = pair(module.padding) * 2
        if isinstance(module, nn.MaxPool2d):
            return g.MaxPool(name, x, y, kernel, stride, padding)
        return g.AveragePool(
            name, x, y, kernel, stride, padding, count_include_pad=module.count_include_pad
        )
    if isinstance(module, Subsample):
        return g.Subsample(name, x, y, (module.stride, module.stride))
    if isinstance(module, PadChannels):
        return g.PadChannels(name, x, y, module.before, module.after)
    raise Unsupported(f"The step {name!r} ({step.op}) has no float form here.", "Remove it.")

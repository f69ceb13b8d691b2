"""A torch module as a list of steps: what quantization, lowering and export read.

``trace`` follows the module with ``torch.fx``, merges batch norm into the convolution before it and
ReLU into the operation before it, and names every step after its module. What it cannot follow is
refused by name.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import fx, nn
from torch.nn import functional

from ..errors import Unsupported
from .layers import PadChannels, PixelInput, Subsample

Op = Literal[
    "input", "conv", "linear", "add", "add_constant", "mul", "sigmoid", "rescale", "concat",
    "max_pool", "average_pool", "global_average_pool", "subsample", "pad_channels", "flatten",
    "clip",
]  # fmt: skip
Clip = Literal["none", "relu", "relu6"]

TRANSPARENT: frozenset[Op] = frozenset(
    {"max_pool", "subsample", "pad_channels", "flatten", "clip"}
)
"""Steps that keep codes and scale: they move, select or clamp."""


@dataclass(frozen=True, eq=False)
class Step:
    """One operation. Its output tensor carries its ``name``; ``inputs`` name earlier steps.

    ``module`` holds the geometry (and, for conv and linear, the weights); ``norm`` the batch norm
    that follows a convolution; ``constant`` the addend of ``add_constant`` or factor of ``rescale``.
    """

    op: Op
    name: str
    inputs: tuple[str, ...]
    module: nn.Module | None = None
    norm: nn.BatchNorm2d | None = None
    clip: Clip = "none"
    constant: float = 0.0


_LEAVES = (PixelInput, Subsample, PadChannels)
_ALIASES = (nn.Identity, nn.Dropout)
_FUNCTIONS: dict[object, type[nn.Module]] = {
    functional.relu: nn.ReLU, torch.relu: nn.ReLU, functional.relu6: nn.ReLU6,
    functional.silu: nn.SiLU, functional.hardswish: nn.Hardswish, torch.sigmoid: nn.Sigmoid,
    functional.sigmoid: nn.Sigmoid, torch.flatten: nn.Flatten, functional.dropout: nn.Dropout,
}  # fmt: skip
_METHODS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU, "sigmoid": nn.Sigmoid, "flatten": nn.Flatten,
}  # fmt: skip
_SUMS = (operator.add, operator.iadd, torch.add)
_PRODUCTS = (operator.mul, torch.mul)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(module, _LEAVES) or super().is_leaf_module(module, module_qualified_name)


@dataclass
class _Builder:
    steps: dict[str, Step] = field(default_factory=dict)
    alias: dict[fx.Node, str] = field(default_factory=dict)

    def emit(self, node: fx.Node, step: Step) -> None:
        name, count = step.name, 1
        while name in self.steps:
            count += 1
            name = f"{step.name}_{count}"
        self.steps[name] = replace(step, name=name)
        self.alias[node] = name

    def inputs(self, node: fx.Node) -> tuple[str, ...]:
        return tuple(self.alias[item] for item in node.all_input_nodes)


def trace(model: nn.Module) -> tuple[Step, ...]:
    """The steps of ``model`` in execution order; the last is the linear layer that gives logits.

    Raises ``Unsupported`` naming the first operation that has no integer counterpart here.
    """
    try:
        graph = _Tracer().trace(model)
    except Exception as error:  # torch.fx raises many kinds for data-dependent control flow
        raise Unsupported(
            f"{type(model).__name__} cannot be traced: {error}.",
            "Remove data-dependent control flow from its forward.",
        ) from error
    modules = dict(model.named_modules())
    builder = _Builder()
    for node in graph.nodes:
        if node.op == "placeholder" or node.op == "output":
            continue
        if node.op == "call_module":
            _module(builder, node, modules[str(node.target)], str(node.target))
        elif node.op == "call_function" and node.target in _SUMS:
            _pair(builder, node, "add")
        elif node.op == "call_function" and node.target in _PRODUCTS:
            _pair(builder, node, "mul")
        elif node.op == "call_function" and node.target is torch.cat:
            if (node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)) != 1:
                raise _refused(node)
            builder.emit(node, Step("concat", node.name, builder.inputs(node)))
        elif node.op == "call_function" and node.target in _FUNCTIONS:
            _module(builder, node, _FUNCTIONS[node.target](), node.name)
        elif node.op == "call_method" and node.target in _METHODS:
            _module(builder, node, _METHODS[str(node.target)](), node.name)
        elif _is_global_mean(node):
            builder.emit(node, Step("global_average_pool", node.name, builder.inputs(node)))
        else:
            raise _refused(node)
    steps = tuple(builder.steps.values())
    if not steps or steps[0].op != "input":
        raise Unsupported("The model does not start with PixelInput.", "Wrap it: PixelInput first.")
    if steps[-1].op != "linear" or steps[-1].clip != "none":
        raise Unsupported("The model does not end in a linear layer.", "Remove what follows it.")
    return steps


def _refused(node: fx.Node) -> Unsupported:
    return Unsupported(
        f"The operation {node.target} at {node.name!r} has no integer form here.",
        "Replace it by one that has: CONTRIBUTING.md lists them.",
    )


def _is_global_mean(node: fx.Node) -> bool:
    is_mean = node.op == "call_method" and node.target == "mean"
    dims = node.args[1] if is_mean and len(node.args) > 1 else node.kwargs.get("dim")
    return is_mean and isinstance(dims, list | tuple) and sorted(dims) in ([2, 3], [-2, -1])


def _pair(builder: _Builder, node: fx.Node, op: Op) -> None:
    if len(node.args) != 2 or not all(isinstance(item, fx.Node) for item in node.args):
        raise _refused(node)
    operands = tuple(builder.alias[item] for item in node.args if isinstance(item, fx.Node))
    builder.emit(node, Step(op, node.name, operands))


def _module(builder: _Builder, node: fx.Node, module: nn.Module, name: str) -> None:
    inputs = () if isinstance(module, PixelInput) else builder.inputs(node)
    if isinstance(module, _ALIASES):
        builder.alias[node] = inputs[0]
    elif isinstance(module, nn.BatchNorm2d):
        before = builder.steps[inputs[0]]
        if before.op != "conv" or before.norm or not _is_only_user(node):
            raise Unsupported(
                f"Batch norm {name!r} does not follow a convolution.", "Fold it into its neighbour."
            )
        builder.steps[before.name] = replace(before, norm=module)
        builder.alias[node] = before.name
    elif isinstance(module, nn.ReLU | nn.ReLU6):
        clip: Clip = "relu6" if isinstance(module, nn.ReLU6) else "relu"
        before = builder.steps[inputs[0]]
        if before.op in ("conv", "linear", "add", "mul") and before.clip == "none" and _is_only_user(node):
            builder.steps[before.name] = replace(before, clip=clip)
            builder.alias[node] = before.name
        else:
            builder.emit(node, Step("clip", name, inputs, clip=clip))
    elif isinstance(module, nn.SiLU):
        builder.emit(node, Step("sigmoid", f"{name}.sigmoid", inputs))
        gate = builder.alias[node]
        builder.emit(node, Step("mul", name, (inputs[0], gate)))
    elif isinstance(module, nn.Hardswish):  # x * relu6(x + 3) / 6
        builder.emit(node, Step("add_constant", f"{name}.shift", inputs, clip="relu6", constant=3.0))
        shifted = builder.alias[node]
        builder.emit(node, Step("rescale", f"{name}.gate", (shifted,), constant=1 / 6))
        gate = builder.alias[node]
        builder.emit(node, Step("mul", name, (inputs[0], gate)))
    else:
        builder.emit(node, Step(_op_of(module, node), name, inputs, module))


def _is_only_user(node: fx.Node) -> bool:
    return all(len(item.users) == 1 for item in node.all_input_nodes)


def _op_of(module: nn.Module, node: fx.Node) -> Op:
    simple: dict[type[nn.Module], Op] = {
        PixelInput: "input", nn.Conv2d: "conv", nn.Linear: "linear", nn.MaxPool2d: "max_pool",
        nn.AvgPool2d: "average_pool", Subsample: "subsample", PadChannels: "pad_channels",
        nn.Flatten: "flatten", nn.Sigmoid: "sigmoid",
    }  # fmt: skip
    if isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1)):
        return "global_average_pool"
    if isinstance(module, nn.Conv2d) and module.padding_mode != "zeros":
        raise _refused(node)
    if isinstance(module, nn.MaxPool2d) and (module.ceil_mode or module.dilation != 1):
        raise _refused(node)
    for kind, op in simple.items():
        if isinstance(module, kind):
            return op
    raise _refused(node)

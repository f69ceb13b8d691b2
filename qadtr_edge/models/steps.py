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

MOVES: frozenset[Op] = frozenset({"max_pool", "subsample", "pad_channels", "flatten"})
"""Steps whose output holds codes of their input (and 0), on the same scale."""

LOGITS = "logits"
"""The step added to a model whose logits are no matrix product."""

TRANSPARENT: frozenset[Op] = MOVES | {"clip"}
"""Steps that keep codes and scale: they move, select or clamp."""


@dataclass(frozen=True, eq=False)
class Step:
    """One operation. Its output tensor carries its ``name``; ``inputs`` name earlier steps.

    ``module`` holds the geometry (and, for conv and linear, the weights); ``norm`` the batch norm
    that follows a convolution; ``constant`` the addend of ``add_constant`` or ``rescale``'s factor.
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
    functional.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
}  # fmt: skip
_METHODS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU, "sigmoid": nn.Sigmoid, "flatten": nn.Flatten,
}  # fmt: skip
_KNOWN = (
    "Conv2d, a BatchNorm2d after it, Linear, ReLU, ReLU6, SiLU, Hardswish, Sigmoid, Dropout, sums "
    "and products of two tensors, torch.cat over channels, MaxPool2d, AvgPool2d, "
    "AdaptiveAvgPool2d(1), the mean over rows and columns, flattening all but the first dimension"
)
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

    def is_only_reader(self, node: fx.Node) -> bool:
        """Whether nothing but ``node`` reads the step before it, under any alias of that step."""
        source = node.all_input_nodes[0]
        while len(source.users) == 1:
            before = source.all_input_nodes[:1]
            if not before or self.alias.get(before[0]) != self.alias[source]:
                return True
            source = before[0]
        return False


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
    _check_ends(graph, modules)
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
            builder.emit(node, Step("concat", node.name, _concatenated(builder, node)))
        elif node.op == "call_function" and node.target in _FUNCTIONS:
            _module(builder, node, _called(node, _FUNCTIONS[node.target]), node.name)
        elif node.op == "call_method" and node.target in _METHODS:
            _module(builder, node, _called(node, _METHODS[str(node.target)]), node.name)
        elif _is_global_mean(node):
            builder.emit(node, Step("global_average_pool", node.name, builder.inputs(node)))
        else:
            raise _refused(node)
    _end_in_logits(builder)
    steps = tuple(builder.steps.values())
    given = next(node for node in graph.nodes if node.op == "output").args[0]
    is_last = isinstance(given, fx.Node) and builder.alias[given] in (
        steps[-1].name, *(steps[-1].inputs if steps[-1].name == LOGITS else ())
    )  # fmt: skip
    if steps[-1].op != "linear" or steps[-1].clip != "none" or not is_last:
        raise Unsupported(
            "The model does not end in a linear layer that gives the logits.",
            "Return that layer's output, or the mean of the last convolution, and nothing else.",
        )
    return steps


def _end_in_logits(builder: _Builder) -> None:
    """Where the logits are a mean over rows and columns, an identity matrix makes them a product.

    The integer graph gives its logits as one matrix product's sums, exact in float32.
    """
    steps = list(builder.steps.values())
    widths = [s.module.out_channels for s in steps if isinstance(s.module, nn.Conv2d)]
    if not widths or [s.op for s in steps[-2:]] != ["global_average_pool", "flatten"]:
        return
    identity = nn.Linear(widths[-1], widths[-1], bias=False)
    nn.init.eye_(identity.weight)
    builder.steps[LOGITS] = Step("linear", LOGITS, (steps[-1].name,), identity)


def _check_ends(graph: fx.Graph, modules: dict[str, nn.Module]) -> None:
    """Raises ``Unsupported`` unless the pixels go into one ``PixelInput`` and nowhere else."""
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    readers = [reader for node in inputs for reader in node.users]
    is_pixel_input = [isinstance(modules.get(str(node.target)), PixelInput) for node in readers]
    if len(inputs) != 1 or is_pixel_input != [True]:
        raise Unsupported(
            "The model does not start with PixelInput.",
            "Let PixelInput read the pixels, and everything else read its output.",
        )


def _concatenated(builder: _Builder, node: fx.Node) -> tuple[str, ...]:
    """The parts of a ``torch.cat`` over channels, in order; one may come twice."""
    parts = node.args[0] if node.args else node.kwargs.get("tensors")
    dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    if dim != 1 or not isinstance(parts, list | tuple):
        raise _refused(node)
    return tuple(builder.alias[part] for part in parts if isinstance(part, fx.Node))


def _called(node: fx.Node, kind: type[nn.Module]) -> nn.Module:
    """The module that a function or method call stands for."""
    if kind is nn.AdaptiveAvgPool2d:
        size = node.args[1] if len(node.args) > 1 else node.kwargs.get("output_size")
        if size not in (1, (1, 1)):
            raise _refused(node)
        return nn.AdaptiveAvgPool2d(1)
    if kind is not nn.Flatten:
        return kind()
    first = node.args[1] if len(node.args) > 1 else node.kwargs.get("start_dim", 0)
    last = node.args[2] if len(node.args) > 2 else node.kwargs.get("end_dim", -1)
    if not isinstance(first, int) or not isinstance(last, int):
        raise _refused(node)
    return nn.Flatten(first, last)


def _refused(node: fx.Node) -> Unsupported:
    return Unsupported(
        f"The operation {node.target} at {node.name!r} has no integer form here.",
        f"These have: {_KNOWN}.",
    )


def _is_global_mean(node: fx.Node) -> bool:
    is_mean = node.op == "call_method" and node.target == "mean"
    dims = node.args[1] if is_mean and len(node.args) > 1 else node.kwargs.get("dim")
    return is_mean and isinstance(dims, list | tuple) and sorted(dims) in ([2, 3], [-2, -1])


def _pair(builder: _Builder, node: fx.Node, op: Op) -> None:
    is_plain = len(node.args) == 2 and not node.kwargs  # torch.add's alpha would be a factor
    if not is_plain or not all(isinstance(item, fx.Node) for item in node.args):
        raise _refused(node)
    operands = tuple(builder.alias[item] for item in node.args if isinstance(item, fx.Node))
    builder.emit(node, Step(op, node.name, operands))


def _module(builder: _Builder, node: fx.Node, module: nn.Module, name: str) -> None:
    inputs = () if isinstance(module, PixelInput) else builder.inputs(node)
    if isinstance(module, _ALIASES):
        builder.alias[node] = inputs[0]
    elif isinstance(module, nn.BatchNorm2d):
        before = builder.steps[inputs[0]]
        is_next = before.op == "conv" and before.norm is None and before.clip == "none"
        if not is_next or not builder.is_only_reader(node):
            raise Unsupported(
                f"Batch norm {name!r} does not follow a convolution.", "Fold it into its neighbour."
            )
        builder.steps[before.name] = replace(before, norm=module)
        builder.alias[node] = before.name
    elif isinstance(module, nn.ReLU | nn.ReLU6):
        clip: Clip = "relu6" if isinstance(module, nn.ReLU6) else "relu"
        before = builder.steps[inputs[0]]
        can_clip = before.op in ("conv", "linear", "add", "mul") and before.clip == "none"
        if can_clip and builder.is_only_reader(node):
            builder.steps[before.name] = replace(before, clip=clip)
            builder.alias[node] = before.name
        else:
            builder.emit(node, Step("clip", name, inputs, clip=clip))
    elif isinstance(module, nn.SiLU):
        builder.emit(node, Step("sigmoid", f"{name}.sigmoid", inputs))
        gate = builder.alias[node]
        builder.emit(node, Step("mul", name, (inputs[0], gate)))
    elif isinstance(module, nn.Hardswish):  # x * relu6(x + 3) / 6
        builder.emit(
            node, Step("add_constant", f"{name}.shift", inputs, clip="relu6", constant=3.0)
        )
        shifted = builder.alias[node]
        builder.emit(node, Step("rescale", f"{name}.gate", (shifted,), constant=1 / 6))
        gate = builder.alias[node]
        builder.emit(node, Step("mul", name, (inputs[0], gate)))
    else:
        builder.emit(node, Step(_op_of(module, node), name, inputs, module))


def _op_of(module: nn.Module, node: fx.Node) -> Op:
    simple: dict[type[nn.Module], Op] = {
        PixelInput: "input", nn.Conv2d: "conv", nn.Linear: "linear", nn.MaxPool2d: "max_pool",
        nn.AvgPool2d: "average_pool", Subsample: "subsample", PadChannels: "pad_channels",
        nn.Flatten: "flatten", nn.Sigmoid: "sigmoid",
    }  # fmt: skip
    if isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1)):
        return "global_average_pool"
    if not _is_plain(module):
        raise Unsupported(
            f"The module {module} at {node.name!r} uses an option that has no integer form here.",
            "Use explicit zero padding, no ceil_mode, no divisor, no dilated pooling.",
        )
    for kind, op in simple.items():
        if isinstance(module, kind):
            return op
    raise _refused(node)


def _is_plain(module: nn.Module) -> bool:
    """Whether the module uses only options that the integer graph can express."""
    match module:
        case nn.Conv2d():
            return module.padding_mode == "zeros" and not isinstance(module.padding, str)
        case nn.MaxPool2d():
            is_dilated = module.dilation not in (1, (1, 1))
            return not (module.ceil_mode or module.return_indices or is_dilated)
        case nn.AvgPool2d():
            return not module.ceil_mode and module.divisor_override is None
        case nn.Flatten():
            return module.start_dim == 1 and module.end_dim == -1
    return True

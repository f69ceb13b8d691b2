"""Post-training quantization: scales, batch-norm statistics and bias from calibration images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from ..quant.codes import CodeRange
from ..quant.ranges import scale_of
from ..types import FLOAT_BITS
from .plan import Site
from .quantnet import QuantNet

_BATCH_PIXELS = 250 * 32 * 32  # bounds the memory that all tensors of one pass take together
_SAMPLES = 20_000  # values kept per tensor: enough for the 99.9th percentile


def _batches(images: Tensor) -> Iterator[Tensor]:
    yield from images.split(max(1, _BATCH_PIXELS // (images.shape[2] * images.shape[3])))


@torch.no_grad()
def calibrate(
    net: QuantNet,
    images: Tensor,
    *,
    method: str = "mse",
    seed: int = 0,
    widths: Sequence[int] | None = None,
) -> None:
    """Set every scale of the quantized ``widths`` from ``images``, ``(N, 3, H, W) uint8``.

    ``widths``: by default all that the network holds; others keep their scales.
    ``method``: ``minmax``, ``percentile`` or ``mse`` (``quant/ranges.py``), applied to the float
    network's activations. A scale shared by several tensors minimises the sum of their relative
    squared errors (``mse``), or covers the widest of them.
    """
    selected, was_training = net.bits, net.training
    net.eval()
    samples = _observe(net, images, seed=seed)
    for bits, points in net.plans.items():
        if widths is not None and bits not in widths:
            continue
        members: dict[str, list[tuple[Site, Tensor]]] = defaultdict(list)
        for name, site in points.sites.items():
            if site.fixed_scale is None:
                members[site.group].append((site, samples[name]))
        for name, site in points.narrow.items():
            members[site.group].append((site, samples[name]))
        for tensors in members.values():
            net.set_scale(tensors[0][0], bits, value=_joint_scale(tensors, method=method))
        for step in net.steps:
            if step.op in ("conv", "linear"):
                net.layer(step).calibrate(bits)
    net.select(selected).train(was_training)


@torch.no_grad()
def _observe(net: QuantNet, images: Tensor, *, seed: int) -> dict[str, Tensor]:
    """Random values of every tensor of the float network, before rounding."""
    generator = torch.Generator().manual_seed(seed)
    net.bits = FLOAT_BITS  # whether the network holds that width or not
    plans, net.plans = net.plans, {}
    kept: dict[str, list[Tensor]] = defaultdict(list)
    batches = tuple(_batches(images))
    share = -(-_SAMPLES // len(batches))
    try:
        for batch in batches:
            for name, value in net.run(batch, observe=True).items():
                flat = value.flatten()
                if flat.numel() > share:
                    flat = flat[torch.randint(flat.numel(), (share,), generator=generator)]
                kept[name].append(flat)
    finally:
        net.plans = plans
    return {name: torch.cat(parts) for name, parts in kept.items()}


def _joint_scale(tensors: list[tuple[Site, Tensor]], *, method: str) -> float:
    scales = [
        float(scale_of(values[None], site.codes, method=method)[0]) for site, values in tensors
    ]
    if len(tensors) == 1 or method != "mse":
        return max(scales)
    low, high = min(scales), max(scales)
    candidates = torch.logspace(0, 1, 40).sub(1).div(9).mul(high - low).add(low)
    errors = [sum(_relative_error(s, v, float(c)) for s, v in tensors) for c in candidates]
    return float(candidates[int(torch.tensor(errors).argmin())])


def _relative_error(site: Site, values: Tensor, scale: float) -> float:
    codes: CodeRange = site.codes
    grid = (values / scale).clamp(codes.low, codes.high).round() * scale
    target = values if codes.low < 0 else values.clamp_min(0)
    return float((grid - target).square().sum() / target.square().sum().clamp_min(1e-12))


@torch.no_grad()
def reestimate_norms(net: QuantNet, images: Tensor, *, widths: Sequence[int] | None = None) -> None:
    """Recompute batch-norm statistics of ``widths`` over ``images``: plain means.

    ``widths``: by default every quantized one. Under strict scales width 32 alone has statistics
    that can move: the others' are folded before quantization and frozen by definition.
    """
    selected, was_training = net.bits, net.training
    for bits in net.plans if widths is None else widths:
        if net.spec.scales == "strict" and bits != FLOAT_BITS:
            continue
        net.select(bits).train()
        norms = [m for name, m in net.named_modules() if name.endswith(f"norms.w{bits}")]
        momenta = []
        for norm in norms:
            assert isinstance(norm, nn.BatchNorm2d)
            momenta.append(norm.momentum)
            norm.reset_running_stats()
            norm.momentum = None
        for batch in _batches(images):
            net(batch)
        for norm, momentum in zip(norms, momenta, strict=True):
            assert isinstance(norm, nn.BatchNorm2d)
            norm.momentum = momentum
    net.select(selected).train(was_training)


@torch.no_grad()
def correct_bias(net: QuantNet, images: Tensor) -> None:
    """Shift each layer so that its mean output equals the float network's (Nagel et al. 2019, 4.2).

    Layer by layer in execution order, on ``images``; needs width 32 in the network.
    """
    selected, was_training = net.bits, net.training
    net.eval()
    weighted = [step for step in net.steps if step.op in ("conv", "linear")]
    wanted = _means(net.select(FLOAT_BITS), images, [step.name for step in weighted])
    for bits in net.plans:
        net.select(bits)
        for step in weighted:
            actual = _means(net, images, [step.name])[step.name]
            net.layer(step).shift_output(bits, wanted[step.name] - actual)
    net.select(selected).train(was_training)


def _means(net: QuantNet, images: Tensor, names: list[str]) -> dict[str, Tensor]:
    """Mean of the layers' outputs per channel, before ReLU and rounding."""
    sums: dict[str, Tensor] = {}
    handles = []
    by_layer = {id(net.layer(step)): step.name for step in net.steps if step.name in names}

    def note(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        name = by_layer[id(module)]
        total = (
            output.sum(dim=(0, 2, 3)) / output[0, 0].numel() if output.dim() == 4 else output.sum(0)
        )
        sums[name] = sums.get(name, torch.zeros_like(total)) + total

    for step in net.steps:
        if step.name in names:
            handles.append(net.layer(step).register_forward_hook(note))
    for batch in _batches(images):
        net(batch)
    for handle in handles:
        handle.remove()
    return {name: total / images.shape[0] for name, total in sums.items()}

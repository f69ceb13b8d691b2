"""Where a network is quantized, at which width and on which scale: read off its steps, no weights.

This project's definition. Every rounding operation's output is one quantization point. A tensor
that only weighted layers read has the width being run; a tensor of a residual sum has
``residual_bits``; what feeds pooling, products and the last layer has 8 bits. A weighted layer that
reads a wider tensor gets a *narrow* copy of it: one more quantization point, the graph's
``Requantize``. ``tied`` scales join the tensors of each sum into one scale group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import BadInput
from ..quant.codes import CodeRange, activation_range
from ..types import QuantSpec
from .steps import TRANSPARENT, Step

GATE_LIMIT = 6.0  # relu6(x + 3): the hard-swish gate's range


@dataclass(frozen=True)
class Site:
    """A quantization point: its codes, and the scale group (or the fixed scale) it uses."""

    codes: CodeRange
    group: str
    fixed_scale: float | None = None


@dataclass(frozen=True)
class Plan:
    """All quantization points of one width.

    - ``sites``: native codes of every tensor but the logits; a transparent step shares its
      input's scale group. ``narrow``: for a tensor name, the copy that weighted layers read.
    - ``weight_bits``: width of each weighted layer's weights.
    """

    sites: Mapping[str, Site]
    narrow: Mapping[str, Site]
    weight_bits: Mapping[str, int]

    def reads(self, step: Step) -> Site:
        """The site a weighted layer really reads."""
        source = step.inputs[0]
        return self.narrow.get(source, self.sites[source])


def plan(steps: Sequence[Step], spec: QuantSpec, *, bits: int) -> Plan:
    """The quantization points of ``steps`` when run at ``bits`` (2 to 8).

    Raises ``BadInput`` when a width of ``spec`` lies outside 2 to 8.
    """
    for width in (bits, spec.first_last_bits, spec.residual_bits or bits):
        if not 2 <= width <= 8:
            raise BadInput(f"Integers of {width} bits are not possible.", "Use widths from 2 to 8.")
    by_name = {step.name: step for step in steps}
    weight_bits = {
        step.name: spec.first_last_bits if _is_edge(step, steps, by_name) else bits
        for step in steps
        if step.op in ("conv", "linear")
    }
    wanted = _wanted_bits(steps, spec, bits=bits, weight_bits=weight_bits)
    groups = _scale_groups(steps, tied=spec.scales != "free")
    signed = _signed(steps)
    sites: dict[str, Site] = {}
    for step in steps[:-1]:
        if step.op == "input":
            sites[step.name] = Site(CodeRange(-128, 127), step.name, 1 / 64)
        elif step.op == "rescale":
            source = sites[step.inputs[0]]
            fixed = (source.fixed_scale or 1.0) * step.constant
            sites[step.name] = Site(source.codes, step.name, fixed)
        elif step.op in TRANSPARENT:
            source = sites[step.inputs[0]]
            codes = CodeRange(0, source.codes.high) if step.op == "clip" else source.codes
            sites[step.name] = Site(codes, source.group, source.fixed_scale)
        else:
            codes = activation_range(wanted[step.name], signed=signed[step.name], spec=spec)
            fixed_scale = _fixed_scale(step, codes, spec)
            sites[step.name] = Site(codes, groups[step.name], fixed_scale)
    narrow = {}
    for step in steps:
        if step.op in ("conv", "linear"):
            read = step.inputs[0]
            codes = activation_range(weight_bits[step.name], signed=signed[read], spec=spec)
            if read != steps[0].name and codes.high < sites[read].codes.high:
                narrow[read] = Site(codes, f"{read}:narrow")
    return Plan(sites, narrow, weight_bits)


def _is_edge(step: Step, steps: Sequence[Step], by_name: Mapping[str, Step]) -> bool:
    """First layer (reads the pixels) or last (gives the logits)."""
    return step is steps[-1] or by_name[step.inputs[0]].op == "input"


def _wanted_bits(
    steps: Sequence[Step], spec: QuantSpec, *, bits: int, weight_bits: Mapping[str, int]
) -> dict[str, int]:
    """Native width of each tensor: the widest that any reader wants, seen through moves."""
    residual = spec.residual_bits or bits
    last = steps[-1].name
    wanted: dict[str, int] = {step.name: 0 for step in steps}
    for step in reversed(steps):
        if step.op == "add":
            wanted[step.name] = max(wanted[step.name], residual)
        for source in step.inputs:
            if step.op in TRANSPARENT or step.op == "concat":
                need = wanted[step.name]
            elif step.op in ("conv", "linear"):
                need = weight_bits[step.name] if step.name == last else bits
            elif step.op == "add":
                need = residual
            else:
                need = 8
            wanted[source] = max(wanted[source], need)
    return wanted


def _signed(steps: Sequence[Step]) -> dict[str, bool]:
    signed: dict[str, bool] = {}
    for step in steps:
        inputs = [signed[name] for name in step.inputs]
        if step.clip != "none" or step.op in ("sigmoid", "rescale"):
            signed[step.name] = False
        elif step.op in ("input", "conv", "linear", "add_constant"):
            signed[step.name] = True
        else:
            signed[step.name] = any(inputs)
    return signed


def _fixed_scale(step: Step, codes: CodeRange, spec: QuantSpec) -> float | None:
    """Scales that are known beforehand: the gates of SiLU and hard-swish."""
    if step.op == "sigmoid":
        return 1 / (codes.high + 1)  # 1/128 or 1/256: a power of two under every profile
    if step.op == "add_constant":
        return 2.0**-4 if spec.scales == "strict" else GATE_LIMIT / codes.high
    return None


def _scale_groups(steps: Sequence[Step], *, tied: bool) -> dict[str, str]:
    """Scale group of each tensor, named after its first member."""
    parent = {step.name: step.name for step in steps}
    order = {step.name: index for index, step in enumerate(steps)}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for step in steps:
        is_joint = step.op in TRANSPARENT or (tied and step.op in ("add", "concat"))
        for source in step.inputs if is_joint else ():
            first, second = sorted((root(source), root(step.name)), key=order.__getitem__)
            parent[second] = first
    return {name: root(name) for name in parent}

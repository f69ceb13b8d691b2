"""How far an engine's integers may be from the judge's: data that stands beside the engine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tolerance:
    """What may differ in an engine that does not compute the judge's every bit, and why.

    - ``code_steps``: how far codes of the first layer that differs may be from the judge's, which
      had the same codes to start from; ``logits_relative``: the same of logits that come from
      equal codes, relative to the largest.
    - ``classes_share``: share of images whose class may differ.
    - ``float_nodes``: types of graph nodes that the engine has no integer kernel for.
    - ``fused_nodes``: types that need not have a kernel of their own.
    """

    code_steps: int
    logits_relative: float
    classes_share: float
    float_nodes: frozenset[str]
    fused_nodes: frozenset[str]
    reason: str


EXACT = Tolerance(
    code_steps=0,
    logits_relative=0.0,
    classes_share=0.0,
    float_nodes=frozenset(),
    fused_nodes=frozenset(),
    reason="Every bit is the judge's.",
)
"""What is asked of an engine that states nothing else in the registry."""

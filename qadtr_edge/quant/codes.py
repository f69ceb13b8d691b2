"""Which integers a width may use (this project's definition, symmetric throughout).

Weights use the narrow range, so that a sign flip is legal and batch norm folds into the scale.
"""

from __future__ import annotations

from typing import NamedTuple

from ..errors import BadInput
from ..types import FLOAT_BITS, QuantSpec

AVX2_SAFE_LIMIT = 64  # 255 * 64 * 2 < 2**15: no int16 pair of u8 x s8 products overflows
CONTAINER_SAFE = 128  # largest container value for which weights up to 127 cannot overflow


class CodeRange(NamedTuple):
    """Smallest and largest integer code of a tensor, both inclusive."""

    low: int
    high: int


def check_bits(bits: int) -> int:
    """``bits`` itself when it is 2 to 8 or 32 (float); otherwise ``BadInput``."""
    if bits == FLOAT_BITS or 2 <= bits <= 8:
        return bits
    raise BadInput(
        f"A width of {bits} bits is not possible.", "Use 2 to 8, or 32 for the float model."
    )


def weight_limit(bits: int) -> int:
    """Largest weight code at ``bits``: 1, 3, 7, 15, 31, 63, 127 for 2 to 8 bits."""
    return (1 << (bits - 1)) - 1


def activation_range(bits: int, *, signed: bool, spec: QuantSpec) -> CodeRange:
    """Codes of an activation: ``[0, 2**b - 1]`` when it cannot be negative, else ``[-q, q]``.

    At 8 bits a signed tensor uses its container, [-128, 127]; a non-negative one stops at 127
    (``spec.activations == "signed"``, the range every engine holds) or at 255 (``"unsigned"``).
    """
    if signed:
        limit = weight_limit(bits)
        return CodeRange(-128, 127) if bits == 8 else CodeRange(-limit, limit)
    if bits == 8:
        return CodeRange(0, 255 if spec.activations == "unsigned" else 127)
    return CodeRange(0, (1 << bits) - 1)


def zero_point(codes: CodeRange) -> int:
    """Zero point of the unsigned 8-bit container that holds ``codes``: 0 or 128."""
    return 128 if codes.low < 0 else 0


def weight_limit_for(bits: int, *, reads: CodeRange, spec: QuantSpec) -> int:
    """``weight_limit``, at 8 bits reduced to 64 where the input could saturate AVX2."""
    limit = weight_limit(bits)
    if spec.avx2_safe and reads.high + zero_point(reads) > CONTAINER_SAFE:
        return min(limit, AVX2_SAFE_LIMIT)
    return limit

"""Which integers a width may use: the table, and the weights that cannot overflow int16 pairs."""

from __future__ import annotations

import itertools

import pytest

from qadtr_edge.errors import BadInput
from qadtr_edge.quant.codes import (
    CodeRange,
    activation_range,
    check_bits,
    weight_limit,
    weight_limit_for,
    zero_point,
)
from qadtr_edge.types import QuantSpec

SIGNED, UNSIGNED = QuantSpec(), QuantSpec(activations="unsigned")
WIDTHS = (2, 3, 4, 5, 6, 7, 8)


def test_weights_use_the_narrow_range() -> None:
    assert [weight_limit(bits) for bits in WIDTHS] == [1, 3, 7, 15, 31, 63, 127]


@pytest.mark.parametrize("spec", [SIGNED, UNSIGNED])
def test_below_eight_bits_both_profiles_agree(spec: QuantSpec) -> None:
    for bits in range(2, 8):
        limit = 2 ** (bits - 1) - 1
        assert activation_range(bits, signed=True, spec=spec) == (-limit, limit)
        assert activation_range(bits, signed=False, spec=spec) == (0, 2**bits - 1)


def test_eight_bits_fill_the_container_the_profile_names() -> None:
    assert activation_range(8, signed=True, spec=SIGNED) == (-128, 127)
    assert activation_range(8, signed=True, spec=UNSIGNED) == (-128, 127)
    assert activation_range(8, signed=False, spec=SIGNED) == (0, 127)
    assert activation_range(8, signed=False, spec=UNSIGNED) == (0, 255)


@pytest.mark.parametrize("spec", [SIGNED, UNSIGNED])
def test_every_range_fits_an_unsigned_byte_at_its_zero_point(spec: QuantSpec) -> None:
    for bits, signed in itertools.product(WIDTHS, (True, False)):
        codes = activation_range(bits, signed=signed, spec=spec)
        assert codes.low + zero_point(codes) >= 0
        assert codes.high + zero_point(codes) <= 255


def test_no_pair_of_products_leaves_int16_when_avx2_safe() -> None:
    for spec, bits, signed in itertools.product((SIGNED, UNSIGNED), WIDTHS, (True, False)):
        reads = activation_range(bits, signed=signed, spec=spec)
        for weight_bits in WIDTHS:
            limit = weight_limit_for(weight_bits, reads=reads, spec=spec)
            assert 2 * limit * (reads.high + zero_point(reads)) < 2**15


def test_avx2_safety_costs_codes_only_where_it_must() -> None:
    risky = QuantSpec(avx2_safe=False)
    image, relu = CodeRange(-128, 127), CodeRange(0, 127)
    assert weight_limit_for(8, reads=image, spec=SIGNED) == 64
    assert weight_limit_for(8, reads=image, spec=risky) == 127
    assert weight_limit_for(8, reads=relu, spec=SIGNED) == 127
    assert weight_limit_for(8, reads=CodeRange(0, 255), spec=UNSIGNED) == 64
    assert weight_limit_for(4, reads=image, spec=SIGNED) == 7


def test_widths_from_two_to_eight_and_float() -> None:
    assert [check_bits(bits) for bits in (*WIDTHS, 32)] == [*WIDTHS, 32]
    for bits in (-1, 0, 1, 9, 16, 31, 33):
        with pytest.raises(BadInput, match=f"{bits} bits"):
            check_bits(bits)

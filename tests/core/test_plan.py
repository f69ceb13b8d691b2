"""Where a network is quantized, at which width and on which scale."""
# ruff: noqa: E402

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import nets
from qadtr_edge.errors import BadInput
from qadtr_edge.models.plan import Plan, plan
from qadtr_edge.models.steps import trace
from qadtr_edge.types import QuantSpec

RESNET = trace(nets.small_resnet())
MIXED = trace(nets.mixed())
BLOCKS = ("layer1.0", "layer2.0", "layer3.0")


def of_resnet(bits: int, spec: QuantSpec | None = None) -> Plan:
    return plan(RESNET, spec or QuantSpec(), bits=bits)


def test_first_and_last_layer_keep_eight_bits() -> None:
    for bits in (8, 4, 2):
        made = of_resnet(bits)
        assert made.weight_bits["conv1"] == made.weight_bits["linear"] == 8
        inner = {n: b for n, b in made.weight_bits.items() if n not in ("conv1", "linear")}
        assert set(inner.values()) == {bits}
        assert len(inner) == 6


def test_the_input_is_the_raw_byte_and_the_logits_are_no_site() -> None:
    made = of_resnet(4)
    assert made.sites["pixel_input"].codes == (-128, 127)
    assert made.sites["pixel_input"].fixed_scale == 1 / 64
    assert "linear" not in made.sites
    assert set(made.sites) == {step.name for step in RESNET[:-1]}


def test_tensors_of_a_sum_keep_eight_bits_and_layers_read_narrow_copies() -> None:
    made = of_resnet(4)
    for block in BLOCKS:
        assert made.sites[f"{block}.conv2"].codes == (-128, 127)
        assert made.sites[f"{block}.conv1"].codes == (0, 15), "only a convolution reads it"
    sums = [name for name in made.sites if name.startswith("add")]
    assert len(sums) == 3
    assert all(made.sites[name].codes == (0, 127) for name in sums)
    assert set(made.narrow) == {"conv1", *sums[:2]}, "the last sum feeds the pooling alone"
    assert all(site.codes == (0, 15) for site in made.narrow.values())
    readers = {step.inputs[0]: made.reads(step) for step in RESNET if step.op == "conv"}
    assert readers["conv1"].codes == (0, 15)
    assert readers["pixel_input"].codes == (-128, 127)


def test_at_eight_bits_nothing_is_narrowed() -> None:
    assert not of_resnet(8).narrow
    assert not plan(MIXED, QuantSpec(), bits=8).narrow


def test_residual_bits_none_narrows_the_sums_themselves() -> None:
    made = of_resnet(4, QuantSpec(residual_bits=None))
    assert not made.narrow
    assert made.sites["layer1.0.conv2"].codes == (-7, 7)
    assert made.sites["add"].codes == (0, 15)
    assert made.sites["add_2"].codes == (0, 127), "the pooling reads it at 8 bits"
    six = of_resnet(2, QuantSpec(residual_bits=6))
    assert six.sites["add"].codes == (0, 63)
    assert six.narrow["add"].codes == (0, 3)


def test_unsigned_activations_use_the_whole_byte() -> None:
    made = of_resnet(8, QuantSpec(activations="unsigned"))
    assert made.sites["layer1.0.conv1"].codes == (0, 255)
    assert made.sites["layer1.0.conv2"].codes == (-128, 127)
    assert of_resnet(4, QuantSpec(activations="unsigned")).sites["layer1.0.conv1"].codes == (0, 15)


@pytest.mark.parametrize("profile", ["tied", "strict"])
def test_the_tensors_of_every_sum_share_one_scale(profile: str) -> None:
    for steps in (RESNET, MIXED):
        made = plan(steps, QuantSpec(scales=profile), bits=4)
        sums = [step for step in steps if step.op in ("add", "concat")]
        assert sums
        for step in sums:
            groups = {made.sites[name].group for name in (step.name, *step.inputs)}
            assert len(groups) == 1


def test_free_scales_are_shared_only_where_codes_move() -> None:
    made = of_resnet(4, QuantSpec(scales="free"))
    operands = [made.sites[name].group for name in ("conv1", "layer1.0.conv2", "add")]
    assert len(set(operands)) == 3
    for step in RESNET:
        if step.op in ("subsample", "pad_channels", "flatten"):
            assert made.sites[step.name].group == made.sites[step.inputs[0]].group
    assert made.narrow["add"].group != made.sites["add"].group


def test_signs_follow_the_operations() -> None:
    made = plan(MIXED, QuantSpec(), bits=8)
    negative = {name: site.codes.low < 0 for name, site in made.sites.items()}
    for name in ("stem", "silu", "deep", "hard", "halve", "cat", "narrow", "mul", "add", "mean"):
        assert negative[name], name
    for name in ("silu.sigmoid", "hard.shift", "hard.gate", "grouped", "relu", "sigmoid", "hidden"):
        assert not negative[name], name


def test_the_gates_have_scales_known_beforehand() -> None:
    made = plan(MIXED, QuantSpec(), bits=2)
    assert made.sites["silu.sigmoid"].fixed_scale == 2**-7
    assert made.sites["hard.shift"].fixed_scale == 6 / 127
    assert made.sites["hard.gate"].fixed_scale == pytest.approx(1 / 127)
    strict = plan(MIXED, QuantSpec(scales="strict"), bits=2)
    assert strict.sites["hard.shift"].fixed_scale == 2**-4
    unsigned = plan(MIXED, QuantSpec(activations="unsigned"), bits=2)
    assert unsigned.sites["silu.sigmoid"].fixed_scale == 2**-8


def test_what_feeds_pooling_products_and_the_last_layer_has_eight_bits() -> None:
    made = plan(MIXED, QuantSpec(), bits=2)
    for name in ("stem", "deep", "narrow", "gate", "most_2", "hidden"):
        assert made.sites[name].codes.high == 127, name
    assert made.weight_bits["hidden"] == 2
    assert made.sites["mean"].codes == (-1, 1), "only a hidden layer reads it"


@pytest.mark.parametrize("spec", [QuantSpec(first_last_bits=9), QuantSpec(residual_bits=1)])
def test_widths_of_a_spec_that_are_no_integers_are_refused(spec: QuantSpec) -> None:
    with pytest.raises(BadInput, match="bits are not possible"):
        of_resnet(8, spec)

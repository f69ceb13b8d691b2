"""Tracing: what a module becomes, and what is refused, by name, before it could be misread."""
# ruff: noqa: E402

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn
from torch.nn import functional

import nets
from qadtr_edge.errors import Unsupported
from qadtr_edge.models.layers import PixelInput
from qadtr_edge.models.steps import Step, trace

Forward = Callable[["Net", Tensor], Tensor]


class Net(nn.Module):
    """``PixelInput``, what ``middle`` computes, global pooling, one linear layer."""

    def __init__(self, middle: Forward) -> None:
        super().__init__()
        self.middle = middle
        self.pixels = PixelInput()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.other = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU()
        self.drop = nn.Dropout()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flat = nn.Flatten()
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.flat(self.pool(self.middle(self, self.pixels(x)))))


def steps(middle: Forward) -> dict[str, Step]:
    return {step.name: step for step in trace(Net(middle).eval())}


def ops(middle: Forward) -> list[str]:
    return [step.op for step in steps(middle).values()]


def refusal(model: nn.Module) -> str:
    with pytest.raises(Unsupported) as caught:
        trace(model)
    return str(caught.value)


def test_batch_norm_and_relu_join_the_convolution_before_them() -> None:
    found = steps(lambda net, x: net.relu(net.drop(net.norm(net.conv(x)))))
    assert list(found) == ["pixels", "conv", "pool", "flat", "head"]
    assert isinstance(found["conv"].norm, nn.BatchNorm2d)
    assert found["conv"].clip == "relu"


def test_relu_joins_a_sum() -> None:
    found = steps(lambda net, x: torch.relu(net.conv(x) + net.other(x)))
    assert found["add"].clip == "relu"
    assert found["add"].inputs == ("conv", "other")
    assert found["conv"].clip == "none"


def test_relu_stands_alone_where_its_input_is_read_elsewhere() -> None:
    def middle(net: Net, x: Tensor) -> Tensor:
        y = net.norm(net.conv(x))
        return y + net.relu(y)

    found = steps(middle)
    assert found["conv"].clip == "none"
    assert found["relu"].op == "clip"
    assert found["add"].inputs == ("conv", "relu")


def test_relu_stands_alone_where_its_input_is_read_under_another_name() -> None:
    def middle(net: Net, x: Tensor) -> Tensor:
        y = net.conv(x)
        return net.relu(net.drop(y)) + y

    found = steps(middle)
    assert found["conv"].clip == "none"
    assert found["add"].inputs == ("relu", "conv")


def test_a_second_relu_of_another_kind_is_not_lost() -> None:
    found = steps(lambda net, x: functional.relu6(net.relu(net.conv(x))))
    assert found["conv"].clip == "relu"
    assert found["relu6"].op == "clip"
    assert found["relu6"].clip == "relu6"


def test_gates_become_their_parts() -> None:
    assert ops(lambda net, x: functional.silu(net.conv(x)))[2:4] == ["sigmoid", "mul"]
    hard = steps(lambda net, x: functional.hardswish(net.conv(x)))
    assert [step.op for step in hard.values()][2:5] == ["add_constant", "rescale", "mul"]
    assert hard["hardswish"].inputs == ("conv", "hardswish.gate")
    assert hard["hardswish.shift"].constant == 3
    assert hard["hardswish.shift"].clip == "relu6"


def test_a_tensor_concatenated_twice_counts_twice() -> None:
    def middle(net: Net, x: Tensor) -> Tensor:
        y = net.conv(x)
        return net.flat(torch.cat([y, y, net.other(x)], 1))

    assert steps(middle)["cat"].inputs == ("conv", "conv", "other")


def test_a_tensor_added_to_itself_is_added_twice() -> None:
    def middle(net: Net, x: Tensor) -> Tensor:
        y = net.conv(x)
        return y + y

    assert steps(middle)["add"].inputs == ("conv", "conv")


def test_a_module_called_twice_is_two_steps() -> None:
    found = steps(lambda net, x: net.pool(net.relu(net.drop(net.conv(x)))))
    assert [name for name in found if name.startswith("pool")] == ["pool", "pool_2"]


def test_a_mean_over_rows_and_columns_is_global_pooling() -> None:
    assert (
        ops(lambda net, x: net.conv(x).mean(dim=(2, 3), keepdim=True))[2] == "global_average_pool"
    )
    assert ops(lambda net, x: net.conv(x).mean((-1, -2), True))[2] == "global_average_pool"


def test_the_mixed_network_holds_every_operation() -> None:
    held = {step.op for step in trace(nets.mixed())} | {
        step.op for step in trace(nets.small_resnet())
    }
    assert held == {
        "input", "conv", "linear", "add", "add_constant", "mul", "sigmoid", "rescale", "concat",
        "max_pool", "average_pool", "global_average_pool", "subsample", "pad_channels", "flatten",
        "clip",
    }  # fmt: skip


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("middle", "named"),
    [
        (lambda net, x: torch.exp(net.conv(x)), "exp"),
        (lambda net, x: net.conv(x) * 0.5, "mul"),
        (lambda net, x: net.conv(x) + 1, "add"),
        (lambda net, x: torch.add(net.conv(x), net.other(x), alpha=2), "add"),
        (lambda net, x: net.conv(x).mean((2,), keepdim=True), "mean"),
        (lambda net, x: torch.cat([net.conv(x), net.other(x)], dim=2), "cat"),
        (lambda net, x: torch.cat([net.conv(x), net.other(x)]), "cat"),
        (lambda net, x: torch.flatten(net.conv(x)), "flatten"),
        (lambda net, x: net.conv(x).flatten(2), "flatten"),
        (lambda net, x: net.norm(net.relu(net.conv(x))), "norm"),
        (lambda net, x: net.norm(net.conv(x) + net.other(x)), "norm"),
        (lambda net, x: net.conv(x).view(-1, 4, 8, 8), "view"),
    ],
)  # fmt: skip
def test_what_has_no_integer_form_is_named(middle: Forward, named: str) -> None:
    assert named in refusal(Net(middle))


def test_a_batch_norm_whose_convolution_is_read_elsewhere_is_named() -> None:
    def middle(net: Net, x: Tensor) -> Tensor:
        y = net.conv(x)
        return net.norm(y) + y

    assert "Batch norm 'norm'" in refusal(Net(middle))


@pytest.mark.parametrize(
    "module",
    [
        nn.AvgPool2d(2, ceil_mode=True), nn.AvgPool2d(2, divisor_override=3), nn.GELU(),
        nn.MaxPool2d(2, ceil_mode=True), nn.MaxPool2d(2, dilation=2), nn.AdaptiveAvgPool2d(2),
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), nn.ConvTranspose2d(3, 4, 2),
        nn.Conv2d(3, 4, 3, padding="same"), nn.Flatten(2), nn.GroupNorm(1, 3),
    ],
)  # fmt: skip
def test_an_option_without_integer_form_is_named(module: nn.Module) -> None:
    model = nn.Sequential(PixelInput(), module, nn.Conv2d(4, 4, 1), nn.Flatten(), nn.Linear(4, 2))
    assert re.search(r"at '_?1'", refusal(model))


def test_both_ends_must_be_what_they_are() -> None:
    conv, head = nn.Conv2d(3, 4, 1), nn.Linear(4, 2)
    assert "PixelInput" in refusal(nn.Sequential(conv, nn.Flatten(), head))
    assert "PixelInput" in refusal(nn.Sequential(conv, PixelInput(), nn.Flatten(), head))
    assert "linear layer" in refusal(nn.Sequential(PixelInput(), conv))
    assert "linear layer" in refusal(nn.Sequential(PixelInput(), nn.Flatten(), head, nn.ReLU()))


def test_pixels_read_beside_pixel_input_are_refused() -> None:
    class Beside(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.flat(self.pool(self.conv(self.pixels(x)) + x)))

    assert "PixelInput" in refusal(Beside(lambda net, x: x))


def test_several_answers_are_refused() -> None:
    class Two(Net):
        def forward(self, x: Tensor) -> Tensor:
            y = self.flat(self.pool(self.conv(self.pixels(x))))
            return self.head(y), y

    class Early(Net):
        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(self.pixels(x))
            y = self.head(self.flat(self.pool(x)))
            self.head(self.flat(self.pool(self.relu(x))))
            return y

    for kind in (Two, Early):
        assert "gives the logits" in refusal(kind(lambda net, x: x))


def test_control_flow_that_depends_on_data_is_refused() -> None:
    def middle(net: Net, x: Tensor) -> Tensor:
        return net.conv(x) if x.sum() > 0 else net.other(x)

    assert "cannot be traced" in refusal(Net(middle))

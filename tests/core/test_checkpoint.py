"""Checkpoints: the same network back, and a sentence for every file that is none."""
# ruff: noqa: E402

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

import nets
import qadtr_edge
from qadtr_edge import registry
from qadtr_edge.errors import BadInput, UnknownName
from qadtr_edge.models import checkpoint
from qadtr_edge.models.calibrate import calibrate, correct_bias
from qadtr_edge.models.checkpoint import CheckpointFacts
from qadtr_edge.models.prepare import prepare
from qadtr_edge.models.quantnet import QuantNet
from qadtr_edge.models.weights import public_pixels
from qadtr_edge.types import QuantSpec

WIDTHS = (32, 8, 4, 2)


def made(
    spec: QuantSpec | None = None, *, is_public: bool = False, corrected: bool = False
) -> QuantNet:
    torch.manual_seed(0)
    pixel_input = public_pixels() if is_public else None
    model = nets.lively(checkpoint.build_model("resnet8", classes=6, pixel_input=pixel_input))
    net = prepare(model, spec or QuantSpec(), widths=WIDTHS, classes=6, image_px=16)
    calibrate(net, nets.pixels(16, seed=1))
    if corrected:
        correct_bias(net, nets.pixels(16, seed=1))
    return net.eval()


def facts(net: QuantNet) -> CheckpointFacts:
    return CheckpointFacts(
        model="resnet8", data="signs", classes=6, image_px=16, widths=net.widths, spec=net.spec,
        class_names=tuple("abcdef"), trained_widths=(32, 8), made_by={"lr": 0.1, "init": None},
    )  # fmt: skip


def saved(path: Path, net: QuantNet) -> Path:
    checkpoint.save(net, path, facts=facts(net))
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("checkpoint") / "net.safetensors", made())


def logits(net: QuantNet) -> dict[int, Tensor]:
    images = nets.pixels(4, seed=5)
    with torch.no_grad():
        return {bits: net.select(bits)(images) for bits in net.widths}


@pytest.mark.parametrize(
    ("spec", "is_public", "corrected"),
    [
        (QuantSpec(), False, False), (QuantSpec(scales="strict"), False, False),
        (QuantSpec(scales="free", activations="unsigned", residual_bits=None), True, False),
        (QuantSpec(), True, True), (QuantSpec(), False, True),
    ],
)  # fmt: skip
def test_the_network_that_comes_back_gives_the_same_logits(
    tmp_path: Path, spec: QuantSpec, is_public: bool, corrected: bool
) -> None:
    net = made(spec, is_public=is_public, corrected=corrected)
    path = saved(tmp_path / "deep" / "net.safetensors", net)
    again, found = checkpoint.load(path)
    assert found == CheckpointFacts(**{**facts(net).__dict__, "notes": net.notes})
    assert not again.training
    assert again.spec == spec
    assert again.notes == net.notes
    assert bool(net.notes) is is_public
    wanted = logits(net)
    assert all(torch.equal(value, wanted[bits]) for bits, value in logits(again).items())


def test_nothing_but_the_file_is_left_in_the_folder(tmp_path: Path) -> None:
    saved(saved(tmp_path / "net.safetensors", made()), made())
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]


def test_facts_are_read_without_the_weights(file: Path) -> None:
    assert checkpoint.read_facts(file).made_by == {"lr": 0.1, "init": None}


@pytest.mark.parametrize("name", registry.TABLES["packaged model"])
def test_packaged_models_open_by_name(name: str) -> None:
    net, facts = qadtr_edge.load_checkpoint(f"zoo:{name}")
    assert facts.model in name
    assert not net.training
    assert net.widths == facts.widths == facts.trained_widths


def test_an_unknown_packaged_model_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="plain-resnet8-signs"):
        qadtr_edge.load_checkpoint("zoo:plain-resnet8-sign")


def test_a_missing_file_is_answered_with_the_commands_that_make_one(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no checkpoint") as caught:
        checkpoint.load(tmp_path / "none.safetensors")
    assert "qadtr-edge train" in caught.value.remedy


@pytest.mark.parametrize("keep", [0, 5, 300, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, file: Path, keep: int) -> None:
    path = tmp_path / "torn.safetensors"
    path.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(BadInput, match="no readable qadtr-edge checkpoint"):
        checkpoint.load(path)


def test_tensors_without_our_header_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(BadInput, match="no readable qadtr-edge checkpoint"):
        checkpoint.load(tmp_path / "other.safetensors")


def rewritten(
    file: Path, folder: Path, *, header: dict[str, object] | None = None,
    tensors: dict[str, Tensor | None] | None = None,
) -> Path:  # fmt: skip
    """The checkpoint with entries of its header or tensors replaced; ``None`` removes one."""
    with safe_open(file, framework="pt") as opened:
        old = json.loads(opened.metadata()["qadtr_edge"])
    held: dict[str, Tensor | None] = {**load_file(file), **(tensors or {})}
    path = folder / "changed.safetensors"
    save_file(
        {name: value for name, value in held.items() if value is not None}, path,
        metadata={"qadtr_edge": json.dumps({**old, **(header or {})})},
    )  # fmt: skip
    return path


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"schema": 2}, "checkpoint schema 2"),
        ({"spec": {"bits": 8, "flavour": "vanilla"}}, "no readable"),
        ({"widths": None}, "no readable"),
        ({"classes": "many"}, "no readable"),
        ({"image_px": 0}, "images of 0 pixels"),
        ({"image_px": -32}, "images of -32 pixels"),
        ({"spec": {"scales": "loose"}}, "scales is 'loose', not one of tied, strict, free"),
        ({"spec": {"activations": "vivid"}}, "activations is 'vivid'"),
        ({"widths": [32, 9]}, "9 bits"),
        ({"widths": [32, 8, 4, 3]}, "does not fit"),
        ({"classes": 7}, "does not fit"),
        ({"model": "resnet20"}, "does not fit the model resnet20"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(
    tmp_path: Path, file: Path, header: dict[str, object], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        checkpoint.load(rewritten(file, tmp_path, header=header))


def test_an_unknown_model_is_named(tmp_path: Path, file: Path) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'resnet8'"):
        checkpoint.load(rewritten(file, tmp_path, header={"model": "resnet9"}))


@pytest.mark.parametrize(
    "tensors",
    [
        {"layers.conv1.weight": torch.zeros(16, 3, 5, 5)},
        {"layers.conv1.weight": None},
        {"layers.conv9.bias": torch.zeros(16)},
        {"layers.conv9.shifts.w8": torch.zeros(16)},
        {"layers.conv1.bias": torch.zeros(3), "layers.conv1.weight": None},
        {"extra": torch.zeros(1)},
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    tmp_path: Path, file: Path, tensors: dict[str, Tensor | None]
) -> None:
    with pytest.raises(BadInput, match="does not fit the model resnet8"):
        checkpoint.load(rewritten(file, tmp_path, tensors=tensors))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("layers.linear.bias", float("nan"), "not finite in layers.linear.bias"),
        ("layers.conv1.norms.w32.running_var", float("inf"), "not finite"),
        ("scales.conv1@8", 0.0, "scale that is not positive in scales.conv1@8"),
        ("layers.layer1/0/conv1.scales.w4", -0.1, "scale that is not positive"),
    ],
)
def test_numbers_that_no_network_has_are_refused(
    tmp_path: Path, file: Path, name: str, value: float, message: str
) -> None:
    spoilt = torch.full_like(load_file(file)[name], value)
    with pytest.raises(BadInput, match=message):
        checkpoint.load(rewritten(file, tmp_path, tensors={name: spoilt}))


def test_a_scale_whose_sign_training_turned_is_saved_as_it_is_used(tmp_path: Path) -> None:
    net = made()
    with torch.no_grad():
        net.scales["conv1@8"].neg_()
    wanted = logits(net)
    again, _ = checkpoint.load(saved(tmp_path / "net.safetensors", net))
    assert all(torch.equal(value, wanted[bits]) for bits, value in logits(again).items())


def test_names_of_tensors_are_those_of_the_first_release(file: Path) -> None:
    """A checkpoint trained today must load tomorrow."""
    names = set(load_file(file))
    assert {
        "layers.conv1.weight", "layers.conv1.norms.w32.weight", "layers.conv1.norms.w2.running_var",
        "layers.layer1/0/conv1.weight", "layers.layer1/0/conv1.scales.w4", "layers.linear.weight",
        "layers.linear.bias", "scales.conv1@8", "scales.conv1@2", "scales.add:narrow@4",
        "scales.layer1/0/conv1@8",
    } <= names  # fmt: skip
    assert len(names) == 182


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The stem of a file of functions that make, or fail to make, a network."""
    (tmp_path / "nets_of_a_user.py").write_text(
        "from builtins import dict\n"
        "from torch import nn\n"
        "def tiny(classes):\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1),\n"
        "                         nn.Flatten(), nn.Linear(4, classes))\n"
        "def none(classes): return classes\n"
        "def greedy(): return nn.Identity()\n"
        "def broken(classes): raise RuntimeError('no such width')\n"
        "number = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    return "nets_of_a_user"


def test_a_network_of_the_users_own_file_is_saved_and_found_again(own: str, tmp_path: Path) -> None:
    name = f"{own}:tiny"
    model = checkpoint.build_model(name, classes=5)
    net = prepare(model, QuantSpec(), widths=(32, 8), classes=5, image_px=8)
    facts = CheckpointFacts(
        model=name, data="signs", classes=5, image_px=8, widths=(32, 8), spec=net.spec
    )
    checkpoint.save(net, tmp_path / "own.safetensors", facts=facts)
    again, told = checkpoint.load(tmp_path / "own.safetensors")
    assert told.model == name
    pixels = torch.arange(2 * 3 * 64, dtype=torch.uint8).reshape(2, 3, 8, 8)
    assert torch.equal(again.select(32)(pixels), net.eval().select(32)(pixels))


@pytest.mark.parametrize("function", ["none", "greedy", "number", "broken", "dict"])
def test_what_makes_no_network_is_said(own: str, function: str) -> None:
    with pytest.raises(BadInput, match=function) as caught:
        checkpoint.build_model(f"{own}:{function}", classes=5)
    assert "number of classes" in caught.value.remedy

"""Float weights a user already has: what is understood, and what is refused and why."""
# ruff: noqa: E402

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from safetensors.torch import save_file
from torch import Tensor, nn

from qadtr_edge.errors import BadInput
from qadtr_edge.models.checkpoint import build_model
from qadtr_edge.models.layers import PixelInput, WithPixels
from qadtr_edge.models.resnet import ResNet
from qadtr_edge.models.weights import load_weights, read_weights, reverse_channels


def source() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return ResNet(8).state_dict()


def target() -> nn.Module:
    torch.manual_seed(2)
    return ResNet(8)


def same(model: nn.Module, wanted: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, wanted[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("form", ["plain", "nested", "module", "model", "safetensors", "npz"])
def test_every_common_form_of_the_same_weights_is_read(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"w.{form if form in ('safetensors', 'npz') else 'th'}"
    tensors = source()
    match form:
        case "plain":
            torch.save(tensors, path)
        case "nested":
            torch.save({"state_dict": tensors, "best_prec1": 91.7, "epoch": 3}, path)
        case "module":
            torch.save({"state_dict": {f"module.{k}": v for k, v in tensors.items()}}, path)
        case "model":
            torch.save({"model": tensors}, path)
        case "safetensors":
            save_file(tensors, path)
        case "npz":
            np.savez(path, **{k: v.numpy() for k, v in tensors.items() if "num_batches" not in k})
    model = target()
    assert not same(model, tensors)
    load_weights(model, path)
    if form == "npz":
        tensors = {k: v for k, v in model.state_dict().items() if "num_batches" in k} | {
            k: v for k, v in tensors.items() if "num_batches" not in k
        }
    assert same(model, tensors)


def test_weights_that_expect_blue_first_read_red_first_exactly() -> None:
    model = target().eval()
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    before = model(images.flip(1))
    reverse_channels(model)
    assert torch.allclose(model(images), before, rtol=1e-5, atol=1e-5)


def test_a_model_without_a_first_convolution_has_no_channels_to_reverse() -> None:
    with pytest.raises(BadInput, match="does not start with a convolution"):
        reverse_channels(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)))


def test_weights_of_a_model_of_ones_own_keep_their_names(tmp_path: Path) -> None:
    own = nn.Sequential(nn.Conv2d(3, 4, 3))
    torch.save(own.state_dict(), tmp_path / "own.th")
    model = WithPixels(nn.Sequential(nn.Conv2d(3, 4, 3)), PixelInput())
    load_weights(model, tmp_path / "own.th")
    assert same(model.net, own.state_dict())


def test_counters_may_be_missing(tmp_path: Path) -> None:
    tensors = {name: value for name, value in source().items() if "num_batches" not in name}
    torch.save(tensors, tmp_path / "old.th")
    model = target()
    load_weights(model, tmp_path / "old.th")
    assert torch.equal(model.conv1.weight, tensors["conv1.weight"])


def refusal(path: Path, model: nn.Module | None = None) -> BadInput:
    model = model or target()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(BadInput) as caught:
        load_weights(model, path)
    assert same(model, before), "nothing is half loaded"
    return caught.value


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "no weights file" in refusal(tmp_path / "none.th").fact


@pytest.mark.parametrize("suffix", [".th", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"not a file of weights at all", b"\x80\x04K\x01."])
def test_a_damaged_file_is_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    assert str(path) in refusal(path).fact


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.th"
    torch.save(source(), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "cannot be read" in refusal(path).fact


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    path = tmp_path / "evil.th"
    torch.save({"conv1.weight": torch.zeros(1), "payload": Payload()}, path)
    assert "cannot be read" in refusal(path).fact
    assert not (tmp_path / "ran").exists()


def test_something_else_than_named_tensors_is_refused(tmp_path: Path) -> None:
    torch.save([torch.zeros(1)], tmp_path / "list.th")
    assert "no named tensors" in refusal(tmp_path / "list.th").fact


def test_weights_of_a_shallower_model_are_refused(tmp_path: Path) -> None:
    torch.save(source(), tmp_path / "w.th")
    error = refusal(tmp_path / "w.th", build_model("resnet20", classes=10))
    assert "lacks" in error.fact
    assert "'layer1.1.conv1.weight'" in error.fact


def test_weights_of_a_deeper_model_are_refused(tmp_path: Path) -> None:
    """Every name of ResNet-8 is in them, with its shape."""
    torch.save(ResNet(20).state_dict(), tmp_path / "w.th")
    error = refusal(tmp_path / "w.th")
    assert "tensors the model has not, 'layer1.1.conv1.weight' first" in error.fact
    assert "--model" in error.remedy


def test_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    torch.save(ResNet(8, classes=7).state_dict(), tmp_path / "w.th")
    assert (
        "'linear.weight' has shape (7, 64), the model wants (10, 64)"
        in refusal(tmp_path / "w.th").fact
    )


@pytest.mark.needs("real_data")
def test_the_public_checkpoints_are_read(data_root: Path) -> None:
    for depth in (20, 32, 44, 56):
        (path,) = (data_root / "cifar10_weights").glob(f"resnet{depth}-*.th")
        assert not any(name.startswith("module.") for name in read_weights(path))
        load_weights(build_model(f"resnet{depth}", classes=10), path)

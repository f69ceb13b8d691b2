"""Files made now by NVIDIA Model Optimizer and by torchao's PT2E, where those are installed."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from qadtr_edge.export import ort, reader, symmetric

import foreign_files as foreign
from golden import make_brevitas
from qadtr_edge.data.preprocess import agreed
from qadtr_edge.integer import judge

STEPS = 2
"""Model Optimizer leaves a part of each sum in float, which is rounded here once more."""


def check(path: Path, folder: Path) -> reader.Lowered:
    """Codes are the file's, steps apart where it rounds less; the engine's bits are the judge's."""
    pixels, _ = make_brevitas.images(60, seed=2)
    found = reader.lower(path, preprocess=agreed(path, None))
    traced = judge.trace(found.graph, pixels)
    for name, place in found.places.items():
        held = foreign.simulated(path, pixels, value=place.value).astype(int)
        codes = held + place.shift - found.graph.tensors[name].zero_point
        apart = np.abs(traced[name] - codes.reshape(traced[name].shape))
        assert apart.max() <= STEPS, name
        assert apart.mean() <= 0.25, name  # of a step: what one more rounding moves on average
    assert len(found.places) >= 4
    facts = ort.build(found.graph, folder)
    assert (facts.precision, facts.float_layers) == ("integer", ())
    with ort.OrtEngine(folder / ort.MODEL) as engine:
        np.testing.assert_array_equal(engine(pixels), judge.run(found.graph, pixels))
    return found


def test_model_optimizer(tmp_path: Path) -> None:
    pytest.importorskip("modelopt", reason="nvidia-modelopt is not installed")
    source = foreign.save(foreign.residual(width=16), tmp_path / "float.onnx")
    path = tmp_path / "file.onnx"
    told = agreed(source, None)
    assert told is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantization = pytest.importorskip(
            "modelopt.onnx.quantization", exc_type=ImportError, reason="its extra onnx is missing"
        )
        quantization.quantize(
            str(source), quantize_mode="int8", calibration_method="max", output_path=str(path),
            calibration_data={"image": told(make_brevitas.images(64, seed=5)[0])},
            calibration_eps=["cpu"], high_precision_dtype="fp32",
        )  # fmt: skip
    path.with_suffix(".toml").write_text(foreign.SIDECAR)
    found = check(path, tmp_path / "engine")
    assert symmetric.asymmetry(found.graph) is None  # its files are made for TensorRT


def test_torchao(tmp_path: Path) -> None:
    """PT2E with the XNNPACK quantizer, which quantizes every layer."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("torchao", reason="torchao is not installed")
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
        from torchao.testing.pt2e import _xnnpack_quantizer as xnnpack

        path = foreign.save(foreign.residual(), tmp_path / "file.onnx")
        told = agreed(path, None)
        assert told is not None
        shown = torch.from_numpy(told(make_brevitas.images(64, seed=5)[0]))
        torch.manual_seed(0)
        free = {0: torch.export.Dim("N", min=1, max=512)}
        module = torch.export.export(_network(torch), (shown[:2],), dynamic_shapes=(free,)).module()
        quantizer = xnnpack.XNNPACKQuantizer().set_global(
            xnnpack.get_symmetric_quantization_config(is_per_channel=True)
        )
        prepared = prepare_pt2e(module, quantizer)
        with torch.no_grad():
            prepared(shown)
        torch.onnx.export(
            convert_pt2e(prepared), (shown[:2],), str(path), dynamo=True, opset_version=21,
            dynamic_shapes=(free,), external_data=False,
        )  # fmt: skip
    check(path, tmp_path / "engine")


def _network(torch: object) -> object:
    from torch import nn

    class Shortcut(nn.Module):
        """A block of stride 2 beside a shortcut without parameters."""

        def __init__(self) -> None:
            super().__init__()
            self.stem, self.bn = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
            self.deep, self.head = nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.Linear(16, 6)

        def forward(self, x: object) -> object:
            x = nn.functional.relu(self.bn(self.stem(x)))
            skip = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))
            x = nn.functional.relu(self.deep(x) + skip)
            return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))

    return Shortcut().eval()

"""ONNX files as other tools write them: a small float network, and what quantizers make of it."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from golden.make_brevitas import CLASSES, SIDE_PX, images

if TYPE_CHECKING:
    import onnx

SIDECAR_GRAY = 'channels = "RGB"\nmean = 0.5\nstd = 0.25\n'
SIDECAR = 'layout = "NCHW"\nmean = [0.48, 0.45, 0.40]\nstd = [0.23, 0.22, 0.25]\n'


def save(model: onnx.ModelProto, path: Path, *, sidecar: str | None = SIDECAR) -> Path:
    """Writes ``model`` and, beside it, how pixels become its input."""
    path.write_bytes(model.SerializeToString())
    if sidecar is not None:
        path.with_suffix(".toml").write_text(sidecar)
    return path


ZERO = np.int8(0)


class Network:
    """An ONNX graph front to back; every method returns the name of the value it made."""

    def __init__(self, *, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, NDArray[np.generic]] = {}
        self.packs: list[onnx.TensorProto] = []

    def constant(self, name: str, value: NDArray[np.generic] | np.generic) -> str:
        self.constants[name] = np.asarray(value)
        return name

    def node(self, kind: str, inputs: list[str], name: str, **attributes: object) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def conv(self, x: str, before: int, after: int, *, name: str, kernel: int = 3, stride: int = 1
             ) -> str:  # fmt: skip
        size = (after, before, kernel, kernel)
        spread = np.sqrt(2 / (before * kernel**2))
        weight = self.rng.normal(0, spread, size) * self.rng.uniform(0.5, 1.5, (after, 1, 1, 1))
        w = self.constant(f"{name}.weight", weight.astype(np.float32))
        b = self.constant(f"{name}.bias", self.rng.normal(0, 0.1, after).astype(np.float32))
        pad = kernel // 2
        return self.node(
            "Conv", [x, w, b], name, kernel_shape=[kernel] * 2, strides=[stride] * 2,
            pads=[pad] * 4,
        )  # fmt: skip

    def quantized(
        self, x: str, scale: float, *, name: str, zero: np.generic = ZERO,
        border: int = 0,
    ) -> str:  # fmt: skip
        """``x`` through a Q and a DQ, between them ``border`` codes of zero around the image."""
        grid = [self.constant(f"{name}.scale", np.float32(scale)),
                self.constant(f"{name}.zero", zero)]  # fmt: skip
        codes = self.node("QuantizeLinear", [x, *grid], f"{name}.q")
        if border:
            codes = self.pad(codes, [0, 0, border, border] * 2, f"{name}.zero", name=f"{name}.pad")
        return self.node("DequantizeLinear", [codes, *grid], f"{name}.dq")

    def pad(self, x: str, sides: list[int], fill: str, *, name: str) -> str:
        given = self.constant(f"{name}.sides", np.array(sides))
        return self.node("Pad", [x, given, *([fill] if fill else [])], name)

    def slice(self, x: str, axis: int, *, step: int, name: str) -> str:
        """As PT2E writes it: every ``step``-th of one axis, up to a number beyond its end."""
        bounds = {"start": 0, "end": 2**31 - 1, "axis": axis, "step": step}
        given = [self.constant(f"{name}.{k}", np.array([v])) for k, v in bounds.items()]
        return self.node("Slice", [x, *given], name)

    def coded(
        self, x: str, before: int, after: int, name: str, *, stride: int = 1, pad: int = 1,
        kind: str = "INT8",
    ) -> str:  # fmt: skip
        """A 3x3 convolution whose float weights pass a Q and a DQ per channel."""
        weight = self.rng.normal(0, np.sqrt(2 / (9 * before)), (after, before, 3, 3))
        w = self.weights(weight, name) if kind == "INT8" else self.packed(weight, name, kind)
        return self.node(
            "Conv", [x, w], name, kernel_shape=[3, 3], pads=[pad] * 4, strides=[stride] * 2
        )

    def packed(self, weight: NDArray[np.floating], name: str, kind: str) -> str:
        """4-bit weight codes in an initializer, two a byte; UINT4 around a zero point of 8."""
        from onnx import TensorProto, helper

        largest = np.abs(weight).reshape(len(weight), -1).max(axis=1)
        scale = self.constant(f"{name}.scale", (largest / 7).astype(np.float32))
        zero = 0 if kind == "INT4" else 8
        codes = np.rint(7 * weight / largest.reshape(-1, 1, 1, 1)).astype(int) + zero
        for key, held in ((f"{name}.codes", codes), (f"{name}.zero", np.full(len(weight), zero))):
            self.packs.append(
                helper.make_tensor(key, TensorProto.DataType.Value(kind), held.shape, held.ravel())
            )
        inputs = [f"{name}.codes", scale, f"{name}.zero"]
        return self.node("DequantizeLinear", inputs, f"{name}.wdq", axis=0)

    def classifier(self, x: str, features: int, name: str) -> str:
        """A fitted matrix product with coded weights and a float bias."""
        weight, bias = fitted(self.model(x, classes=features))
        inputs = [x, self.weights(weight, name), self.constant(f"{name}.bias", bias)]
        return self.node("Gemm", inputs, name, transB=1)

    def weights(self, weight: NDArray[np.floating], name: str) -> str:
        largest = np.abs(weight).reshape(len(weight), -1).max(axis=1)
        grid = [
            self.constant(f"{name}.scale", (largest / 127).astype(np.float32)),
            self.constant(f"{name}.zero", np.zeros(len(weight), np.int8)),
        ]
        real = self.constant(f"{name}.weight", weight.astype(np.float32))
        codes = self.node("QuantizeLinear", [real, *grid], f"{name}.wq", axis=0)
        return self.node("DequantizeLinear", [codes, *grid], f"{name}.wdq", axis=0)

    def model(self, output: str, *, dims: tuple[object, ...] = ("N", 3, SIDE_PX, SIDE_PX),
              kind: int = 1, classes: int = CLASSES) -> onnx.ModelProto:  # fmt: skip
        """With 4-bit constants, of the first opset that has them."""
        from onnx import TensorProto, helper, numpy_helper

        made = helper.make_graph(
            self.nodes, "foreign", [helper.make_tensor_value_info("image", kind, dims)],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, [dims[0], classes])],
            [*(numpy_helper.from_array(v, name) for name, v in self.constants.items()),
             *self.packs],
        )  # fmt: skip
        opset = helper.make_opsetid("", 21 if self.packs else 17)
        return helper.make_model(made, opset_imports=[opset], ir_version=10 if self.packs else 9)


def residual(*, seed: int = 0, width: int = 8) -> onnx.ModelProto:
    """A float network with a residual sum, two poolings and a Softmax; its classifier is fitted."""
    n = Network(seed=seed)
    x = n.node("Relu", [n.conv("image", 3, width, name="stem")], "stem.relu")
    y = n.node("Relu", [n.conv(x, width, width, name="inner")], "inner.relu")
    y = n.conv(y, width, width, name="outer", kernel=1)
    x = n.node("Relu", [n.node("Add", [y, x], "sum")], "sum.relu")
    x = n.node("MaxPool", [x], "half", kernel_shape=[2, 2], strides=[2, 2])
    x = n.node("Relu", [n.conv(x, width, 32, name="deep", stride=2)], "deep.relu")
    row = n.node("Flatten", [n.node("GlobalAveragePool", [x], "mean")], "row")
    weight, bias = fitted(n.model(row, classes=32))
    inputs = [row, n.constant("fc.weight", weight), n.constant("fc.bias", bias)]
    scores = n.node("Gemm", inputs, "fc", transB=1)
    return n.model(n.node("Softmax", [scores], "probabilities", axis=1))


def fitted(features: onnx.ModelProto) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Least squares from ``features`` of images to their classes: weight and bias."""
    import onnxruntime as ort

    from qadtr_edge.data import preprocess

    pixels, labels = images(600, seed=3)
    with tempfile.TemporaryDirectory() as folder:
        sidecar = Path(folder) / "model.toml"
        sidecar.write_text(SIDECAR)
        shown = preprocess.read(sidecar)(pixels)
    session = ort.InferenceSession(features.SerializeToString(), providers=["CPUExecutionProvider"])
    rows = session.run(None, {"image": shown})[0]
    known = np.concatenate([rows, np.ones((len(rows), 1))], axis=1)
    solution = np.linalg.lstsq(known, 8 * np.eye(CLASSES)[labels], rcond=None)[0]
    return solution[:-1].T.astype(np.float32), solution[-1].astype(np.float32)


class _Calibration:
    """Images as onnxruntime's quantizer asks for them, one dictionary a call."""

    def __init__(self, batches: Iterator[NDArray[np.float32]]) -> None:
        self._batches = batches

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"image": batch}


def quantize_static(
    source: Path, target: Path, *, activations: str, weights: str, per_channel: bool,
    symmetric: bool = False, form: str = "QDQ",
) -> None:  # fmt: skip
    """What onnxruntime's own quantizer makes of ``source``; types by ``QuantType``'s names."""
    from qadtr_edge.data import preprocess

    told = preprocess.read(source.with_suffix(".toml"))
    shown = told(images(64, seed=5)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnxruntime import quantization as q

        q.quantize_static(
            str(source), str(target), _Calibration(iter(np.split(shown, 8))),
            quant_format=q.QuantFormat[form], per_channel=per_channel,
            activation_type=q.QuantType[activations], weight_type=q.QuantType[weights],
            extra_options={"ActivationSymmetric": symmetric, "WeightSymmetric": weights == "QInt8"},
        )  # fmt: skip
    target.with_suffix(".toml").write_text(source.with_suffix(".toml").read_text())


def simulated(
    path: Path, pixels: NDArray[np.uint8], *, value: str | None = None
) -> NDArray[np.float32]:
    """The file's float simulation on onnxruntime: Q and DQ as written, nothing fused.

    ``value``: what to look at in place of the output.
    """
    import onnx
    import onnxruntime as ort

    from qadtr_edge.data import preprocess

    options = ort.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    model = onnx.load(path)
    if value is not None:
        model.graph.output.append(onnx.ValueInfoProto(name=value))
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    told = preprocess.read(path.with_suffix(".toml"))
    answers = session.run(None, {session.get_inputs()[0].name: told(pixels)})
    found: NDArray[np.float32] = answers[-1 if value else 0]
    return found


def skip_only(*, activation: str = "Relu") -> onnx.ModelProto:
    """Q/DQ by hand, signed and symmetric: of a residual sum only the skip is quantized.

    ``activation`` is the operator behind the sum.
    """
    n = Network(seed=1)
    x = n.quantized("image", 1 / 32, name="pixels")
    x = n.node("Relu", [n.coded(x, 3, 8, "stem")], "stem.relu")
    x = n.quantized(x, 0.04, name="a")
    total = n.node("Add", [n.coded(x, 8, 8, "branch"), n.quantized(x, 0.04, name="skip")], "sum")
    x = n.quantized(n.node(activation, [total], "act"), 0.08, name="b")
    x = n.node("AveragePool", [x], "pool", kernel_shape=[8, 8], strides=[8, 8])
    x = n.quantized(n.node("Flatten", [x], "row"), 0.03, name="c")
    return n.model(n.classifier(x, 32, "fc"))


def with_reversed_channels(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` for BGR images: the first weights in the other order."""
    from onnx import ModelProto, numpy_helper

    made = ModelProto()
    made.CopyFrom(model)
    first = next(item for item in made.graph.initializer if item.name == "stem.weight")
    first.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(first)[:, ::-1], first.name))
    return made

"""Imports point down, the torch line holds, and no file is too long: read off the source."""

from __future__ import annotations

import ast

import pytest

from source import Module, module_id, modules

LAYERS = (  # lowest first; a module imports from its own layer or a lower one
    {"types", "errors", "registry", "streams", "files", "console"},
    {"quant", "patch", "metrics", "statistics", "resampling", "provenance", "runs", "kernels"},
    {"data", "models", "integer", "attacks", "defences", "results", "results_line", "engines",
     "zoo"},
    {"train", "train_checks", "train_feed", "train_group", "train_identity", "train_log",
     "train_phases", "train_state", "train_widths", "craft", "search", "replay", "timing",
     "loadgen", "peers", "analysis", "report", "answered", "latency", "verdict", "devices",
     "export", "suite"},
    {"cli", "edge", "__main__"},
)  # fmt: skip

NO_TORCH = (  # a device has numpy and one runtime: these must import there
    "types", "errors", "registry", "streams", "files", "console", "patch", "metrics", "provenance",
    "statistics", "resampling", "runs", "results", "results_line", "engines", "data",
    "integer.graph", "integer.graph_file", "integer.judge",
    "integer.dequantized", "integer.pooling",
    "replay", "search", "timing", "loadgen", "peers", "devices", "report", "edge", "cli", "export",
    "suite", "zoo", "answered",
    "attacks.controls", "attacks.queries", "attacks.sweep", "attacks.patch_rs",
    "attacks.patch_moves", "attacks.parameters", "attacks.label_search", "attacks.mpa",
    "attacks.imagenet_patch", "attacks.certificate", "attacks.patch_rs_universal",
    "attacks.patch_rs_differential",
    "latency", "verdict.case", "verdict.ruling", "verdict.from_rows", "verdict.from_probes",
    "verdict.from_model", "verdict.unions", "verdict.worst", "verdict.ablation", "verdict.probes",
    "verdict.asking",
)  # fmt: skip

HEAVY = {"torch", "onnx", "onnxruntime", "tensorrt", "openvino", "ai_edge_litert", "scipy", "PIL",
         "matplotlib"}  # fmt: skip

ONLY_IN = {"onnx": "export", "onnxruntime": "export", "tensorrt": "export", "openvino": "export",
           "ai_edge_litert": "export", "pycuda": "kernels"}  # fmt: skip

MAX_LINES = 300


def part_of(module: Module) -> str:
    """The word that has a layer: ``judge.py`` of ``qadtr_edge/integer/`` is ``integer``."""
    home = module.parts[0]
    return module.parts[1] if home == "qadtr_edge" else home


def layer_of(part: str) -> int:
    for number, names in enumerate(LAYERS):
        if part in names:
            return number
    raise AssertionError(f"{part} stands in no layer: add it to LAYERS")


def torch_free(module: Module) -> bool:
    inside = module.name.removeprefix("qadtr_edge").lstrip(".")
    return any(inside == name or inside.startswith(f"{name}.") for name in NO_TORCH)


@pytest.mark.parametrize("module", modules(), ids=module_id)
def test_imports_point_down(module: Module) -> None:
    if module.name == "qadtr_edge":
        return  # the front door names what users call, and imports it on first use
    part = part_of(module)
    for name in module.imports():
        top, *rest = name.split(".")
        if top == "qadtr_edge" and rest:
            assert layer_of(rest[0]) <= layer_of(part), f"{part} may not import {name}"


@pytest.mark.parametrize("module", modules(), ids=module_id)
def test_runtimes_stay_in_their_folder(module: Module) -> None:
    for name in module.imports():
        top, *rest = name.split(".")
        home = module.parts[0]
        assert top not in {"export", "kernels", "tests"}, f"import qadtr_edge.{name}, not {name}"
        assert ONLY_IN.get(top, home) == home, f"{top} may be imported only in {ONLY_IN[top]}/"
        if top == "qadtr_edge" and rest and rest[0] in {"export", "kernels"}:
            assert home == rest[0], f"reach {name} by its name in registry.py"


@pytest.mark.parametrize("module", modules(), ids=module_id)
def test_heavy_packages_are_imported_where_used(module: Module) -> None:
    heavy = {name.split(".")[0] for name in module.imports(at_top=True)} & HEAVY
    if torch_free(module):
        assert "torch" not in heavy, "stands on the torch-free side: import torch in the function"
    lean = part_of(module) in {"cli", *LAYERS[0]}
    assert not lean or not heavy, f"--help must stay light: import {heavy} in the function"


@pytest.mark.parametrize("module", modules(), ids=module_id)
def test_files_stay_short(module: Module) -> None:
    lines = len(module.path.read_text().splitlines())
    assert lines <= MAX_LINES, f"{lines} lines: split it by noun"


@pytest.mark.parametrize("module", modules(), ids=module_id)
def test_signatures_keep_the_style(module: Module) -> None:
    """Past the second, parameters of public functions are keyword-only; no ``**kwargs``."""
    classes = [node for node in module.tree.body if isinstance(node, ast.ClassDef)]
    for node in (*module.tree.body, *(node for found in classes for node in found.body)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        where = f"{module_id(module)}:{node.lineno} {node.name}"
        assert node.args.kwarg is None, f"{where} takes **{node.args.kwarg and node.args.kwarg.arg}"
        if node.name.startswith("_"):
            continue
        names = [arg.arg for arg in (*node.args.posonlyargs, *node.args.args)]
        if names[:1] == ["ctx"]:
            continue  # torch calls autograd functions by position
        named = [name for name in names if name not in {"self", "cls"}]
        assert len(named) <= 2, f"{where}: keyword-only past the second: {named}"

"""Names only: what our code asks of TensorRT exists in RTX, and is no name that a version dropped.

Nothing is executed here. The removed names are those of NVIDIA's migration pages from 10 to 11;
the missing ones are absent from the bindings of 10.3 (JetPack 6.1 and 6.2).
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
from qadtr_edge.export import (
    trt,
    trt_build,
    trt_engine,
    trt_inspect,
    trt_options,
    trt_runtime,
    trt_slot,
)

SOURCES = (trt, trt_build, trt_engine, trt_inspect, trt_options, trt_runtime, trt_slot)

GONE_IN_11 = {
    "IInt8Calibrator", "IInt8EntropyCalibrator2", "IInt8MinMaxCalibrator", "int8_calibrator",
    "dynamic_range", "set_dynamic_range", "precision", "set_output_type", "INT8", "FP16", "BF16",
    "FP8", "EXPLICIT_BATCH", "CUBLAS", "CUBLAS_LT", "CUDNN", "device_memory_size", "supports_model",
}  # fmt: skip
NOT_IN_10_3 = {"set_builder_config", "FP4", "E8M0", "SAME_COMPUTE_CAPABILITY"}

OWN = {"runtime", "version", "is_rtx", "log_of", "refused", "deserialized", "__name__",
       "__version__"}  # fmt: skip
"""Attributes of our own modules that are called trt too, and of every module."""

METHODS = {
    "Builder": {"create_network", "create_builder_config", "create_optimization_profile",
                "build_serialized_network", "num_DLA_cores"},
    "OnnxParser": {"parse_from_file", "num_errors", "get_error"},
    "IBuilderConfig": {"set_memory_pool_limit", "profiling_verbosity", "set_flag",
                       "builder_optimization_level", "hardware_compatibility_level",
                       "add_optimization_profile", "default_device_type", "DLA_core",
                       "can_run_on_DLA", "create_timing_cache", "set_timing_cache",
                       "get_timing_cache", "num_compute_capabilities", "set_compute_capability"},
    "INetworkDefinition": {"num_inputs", "get_input", "num_layers", "get_layer"},
    "IOptimizationProfile": {"set_shape"},
    "Runtime": {"deserialize_cuda_engine"},
    "ICudaEngine": {"create_execution_context", "create_engine_inspector", "num_io_tensors",
                    "get_tensor_name", "get_tensor_mode", "get_tensor_dtype", "get_tensor_shape",
                    "get_tensor_profile_shape"},
    "IExecutionContext": {"set_tensor_address", "set_input_shape", "execute_async_v3"},
    "EngineInspector": {"get_engine_information"},
    "ParserError": {"desc", "node_name"},
    "ITimingCache": {"serialize"},
}  # fmt: skip
"""What is called on each object; every name must be written in our sources, or it is stale."""


def trees() -> Iterator[ast.Module]:
    for module in SOURCES:
        yield ast.parse(Path(inspect.getfile(module)).read_text())


def settings() -> set[str]:
    """Every attribute our sources set, of anything: ``config.precision = …``."""
    stored = (node for tree in trees() for node in ast.walk(tree)
              if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store))  # fmt: skip
    return {node.attr for node in stored}


def asked_of_the_package() -> set[tuple[str, ...]]:
    """``trt.A.B`` as ("A", "B"), wherever a variable called ``trt`` is the package."""
    found = set()
    for tree in trees():
        for node in ast.walk(tree):
            names: list[str] = []
            inner: ast.expr = node if isinstance(node, ast.expr) else ast.Constant(None)
            while isinstance(inner, ast.Attribute):
                names.insert(0, inner.attr)
                inner = inner.value
            is_package = isinstance(inner, ast.Name) and inner.id == "trt"
            is_held = names[:1] == ["_trt"]
            if names and (is_package or is_held):
                path = tuple(names[1:] if is_held else names)
                if path and path[0] not in OWN:
                    found.add(path)
    return found


def test_the_search_finds_what_is_there() -> None:
    assert ("ProfilingVerbosity", "DETAILED") in asked_of_the_package()
    assert ("LayerInformationFormat", "JSON") in asked_of_the_package()


def test_no_name_is_used_that_a_version_dropped_or_did_not_have_yet() -> None:
    asked = {name for path in asked_of_the_package() for name in path}
    used = asked | settings() | {name for methods in METHODS.values() for name in methods}
    assert used & (GONE_IN_11 | NOT_IN_10_3) == set()


def test_every_method_we_name_is_one_we_use() -> None:
    text = "".join(Path(inspect.getfile(module)).read_text() for module in SOURCES)
    for name in {each for methods in METHODS.values() for each in methods}:
        assert name in text, f"{name} is used nowhere any more"


def test_rtx_has_every_name() -> None:
    rtx = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    for path in asked_of_the_package():
        held = rtx
        for name in path:
            assert hasattr(held, name), f"tensorrt_rtx has no {'.'.join(path)}"
            held = getattr(held, name)
    for kind, methods in METHODS.items():
        for name in methods:
            assert hasattr(getattr(rtx, kind), name), f"tensorrt_rtx has no {kind}.{name}"

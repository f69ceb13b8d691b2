"""``doctor``: what works here, why the rest does not, and what mends it. It needs no GPU."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from qadtr_edge import provenance, registry
from qadtr_edge.cli import app, doctor, doctor_here
from qadtr_edge.cli.doctor_here import State
from qadtr_edge.devices import power
from qadtr_edge.errors import EngineFailed, MissingDependency, Unsupported

GPU = State(available=True, version="GPU")


def test_doctor_says_why_and_what_to_do() -> None:
    state = doctor.state_of(doctor.Need("no_such_module_at_all", ("none",), "trt"))
    assert state.as_json() == {
        "available": False,
        "reason": "the package no_such_module_at_all is not installed",
        "remedy": "pip install 'qadtr-edge[trt]'",
    }


def test_doctor_knows_what_the_instruction_set_means() -> None:
    assert "VNNI" in doctor.cpu_hints("x86_64", frozenset({"avx2", "avx_vnni"}))[0]
    assert "x64quantprecision" in doctor.cpu_hints("x86_64", frozenset({"avx2"}))[0]
    assert doctor.cpu_hints("aarch64", frozenset({"asimddp"})) == []
    assert doctor.cpu_hints("x86_64", frozenset()) == []


def resolving(monkeypatch: pytest.MonkeyPatch, **found: object) -> None:
    """The registry answers with these: calls, or errors that calls raise."""
    real = registry.resolve

    def resolve(kind: str, name: str) -> object:
        answer = found.get(kind.replace(" ", "_"))

        def call() -> object:
            if isinstance(answer, Exception):
                raise answer
            return answer

        return real(kind, name) if answer is None else call

    monkeypatch.setattr(registry, "resolve", resolve)


def test_without_a_driver_no_gpu_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "has_nvidia_driver", lambda: False)
    resolving(monkeypatch, device_memory=AssertionError("it was opened"))
    found = doctor_here.devices()["cuda"]
    assert not found.available
    assert found.reason == "there is no NVIDIA driver on this machine"


def test_a_runtime_that_builds_without_a_gpu_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "has_nvidia_driver", lambda: False)
    there = {"tensorrt_rtx"}
    monkeypatch.setattr(doctor, "find_spec", lambda name: object() if name in there else None)
    found = doctor.engine_state("trt")
    assert not found.available
    assert found.reason == "it builds here; there is no NVIDIA driver on this machine"
    there |= {"tensorrt"}
    there -= {"tensorrt_rtx"}
    assert doctor.engine_state("trt").reason == "there is no NVIDIA driver on this machine"


def test_a_gpu_is_opened_named_and_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    gpu = SimpleNamespace(facts={"gpu": "Orin"}, close=lambda: closed.append(True))
    monkeypatch.setattr(provenance, "has_nvidia_driver", lambda: True)
    resolving(monkeypatch, device_memory=gpu)
    assert doctor_here.devices()["cuda"] == State(available=True, version="Orin")
    assert closed == [True]


@pytest.mark.parametrize(
    "error",
    [
        MissingDependency("pycuda", "cuda", purpose="Running on an NVIDIA GPU"),
        EngineFailed("CUDA gives no usable GPU here.", "Use another."),
    ],
)
def test_a_gpu_that_cannot_be_opened_says_why(
    monkeypatch: pytest.MonkeyPatch, error: MissingDependency | EngineFailed
) -> None:
    monkeypatch.setattr(provenance, "has_nvidia_driver", lambda: True)
    resolving(monkeypatch, device_memory=error)
    found = doctor_here.devices()["cuda"]
    assert (found.available, found.reason, found.remedy) == (False, error.fact, error.remedy)


def test_a_kernel_needs_a_compiler_a_gpu_and_pycuda(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(doctor_here.kernels(GPU)) == set(registry.names("kernel"))
    absent = MissingDependency("nvidia-cuda-nvcc", "kernels", purpose="Compiling")
    resolving(monkeypatch, kernel_compiler=absent)
    assert doctor_here.kernels(GPU)["paste"].remedy == absent.remedy
    resolving(monkeypatch, kernel_compiler="/bin/nvcc")
    without = doctor_here.kernels(doctor_here.no_driver())["paste"]
    assert without.reason == "it compiles here; there is no NVIDIA driver on this machine"
    monkeypatch.setattr(doctor_here, "find_spec", lambda name: None)
    assert doctor_here.kernels(GPU)["paste"].remedy == "pip install 'qadtr-edge[cuda]'"
    monkeypatch.setattr(doctor_here, "find_spec", lambda name: object())
    assert doctor_here.kernels(GPU)["paste"] == State(available=True, version="/bin/nvcc")


def test_energy_and_ssh_and_the_devices_that_were_added(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setenv("QADTR_DEVICES", f"{tmp_path}/devices.json")
    runner = CliRunner()
    added = runner.invoke(app, ["device", "add", "nano", "me@nano", "--port", "2222", "--json"])
    assert json.loads(added.stdout)["port"] == 2222

    @contextmanager
    def none():  # type: ignore[no-untyped-def]
        raise Unsupported("No monitor.", "Use a plug.")
        yield

    monkeypatch.setattr(power, "meter", none)
    monkeypatch.setattr(doctor_here.shutil, "which", lambda name: f"/bin/{name}")
    found = doctor_here.devices()
    assert (found["energy"].reason, found["energy"].remedy) == ("No monitor.", "Use a plug.")
    assert found["ssh"] == State(available=True, version="nano")
    gone = runner.invoke(app, ["device", "remove", "nano", "--json"])
    assert json.loads(gone.stdout) == {"removed": "nano"}
    assert "device add" in str(doctor_here.devices()["ssh"].version)
    monkeypatch.setattr(doctor_here.shutil, "which", lambda name: None)
    assert doctor_here.devices()["ssh"].remedy == "apt-get install openssh-client"


def test_the_document_and_the_tables_tell_the_same() -> None:
    def told(*words: str) -> str:
        return subprocess.run([sys.executable, "-m", "qadtr_edge", "doctor", *words], check=True,
                              capture_output=True, text=True).stdout  # fmt: skip

    document, text = json.loads(told("--json")), told()
    assert {"engines", "tools", "devices", "kernels"} <= set(document)
    for part in ("engines", "tools", "devices", "kernels"):
        for name, state in document[part].items():
            assert name in text
            assert state["available"] or (state["reason"] in text and state["remedy"] in text)

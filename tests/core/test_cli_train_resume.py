"""``train`` from the command line: what goes on, what is told, what is refused before the work."""
# ruff: noqa: E402

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from qadtr_edge import cli, train_state
from qadtr_edge.cli import train_job
from qadtr_edge.runs import Run, newest_run, read_manifest

SMALL = ("--bits", "32,4", "--batch", "8", "--threads", "1")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("toy") / "toy.npz"
    images = rng.integers(0, 256, (80, 8, 8, 3)).astype(np.uint8)
    np.savez(path, images=images, labels=rng.integers(0, 3, 80))
    return path


def call(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """The exit code of the command line."""
    monkeypatch.setattr(sys, "argv", ["qadtr-edge", *map(str, words)])
    monkeypatch.delenv("QADTR_RUNS", raising=False)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


def interrupt_after(monkeypatch: pytest.MonkeyPatch, writes: int) -> None:
    """Ctrl-C after this many states were written."""
    original, made = train_state.write, []

    def write(path: Path, snapshot: train_state.Snapshot) -> None:
        original(path, snapshot)
        made.append(path)
        if len(made) == writes:
            raise KeyboardInterrupt

    monkeypatch.setattr(train_state, "write", write)


def test_an_interrupted_run_stays_and_resume_finds_it_with_its_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, toy: Path
) -> None:
    words = ("train", "--data", toy, *SMALL, "--epochs", 1, "--float-epochs", 1, "--seed", 7)
    with monkeypatch.context() as patched:
        interrupt_after(patched, 1)
        assert call(patched, *words, "--runs", tmp_path) == cli.INTERRUPTED
    (folder,) = tmp_path.iterdir()
    assert f"qadtr-edge train --resume --run {folder}" in capsys.readouterr().err
    assert Run(folder).train_state.is_file()
    assert newest_run(tmp_path) is None, "what is unfinished is no run to export or attack"
    assert call(monkeypatch, "train", "--resume", "--runs", tmp_path, "--json") == 0
    out, err = capsys.readouterr()
    assert "Going on where it was interrupted, after 3 steps" in err
    answer = json.loads(out)
    assert Path(answer["run"]) == folder
    stage = read_manifest(Run(folder))["stages"]["train"]
    assert stage["options"]["seed"] == 7
    assert stage["options"]["bits"] == [32, 4]
    assert stage["measured"] == answer["training"]
    assert [phase["phase"] for phase in answer["training"]["phases"]] == ["float", "quantized"]
    assert answer["training"]["images"] == answer["training"]["passes"] == 2 * 24
    assert not Run(folder).train_state.exists()


def test_the_same_run_goes_on_by_itself_but_not_with_other_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, toy: Path
) -> None:
    words = ("train", "--data", toy, *SMALL, "--epochs", 0, "--float-epochs", 2)
    words = (*words, "--run", tmp_path / "mine")
    with monkeypatch.context() as patched:
        interrupt_after(patched, 1)
        assert call(patched, *words) == cli.INTERRUPTED
    assert call(monkeypatch, *words, "--lr", 0.3) == 2
    assert "unfinished training with lr 0.1, not 0.3" in capsys.readouterr().err
    assert call(monkeypatch, "train", "--resume", "--run", tmp_path / "mine", "--seed", 9) == 2
    assert "seed 0, not 9" in capsys.readouterr().err
    assert call(monkeypatch, *words) == 0
    assert "after 3 steps" in capsys.readouterr().err


def test_there_must_be_something_to_resume(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert call(monkeypatch, "train", "--resume", "--runs", tmp_path) == 2
    assert "There is no interrupted training" in capsys.readouterr().err
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / "checkpoint.safetensors").write_text("")
    assert call(monkeypatch, "train", "--resume", "--run", tmp_path / "done") == 2
    assert "It is finished" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--recipe", "none.yaml"), "no recipe file none.yaml"),
        (("--recipe", "qadtr", "--set", "gir.varant=B"), "Did you mean 'gir.variant'"),
        (("--recipe", "qadtr", "--set", "gir.weight"), "assigns nothing"),
        (("--init", "none.safetensors"), "no weights file none.safetensors"),
        (("--device", "gpu"), "no device 'gpu'"),
    ],
)
def test_it_is_refused_before_anything_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    words: tuple[str, ...], said: str,
) -> None:  # fmt: skip
    assert call(monkeypatch, "train", *words, "--data", tmp_path / "none.npz") == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("a_qapa.patch_px=9",), "9x9 patch is larger than a 8x8 image"),
        (("a_qapa.patch_px=3", "a_qapa.bits=fp32"), "width 32, which --bits leaves out"),
        (("a_qapa.patch_px=3", "a_qapa.placement=middle"), "no placement 'middle'"),
    ],
)
def test_what_only_a_step_finds_out_is_refused_before_the_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, toy: Path,
    words: tuple[str, ...], said: str,
) -> None:  # fmt: skip
    settings = [each for word in words for each in ("--set", word)]
    call_words = ("train", "--data", toy, "--recipe", "qadtr", *settings, "--bits", "8,4")
    more = ("--float-epochs", 0, "--threads", 1, "--runs", tmp_path / "runs")
    assert call(monkeypatch, *call_words, *more) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "steps)" not in err
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.skipif(find_spec("tensorboard") is not None, reason="tensorboard is installed")
def test_tensorboard_is_asked_for_before_the_data(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ("train", "--tensorboard", "--data", tmp_path / "none.npz", "--runs", tmp_path)
    assert call(monkeypatch, *words) == 2
    assert "pip install 'qadtr-edge[tensorboard]'" in capsys.readouterr().err


def test_event_files_stand_in_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, toy: Path
) -> None:
    pytest.importorskip("tensorboard")
    words = ("train", "--data", toy, *SMALL, "--epochs", 0, "--float-epochs", 1, "--tensorboard")
    assert call(monkeypatch, *words, "--run", tmp_path / "run") == 0
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))


def test_a_folder_another_process_trains_in_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, toy: Path
) -> None:
    pytest.importorskip("fcntl")
    words = ("train", "--data", toy, *SMALL, "--epochs", 0, "--float-epochs", 0)
    with train_state.alone(tmp_path):
        assert call(monkeypatch, *words, "--run", tmp_path) == 2
    assert "Another process is training" in capsys.readouterr().err


def test_phases_without_a_step_are_not_told() -> None:
    spent = (train_state.Spent("float"), train_state.Spent("quantized", 2, 16, 48, 1.26))
    assert train_job.measured_of(spent) == {
        "phases": [
            {"phase": "quantized", "steps": 2, "images": 16, "passes": 48, "seconds": 1.3}
        ],
        "images": 16, "passes": 48, "seconds": 1.3,
    }  # fmt: skip

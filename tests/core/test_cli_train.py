"""``train`` and ``quantize`` from the command line, on a data set of a few bytes."""
# ruff: noqa: E402

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from qadtr_edge import cli
from qadtr_edge.cli.train_command import Command
from qadtr_edge.models import checkpoint
from qadtr_edge.runs import Run, read_manifest

WEIGHTS = ("--model", "resnet8", "--raw-pixels")
ONE_EPOCH = ("--epochs", "1", "--float-epochs", "1", "--batch", "8", "--threads", "1")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ``.npz`` of 80 images of 8 pixels in three classes, each brighter in one colour."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 80)
    images = rng.integers(40, 140, (80, 8, 8, 3))
    images[np.arange(80), :, :, labels] += 60
    path = tmp_path_factory.mktemp("toy") / "toy.npz"
    np.savez(path, images=images.astype(np.uint8), labels=labels)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet8.th"
    torch.save(checkpoint.build_model("resnet8", classes=3).state_dict(), path)
    return path


def call(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """The exit code of the command line."""
    monkeypatch.setattr(sys, "argv", ["qadtr-edge", *map(str, words)])
    monkeypatch.delenv("QADTR_RUNS", raising=False)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


def test_train_leaves_a_checkpoint_its_log_and_its_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, toy: Path
) -> None:
    words = ("train", "--data", toy, "--model", "resnet8", "--bits", "32,4", "--seed", 3)
    assert call(monkeypatch, *words, *ONE_EPOCH, "--runs", tmp_path, "--json") == 0
    out, err = capsys.readouterr()
    answer = json.loads(out)
    run = Run(Path(answer["run"]))
    assert run.folder.parent == tmp_path
    assert [row["bits"] for row in answer["results"]] == [32, 4]
    assert all(0 <= row["accuracy"] <= 1 for row in answer["results"])
    assert "Training resnet8" in err
    net, facts = checkpoint.load(run.checkpoint)
    assert (facts.model, facts.classes, facts.image_px) == ("resnet8", 3, 8)
    assert facts.widths == facts.trained_widths == net.widths == (32, 4)
    assert len(run.log.read_text().splitlines()) == 2
    stage = read_manifest(run)["stages"]["train"]
    assert stage["options"]["seed"] == 3
    assert stage["options"]["peak_lr"] == {"float": 0.1, "quantized": 0.02}
    assert (stage["options"]["momentum"], stage["options"]["weight_decay"]) == (0.9, 5e-4)
    assert "train plain (quantized, peak rate 0.02)" in err
    assert "No step was made" not in err
    assert facts.made_by == stage["options"]


def test_train_answers_a_table_and_takes_a_named_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, toy: Path,
    weights: Path,
) -> None:  # fmt: skip
    words = ("train", "--data", toy, "--model", "resnet8", "--bits", "8", "--init", weights)
    folder = tmp_path / "mine"
    assert call(monkeypatch, *words, "--epochs", 0, "--threads", 1, "--run", folder) == 0
    assert "simulated accuracy" in capsys.readouterr().out
    facts = checkpoint.read_facts(Run(folder).checkpoint)
    assert facts.widths == (8,)
    assert facts.trained_widths == (), "calibrated only"


def test_a_width_without_a_step_is_said_and_not_called_trained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, toy: Path,
    weights: Path,
) -> None:  # fmt: skip
    words = ("train", "--data", toy, "--model", "resnet8", "--bits", "32,8,4,2", "--init", weights)
    words = (*words, "--batch", 8, "--threads", 1, "--set", "dbwt.order=epoch")
    assert call(monkeypatch, *words, "--epochs", 2, "--run", tmp_path / "two") == 0
    assert "No step was made at width 4 or 2: " in capsys.readouterr().err
    assert checkpoint.read_facts(Run(tmp_path / "two").checkpoint).trained_widths == (32, 8)
    assert call(monkeypatch, *words, "--epochs", 0, "--run", tmp_path / "none") == 0
    assert "No step was made" not in capsys.readouterr().err, "nobody asked for one"
    assert checkpoint.read_facts(Run(tmp_path / "none").checkpoint).trained_widths == (32,)


@pytest.mark.parametrize(
    ("more", "phases", "rates", "said"),
    [
        (("--recipe", "dwq-pixel"), {"float": 1, "defended float": 1}, (0.1, 0.02), ""),
        (("--recipe", "dwq-pixel", "--init"), {"defended float": 1}, (0.02,), ""),
        (("--init",), {"float": 1}, (0.02,), ""),
        (("--lr", 0.05), {"float": 1}, (0.05,), ""),
        (("--float-epochs", 0), {}, (), "the 1 of --epochs count for nothing"),
    ],
)
def test_width_32_alone_trains_what_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, toy: Path,
    weights: Path, more: tuple[object, ...], phases: dict[str, int], rates: tuple[float, ...],
    said: str,
) -> None:  # fmt: skip
    words = ("train", "--data", toy, "--model", "resnet8", "--bits", "32", "--epochs", 1)
    words = (*words, *more, *((weights,) if more[-1] == "--init" else ()))
    words = (*words, "--limit", 16, "--batch", 16, "--threads", 1, "--run", tmp_path, "--json")
    assert call(monkeypatch, *words) == 0
    out, err = capsys.readouterr()
    assert said in err
    assert ("count for nothing" in err) is bool(said)
    training = json.loads(out)["training"]
    assert {each["phase"]: each["steps"] for each in training["phases"]} == phases
    options = read_manifest(Run(tmp_path))["stages"]["train"]["options"]
    assert options["peak_lr"] == pytest.approx(dict(zip(phases, rates, strict=True)))


def test_a_rate_already_lowered_for_float_weights_is_not_lowered_again() -> None:
    asked = {"init": "w.th", "float_epochs": 1.0, "lr": None}
    command = Command(
        recipe="plain", settings=(), data="signs", model="resnet8", bits="32,8", epochs=1.0,
        limit=None, batch=8, scales="tied", attack_precision="float32", seed=0, threads=1,
        device="cpu", data_root=None, tensorboard=False, **asked,
    )  # fmt: skip
    assert (command.peak_lr, command.later_lr) == (0.02, 0.02)
    for other in ({"lr": 0.05}, {"init": None}):
        assert replace(command, **other).later_lr is None


def test_the_seed_decides_the_weights(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, toy: Path
) -> None:
    words = ("train", "--data", toy, "--model", "resnet8", "--bits", "32", "--float-epochs", "0")
    found = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.manual_seed(len(found))
        assert (
            call(monkeypatch, *words, "--seed", seed, "--threads", 1, "--run", tmp_path / name) == 0
        )
        found.append(checkpoint.load(Run(tmp_path / name).checkpoint)[0].state_dict())
    name = "layers.conv1.weight"
    assert torch.equal(found[0][name], found[1][name])
    assert not torch.equal(found[0][name], found[2][name])


@pytest.mark.parametrize("more", [(), ("--bias-correction",), ("--scales", "strict")])
def test_quantize_leaves_the_weights_and_calibrates_the_widths(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, toy: Path,
    weights: Path, more: tuple[str, ...],
) -> None:  # fmt: skip
    words = ("quantize", "--weights", weights, *WEIGHTS, "--data", toy, "--bits", "8,3")
    assert call(monkeypatch, *words, *more, "--threads", 1, "--runs", tmp_path, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert [row["bits"] for row in answer["results"]] == [32, 8, 3]
    run = Run(Path(answer["run"]))
    net, facts = checkpoint.load(run.checkpoint)
    assert facts.trained_widths == (32,)
    assert facts.spec.scales == ("strict" if "strict" in more else "tied")
    original = torch.load(weights, weights_only=True)
    assert torch.equal(net.state_dict()["layers.conv1.weight"], original["conv1.weight"])
    assert ("layers.linear.shifts.w8" in net.state_dict()) is ("--bias-correction" in more)
    assert set(read_manifest(run)["stages"]) == {"quantize"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("train", "--bits", "9"), "'9' is not a bit-width"),
        (("train", "--bits", "1,8"), "'1' is not a bit-width"),
        (("train", "--model", "restnet20"), "Did you mean 'resnet20'"),
        (("train", "--recipe", "plan"), "Did you mean 'plain'"),
        (("train", "--scales", "stict"), "Did you mean 'strict'"),
        (("train", "--bits", "8,4"), "Float epochs need the width 32"),
        (("train", "--data", "cifar11"), "cifar10"),
        (("train", "--lr", "-0.1"), "--lr -0.1 is no learning rate"),
        (("train", "--lr", "nan"), "--lr nan is no learning rate"),
        (("train", "--lr", "0"), "--lr 0 is no learning rate"),
        (("train", "--lr", "inf"), "--lr inf is no learning rate"),
        (("train", "--epochs", "inf"), "--epochs inf is no number of epochs"),
        (("train", "--float-epochs", "1e9"), "--float-epochs 1e+09 is no number of epochs"),
        (("train", "--init", "none.th"), "no weights file none.th"),
        (("quantize", "--weights", "none.th"), "no weights file none.th"),
        (("quantize", "--weights", "none.th", "--calibration", "mean"), "minmax"),
        (("quantize", "--weights", "none.th", "--bits", "32"), "nothing to quantize"),
        (("quantize", "--weights", "none.th", "--model", "vg11"), "Did you mean 'vgg11'"),
    ],
)
def test_what_the_user_can_fix_ends_in_two_sentences(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, toy: Path,
    words: tuple[str, ...], said: str,
) -> None:  # fmt: skip
    data = () if "--data" in words else ("--data", toy)
    assert call(monkeypatch, *words, *data, "--threads", 1, "--runs", tmp_path / "runs") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Error: ")
    assert said in err
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists(), "no empty run is left behind"


def test_weights_of_another_model_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, toy: Path,
    weights: Path,
) -> None:  # fmt: skip
    words = ("quantize", "--weights", weights, "--model", "resnet20", "--data", toy, "--threads", 1)
    assert call(monkeypatch, *words, "--runs", tmp_path / "runs") == 2
    assert "--model" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_an_unwritable_run_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, toy: Path,
    weights: Path,
) -> None:  # fmt: skip
    (tmp_path / "file").write_text("")
    for verb in (("train",), ("quantize", "--weights", weights, *WEIGHTS)):
        words = (*verb, "--data", toy, "--threads", 1, "--run", tmp_path / "file" / "run")
        assert call(monkeypatch, *words) == 2
        assert "Cannot write" in capsys.readouterr().err


def broken(*_: object, **__: object) -> None:
    raise RuntimeError("the work failed")


WORK = {"train": "qadtr_edge.train.train", "quantize": "qadtr_edge.models.calibrate.calibrate"}


@pytest.mark.parametrize("verb", ["train", "quantize"])
def test_an_unwritable_run_is_refused_before_the_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, toy: Path, weights: Path, verb: str
) -> None:
    monkeypatch.setattr(WORK[verb], broken)
    (tmp_path / "file").write_text("")
    more = ("--weights", weights, *WEIGHTS) if verb == "quantize" else ("--model", "resnet8")
    words = (verb, *more, "--data", toy, "--threads", 1, "--run", tmp_path / "file" / "run")
    assert call(monkeypatch, *words) == 2


@pytest.mark.parametrize("verb", ["train", "quantize"])
def test_a_run_that_fails_is_not_left_behind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, toy: Path, weights: Path, verb: str
) -> None:
    monkeypatch.setattr(WORK[verb], broken)
    monkeypatch.delenv("QADTR_RUNS", raising=False)
    more = ("--weights", weights, *WEIGHTS) if verb == "quantize" else ("--model", "resnet8")
    words = [verb, *more, "--data", toy, "--threads", 1]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "note.txt").write_text("kept")
    for place in (("--runs", tmp_path / "runs"), ("--run", tmp_path / "mine")):
        monkeypatch.setattr(sys, "argv", ["qadtr-edge", *map(str, (*words, *place))])
        with pytest.raises((RuntimeError, SystemExit)) as caught:
            cli.main()
        assert getattr(caught.value, "code", 1) != 0
    assert list((tmp_path / "runs").iterdir()) == []
    assert (tmp_path / "mine" / "note.txt").read_text() == "kept"

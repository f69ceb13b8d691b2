"""An interrupted training goes on to the same weights; another one is refused."""
# ruff: noqa: E402

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from torch import Tensor

from qadtr_edge import train as procedure
from qadtr_edge import train_state
from qadtr_edge.defences import recipes
from qadtr_edge.defences.defence import Defence
from qadtr_edge.errors import BadInput
from qadtr_edge.models.quantnet import QuantNet
from qadtr_edge.train import TrainOptions, train
from qadtr_edge.train_group import Group
from qadtr_edge.train_state import Snapshot, StateFile
from training import OPTIONS, data, fresh, lines

SHORT = replace(OPTIONS, epochs=2, float_epochs=1)
RECIPES = {
    "plain": (),
    "plain-joint": ("dbwt.order=joint",),
    "qadtr": ("a_qapa.patch_px=3", "gir.variant=A"),
    "qadtr-frozen": ("a_qapa.patch_px=3", "a_qapa.bits=frozen", "gir.variant=B"),
    "triqdef": ("patches.patch_px=3", "patches.ascents=5"),
}


Whole = tuple[Path, QuantNet]


class Killed(BaseException):
    """Stands for the end of the process."""


def defence(name: str) -> Defence:
    made, _ = recipes.build(name.partition("-")[0], settings=RECIPES[name])
    return made


def fitted(
    folder: Path, options: TrainOptions = SHORT, *, recipe: str = "plain",
    seed_of_net: int | None = None,
) -> QuantNet:  # fmt: skip
    net = fresh()
    if seed_of_net is not None:
        torch.manual_seed(seed_of_net)
        torch.nn.init.normal_(net.layer(net.steps[1]).weight)
    train(
        net, data("train"), calibration=data("calibration"), defence=defence(recipe),
        options=options, log=folder / "log.jsonl", state=folder / "state.safetensors",
    )  # fmt: skip
    return net


def kill_at(monkeypatch: pytest.MonkeyPatch, update: int) -> None:
    """The process ends in the middle of this update, counted from 0 over all phases."""
    original, made = procedure._update, []

    def counting(*words: object, **named: object) -> object:
        made.append(None)
        found = original(*words, **named)  # type: ignore[arg-type]
        if len(made) > update:
            raise Killed
        return found

    monkeypatch.setattr(procedure, "_update", counting)


def tensors(net: QuantNet) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def same(one: QuantNet, other: QuantNet) -> bool:
    pairs = zip(tensors(one).values(), tensors(other).values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def without_clock(folder: Path) -> list[dict[str, object]]:
    clock = ("seconds", "images_per_s")
    return [{k: v for k, v in line.items() if k not in clock} for line in lines(folder)]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Whole]:
    """Folder and network of each recipe's training without a break."""

    @cache
    def trained(recipe: str) -> Whole:
        folder = tmp_path_factory.mktemp(recipe)
        return folder, fitted(folder, recipe=recipe)

    return trained


@pytest.mark.parametrize(
    ("recipe", "update", "every_s"),
    [
        ("plain", 1, 1e9),  # before the first epoch is over: from the start
        ("plain", 4, 1e9),  # in the first quantized epoch: from the end of the float phase
        ("plain", 7, 0.0),  # after any step
        ("plain", 8, 0.0),  # the last of all
        ("qadtr", 4, 1e9),
        ("qadtr", 7, 0.0),
        ("qadtr-frozen", 7, 0.0),
        ("triqdef", 7, 0.0),
    ],
)
def test_it_goes_on_to_the_same_weights(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, uninterrupted: Callable[[str], Whole],
    recipe: str, update: int, every_s: float,
) -> None:  # fmt: skip
    with monkeypatch.context() as patched:
        patched.setattr(procedure, "SAVE_EVERY_S", every_s)
        kill_at(patched, update)
        with pytest.raises(Killed):
            fitted(tmp_path, recipe=recipe)
    torch.manual_seed(77)  # what the process drew before must not matter
    folder, whole = uninterrupted(recipe)
    assert same(fitted(tmp_path, recipe=recipe), whole)
    assert without_clock(tmp_path) == without_clock(folder)


def test_what_it_goes_on_from_lies_on_the_device_it_trains_on(tmp_path: Path) -> None:
    """``meta`` stands for a GPU: what is shown later lies there, and both are joined at the end."""
    there = Group(device=torch.device("meta"))
    path, shown = tmp_path / "state.safetensors", data("train", 4).images
    snapshot = Snapshot(net=fresh().state_dict(), shown=torch.from_numpy(shown))
    train_state.write(path, snapshot)
    keeper = StateFile(path, identity={}, command={}, group=there)
    found = keeper.restore(fresh(), defence("plain")).shown
    assert found.shape == shown.shape
    assert found.device.type == "meta"


def test_a_finished_training_needs_no_further_step(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = fitted(tmp_path)
    kill_at(monkeypatch, 0)
    assert same(fitted(tmp_path), whole)


def test_what_it_took_is_counted_over_both_parts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patched:
        kill_at(patched, 5)
        with pytest.raises(Killed):
            fitted(tmp_path, recipe="plain-joint")
    spent, _ = train(
        fresh(), data("train"), calibration=data("calibration"), defence=defence("plain-joint"),
        options=SHORT, log=tmp_path / "log.jsonl", state=tmp_path / "state.safetensors",
    )  # fmt: skip
    taken = {each.phase: each for each in spent}
    assert [taken[name].steps for name in ("float", "defended float", "quantized")] == [3, 0, 6]
    assert [taken[name].images for name in ("float", "quantized")] == [48, 96]
    assert [taken[name].passes for name in ("float", "quantized")] == [48, 3 * 96]


@pytest.mark.parametrize(
    ("options", "recipe", "net_seed", "said"),
    [
        (replace(SHORT, lr=0.05), "plain", None, "lr 0.1, not 0.05"),
        (replace(SHORT, seed=4), "plain", None, "seed 0, not 4"),
        (SHORT, "qadtr", None, "recipe plain, not qadtr"),
        (SHORT, "plain", 5, "other first weights"),
    ],
)
def test_other_options_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: TrainOptions, recipe: str,
    net_seed: int | None, said: str,
) -> None:  # fmt: skip
    with monkeypatch.context() as patched:
        kill_at(patched, 4)
        with pytest.raises(Killed):
            fitted(tmp_path)
    before = (tmp_path / "state.safetensors").read_bytes()
    with pytest.raises(BadInput, match=said) as caught:
        fitted(tmp_path, options, recipe=recipe, seed_of_net=net_seed)
    assert "--resume" in caught.value.remedy
    assert (tmp_path / "state.safetensors").read_bytes() == before


def test_a_damaged_state_is_refused_in_two_sentences(tmp_path: Path) -> None:
    fitted(tmp_path)
    path = tmp_path / "state.safetensors"
    content = path.read_bytes()
    for broken in (content[:-7], content[:40], b"x" * 99, content.replace(b'"schema', b'"shcema')):
        path.write_bytes(broken)
        with pytest.raises(BadInput, match="no training state that can be read"):
            fitted(tmp_path)


@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_step_that_fails_leaves_the_state_before_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    original, made = procedure._update, []

    def spoiling(*words: object, **named: object) -> object:
        net = words[0]
        assert isinstance(net, QuantNet)
        made.append(None)
        if len(made) == 6:
            with torch.no_grad():
                next(iter(net.scales.values())).fill_(math_nan)
        return original(*words, **named)  # type: ignore[arg-type]

    math_nan = float("nan")
    monkeypatch.setattr(procedure, "_update", spoiling)
    monkeypatch.setattr(procedure, "SAVE_EVERY_S", 0.0)
    with pytest.raises(BadInput, match="stopped being a number at step 2"):
        fitted(tmp_path)
    content = (tmp_path / "state.safetensors").read_bytes()
    found = train_state.parsed(content, path=tmp_path / "state.safetensors")
    assert (found.course.phase, found.course.step) == (2, 2)
    assert all(torch.isfinite(value).all() for value in found.net.values())


def test_only_one_process_trains_in_a_folder(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    with (
        train_state.alone(tmp_path),
        pytest.raises(BadInput, match="Another process"),
        train_state.alone(tmp_path),
    ):
        pass
    with train_state.alone(tmp_path):
        pass


KILLED_AFTER = """
import os, signal, sys
from qadtr_edge import cli, train_state
original, written = train_state.write, []
def write(*words):
    original(*words)
    written.append(None)
    if len(written) == {writes}:
        os.kill(os.getpid(), signal.SIGKILL)
train_state.write = write
sys.argv = ["qadtr-edge", *{words!r}]
cli.main()
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX")
def test_killed_and_resumed_the_checkpoint_is_the_same_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 80)
    images = rng.integers(40, 140, (80, 12, 12, 3))
    images[np.arange(80), :, :, labels] += 60
    np.savez(tmp_path / "toy.npz", images=images.astype(np.uint8), labels=labels)
    words = [
        "train", "--data", str(tmp_path / "toy.npz"), "--recipe", "qadtr", "--epochs", "2",
        "--float-epochs", "1", "--batch", "8", "--threads", "1", "--set", "a_qapa.steps=2",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("QADTR_RUNS", None)

    def run(code: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment,
            check=False,
        )  # fmt: skip

    whole, cut = tmp_path / "whole", tmp_path / "runs" / "2026-01-01-1"
    code = KILLED_AFTER.format(writes=99, words=[*words, "--run", str(whole)])
    assert run(code).returncode == 0
    code = KILLED_AFTER.format(writes=2, words=[*words, "--run", str(cut)])
    assert run(code).returncode == -signal.SIGKILL
    assert not (cut / "checkpoint.safetensors").exists()
    refused = run(KILLED_AFTER.format(writes=99, words=[*words, "--run", str(cut), "--lr", "0.3"]))
    assert refused.returncode == 2
    assert "lr 0.1, not 0.3" in refused.stderr
    again = ["train", "--resume", "--runs", str(tmp_path / "runs"), "--json"]
    done = run(KILLED_AFTER.format(writes=99, words=again))
    assert done.returncode == 0, done.stderr
    assert "Going on where it was interrupted" in done.stderr
    answer = json.loads(done.stdout)
    assert Path(answer["run"]) == cut
    assert answer["training"]["images"] == sum(p["images"] for p in answer["training"]["phases"])
    assert sorted(path.name for path in cut.iterdir()) == [
        "checkpoint.safetensors", "log.jsonl", "manifest.json",
    ]  # fmt: skip
    checkpoints = [folder / "checkpoint.safetensors" for folder in (whole, cut)]
    assert checkpoints[0].read_bytes() == checkpoints[1].read_bytes()
    assert without_clock(cut) == without_clock(whole)

"""Two processes train what one would: equal weights on both, and equal to one process's."""
# ruff: noqa: E402

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

import torch.distributed as dist
from torch import Tensor, nn

from qadtr_edge.defences import recipes
from qadtr_edge.defences.defence import CONSTANT, Stateless
from qadtr_edge.errors import BadInput, UnknownName
from qadtr_edge.train import TrainOptions, train
from qadtr_edge.train_feed import Feed
from qadtr_edge.train_group import Group, device_of
from training import data, fresh

needs_gloo = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="torch was built without gloo"
)

TRAINED_BY_ONE = """
import json, sys
import torch
sys.path[:0] = {paths!r}
from safetensors.torch import save_file
from test_train_group import trained
from qadtr_edge.train_group import joined
from pathlib import Path
torch.set_num_threads(1)
with joined("cpu") as group:
    net = trained(Path({folder!r}), {recipe!r}, {settings!r}, {widths!r})
    tensors = {{name: value.contiguous() for name, value in net.state_dict().items()}}
    save_file(tensors, Path({folder!r}) / f"rank{{group.rank}}.safetensors")
left = [comm.read_text() for comm in Path("/proc/self/task").glob("*/comm")]
assert not any("gloo" in name for name in left), left
"""


UNEQUAL = """
import sys
import torch
sys.path[:0] = {paths!r}
from torch import nn
from pathlib import Path
from safetensors.torch import save_file
from qadtr_edge.defences.defence import Batch
from qadtr_edge.train_group import joined
torch.set_num_threads(1)
with joined("cpu") as group:
    net = nn.ModuleDict({{name: nn.Linear(2, 2, bias=False) for name in ("all", "one", "none")}})
    used = ("all", "one") if group.rank == 1 else ("all",)
    loss = sum((1 + group.rank) * net[name].weight.sum() for name in used)
    loss.backward()
    mean = group.average_gradients(net, loss)
    found = {{n: w.grad for n, w in net.named_parameters() if w.grad is not None}}
    images = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    part = Batch(images, torch.zeros(1), step=0, steps=1, epoch=0).part
    found |= {{"loss": mean, "part": torch.tensor(part)}}
    save_file(found, Path({folder!r}) / f"rank{{group.rank}}.safetensors")
"""


def trained(
    folder: Path, recipe: str, settings: tuple[str, ...] = (), widths: tuple[int, ...] = (32,)
) -> nn.Module:
    """Three epochs of three steps; the float part alone where 32 is the only width."""
    net = fresh(widths)
    defence, _ = recipes.build(recipe, settings=settings)
    options = TrainOptions(
        epochs=1 if len(widths) > 1 else 0, float_epochs=2, batch=16, lr=0.02, crop_px=1
    )
    train(
        net, data("train"), calibration=data("calibration"), defence=defence, options=options,
        log=folder / "log.jsonl", state=folder / "state.safetensors",
    )  # fmt: skip
    return net


def environment(rank: int, size: int, port: int) -> dict[str, str]:
    """What torchrun tells a process."""
    return {
        **os.environ, "OMP_NUM_THREADS": "1", "RANK": str(rank), "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def in_processes(code: str, size: int) -> None:
    """Run ``code`` in ``size`` processes that train together."""
    port = free_port()
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code], env=environment(rank, size, port),
            stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        )
        for rank in range(size)
    ]  # fmt: skip
    said = [process.communicate()[1] for process in started]
    for process, words in zip(started, said, strict=True):
        assert process.returncode == 0, words


def results(folder: Path, size: int) -> list[dict[str, Tensor]]:
    from safetensors.torch import load_file

    return [load_file(folder / f"rank{rank}.safetensors") for rank in range(size)]


@needs_gloo
@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "settings", "widths"),
    [
        ("plain", (), (32,)),
        ("qadtr", ("a_qapa.patch_px=3", "gir.variant=B"), (32, 4)),
        ("triqdef", ("patches.patch_px=3", "patches.ascents=2", "add_at=0.3"), (32, 8, 4)),
    ],
)
def test_two_processes_end_in_one_network(
    tmp_path: Path, recipe: str, settings: tuple[str, ...], widths: tuple[int, ...]
) -> None:
    code = TRAINED_BY_ONE.format(
        paths=[str(folder) for folder in Path(__file__).parents[:2]], folder=str(tmp_path),
        recipe=recipe, settings=settings, widths=widths,
    )  # fmt: skip
    in_processes(code, 2)
    one, other = results(tmp_path, 2)
    assert all(torch.equal(one[name], other[name]) for name in one)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["images"] for line in lines][:2] == [48, 96], "one process writes"
    if recipe == "plain":
        alone = trained(tmp_path / "alone", recipe).state_dict()
        for name, value in alone.items():
            assert torch.allclose(value, one[name], rtol=0, atol=1e-5), name


@needs_gloo
@pytest.mark.slow
def test_a_weight_that_one_process_alone_uses_has_the_mean_gradient_in_all(tmp_path: Path) -> None:
    paths = [str(folder) for folder in Path(__file__).parents[:2]]
    in_processes(UNEQUAL.format(paths=paths, folder=str(tmp_path)), 2)
    one, other = results(tmp_path, 2)
    assert (int(one.pop("part")), int(other.pop("part"))) == (0, 1)
    assert one.keys() == other.keys() == {"all.weight", "one.weight", "loss"}
    for found in (one, other):
        assert torch.equal(found["all.weight"], torch.full((2, 2), 1.5))  # of 1 and 2
        assert torch.equal(found["one.weight"], torch.full((2, 2), 1.0))  # of nothing and 2
    assert torch.equal(one["loss"], other["loss"])


class Remembering(Stateless):
    """A defence that remembers a fraction, a whole number and what never changes."""

    def __init__(self) -> None:
        self.given: dict[str, Tensor] = {}

    def state(self) -> dict[str, Tensor]:
        return {
            "gain": torch.tensor([1.0]), "target": torch.tensor([1]),
            f"{CONSTANT}weight": torch.tensor([1.0]),
        }  # fmt: skip

    def restore(self, state: dict[str, Tensor]) -> None:
        self.given = state


def test_what_a_defence_keeps_as_it_was_is_not_exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Tensor] = []
    monkeypatch.setattr(Group, "_exchange", lambda self, tensors, exchange: sent.extend(tensors))
    defence = Remembering()
    Group(0, 2).align(nn.Linear(2, 2), defence)
    assert len(sent) == 2
    assert set(defence.given) == {"gain", "target"}


def test_one_process_has_every_row() -> None:
    alone = Group()
    rows = torch.arange(6)
    assert alone.is_first
    assert torch.equal(alone.own(rows), rows)
    assert torch.equal(alone.rows_of_all(rows), rows)
    assert alone.bytes_of_first(b"here") == b"here"


def test_the_parts_of_a_batch_make_it_whole() -> None:
    feeds = [
        Feed(data("train"), batch=16, crop_px=1, seed=0, group=Group(rank, size))
        for rank, size in ((0, 1), (0, 4), (1, 4), (2, 4), (3, 4))
    ]
    whole, *parts = [feed.batch("float", 4, steps=9, kind="float") for feed in feeds]
    assert whole.epoch == 1
    assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
    assert torch.equal(torch.cat([part.labels for part in parts]), whole.labels)


def test_a_batch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(BadInput, match="16 images does not divide among 3") as caught:
        Feed(data("train"), batch=16, crop_px=1, seed=0, group=Group(1, 3))
    assert "--batch 15" in caught.value.remedy


def test_a_device_is_a_known_one_that_is_there() -> None:
    assert device_of("cpu") == torch.device("cpu")
    with pytest.raises(UnknownName, match="Did you mean 'cuda'"):
        device_of("cudo")
    if not torch.cuda.is_available():
        assert device_of("auto") == torch.device("cpu")
        with pytest.raises(BadInput, match="finds no CUDA device"):
            device_of("cuda")

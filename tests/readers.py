"""What a reader of the documentation is said to have: files of their own, and a device."""

from __future__ import annotations

import os
import runpy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import foreign_files
import lean
import sshd
import tflite_files
from golden.make_brevitas import images

NEEDS = {"own-onnx.md": ("litert", "trt-rtx"), "jetson.md": ("sshd",)}
"""Needs of a page beyond onnxruntime and torch."""

USB = "192.168.55.1"
WNIDS = ("n01440764", "n02102040", "n03417042")


@contextmanager
def having(page: str, folder: Path) -> Iterator[dict[str, str]]:
    """Puts into ``folder`` what the page's reader has; what their environment says besides."""
    if page == "jetson.md":
        with _jetson(folder) as told:
            yield told
        return
    if page in _FILES:
        _FILES[page](folder)
    yield {}


def _own_onnx(folder: Path) -> None:
    """A quantized file with its sidecar, one for LiteRT, and a folder of pictures."""
    _pictures(folder / "pictures")
    source = foreign_files.save(foreign_files.residual(seed=5), folder / "float.onnx")
    foreign_files.quantize_static(
        source, folder / "model.onnx", activations="QUInt8", weights="QInt8", per_channel=True
    )
    tflite_files.pixels(folder / "edge.tflite")


def _own_torch(folder: Path) -> None:
    """Weights of a registered network and ImageNet's folder; a module, its weights and pictures."""
    import torch

    from qadtr_edge.models.resnet_imagenet import resnet18

    torch.manual_seed(0)
    torch.save(resnet18().state_dict(), folder / "resnet18.pth")
    for wnid in WNIDS:
        _png(folder / "ilsvrc2012" / "val" / wnid, images(12, seed=len(wnid))[0])
    rows = [f"{number},{wnid},{wnid}" for number, wnid in enumerate(WNIDS)]
    table = "\n".join(["class_index,wnid,class_name", *rows])
    (folder / "ilsvrc2012" / "imagenet_classes.csv").write_text(table)
    _pictures(folder / "pictures")
    (folder / "mynet.py").write_text(_MYNET)
    net = runpy.run_path(str(folder / "mynet.py"))["net"]
    torch.save(net(10).state_dict(), folder / "net.pt")


_FILES: dict[str, Callable[[Path], None]] = {
    "own-onnx.md": _own_onnx,
    "own-torch.md": _own_torch,
}

_MYNET = """from torch import nn


def net(classes):
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes),
    )
"""


def _pictures(folder: Path) -> None:
    """Ten classes of about eighty pictures, 16 pixels a side."""
    pixels, labels = images(800, seed=11)
    for label in range(10):
        _png(folder / f"class{label}", pixels[labels == label])


def _png(folder: Path, pixels: object) -> None:
    from PIL import Image

    folder.mkdir(parents=True)
    for number, picture in enumerate(pixels):
        Image.fromarray(picture.transpose(1, 2, 0)).save(folder / f"{number}.png")


@contextmanager
def _jetson(folder: Path) -> Iterator[dict[str, str]]:
    """A device under the address of a Jetson's USB port, whose ``python3`` has a runtime."""
    away = folder / "away"
    python = lean.interpreter(away / "python", "numpy", "onnxruntime")
    there = {"HOME": str(away), "PATH": f"{python.parent}:{os.defpath}"}
    server = sshd.made(folder / "sshd", told=there, alias=USB)
    server.start()
    path = f"{server.bin}{os.pathsep}{os.environ['PATH']}"
    try:
        yield {"PATH": path, "QADTR_DEVICES": str(folder / "devices.json")}
    finally:
        server.stop()

"""Claims, against the Adversarial Robustness Toolbox (ART) in one run, on one thread:

- crafting a universal patch (GAP) shows the network at least 2x the patched images per second of
  ART's AdversarialPatchPyTorch, and reaches an equal success rate at least 5x sooner;
- applying patches with rotation and scale is at least 50x as fast as ART's overlay, without
  rotation at least 500x.

The same float network, the same images, patch of the same size, rotation within 15 degrees, scale
0.9 to 1.1, batches of 128. Success rates of both are judged by this project's replay on the same
held-out images at the same places. ART's learning rates are tried in a list and its best is taken.

    pip install torchvision==0.28.0 --no-deps     # ART asks for it; only its transforms are used
    QADTR_DATA=DIR python benchmarks/peers_speed.py --run RUN [--data cifar10]

Exit code 1 when a claim does not hold.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from importlib import import_module
from pathlib import Path

import numpy as np
import records
import torch
from torch import nn

from qadtr_edge import console, craft, data, metrics, runs
from qadtr_edge.attacks.gap import Gap
from qadtr_edge.attacks.victim import logits_of
from qadtr_edge.data.dataset import Dataset
from qadtr_edge.patch.paste import paste
from qadtr_edge.patch.placement import place, policy
from qadtr_edge.types import Patch

PATCH_PX = 6
BATCH = 128
BARS = {"crafting": 2.0, "to equal ASR": 5.0, "paste, rotated": 50.0, "paste, upright": 500.0}
RATES = (5.0, 10.0, 20.0)
"""ART's learning rates, its default first, in units where pixels are 0 to 255."""

OPERATORS = (
    "nms", "qnms", "roi_align", "_roi_align_backward", "ps_roi_align", "_ps_roi_align_backward",
    "roi_pool", "_roi_pool_backward", "ps_roi_pool", "_ps_roi_pool_backward", "deform_conv2d",
    "_deform_conv2d_backward", "_cuda_version",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--run", type=Path, required=True, help="whose float network is attacked")
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--images", type=int, default=512, help="to craft on; as many to judge")
    parser.add_argument("--seconds", type=float, default=60.0, help="of crafting, at the most")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    art = _art()
    victim = craft.prey(runs.open_run(options.run), "float", bits=32).victim
    fit = data.load(options.data, "craft", limit=options.images)
    held = data.load(options.data, "test", limit=options.images)
    found = _crafting(victim, fit, held, seconds=options.seconds, art=art)
    found |= _pasting(held, art=art, victim=victim)
    rows: list[dict[str, object]] = [
        {"what": what, "bar": BARS[what], **each, "ratio": each["ours"] / each["art"]}
        for what, each in found.items()
    ]
    path = records.append(
        "peers_speed", options={"data": options.data, "images": options.images}, rows=rows
    )
    print(records.table(
        ["what", "ours", "ART 1.20", "ratio", "bar"],
        [[f"{row['what']}, {row['unit']}", f"{row['ours']:,.3g}", f"{row['art']:,.3g}",
          f"{row['ratio']:.1f}x", f"{row['bar']:g}x"] for row in rows],
    ))  # fmt: skip
    console.say(f"Samples: {path}")
    sys.exit(0 if all(float(str(row["ratio"])) >= float(str(row["bar"])) for row in rows) else 1)


def _art() -> type:
    """ART's attack. torchvision's compiled operators need CUDA; ART uses none of them."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in OPERATORS:
        library.define(f"{name}(Tensor x) -> Tensor")
    globals()["_keep"] = library  # its declarations go with it
    attack: type = import_module("art.attacks.evasion").AdversarialPatchPyTorch
    return attack


def _made(victim: nn.Module, art: type, *, rate: float, rotation: float = 15.0) -> object:
    estimator = import_module("art.estimators.classification").PyTorchClassifier(
        model=victim, loss=nn.CrossEntropyLoss(), input_shape=(3, 32, 32), nb_classes=10,
        clip_values=(0.0, 255.0), device_type="cpu",
    )  # fmt: skip
    low, high = (0.9, 1.1) if rotation else (1.0, 1.0)
    return art(
        estimator, rotation_max=rotation, scale_min=low * PATCH_PX / 32,
        scale_max=high * PATCH_PX / 32, learning_rate=rate, max_iter=1, batch_size=BATCH,
        patch_shape=(3, PATCH_PX, PATCH_PX), patch_type="square", targeted=False, verbose=False,
    )  # fmt: skip


def _crafting(
    victim: nn.Module, fit: Dataset, held: Dataset, *, seconds: float, art: type
) -> dict[str, dict[str, object]]:
    """Images a second of crafting, and seconds to the best success rate that both reach."""
    how = policy("random", image_px=32)
    places = place(how, held.ids, seed=1, patch_px=(PATCH_PX, PATCH_PX), image_px=(32, 32))
    clean = metrics.predicted(logits_of(victim, held.images))

    def asr(pixels: np.ndarray) -> float:
        mask = np.ones((PATCH_PX, PATCH_PX), bool)
        shown = paste(held.images, pixels, mask=mask, placements=places)
        labels = metrics.predicted(logits_of(victim, shown))
        able = metrics.eligible(clean, held.labels)
        return float((able & (labels != held.labels)).sum() / able.sum())

    ours = _ours(victim, fit, seconds=seconds, asr=asr)
    others = []
    for rate in RATES:
        others.append(_theirs(_made(victim, art, rate=rate), fit, seconds=seconds, asr=asr))
        best = max(point[1] for point in others[-1]["curve"])
        console.say(f"ART at learning rate {rate:g}: {best:.1%} at the best")
    theirs = max(others, key=lambda each: max(point[1] for point in each["curve"]))
    level = min(max(asr for _, asr in each["curve"]) for each in (ours, theirs))
    taken = [
        next(at for at, reached in each["curve"] if reached >= level) for each in (ours, theirs)
    ]
    console.say(f"Equal ASR: {level:.1%}; ours best {max(a for _, a in ours['curve']):.1%}")
    return {
        "crafting": {"unit": "images/s", "ours": ours["rate"], "art": theirs["rate"]},
        "to equal ASR": {"unit": "1/s", "ours": 1 / taken[0], "art": 1 / taken[1],
                         "level": level, "ours_curve": ours["curve"],
                         "art_curve": theirs["curve"]},
    }  # fmt: skip


def _ours(victim, fit, *, seconds, asr):  # type: ignore[no-untyped-def]
    """A run of GAP for each of a list of lengths, since its step falls to its end.

    Each is half as long again as the one before, so that the length that reaches a rate is known to
    no worse a grain than ART's passes give. An untimed run comes first, as for ART.
    """
    curve, rate = [], 0.0
    Gap(steps=2, judged_every=2).craft(victim, fit, seed=0, told=lambda count, note: None)
    steps = 10
    while True:
        begun = time.perf_counter()
        patch: Patch = Gap(steps=steps, judged_every=steps).craft(
            victim, fit, seed=0, told=lambda count, note: None
        )
        taken = time.perf_counter() - begun
        rate = steps * BATCH / taken
        curve.append((taken, asr(patch.pixels)))
        if taken * 1.5 > seconds:
            return {"rate": rate, "curve": curve}
        steps += steps // 2


def _theirs(attack, fit, *, seconds, asr):  # type: ignore[no-untyped-def]
    """ART's loop, a pass over the images at a time; judging and the first batch are not timed.

    What the patch gains by that batch it keeps.
    """
    images, labels = fit.images.astype(np.float32), np.eye(10, dtype=np.float32)[fit.labels]
    attack.generate(x=images[:BATCH], y=labels[:BATCH])
    curve, taken, shown = [], 0.0, 0
    while taken < seconds:
        begun = time.perf_counter()
        pixels, _ = attack.generate(x=images, y=labels)
        taken += time.perf_counter() - begun
        shown += len(images)
        curve.append((taken, asr(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))))
    return {"rate": shown / taken, "curve": curve}


def _pasting(held: Dataset, *, art: type, victim: nn.Module) -> dict[str, dict[str, object]]:
    """Images a second of pasting one patch, rotated and scaled, and upright."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, PATCH_PX, PATCH_PX), dtype=np.uint8)
    mask = np.ones((PATCH_PX, PATCH_PX), bool)
    images = held.images.astype(np.float32)
    found: dict[str, dict[str, object]] = {}
    for what, name, rotation in (("rotated", "random", 15.0), ("upright", "plain", 0.0)):
        how = policy(name, image_px=32)
        places = place(how, held.ids, seed=1, patch_px=mask.shape, image_px=(32, 32))
        ours = _fastest(lambda p=places: paste(held.images, pixels, mask=mask, placements=p))
        attack = _made(victim, art, rate=5.0, rotation=rotation)
        given = pixels.astype(np.float32)
        theirs = _fastest(
            lambda a=attack, g=given: a.apply_patch(images, scale=PATCH_PX / 32, patch_external=g),
            rounds=3,
        )
        found[f"paste, {what}"] = {
            "unit": "images/s", "ours": len(held) / ours, "art": len(held) / theirs,
        }  # fmt: skip
    return found


def _fastest(call, *, rounds: int = 20) -> float:  # type: ignore[no-untyped-def]
    """Seconds of the fastest of several calls."""
    taken = []
    for _ in range(rounds):
        begun = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begun)
    return min(taken)


if __name__ == "__main__":
    main()

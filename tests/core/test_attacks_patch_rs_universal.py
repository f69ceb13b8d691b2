"""One patch for all images by scores: it wins on images it never saw, and everything is counted."""

from __future__ import annotations

import numpy as np
import pytest

from qadtr_edge import metrics
from qadtr_edge.attacks.patch_rs_universal import PatchRsUniversal
from qadtr_edge.errors import BadInput, Unsupported
from qadtr_edge.patch.paste import paste
from qadtr_edge.patch.placement import place, policy
from qadtr_edge.types import Patch
from toy import Quadrants, pictures, reordered

CRAFT, TEST = pictures(200, split="craft"), pictures(300, split="test")
GIVEN = {"patch_px": (5, 5), "placement": "fixed:1,1"}


def crafted(*, seed: int = 0, batch: int = 64, **options: object) -> Patch:
    attack = PatchRsUniversal(**{"queries": 300, **GIVEN, **options})  # type: ignore[arg-type]
    return attack.craft(Quadrants(), CRAFT, seed=seed, batch=batch)


def success(patch: Patch) -> float:
    places = place(
        policy("fixed:1,1", image_px=16), TEST.ids, seed=7, patch_px=(5, 5), image_px=(16, 16)
    )
    shown = paste(TEST.images, patch.pixels, mask=patch.mask, placements=places)
    clean, after = (metrics.predicted(Quadrants()(each)) for each in (TEST.images, shown))
    return metrics.attack_success_rate(clean, after, labels=TEST.labels, target=patch.target)


@pytest.mark.parametrize("target", [None, 0])
def test_it_wins_on_images_it_never_saw(target: int | None) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 5, 5)).astype(np.uint8)
    patch = crafted(target=target)
    assert patch.target == target
    rival = Patch(noise, patch.mask, target=target)
    assert success(patch) > success(rival) + 0.3


def test_the_same_seed_gives_the_same_bytes_at_any_batch() -> None:
    assert (crafted(queries=40).pixels == crafted(queries=40, batch=7).pixels).all()
    assert (crafted(queries=40).pixels != crafted(queries=40, seed=1).pixels).any()


def test_what_the_engine_is_shown_is_counted() -> None:
    engine, heard = Quadrants(), []
    patch = PatchRsUniversal(queries=40, **GIVEN).craft(  # type: ignore[arg-type]
        engine, CRAFT, seed=0, batch=64, told=lambda count, note: heard.append(count)
    )
    assert sum(engine.shown) == patch.origin["shown"]
    assert sum(heard) == 40


def test_colours_are_saturated() -> None:
    assert set(np.unique(crafted().pixels)) <= {0, 255}


def test_what_cannot_be_searched_is_refused() -> None:
    attack = PatchRsUniversal(**GIVEN)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="at least 5"):
        attack.craft(Quadrants(), reordered(CRAFT, np.arange(3)), seed=0, batch=64)
    with pytest.raises(Unsupported, match="scores"):
        attack.craft(
            lambda images: np.eye(4, dtype=np.float32)[np.arange(len(images)) % 4],
            CRAFT, seed=0, batch=64,
        )  # fmt: skip
    with pytest.raises(BadInput, match="10"):
        PatchRsUniversal(queries=9)

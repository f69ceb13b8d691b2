"""Training's random crops and mirrors: only bytes that were there, one draw per image."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[train]'")

from qadtr_edge.data.augment import augment  # noqa: E402


def images(count: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(256, (count, 3, 10, 12), generator=generator, dtype=torch.uint8)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_nothing_asked_nothing_changed() -> None:
    assert torch.equal(augment(images(), seeded(0), flip=False, crop_px=0), images())


def test_the_same_state_gives_the_same_bytes() -> None:
    one, other, third = (augment(images(), seeded(s), flip=True, crop_px=2) for s in (3, 3, 4))
    assert torch.equal(one, other)
    assert not torch.equal(one, third)
    assert one.dtype == torch.uint8


@pytest.mark.parametrize("flip", [False, True])
def test_every_result_is_a_window_of_the_padded_image(flip: bool) -> None:
    source = images().numpy()
    result = augment(images(), seeded(5), flip=flip, crop_px=2).numpy()
    padded = np.pad(source, ((0, 0), (0, 0), (2, 2), (2, 2)), constant_values=128)
    corners, mirrored = set(), 0
    for image, frame in zip(result, padded, strict=True):
        candidates = {
            (top, left, way)
            for top in range(5)
            for left in range(5)
            for way in ((1, -1) if flip else (1,))
            if np.array_equal(image[:, :, ::way], frame[:, top : top + 10, left : left + 12])
        }
        assert len(candidates) == 1
        ((top, left, way),) = candidates
        corners.add((top, left))
        mirrored += way == -1
    assert len(corners) > 15, "every image has a corner of its own"
    assert (16 < mirrored < 48) if flip else mirrored == 0

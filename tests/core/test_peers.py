"""Ways to and from other tools: bytes stay bytes, patches are found where they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import handmade
from qadtr_edge.data.dataset import Dataset
from qadtr_edge.errors import BadInput
from qadtr_edge.integer import judge
from qadtr_edge.patch.paste import paste
from qadtr_edge.peers.attacked import placed_patches, to_bytes
from qadtr_edge.peers.callables import on_arrays, on_tensors

GRAPH = handmade.residual()


def engine(images: np.ndarray) -> np.ndarray:
    return judge.run(GRAPH, images)


def data(count: int = 6, *, size: int = 8) -> Dataset:
    images = handmade.images(count, size=size)
    return Dataset(
        name="noise", split="test", images=images, labels=np.arange(count) % 10,
        ids=np.arange(count), class_names=tuple("abcdefghij"), flip_allowed=False,
    )  # fmt: skip


@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(1, 8))
def test_a_pasted_patch_is_taken_off_and_pasted_again(seed: int, rows: int, columns: int) -> None:
    rng, own = np.random.default_rng(seed), data()
    attacked = own.images.copy()
    for image in attacked:
        top, left = rng.integers(0, 9 - rows), rng.integers(0, 9 - columns)
        image[:, top : top + rows, left : left + columns] = rng.integers(0, 256, (3, rows, columns))
    found = placed_patches(own, attacked, patch_px=(rows, columns), name="test")
    again = paste(own.images, found.pixels, mask=found.mask, placements=found.placements)
    assert (again == attacked).all()


def test_an_image_left_alone_has_a_patch_that_changes_nothing() -> None:
    own = data()
    found = placed_patches(own, own.images, patch_px=(3, 3), name="test")
    again = paste(own.images, found.pixels, mask=found.mask, placements=found.placements)
    assert (again == own.images).all()


def test_changes_beyond_the_patch_are_refused_and_counted() -> None:
    own = data()
    attacked = own.images.copy()
    attacked[0, :, 0, 0] ^= 255
    attacked[0, :, 7, 7] ^= 255
    with pytest.raises(BadInput, match="1 of 6 images are changed outside a patch of 3x3"):
        placed_patches(own, attacked, patch_px=(3, 3), name="test")


def test_bytes_are_rounded_and_never_wrap() -> None:
    assert to_bytes(np.array([-0.1, 0.0, 0.5 / 255, 0.6 / 255, 1.0, 1.2]), top=1.0).tolist() == [
        0, 0, 0, 1, 255, 255,
    ]  # fmt: skip
    with pytest.raises(BadInput, match="not numbers"):
        to_bytes(np.array([np.nan]), top=1.0)


def test_a_callable_answers_as_the_engine_in_any_batch() -> None:
    images = handmade.images(7)
    exact = (images / np.float32(255)).astype(np.float32)
    assert (on_arrays(engine, batch=3)(exact) == engine(images)).all()


@pytest.mark.needs("torch")
def test_tensors_in_and_out() -> None:
    import torch

    images = handmade.images(4)
    found = on_tensors(engine)(torch.from_numpy(images).float() / 255)
    assert (found.numpy() == engine(images)).all()


@pytest.mark.needs("art")
@pytest.mark.filterwarnings("ignore")
def test_art_searches_on_the_engine_and_its_patches_are_replayed() -> None:
    from art.attacks.evasion import SquareAttack

    from qadtr_edge.peers import art

    own = data(4)
    own = replace(own, labels=engine(own.images).argmax(axis=1))
    victim = art.black_box(engine, classes=10, image_px=(8, 8))
    assert (victim.predict(own.images.astype(np.float32)) == engine(own.images)).all()

    class Corner:
        """An attack of ART whose changes are kept to one corner."""

        def generate(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
            square = SquareAttack(victim, norm=np.inf, eps=255.0, max_iter=5, verbose=False)
            found = x.copy()
            found[:, :, :4, :4] = square.generate(x, y)[:, :, :4, :4]
            return found

    patches = art.patches_of(Corner(), own, patch_px=(4, 4))
    shown = paste(own.images, patches.pixels, mask=patches.mask, placements=patches.placements)
    assert (shown[:, :, 4:, :] == own.images[:, :, 4:, :]).all()
    assert (shown != own.images).any()


@pytest.mark.needs("art")
@pytest.mark.filterwarnings("ignore")
def test_a_patch_of_art_becomes_a_patch_of_bytes() -> None:
    from qadtr_edge.peers import art

    class Made:
        def generate(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            assert x.max() > 1
            assert (y.sum(axis=1) == 1).all()
            mask = np.zeros((3, 4, 4), np.float32)
            mask[:, 1:3, 1:3] = 1
            return np.full((3, 4, 4), 254.6, np.float32), mask

    patch = art.patch_of(Made(), data(), classes=10, target=3)
    assert patch.pixels.dtype == np.uint8
    assert (patch.pixels == 255).all()
    assert patch.mask.sum() == 4
    assert patch.target == 3


@pytest.mark.needs("ort", "maite")
def test_an_engine_is_a_maite_model(tmp_path: object) -> None:
    from pathlib import Path

    import maite.protocols.image_classification as ic
    from qadtr_edge.export import ort

    from qadtr_edge.peers.maite import MaiteModel

    folder = Path(str(tmp_path))
    ort.build(GRAPH, folder)
    with ort.OrtEngine(folder / ort.MODEL) as opened:
        model = MaiteModel(opened, class_names=tuple("abcdefghij"))
        assert isinstance(model, ic.Model)
        images = handmade.images(3)
        found = np.stack(model(list(images)))
        assert np.allclose(found.sum(axis=1), 1)
        assert (found.argmax(axis=1) == opened(images).argmax(axis=1)).all()
        assert model.metadata["index2label"][9] == "j"

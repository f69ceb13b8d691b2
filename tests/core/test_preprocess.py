"""The sidecar: what it means, and what it refuses."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from qadtr_edge.data import preprocess
from qadtr_edge.errors import BadInput, UnknownName

pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")


def told(text: str, folder: Path) -> preprocess.Preprocess:
    path = folder / "model.toml"
    path.write_text(text)
    return preprocess.read(path)


def pixels() -> np.typing.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5), dtype=np.uint8)


def test_mean_and_deviation_are_torchvisions(tmp_path: Path) -> None:
    made = told("mean = [0.4, 0.5, 0.6]\nstd = [0.2, 0.3, 0.4]", tmp_path)(pixels())
    mean, std = (np.array(v, np.float32)[:, None, None] for v in ([0.4, 0.5, 0.6], [0.2, 0.3, 0.4]))
    assert made.dtype == np.float32
    assert np.array_equal(made, (pixels().astype(np.float32) / np.float32(255) - mean) / std)


def test_scale_and_offset_in_bgr_with_the_channels_last(tmp_path: Path) -> None:
    text = 'layout = "NHWC"\nchannels = "BGR"\nscale = 1.0\noffset = [-1, -2, -3]'
    made = told(text, tmp_path)(pixels())
    assert made.shape == (2, 4, 5, 3)
    assert np.array_equal(made[..., 0], pixels()[:, 2] - 3.0)
    assert np.array_equal(made[..., 2], pixels()[:, 0] - 1.0)


def test_raw_bytes_are_themselves() -> None:
    assert np.array_equal(preprocess.raw("NCHW", offset=-128)(pixels()), pixels() - 128.0)


def test_the_sidecar_beside_the_model_is_found_unless_another_is_named(tmp_path: Path) -> None:
    model, other = tmp_path / "model.onnx", tmp_path / "other.toml"
    assert preprocess.agreed(model, None) is None
    (tmp_path / "model.toml").write_text("scale = 1.0\nclass_offset = 1")
    other.write_text("scale = 2.0\nsize_px = 96")
    found, named = preprocess.agreed(model, None), preprocess.agreed(model, other)
    assert found is not None
    assert (found.class_offset, found.size_px) == (1, None)
    assert named is not None
    assert (named.class_offset, named.size_px, named.values[0, 3]) == (None, 96, 6.0)


def test_the_digest_changes_with_what_the_model_reads(tmp_path: Path) -> None:
    texts = (
        "scale = 1.0", "scale = 2.0", "scale = 1.0\noffset = 1", 'scale = 1.0\nchannels = "BGR"',
        'scale = 1.0\nlayout = "NHWC"', "scale = 1.0\nclass_offset = 1",
    )  # fmt: skip
    assert len({told(text, tmp_path).digest for text in texts}) == len(texts)
    assert told("scale = 1.0", tmp_path).digest == told("scale = 1", tmp_path).digest


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("scale = ", "is not valid TOML"),
        ("", "does not say what the model reads"),
        ('layout = "NHCW"\nscale = 1', "layout = 'NHCW'"),
        ('channels = "GRB"\nscale = 1', "channels = 'GRB'"),
        ("mean = 0.5\nscale = 1", "both mean and std, and scale and offset"),
        ("mean = [0.5, 0.5]", r"mean = \[0.5, 0.5\]"),
        ("std = [0.1, 0.0, 0.1]", "not positive"),
        ("scale = 0", "other than 0"),
        ("scale = nan", "three for R, G and B"),
        ("scale = true", "scale = True"),
        ("scale = 1\nclass_offset = 2", "class_offset = 2"),
        ("scale = 1\nsize_px = 100000", "size_px = 100000"),
        ("scale = 1\nsize_px = 0", "size_px = 0"),
        ("scale = 1e300", "float32 does not hold"),
        ("mean = 1e300", "float32 does not hold"),
        ("std = 1e-44", "float32 does not hold"),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=said):
        told(text, tmp_path)


def test_an_unknown_key_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'mean'"):
        told("meen = 0.5", tmp_path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No such file"):
        preprocess.read(tmp_path / "none.toml")

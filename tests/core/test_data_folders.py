"""The user's own images: class folders, labels.csv, parts, ImageNet; and what is refused."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from qadtr_edge.data import SPLITS, load
from qadtr_edge.data.pictures import read_pictures
from qadtr_edge.data.shares import PARTS, UNUSED, assign
from qadtr_edge.errors import BadInput, MissingDependency, UnknownName


def picture(path: Path, *, seed: int = 0, size: tuple[int, int] = (8, 8)) -> Path:
    """A picture of noise, of ``size`` (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def fill(folder: Path, *, classes: Iterable[str] = ("cat", "dog"), count: int = 40) -> Path:
    for number, name in enumerate(classes):
        for index in range(count):
            picture(folder / name / f"{index}.png", seed=1000 * number + index)
    return folder


def splits_of(root: Path) -> dict[str, set[str]]:
    """The files of every split that is not empty; fails when a file is in two."""
    found: dict[str, set[str]] = {}
    ids: list[int] = []
    for split in SPLITS:
        try:
            part = load(str(root), split)
        except BadInput as error:
            if "The split" not in error.fact:
                raise
            continue
        found[split] = set(part.files)
        ids += part.ids.tolist()
    assert len(ids) == len(set(ids)) == sum(map(len, found.values()))
    return found


def test_class_folders(tmp_path: Path) -> None:
    fill(tmp_path)
    part = load(str(tmp_path), "test")
    assert part.class_names == ("cat", "dog")
    assert part.images.shape[1:] == (3, 8, 8)
    assert not part.flip_allowed
    for image, label, file in zip(part.images, part.labels, part.files, strict=True):
        assert file.startswith(part.class_names[label])
        pixels = np.asarray(Image.open(tmp_path / file))
        np.testing.assert_array_equal(image, pixels.transpose(2, 0, 1))


def test_every_image_is_in_exactly_one_split(tmp_path: Path) -> None:
    files = splits_of(fill(tmp_path))
    assert set(files) == set(SPLITS)
    assert sum(map(len, files.values())) == 80


def test_adding_images_moves_no_other(tmp_path: Path) -> None:
    before = splits_of(fill(tmp_path))
    ids = dict(zip(load(str(tmp_path), "test").files, load(str(tmp_path), "test").ids, strict=True))
    fill(tmp_path, classes=("bird",))
    after = splits_of(tmp_path)
    for split, files in before.items():
        assert files <= after[split]
    later = load(str(tmp_path), "test")
    assert ids.items() <= dict(zip(later.files, later.ids, strict=True)).items()


def test_a_limit_is_a_prefix_and_reads_no_more(tmp_path: Path) -> None:
    whole = load(str(fill(tmp_path)), "test")
    (tmp_path / whole.files[-1]).write_bytes(b"broken")
    part = load(str(tmp_path), "test", limit=5)
    assert part.files == whole.files[:5]
    np.testing.assert_array_equal(part.images, whole.images[:5])


def test_parts_named_by_folders(tmp_path: Path) -> None:
    fill(tmp_path / "train")
    fill(tmp_path / "val", count=3)
    files = splits_of(tmp_path)
    assert files["test"] == {f"val/{name}/{n}.png" for name in ("cat", "dog") for n in range(3)}
    rest = files["train"] | files["calibration"] | files["craft"]
    assert len(rest) == 80
    assert all(name.startswith("train/") for name in rest)


def test_a_class_called_train_is_a_class(tmp_path: Path) -> None:
    fill(tmp_path, classes=("train", "tram"))
    assert load(str(tmp_path), "test").class_names == ("train", "tram")


def test_a_table_of_labels(tmp_path: Path) -> None:
    for number in range(40):
        picture(tmp_path / "images" / f"{number}.png", seed=number)
    rows = [f"{n}.png,{n % 3},name {n % 3},x" for n in range(40)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label,class_name,other", *rows]))
    files = splits_of(tmp_path)
    assert sum(map(len, files.values())) == 40
    part = load(str(tmp_path), "test")
    assert part.class_names == ("name 0", "name 1", "name 2")
    for file, label in zip(part.files, part.labels, strict=True):
        assert int(Path(file).stem) % 3 == label


def test_a_table_may_name_classes_and_splits(tmp_path: Path) -> None:
    for number in range(8):
        picture(tmp_path / f"{number}.png", seed=number)
    split = [*SPLITS, *SPLITS]
    rows = [f"{n}.png,{'ab'[n % 2]},{split[n]}" for n in range(8)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label,split", *rows]))
    files = splits_of(tmp_path)
    assert files == {name: {f"{n}.png", f"{n + 4}.png"} for n, name in enumerate(SPLITS)}
    assert load(str(tmp_path), "test").class_names == ("a", "b")


@given(
    st.lists(st.sampled_from(["", *PARTS]), min_size=1, max_size=60),
    st.integers(0, 2**32),
)
def test_splits_follow_the_rule(parts: list[str], seed: int) -> None:
    draws = np.random.default_rng(seed).random(len(parts))
    splits = assign(parts, draws)
    assert set(splits) <= {*SPLITS, UNUSED}
    standing = [PARTS.get(part, "") for part in parts]
    for part, split in zip(standing, splits, strict=True):
        if part in ("calibration", "craft"):
            assert split == part
        if part == "train":
            assert split in ("train", "calibration", "craft")
            assert "calibration" not in standing or split != "calibration"
        if part == "test" and "train" in standing:
            assert split == "test"
        if part in ("test", "val"):
            assert split != "train", "held-out images are never trained on"
        assert (split == UNUSED) == (part == "val" and "test" in standing)


@pytest.mark.parametrize(("part", "shares"), [
    ("", (0.40, 0.05, 0.15, 0.40)),
    ("train", (0.80, 0.05, 0.15, 0)),
    ("val", (0, 0.05, 0.15, 0.80)),
])  # fmt: skip
def test_shares(part: str, shares: tuple[float, ...]) -> None:
    draws = np.arange(10_000) / 10_000
    splits = assign([part] * 10_000, draws)
    assert tuple(np.mean(splits == split) for split in SPLITS) == pytest.approx(shares, abs=1e-3)


def test_pictures_are_scaled_and_their_centre_is_cut_out(tmp_path: Path) -> None:
    pixels = np.zeros((256, 512, 3), np.uint8)
    pixels[:, 256:] = 255
    path = tmp_path / "wide.png"
    Image.fromarray(pixels).save(path)
    image = read_pictures([path], image_size=224)[0]
    assert image.shape == (3, 224, 224)
    assert image[:, :, :112].max() == 0, "the centre is the boundary between black and white"
    assert image[:, :, 112:].min() == 255
    small = read_pictures([path], image_size=32)[0]
    assert small.shape == (3, 32, 32)
    assert small[:, :, :14].max() == 0
    assert small[:, :, 18:].min() == 255
    large = read_pictures([path], image_size=112)[0]
    reference = np.asarray(Image.open(path).resize((256, 128), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(large, reference[8:120, 72:184].transpose(2, 0, 1))


def test_a_picture_of_the_right_size_is_taken_as_it_is(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png", size=(112, 112))
    image = read_pictures([path], image_size=112)[0]
    np.testing.assert_array_equal(image, np.asarray(Image.open(path)).transpose(2, 0, 1))


def test_grey_and_transparent_pictures_become_rgb(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 9, np.uint8)).save(tmp_path / "grey.png")
    Image.fromarray(np.full((4, 4, 4), 9, np.uint8)).save(tmp_path / "rgba.png")
    images = read_pictures([tmp_path / "grey.png", tmp_path / "rgba.png"], image_size=None)
    assert images.shape == (2, 3, 4, 4)
    assert (images == 9).all()


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    with pytest.raises(BadInput, match="holds no images"):
        load(str(tmp_path), "test")


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    files = load(str(fill(tmp_path)), "test").files
    victim = tmp_path / files[3]
    for content in (b"", b"not a picture", victim.read_bytes()[:-60]):
        victim.write_bytes(content)
        with pytest.raises(BadInput) as caught:
            load(str(tmp_path), "test")
        assert str(victim) in caught.value.fact


def test_pictures_of_two_sizes_need_a_size(tmp_path: Path) -> None:
    files = load(str(fill(tmp_path)), "test").files
    picture(tmp_path / files[1], size=(9, 8))
    with pytest.raises(BadInput, match="is 9 x 8 pixels"):
        load(str(tmp_path), "test")
    assert load(str(tmp_path), "test", image_size=8).images.shape[1:] == (3, 8, 8)


@pytest.mark.parametrize(("table", "told"), [
    ("file,label\na.png,-1", "label -1"),
    ("file,label\na.png,", "Row 2"),
    ("file,label\nmissing.png,1", "no image .*missing.png"),
    ("name,label\na.png,1", "columns name, label"),
    ("file,kind\na.png,1", "columns file, kind"),
    ("file,label\na.png,1\na.png,2", "lists a.png twice"),
    ("file,label\na.png,1\nb.png,cat", "mixes class numbers and class names"),
    ("file,label,split\na.png,1,tset", "split 'tset'"),
    ("file,label\na.png,99999999999", "99999999999 is no class number"),
    ("file,label", "holds no images"),
])  # fmt: skip
def test_a_bad_table_is_refused(tmp_path: Path, table: str, told: str) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text(table)
    with pytest.raises(BadInput, match=told):
        splits_of(tmp_path)


def test_names_and_paths_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'cifar10'"):
        load("cifar-10", "test")
    with pytest.raises(UnknownName, match="Did you mean 'test'"):
        load("signs", "tests")
    with pytest.raises(BadInput, match="There is no data at"):
        load(str(tmp_path / "none"), "test")
    with pytest.raises(BadInput, match="There is no data at"):
        load("images.npz", "test")
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(BadInput, match=r"no folder and no \.npz file"):
        load(str(tmp_path / "a.txt"), "test")
    with pytest.raises(BadInput, match="0 images cannot be loaded"):
        load("signs", "test", limit=0)


def test_without_pillow_the_remedy_is_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingDependency, match="pillow"):
        load(str(tmp_path), "test")


WNIDS = ("n01440764", "n02102040", "n03417042")
CLASSES = (
    "class_index,wnid,class_name\n0,n01440764,tench\n217,n02102040,spaniel\n569,n03417042,truck"
)


def test_imagenet_folders(tmp_path: Path) -> None:
    fill(tmp_path / "imagenet" / "val", classes=WNIDS, count=10)
    with pytest.raises(BadInput, match="nothing says which class of the 1000 'n01440764' is"):
        load("imagenet", "test", root=tmp_path, image_size=8)
    (tmp_path / "imagenet_classes.csv").write_text(CLASSES)
    part = load("imagenet", "test", root=tmp_path, image_size=8)
    assert len(part.class_names) == 1000
    assert part.flip_allowed
    named = dict(zip(WNIDS, (0, 217, 569), strict=True))
    assert [named[Path(file).parent.name] for file in part.files] == part.labels.tolist()
    assert part.class_names[217] == "spaniel"
    assert len(part) > 15, "held-out images: most are for scoring"


def test_imagenet_is_224_pixels_unless_told(tmp_path: Path) -> None:
    fill(tmp_path, classes=WNIDS, count=4)
    (tmp_path / "imagenet_classes.csv").write_text(CLASSES)
    assert load("imagenet", "test", root=tmp_path, limit=1).images.shape == (1, 3, 224, 224)


def test_imagenet_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="ImageNet is not in"):
        load("imagenet", "test", root=tmp_path)


@pytest.mark.needs("real_data")
def test_real_imagenet_pictures(data_root: Path) -> None:
    folder = data_root / "imagenette_val"
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}")
    part = load("imagenet", "test", root=folder, limit=3)
    assert part.images.shape == (3, 3, 224, 224)
    assert len(load("imagenet", "test", root=folder, image_size=32)) > 45
    assert part.class_names[0].startswith("tench")

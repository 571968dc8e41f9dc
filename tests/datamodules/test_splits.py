"""Which folder, file or word means which split, and which image belongs to which label file."""

from __future__ import annotations

from pathlib import Path

import pytest

from datamodules.pairing import pair_by_name
from datamodules.splits import by_split, find_split, split_folders, split_in, split_of
from visionkit.errors import DataError
from visionkit.listing import list_images


@pytest.mark.parametrize(
    ("split", "names"),
    [
        ("train", ["train", "Training", "training_set", "train2017", "trainset", "images_train", "TRAIN-set", "trn"]),
        ("val", ["val", "valid", "validation", "dev", "Validation_Set", "val2014", "eval", "dev_set"]),
        ("test", ["test", "testing", "test_set", "Test", "test2015", "test-dev2017", "testset"]),
        (None, ["trainval", "cats", "training_dogs", "test_tubes", "contest", "images", "all", "", "prevalence"]),
    ],
)
def test_folder_names(split: str | None, names: list[str]) -> None:
    assert {name: split_of(name) for name in names} == dict.fromkeys(names, split)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("instances_train2017.json", "train"),
        ("instances_trainval.json", None),
        ("instances_valid.json", "val"),
        ("person_keypoints_val2017.json", "val"),
        ("image_info_test-dev2017.json", "test"),
        ("train_val.json", None),
        ("_annotations.coco.json", None),
        ("restraining.json", None),
    ],
)
def test_names_of_label_files(name: str, split: str | None) -> None:
    assert split_in(Path(name).stem) == split


def test_two_folders_of_one_split_are_refused(tmp_path: Path) -> None:
    for name in ("train", "valid", "test_set", "other"):
        (tmp_path / name).mkdir()
    assert {split: path.name for split, path in split_folders(tmp_path).items()} == {
        "train": "train",
        "val": "valid",
        "test": "test_set",
    }
    (tmp_path / "val").mkdir()
    with pytest.raises(DataError, match=r"valid.*val.*both mean the val split|val and valid both mean the val split"):
        split_folders(tmp_path)


def test_label_files_by_split(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("instances_train.json", "instances_trainval.json", "instances_dev.json")]
    assert by_split(files, tmp_path, whole=False) == {"train": files[0], "val": files[2]}


@pytest.mark.parametrize("word", ["val", "valid", "validation", "dev", "Val"])
def test_patterns_find_the_word_that_the_data_has(tmp_path: Path, word: str) -> None:
    for name in ("train", word):
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / f"{name}annot").mkdir()
        (tmp_path / f"instances_{name}2017.json").write_text("{}")
    (tmp_path / "instances_trainval2017.json").write_text("{}")
    assert find_split(tmp_path, "images/{split}", "val") == tmp_path / "images" / word
    assert find_split(tmp_path, "{split}annot", "val") == tmp_path / f"{word}annot"
    assert find_split(tmp_path, "instances_{split}*.json", "val") == tmp_path / f"instances_{word}2017.json"
    assert find_split(tmp_path, "instances_{split}*.json", "train") == tmp_path / "instances_train2017.json"
    assert find_split(tmp_path, "images/{split}", "test") is None
    assert find_split(tmp_path, "images", "test") == tmp_path / "images"


def test_patterns_that_fit_twice(tmp_path: Path) -> None:
    for name in ("val", "validation"):
        (tmp_path / name).mkdir()
    assert find_split(tmp_path, "{split}", "val") == tmp_path / "val"  # its own name is meant
    (tmp_path / "val").rename(tmp_path / "valid")
    with pytest.raises(DataError, match="2 places fit"):
        find_split(tmp_path, "{split}", "val")


def _touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def _pairs(images: Path, labels: Path) -> list[tuple[str, str]]:
    paired = pair_by_name(list_images(images), list_images(labels), "label file")
    return [(a.relative_to(images).as_posix(), b.relative_to(labels).as_posix()) for a, b in paired.pairs]


def test_files_of_one_name_in_two_folders_keep_their_own_partner(tmp_path: Path) -> None:
    images = _touch(tmp_path / "images", "seq1/0000.jpg", "seq2/0000.jpg")
    labels = _touch(tmp_path / "labels", "seq2/0000.png", "seq1/0000.png", "seq1/0001.png")
    assert _pairs(images, labels) == [("seq1/0000.jpg", "seq1/0000.png"), ("seq2/0000.jpg", "seq2/0000.png")]
    paired = pair_by_name(list_images(images), list_images(labels), "label file")
    assert [path.name for path in paired.alone] == ["0001.png"]


def test_flat_partners_of_nested_images(tmp_path: Path) -> None:
    images = _touch(tmp_path / "images", "seq1/a.jpg", "seq2/b.jpg")
    assert _pairs(images, _touch(tmp_path / "labels", "a.png", "b.png")) == [
        ("seq1/a.jpg", "a.png"),
        ("seq2/b.jpg", "b.png"),
    ]
    images = _touch(tmp_path / "twice", "seq1/a.jpg", "seq2/a.jpg")
    with pytest.raises(DataError, match="which image is meant is not clear"):
        _pairs(images, tmp_path / "labels")


@pytest.mark.parametrize("twice", ["images", "labels"])
def test_two_files_of_one_name_are_refused(tmp_path: Path, twice: str) -> None:
    images, labels = _touch(tmp_path / "images", "00.jpg"), _touch(tmp_path / "labels", "00.png")
    _touch(tmp_path / twice, "00.bmp")
    with pytest.raises(DataError, match="have one name"):
        _pairs(images, labels)


def test_images_without_partner_are_named(tmp_path: Path) -> None:
    images = _touch(tmp_path / "images", "a.jpg", "b.jpg")
    with pytest.raises(DataError, match=r"no label file for 1 of 2 images: b\.jpg"):
        _pairs(images, _touch(tmp_path / "labels", "a.png"))

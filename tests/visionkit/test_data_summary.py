"""The lines at the start of a command, and the warnings that go with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from visionkit.data_summary import SplitSummary, shared_images, warn_of_absent_classes, warn_of_shared_images


def test_one_line_per_split_with_what_was_passed_over() -> None:
    summary = SplitSummary(
        "train", 1200, "a/train", {"red": 700, "green": 0}, crowds=3, unlabeled=12, passed_over={"hidden": 4}
    )
    assert summary.lines() == [
        "  train  1,200 images, 700 objects, 3 crowd regions, 12 without labels  (a/train)",
        "         classes: red 700, green 0",
        "         passed over: 4 hidden",
    ]
    many = SplitSummary("val", 5, classes={str(k): k for k in range(100)}, unit="image")
    assert many.lines() == ["  val    5 images", "         classes: 100 with 0 to 99 images each"]
    one = SplitSummary("val", 1, "b", {"red": 1}, crowds=1)
    assert one.lines() == ["  val    1 image, 1 object, 1 crowd region  (b)", "         classes: red 1"]


def test_a_class_that_never_occurs_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    warn_of_absent_classes(SplitSummary("train", 2, "a/train", {"red": 7, "green": 0}))
    assert "a/train: no objects of class green" in caplog.text


def test_images_of_two_splits_are_found_by_path_link_and_content(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train = [tmp_path / "a.jpg", tmp_path / "b.jpg", tmp_path / "c.jpg"]
    for number, path in enumerate(train):
        path.write_bytes(bytes([number]) * 100_000)
    copy, other, link = tmp_path / "copy.jpg", tmp_path / "other.jpg", tmp_path / "link.jpg"
    copy.write_bytes(bytes([1]) * 100_000)
    other.write_bytes(bytes([1]) * 99_999 + b"x")  # of equal size and beginning, and yet another image
    link.symlink_to(train[2])
    test = [str(path) for path in (train[0], copy, other, link)]
    assert shared_images([str(path) for path in train], test) == [
        (str(train[0]), test[0]),
        (str(train[1]), test[1]),
        (str(train[2]), test[3]),
    ]
    warn_of_shared_images({"train": [str(path) for path in train], "test": test})
    assert "train and test share 3 of 4 images" in caplog.text


def test_content_of_large_lists_is_left_to_the_check_of_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [str(tmp_path / name) for name in ("a.jpg", "b.jpg")]
    for path in paths:
        Path(path).write_bytes(b"equal")
    assert shared_images(paths[:1], paths) == [(paths[0], paths[0]), (paths[0], paths[1])]
    monkeypatch.setattr("visionkit.data_summary._COMPARED", 2)
    assert shared_images(paths[:1], paths) == [(paths[0], paths[0])], "no file is opened, only paths are compared"

"""Which samples a filter finds, and what is drawn of them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datamodules.augmentation import Mosaic, ObjectAugment
from datamodules.augmentation.usual import usual_augment
from datamodules.folders import FolderData
from datamodules.scene_data import SceneData
from visionkit.browsing.browser import DataBrowser
from visionkit.browsing.items import Filter, sizes_of
from visionkit.checkup.findings import Finding
from visionkit.geometry import InputSpec

SIZE = (96, 128)
TRAIN = Filter(splits=("train",))


@pytest.fixture(scope="module")
def boxes() -> DataBrowser:
    return DataBrowser(SceneData("boxes", count=12, eval_count=3, size=SIZE), ObjectAugment(horizontal_flip=1))


def test_samples_come_in_order_and_in_parts(boxes: DataBrowser) -> None:
    assert len(boxes) == 18 and list(boxes.samples) == ["train", "val", "test"]
    every = boxes.find(Filter(), 0, 100)
    assert len(every) == 18 and boxes.find(Filter(), 12, 4) == every[12:16]
    assert [item.split for item in every[11:14]] == ["train", "val", "val"]
    assert every[0].name == "scene-0" and every[0].caption


def test_a_filter_reads_no_further_than_it_has_to() -> None:
    data = SceneData("boxes", count=400, size=SIZE)
    browser = DataBrowser(data)
    assert len(browser.find(Filter(classes=("person",)), 0, 2)) == 2
    kept = sum(sample is not None for sample in data.samples("train").kept)  # type: ignore[attr-defined]
    assert kept < 40


def test_a_search_can_be_ended_and_goes_on_where_it_was() -> None:
    browser = DataBrowser(SceneData("boxes", count=9, eval_count=1, size=SIZE))
    calls = 0

    def ends_at_the_fourth() -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        browser.find(TRAIN, 0, 99, ends_at_the_fourth)
    assert [item.number for item in browser.find(TRAIN, 0, 99, ends_at_the_fourth)] == list(range(9))
    assert calls == 4 + 6


def test_a_search_that_failed_is_not_taken_for_a_finished_one(monkeypatch: pytest.MonkeyPatch) -> None:
    browser = DataBrowser(SceneData("boxes", count=9, eval_count=1, size=SIZE))
    read = browser.sample

    def fails_once(split: str, number: int) -> Any:
        if number == 5:
            monkeypatch.undo()
            raise OSError("the disk was away")
        return read(split, number)

    monkeypatch.setattr(browser, "sample", fails_once)
    with pytest.raises(OSError, match="away"):
        browser.find(TRAIN, 0, 99)
    assert len(browser.find(TRAIN, 0, 99)) == 9


def test_others_are_served_while_a_search_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    browser = DataBrowser(SceneData("boxes", count=4, eval_count=1, size=SIZE))
    browser.find(TRAIN, 0, 1)
    read, entered, go_on = browser.sample, threading.Event(), threading.Event()

    def slow(split: str, number: int) -> Any:
        entered.set()
        assert go_on.wait(20)
        return read(split, number)

    monkeypatch.setattr(browser, "sample", slow)
    with ThreadPoolExecutor(2) as pool:
        every = pool.submit(browser.find, TRAIN, 0, 99)
        assert entered.wait(20)
        try:
            assert len(pool.submit(browser.find, TRAIN, 0, 1).result(20)) == 1
            browser.findings = [Finding("tiny-object", "train", "small", "scene-3", box=(1, 1, 9, 9))]
        finally:
            go_on.set()
        assert [len(item.findings) for item in every.result(20)] == [0, 0, 0, 1]


def test_filters_choose_by_class_size_split_and_finding(boxes: DataBrowser) -> None:
    every = boxes.find(Filter(), 0, 100)
    people = boxes.find(Filter(classes=("person",)), 0, 100)
    assert people == [item for item in every if "person" in item.classes] and 0 < len(people) < 18
    small = boxes.find(Filter(sizes=("small",), splits=("val", "test")), 0, 100)
    assert small == [item for item in every[12:] if "small" in item.sizes]
    browser = DataBrowser(boxes.data, findings=[Finding("tiny-object", "train", "small", "scene-3", box=(1, 1, 9, 9))])
    (found,) = browser.find(Filter(findings=("tiny-object",)), 0, 100)
    assert found.name == "scene-3" and browser.find(Filter(findings=("warning",)), 0, 9) == [found]
    assert not browser.find(Filter(findings=("error",)), 0, 9)
    assert (browser.labeled(found) != browser.labeled(found, marks=False)).any()


def test_sizes_are_those_of_coco() -> None:
    assert sizes_of({"area": [32**2 - 1, 96**2]}) == ("small", "large")
    assert sizes_of({"boxes": [[0, 0, 32, 32], [np.nan, 0, 1, 1]]}) == ("medium",)
    assert sizes_of({"heads": {"a": {"area": [1]}, "b": {"labels": 0}}}) == ("small",)
    assert sizes_of({"labels": 1}) == ()


def test_augmented_samples_have_their_labels_where_the_object_is(boxes: DataBrowser) -> None:
    item = boxes.item("train", 1)
    drawn = boxes.augmented(item)
    assert (drawn == boxes.augmented(item)).all() and (drawn != boxes.augmented(item, epoch=2)).any()
    flipped = DataBrowser(boxes.data, ObjectAugment(scale=(1, 1), aspect_ratio=(1, 1), horizontal_flip=1))
    plain = DataBrowser(boxes.data, ObjectAugment(scale=(1, 1), aspect_ratio=(1, 1), horizontal_flip=0))
    pixels = plain.augmented(item).astype(int)
    assert pixels.shape == boxes.labeled(item).shape
    # The images are each other's flips but for names, which are written from left to right.
    assert (np.abs(flipped.augmented(item)[:, ::-1] - pixels).max(axis=2) < 30).mean() > 0.8


def test_parts_that_mix_samples_are_shown_and_the_input_of_a_model(boxes: DataBrowser) -> None:
    browser = DataBrowser(boxes.data, Mosaic(1.0), InputSpec((64, 64), "stretch"))
    views, fault = browser.views(browser.item("val", 0))
    assert not fault and list(views) == ["labels", "augmented"]
    assert views["augmented"].shape[0] == views["augmented"].shape[1]  # 64 x 64, enlarged to be read


@pytest.mark.parametrize("key", ["labels", "keypoints", "label_map", "depth", "identity", "masks", "high_res", "clean"])
def test_every_kind_of_label_is_augmented(key: str) -> None:
    data = SceneData(key, count=2, size=SIZE)  # type: ignore[arg-type]
    browser = DataBrowser(data, usual_augment(data.samples("train")[0].target, data.skeleton))
    assert browser.augments == (key not in ("high_res", "clean"))
    views, fault = browser.views(browser.item("train", 0))
    assert not fault and len(views) == 1 + browser.augments


def test_images_that_cannot_be_read_are_shown_as_such(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (40, 30)).save(tmp_path / name / "a.png")
    (tmp_path / "cat" / "b.png").write_bytes(b"\x89PNG nothing")
    browser = DataBrowser(FolderData(str(tmp_path), val_fraction=0.0, test_fraction=0.0, cache_mb=0))
    items = browser.find(Filter(), 0, 9)
    (broken,) = (item for item in items if item.name.endswith("b.png"))
    assert len(items) == 3 and "b.png" in broken.caption
    views, _ = browser.views(broken)
    assert list(views) == ["labels"] and np.ptp(views["labels"]) == 0

"""Readers of objects: VOC, instance maps, and what they share; what a wrong file is reported."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.instance_maps import InstanceMapData
from datamodules.object_entries import AnnotatedImage, clean
from datamodules.voc import VocData
from tests.real_data import real_data
from visionkit.errors import DataError, UsageError
from visionkit.geometry import InputSpec

SPEC = InputSpec(size=(32, 48), resize_mode="letterbox")
OBJECT = (
    "<object><name>{}</name><difficult>{}</difficult>"
    "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


def voc(folder: Path, images: dict[str, list[tuple]], lists: dict[str, list[str]], size=(40, 60)) -> Path:
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name, objects in images.items():
        Image.new("RGB", size[::-1], (90, 90, 90)).save(folder / "JPEGImages" / f"{name}.jpg")
        body = "".join(OBJECT.format(*each) for each in objects)
        head = f"<filename>{name}.jpg</filename><size><width>{size[1]}</width><height>{size[0]}</height></size>"
        (folder / "Annotations" / f"{name}.xml").write_text(f"<annotation>{head}{body}</annotation>")
    for name, listed in lists.items():
        (folder / "ImageSets" / "Main" / f"{name}.txt").write_text("\n".join(listed) + "\n")
    return folder


def three(folder: Path) -> Path:
    images = {
        "a": [("cat", 0, 1, 1, 60, 40), ("dog", 1, 11, 5, 20, 30)],
        "b": [],
        "c": [("dog", 0, 5, 5, 5, 9), ("dog", 0, -4, 3, 70, 9)],
    }
    return voc(folder, images, {"train": ["a", "b"], "val": ["c"]})


def test_voc_counts_from_one_and_includes_the_last(tmp_path, caplog):
    data = VocData(str(three(tmp_path)), input=SPEC)
    assert data.classes == ("cat", "dog")
    target = data.samples("train")[0].target
    assert target["boxes"].tolist() == [[0, 0, 60, 40]], "difficult objects are not used for training"
    with caplog.at_level(logging.WARNING):
        found = data.samples("val")[0].target
    assert found["boxes"].tolist() == [[0, 2, 60, 9]] and found["area"].tolist() == [420]
    assert "of 2 objects 1 without an area inside their image are left out" in caplog.text
    assert "1 that reach beyond it are clipped" in caplog.text and "c.xml" in caplog.text
    empty = data.samples("train")[1].target
    assert empty["boxes"].shape == (0, 4) and empty["labels"].shape == (0,)
    batch = next(iter(data.loader("train")))
    assert sorted(len(each["boxes"]) for each in batch["target"]) == [0, 1]


def test_voc_difficult_is_a_crowd_in_evaluation(tmp_path):
    folder = voc(tmp_path, {"a": [("cat", 0, 1, 1, 9, 9), ("cat", 1, 1, 1, 5, 5)]}, {"train": ["a"], "val": ["a"]})
    assert VocData(str(folder)).samples("val")[0].target["iscrowd"].tolist() == [0, 1]


def test_splits_that_the_data_does_not_name_are_taken_from_training(tmp_path):
    images = {f"p{k}": [("cat", 0, 1, 1, 9, 9)] for k in range(10)}
    data = VocData(str(voc(tmp_path, images, {})), val_fraction=0.2, test_fraction=0.3)
    ids = {split: {sample.id for sample in data.samples(split)} for split in ("train", "val", "test")}
    assert [len(ids[split]) for split in ("train", "val", "test")] == [6, 2, 2]
    assert len(set.union(*ids.values())) == 10
    again = VocData(str(tmp_path), val_fraction=0.2, test_fraction=0.3, seed=9)
    assert {sample.id for sample in again.samples("test")} == ids["test"], "the run's seed does not change the split"
    with pytest.raises(UsageError, match=r"data\.test_fraction is 0"):
        VocData(str(tmp_path)).samples("test")


BOMB = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;&x;">]><annotation>&y;</annotation>'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, r"a\.xml: refused, it declares EntitiesForbidden"),
        ("<annotation><object>", r"a\.xml: not readable as xml"),
        ("", r"a\.xml: not readable as xml"),
        ("<annotation><object><bndbox/></object></annotation>", r"a\.xml object 1: it has no name"),
        ("<annotation><object><name>cat</name></object></annotation>", r"object 1 \(cat\): xmin is missing"),
        (
            f"<annotation>{OBJECT.format('cat', 0, 'x', 1, 2, 3)}</annotation>",
            "xmin is 'x'; allowed is a finite number",
        ),
        (
            f"<annotation>{OBJECT.format('cat', 0, 'nan', 1, 2, 3)}</annotation>",
            r"a\.xml object 1 \(cat\): xmin is 'nan'",
        ),
        (f"<annotation>{OBJECT.format('cta', 0, 1, 1, 2, 3)}</annotation>", "class 'cta' .*did you mean 'cat'"),
    ],
)
def test_wrong_xml_is_reported_in_one_line(tmp_path, text, message):
    folder = three(tmp_path)
    (folder / "Annotations" / "a.xml").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        VocData(str(folder), classes=["cat", "dog"]).samples("train")
    assert "\n" not in str(caught.value)


def test_missing_files_are_reported_before_training(tmp_path):
    folder = three(tmp_path)
    (folder / "JPEGImages" / "b.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 2 images are missing: .*b\.jpg \(.*b\.xml\)"):
        VocData(str(folder)).samples("train")
    (folder / "Annotations" / "b.xml").unlink()
    with pytest.raises(DataError, match=r"b\.xml: no such annotation"):
        VocData(str(folder), classes=["cat", "dog"]).samples("train")
    with pytest.raises(DataError, match="no such list; there are train, val; did you mean 'train'"):
        VocData(str(folder), classes=["cat", "dog"], train="trian").samples("train")
    with pytest.raises(DataError, match="no folder Annotations"):
        VocData(str(folder / "JPEGImages"))
    with pytest.raises(UsageError, match="boxes alone"):
        VocData(str(folder), target="masks")
    with pytest.raises(UsageError, match="did you mean 'boxes'"):
        VocData(str(folder), target="boxs")


def test_an_image_of_another_size_than_stated_is_reported(tmp_path):
    folder = three(tmp_path)
    Image.new("RGB", (50, 50)).save(folder / "JPEGImages" / "a.jpg")
    with pytest.raises(DataError, match=r"a\.xml: states 40x60 .*a\.jpg has 50x50"):
        VocData(str(folder)).samples("train")[0]


def maps(folder: Path, number: int = 6) -> Path:
    rng = np.random.default_rng(0)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for k in range(number):
        size = (30, 40) if k % 2 else (24, 24)
        labels = np.zeros(size, np.uint16)
        labels[2:9, 3:12] = 700
        labels[15:20, 4:18] = 3
        labels[21, 20:22] = 9
        Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)).save(folder / "images" / f"{k}.png")
        Image.fromarray(labels).save(folder / "labels" / f"{k}.png")
    return folder


def test_instance_maps(tmp_path):
    data = InstanceMapData(str(maps(tmp_path)), classes=["cell"], min_area=3, input=SPEC, val_fraction=0.34)
    sizes = sorted(sample.image.size for sample in data.samples("val"))
    assert sizes == [(24, 24), (30, 40)], "every split has its fraction of each size"
    target = data.samples("val")[0].target
    assert target["boxes"].tolist() == [[4, 15, 18, 20], [3, 2, 12, 9]] and target["area"].tolist() == [70, 63]
    masks = np.asarray(target["masks"])
    assert masks[1, 2:9, 3:12].all() and masks[1].sum() == 63
    batch = next(iter(data.loader("val")))
    assert batch["target"][0]["masks"].shape[1:] == (32, 48) and "file_masks" in batch["target"][0]


def test_wrong_instance_maps_are_reported(tmp_path):
    folder = maps(tmp_path)
    with pytest.raises(UsageError, match="one class, not of 2"):
        InstanceMapData(str(folder), classes=["a", "b"])
    with pytest.raises(DataError, match="no such folder"):
        InstanceMapData(str(folder), labels="masks").samples("train")
    Image.new("RGB", (24, 24), (1, 2, 3)).save(folder / "labels" / "0.png")
    with pytest.raises(DataError, match=r"0\.png: (a label map has one channel|a label map of)"):
        InstanceMapData(str(folder)).samples("train")
    (folder / "labels" / "0.png").write_bytes(b"no png")
    with pytest.raises(DataError, match=r"0\.png: not an image"):
        InstanceMapData(str(folder)).samples("train")
    (folder / "labels" / "0.png").unlink()
    with pytest.raises(DataError, match=r"no label map for 1 of 6 images: 0\.png"):
        InstanceMapData(str(folder)).samples("train")


def masks_of(folder: Path, draw, ending: str = ".png", **options) -> Path:
    for k in range(3):
        for name in ("images", "labels"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((24, 32, 3), 90, np.uint8)).save(folder / f"images/{k}.jpg")
        Image.fromarray(draw(k)).save(folder / f"labels/{k}{ending}", **options)
    return folder


def two_parts(value: int, other: int | None = None) -> np.ndarray:
    labels = np.zeros((24, 32), np.uint8)
    labels[2:9, 3:12] = value
    labels[15:20, 4:18] = value if other is None else other
    return labels


@pytest.mark.parametrize("value", [1, 128, 255])
def test_binary_masks_are_an_object_per_part_and_it_is_said(tmp_path, caplog, value):
    folder = masks_of(tmp_path, lambda k: two_parts(value))
    samples = InstanceMapData(str(folder), val_fraction=0.0).samples("train")
    assert [len(sample.target["labels"]) for sample in samples] == [2, 2, 2]
    assert f"binary masks (0 and {value})" in caplog.text and "--data.parts false" in caplog.text
    whole = InstanceMapData(str(folder), val_fraction=0.0, parts=False).samples("train")
    assert [len(sample.target["labels"]) for sample in whole] == [1, 1, 1]


def test_numbered_objects_stay_whole_where_one_of_them_is_in_two_parts(tmp_path, caplog):
    folder = masks_of(tmp_path, lambda k: two_parts(1) if k else two_parts(1, 2))
    samples = InstanceMapData(str(folder), val_fraction=0.0).samples("train")
    assert [len(sample.target["labels"]) for sample in samples] == [2, 1, 1] and not caplog.text


def test_instance_maps_in_jpeg_are_refused_or_thresholded(tmp_path):
    folder = masks_of(tmp_path, lambda k: two_parts(255), ".jpg", quality=70)
    with pytest.raises(DataError, match=r"in JPEG, whose compression makes objects of its noise.*lossy_labels nearest"):
        InstanceMapData(str(folder), val_fraction=0.0).samples("train")
    samples = InstanceMapData(str(folder), val_fraction=0.0, lossy_labels="nearest").samples("train")
    assert samples[0].target["area"].tolist() == [63, 70]


@pytest.mark.parametrize("layout", ["valid/{}", "{}/validation"])
def test_instance_maps_in_folders_of_splits_and_by_path(tmp_path, layout):
    train = layout.replace("validation", "training").replace("valid", "train")
    for place, objects in ((train, 1), (layout, 2)):
        for name in ("images", "labels"):
            for part in ("a", "b"):
                (tmp_path / place.format(name) / part).mkdir(parents=True)
        for number, part in enumerate(("a", "b"), start=objects):
            values = np.zeros((24, 24), np.uint8)
            for k in range(number):
                values[4 * k : 4 * k + 2, :4] = k + 1
            Image.fromarray(np.zeros((24, 24, 3), np.uint8)).save(tmp_path / place.format("images") / part / "0.jpg")
            Image.fromarray(values).save(tmp_path / place.format("labels") / part / "0.png")
    data = InstanceMapData(str(tmp_path))
    assert [len(sample.target["labels"]) for sample in data.samples("val")] == [2, 3]
    assert [len(sample.target["labels"]) for sample in data.samples("train")] == [1, 2]


def test_an_object_without_an_outline_is_reported():
    entry = AnnotatedImage(
        "p.jpg", "labels.json annotation 7", np.array([[0, 0, 4, 4.0]]), np.array([0]), segments=[None]
    )
    with pytest.raises(DataError, match=r"annotation 7: object 1 has no outline; --data.target boxes can do without"):
        entry.masks((8, 8))


def test_cleaning_keeps_what_is_right(caplog):
    boxes = np.array([[0, 0, 4.005, 4], [2, 2, 3, 3]], dtype=float)
    entry = AnnotatedImage(
        "p.jpg", "place", boxes, np.array([0, 1]), size=(4, 4), more={"keypoints": np.zeros((2, 17, 3))}
    )
    (cleaned,) = clean([entry], "set")
    assert len(cleaned) == 2 and not caplog.text, "a hundredth of a pixel is rounding, not a mistake"
    assert cleaned.take(np.array([False, True])).more["keypoints"].shape == (1, 17, 3)


def test_blood_cells_of_the_real_set(caplog):
    with caplog.at_level(logging.WARNING):
        data = VocData(str(real_data("detection/bccd_voc")))
        numbers = [len(data.samples(split)) for split in ("train", "val", "test")]
        objects = sum(len(s.target["labels"]) for split in ("train", "val", "test") for s in data.samples(split))
    assert numbers == [205, 87, 72] and objects == 4886 and data.classes == ("Platelets", "RBC", "WBC")
    assert "BloodImage_00338" in caplog.text and "BloodImage_00343" in caplog.text

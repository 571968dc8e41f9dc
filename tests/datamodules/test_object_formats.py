"""COCO json and YOLO txt: what they mean, what wrong files are reported, and the way from one format to another."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from datamodules.coco import CocoData, read_coco
from datamodules.object_files import convert
from datamodules.object_formats import open_objects
from datamodules.object_writers import join_polygons
from datamodules.voc import VocData
from datamodules.yolo import YoloData, label_file
from tests.real_data import real_data
from ui import cli
from visionkit.errors import DataError, UsageError
from visionkit.masks import decode_masks, encode_masks, encode_polygons, mask_areas
from visionkit.synthetic.files import write_scenes

POLYGON = [4.0, 4.0, 20.0, 4.0, 20.0, 12.5, 4.0, 12.5]


def coco(folder: Path, **changes: Any) -> Path:
    """Two images, three categories with gaps in their ids, all forms of outlines, a crowd."""
    for split in ("train", "val"):
        (folder / "images" / split).mkdir(parents=True, exist_ok=True)
        for name in ("a.jpg", "b.png"):
            Image.new("RGB", (40, 30)).save(folder / "images" / split / name)
    ring = np.zeros((1, 30, 40), bool)
    ring[0, 5:20, 5:25] = True
    ring[0, 10:15, 10:20] = False
    annotations = [
        {"id": 11, "image_id": 7, "category_id": 90, "bbox": [4, 4, 16, 8.5], "segmentation": [POLYGON], "area": 130.0},
        {
            "id": 12,
            "image_id": 7,
            "category_id": 3,
            "bbox": [5, 5, 20, 15],
            "segmentation": dict(encode_masks(ring)[0]),
        },
        {
            **{"id": 13, "image_id": 7, "category_id": 1, "bbox": [0, 0, 2, 3], "iscrowd": 1},
            "segmentation": {"size": [30, 40], "counts": [0, 3, 27, 3, 1167]},
        },
    ]
    top = {
        "images": [
            {"id": 9, "file_name": "b.png", "height": 30, "width": 40},
            {"id": 7, "file_name": "a.jpg", "height": 30, "width": 40},
        ],
        "annotations": annotations,
        "categories": [{"id": 90, "name": "cat"}, {"id": 1, "name": "dog"}, {"id": 3, "name": "ring"}],
        **changes,
    }
    (folder / "annotations").mkdir(exist_ok=True)
    for split in ("train", "val"):
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(top))
    return folder


def test_coco_in_all_its_forms(tmp_path):
    data = CocoData(str(coco(tmp_path)), target="masks")
    assert data.classes == ("dog", "ring", "cat"), "by rising category id"
    full, empty = data.samples("val")
    assert Path(full.id).name == "a.jpg" and len(empty.target["labels"]) == 0, "images by rising id"
    assert full.target["labels"].tolist() == [2, 1, 0] and full.target["iscrowd"].tolist() == [0, 0, 1]
    assert full.target["boxes"].tolist() == [[4, 4, 20, 12.5], [5, 5, 25, 20], [0, 0, 2, 3]]
    masks = np.asarray(full.target["masks"])
    assert masks[1].sum() == 250 and not masks[1, 12, 15] and masks[2, :3, :2].all() and masks[2].sum() == 6
    assert full.target["area"].tolist() == [130, 250, 6], "an area that is not given is the outline's"
    assert np.asarray(empty.target["masks"]).shape == (0, 30, 40)
    assert data.samples("train")[0].target["labels"].tolist() == [2, 1], "crowds are not used for training"
    boxes = CocoData(str(tmp_path), classes=["ring", "cat", "dog"])
    assert boxes.samples("val")[0].target["labels"].tolist() == [1, 0, 2]
    assert "masks" not in boxes.samples("val")[0].target


def test_where_coco_files_may_lie(tmp_path):
    folder = coco(tmp_path / "a")
    (folder / "images" / "train").rename(folder / "train2017")
    (folder / "annotations" / "instances_train.json").rename(folder / "annotations" / "instances_train2017.json")
    assert len(CocoData(str(folder)).samples("train")) == 2
    (folder / "train2017" / "_annotations.coco.json").write_text(
        (folder / "annotations" / "instances_train2017.json").read_text()
    )
    named = CocoData(str(folder), labels="{split}2017/_annotations.coco.json", images="{split}2017", val_fraction=0)
    assert len(named.samples("train")) == 2
    (folder / "annotations" / "instances_train_extra.json").write_text("{}")
    with pytest.raises(DataError, match=r"2 places fit .*instances_train"):
        CocoData(str(folder))
    with pytest.raises(DataError, match="no label file of train"):
        CocoData(str(tmp_path))
    with pytest.raises(DataError, match="no such folder"):
        CocoData(str(tmp_path / "nowhere"))


def wrong(**change: Any) -> dict[str, Any]:
    return {"annotations": [{"id": 5, "image_id": 7, "category_id": 90, "bbox": [1, 1, 2, 2]} | change]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (wrong(image_id=8), r"annotations\[0\] \(id 5\): there is no image with the id 8"),
        (wrong(category_id=4), r"annotations\[0\] \(id 5\): there is no category with the id 4 among 1 dog"),
        (wrong(bbox=[1, 2, 3]), r"annotation 5 \(image a\.jpg\): a bbox is four numbers"),
        (wrong(bbox=[float("nan"), 2, 3, 3]), r"annotation 5 .*bbox\[0\] is nan; allowed is a finite number"),
        (wrong(segmentation=[[1, 2, 3, 4]]), "annotation 5 .*at least three points"),
        (wrong(segmentation={"size": [30, 40], "counts": "~~~"}), "annotation 5 .*run lengths cannot be read"),
        (wrong(segmentation={"size": [30, 40], "counts": [5, 9999]}), "annotation 5 .*cover 10004 pixels"),
        (wrong(segmentation={"size": [9, 9], "counts": [81]}), "annotation 5 .*mask of 9x9 for an image of 30x40"),
        (wrong(segmentation="x"), "annotation 5 .*list of polygons, or run lengths"),
        ({"annotations": [wrong()["annotations"][0]] * 2}, r"annotations\[1\]: duplicate annotation id 5"),
        ({"images": [{"id": 7, "file_name": "a.jpg"}] * 2}, r"images\[1\]: duplicate image id 7"),
        ({"images": [{"id": 7}]}, r"images\[0\]: an image has an id and a file_name"),
        ({"categories": [{"id": 1, "name": "x"}] * 2}, "duplicate category id 1"),
        ({"annotations": {}}, "it has no list 'annotations'"),
    ],
)
def test_a_wrong_coco_file_is_reported_in_one_line(tmp_path, changes, message):
    folder = coco(tmp_path, **changes)
    with pytest.raises(DataError, match=message) as caught:
        CocoData(str(folder)).samples("train")
    assert "instances_train.json" in str(caught.value) and "\n" not in str(caught.value)


def test_other_wrongs_of_coco(tmp_path):
    folder = coco(tmp_path)
    with pytest.raises(DataError, match=r"class 'dog' is not among data\.classes .*; did you mean 'dgo'"):
        CocoData(str(folder), classes=["dgo", "cat", "ring"]).samples("train")
    (folder / "images" / "train" / "b.png").unlink()
    with pytest.raises(DataError, match=r"1 of 2 images are missing: .*b\.png"):
        CocoData(str(folder)).samples("train")
    path = folder / "annotations" / "instances_train.json"
    path.write_text('{"images": [,]}')
    with pytest.raises(DataError, match=r"instances_train\.json line 1 column 13: not valid json"):
        CocoData(str(folder))
    path.write_text("[]")
    with pytest.raises(DataError, match="not a list"):
        CocoData(str(folder))


def test_training_images_without_any_object_are_refused(tmp_path):
    folder = coco(tmp_path, annotations=[])
    with pytest.raises(DataError, match=r"none of 2 training images has an object .*a\.jpg is the first"):
        CocoData(str(folder)).samples("train")
    assert [len(sample.target["boxes"]) for sample in CocoData(str(folder)).samples("val")] == [0, 0]


def test_images_of_two_splits_are_reported(tmp_path, caplog):
    described = yolo(tmp_path)
    for number, path in enumerate(sorted((tmp_path / "images").rglob("*.png"))):
        Image.new("RGB", (40, 20), (number, 0, 0)).save(path)
    with caplog.at_level(logging.WARNING):
        YoloData(str(described)).report(("train", "val"))
    assert not caplog.text
    described.write_text(described.read_text().replace("images/val", "images/train"))
    with caplog.at_level(logging.WARNING):
        YoloData(str(described)).report(("train", "val"))
    assert "train and val share 2 of 2 images" in caplog.text


def test_labels_without_an_image_are_reported(tmp_path, caplog):
    described = yolo(tmp_path)
    (tmp_path / "labels" / "train" / "lost.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    (tmp_path / "labels" / "train" / "classes.txt").write_text("cat\ndog\n")
    with caplog.at_level(logging.WARNING):
        assert len(YoloData(str(described)).samples("train")) == 2
    assert "train: label files without an image are left out: 1 (" in caplog.text and "lost.txt" in caplog.text


def yolo(folder: Path, text: str = "1 0.5 0.5 0.25 0.5\n0 0.1 0.1 0.5 0.1 0.3 0.6\n") -> Path:
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for name in ("a", "b"):
            Image.new("RGB", (40, 20)).save(folder / "images" / split / f"{name}.png")
        (folder / "labels" / split / "a.txt").write_text(text)
    described = {"path": ".", "train": "images/train", "val": "images/val", "names": {0: "cat", 1: "dog"}}
    (folder / "data.yaml").write_text(yaml.safe_dump(described))
    return folder / "data.yaml"


def test_yolo_boxes_and_polygons(tmp_path):
    data = YoloData(str(yolo(tmp_path)))
    full, empty = data.samples("val")
    assert data.classes == ("cat", "dog") and len(empty.target["boxes"]) == 0
    assert np.allclose(full.target["boxes"], [[15, 5, 25, 15], [4, 2, 20, 12]])
    assert full.target["labels"].tolist() == [1, 0]
    with pytest.raises(DataError, match=r"a\.txt: object 1 has no outline"):
        YoloData(str(tmp_path / "data.yaml"), target="masks").samples("val")[0]
    assert label_file(Path("x/images/images/train/p.jpg")) == Path("x/images/labels/train/p.txt")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.1", "line 2: 4 columns; a box has 5"),
        ("0 0.5 0.5 0.1 0.1 0.9", "line 2: 6 columns"),
        ("0 0.5 0.5 0.1 x", "line 2: .*a whole number and then numbers"),
        ("0.5 0.5 0.5 0.1 0.1", "line 2: .*a whole number and then numbers"),
        ("2 0.5 0.5 0.1 0.1", "line 2: class 2; there are 2, numbered from 0"),
        ("0 20 10 5 5", "line 2: .*fractions of the image"),
        ("0 nan 0.5 0.1 0.1", "line 2: .*fractions of the image"),
    ],
)
def test_a_wrong_yolo_line_is_reported(tmp_path, line, message):
    described = yolo(tmp_path, f"\n{line}\n")
    with pytest.raises(DataError, match=rf"labels/train/a\.txt {message}"):
        YoloData(str(described)).samples("train")


def test_other_wrongs_of_yolo(tmp_path):
    described = yolo(tmp_path)
    with pytest.raises(DataError, match="'dgo' is not among them; did you mean 'dog'"):
        YoloData(str(described), classes=["cat", "dgo"])
    with pytest.raises(DataError, match="the order differs"):
        YoloData(str(described), classes=["dog", "cat"])
    for path in (tmp_path / "labels" / "train").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="none of 2 images has labels"):
        YoloData(str(described)).samples("train")
    described.write_text("names: [a\n")
    with pytest.raises(DataError, match="not valid yaml"):
        YoloData(str(described))
    described.write_text("train: images\n")
    with pytest.raises(DataError, match="no list 'names'"):
        YoloData(str(described))


def test_the_way_through_all_formats_loses_nothing_that_they_hold(tmp_path, capsys):
    """COCO -> VOC -> YOLO -> COCO keeps boxes, classes, splits, images; COCO -> YOLO -> COCO outlines too."""
    start = coco(tmp_path / "start")
    for form, source, out in (("voc", "start", "voc"), ("yolo", "voc", "yolo"), ("coco", "yolo", "end")):
        assert cli.main(["convert", str(tmp_path / source), "--to", form, "--out", str(tmp_path / out)]) == 0
    message = capsys.readouterr()
    assert (
        "VOC's xml holds no outlines: 6 objects" in message.err and "no crowds, so they are left out: 2" in message.err
    )
    assert "4 images (2 train, 2 val) with 6 objects" in message.out
    for split, names in (("train", ["a.jpg", "b.png"]), ("val", ["a-2.jpg", "b-2.png"])):
        before, after = CocoData(str(start)).read(split), CocoData(str(tmp_path / "end")).read(split)
        assert [Path(each.file).name for each in after] == names, "VOC has one folder for all splits"
        for a, b in zip(before, after, strict=True):
            kept = a.take(~a.crowded)
            assert np.allclose(kept.boxes, b.boxes, atol=1e-9) and a.size == b.size
            said = [CocoData(str(start)).classes[k] for k in kept.labels]
            assert said == [CocoData(str(tmp_path / "end")).classes[k] for k in b.labels]
            assert Path(a.file).read_bytes() == Path(b.file).read_bytes()
    difficult = VocData(str(tmp_path / "voc")).read("val")[0].crowded
    assert difficult.tolist() == [False, False, True], "VOC holds crowds as difficult objects"
    convert(start, tmp_path / "y2", "yolo")
    result = convert(tmp_path / "y2", tmp_path / "c2", "coco")
    outline = CocoData(str(tmp_path / "c2")).read("train")[0].segments
    assert np.allclose(outline[0][0], POLYGON) and result.objects == 4


def test_the_scene_generators_masks_survive_yolo(tmp_path):
    write_scenes(str(tmp_path / "scenes"), 6, 0, (64, 80), None)
    convert(tmp_path / "scenes", tmp_path / "yolo", "yolo")
    before = CocoData(str(tmp_path / "scenes"), target="masks").samples("train")
    after = YoloData(str(tmp_path / "yolo" / "data.yaml"), target="masks").samples("train")
    overlaps = []
    for a, b in zip(before, after, strict=True):
        first, second = np.asarray(a.target["masks"]), np.asarray(b.target["masks"])
        overlaps += ((first & second).sum((1, 2)) / (first | second).sum((1, 2))).tolist()
    assert np.mean(overlaps) > 0.97


def test_parts_are_joined_without_area():
    parts = [[2.0, 2, 8, 2, 8, 8, 2, 8], [20.0, 10, 30, 10, 30, 20, 20, 20]]
    joined = join_polygons(parts)
    separate = encode_polygons(parts, (30, 40))
    one = decode_masks([encode_polygons([joined], (30, 40))], (30, 40))[0]
    assert (one != decode_masks([separate], (30, 40))[0]).mean() < 0.02
    assert mask_areas([separate])[0] == 136


def test_convert_states_what_it_cannot_do(tmp_path, capsys):
    start = coco(tmp_path / "start")
    assert cli.main(["convert", str(start), "--to", "voc", "--out", str(start)]) == 2
    assert "not an empty folder" in capsys.readouterr().err
    assert cli.main(["convert", str(tmp_path / "none"), "--to", "voc", "--out", str(tmp_path / "o")]) == 3
    assert cli.main(["convert", str(start), "--to", "vco", "--out", str(tmp_path / "o")]) == 2
    assert "did you mean 'voc'" in capsys.readouterr().err
    with pytest.raises(UsageError, match="did you mean 'coco'"):
        open_objects(start, "cocoo")  # type: ignore[arg-type]
    assert cli.main(["convert", str(start), "--from", "yolo", "--to", "voc", "--out", str(tmp_path / "o")]) == 3
    assert "has a yaml file" in capsys.readouterr().err


def test_the_published_examples_file_is_read():
    coco_file = read_coco(real_data("detection/coco_val2014_fake100") / "instances_val2014_100.json")
    assert len(coco_file.images) == 100 and len(coco_file.categories) == 80
    assert sum(map(len, coco_file.annotations.values())) == 839

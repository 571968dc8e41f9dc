"""All annotation formats together: recognized, converted, mutated; and what all of them have in common."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml as pyyaml

from datamodules.box_csv import CsvBoxData
from datamodules.coco import CocoData
from datamodules.coco_keypoints import CocoKeypointData
from datamodules.cvat import CvatData
from datamodules.instance_maps import InstanceMapData
from datamodules.labelme import LabelmeData
from datamodules.object_files import convert
from datamodules.object_formats import open_objects
from datamodules.yolo import YoloData
from datamodules.yolo_pose import YoloPoseData
from tests.datamodules import hostile_annotations
from tests.datamodules.annotation_sets import HEIGHT, SETS, SKELETON, WIDTH, image, write
from ui import cli
from visionkit.errors import DataError, UsageError
from visionkit.masks import decode_masks

RECOGNIZED = {
    **{"box csv": "CsvBoxData", "coco": "CocoData", "coco alone": "CocoData", "cvat": "CvatData"},
    **{"labelme": "LabelmeData", "open images": "OpenImagesData", "voc": "VocData", "yolo": "YoloData"},
    **{"yolo list": "YoloData", "yolo pose": "YoloPoseData"},
}


@pytest.mark.parametrize("kind", sorted(SETS))
def test_every_set_is_read_and_a_few_mutations_of_it_never_raise(kind, tmp_path):
    assert SETS[kind](tmp_path / "whole").read() >= 3
    first = sorted(SETS).index(kind)
    for seed in range(first, first + 6 * len(SETS), len(SETS)):
        case = hostile_annotations.run(seed, tmp_path / str(seed))
        assert case.kind == kind and case.outcome in ("read", "refused"), case.said


@pytest.mark.parametrize(("kind", "reader"), RECOGNIZED.items())
def test_a_format_is_recognized_and_converted(kind, reader, tmp_path):
    made = SETS[kind](tmp_path / "set")
    data = open_objects(tmp_path / "set", val_fraction=0, test_fraction=0)
    assert type(data).__name__ == reader
    objects = sum(len(entry) for split in data.splits() for entry in data.labeled(split))
    result = convert(tmp_path / "set", tmp_path / "out", "yolo" if "pose" in kind else "coco")
    assert result.objects == objects > 0 and not result.losses.lines()
    again = open_objects(tmp_path / "out", val_fraction=0, test_fraction=0)
    assert again.classes == data.classes and again.splits() == data.splits()
    for split in data.splits():
        for a, b in zip(data.labeled(split), again.labeled(split), strict=True):
            assert np.allclose(a.boxes, b.boxes) and a.labels.tolist() == b.labels.tolist()
            assert a.crowded.tolist() == b.crowded.tolist()
    assert made.annotations


def test_cvat_outlines_are_where_they_were_drawn(tmp_path):
    SETS["cvat"](tmp_path)
    (entry, _) = CvatData(str(tmp_path)).labeled("train")
    assert entry.boxes[:3].tolist() == [[2, 3, 9.5, 12], [2, 3, 9, 12], [2, 3, 6, 6]]
    painted = decode_masks([entry.segments[2]], (HEIGHT, WIDTH))[0]
    assert painted[3:6, 2:6].astype(int).tolist() == [[0, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 1]] and painted.sum() == 9
    x1, y1, x2, y2 = entry.boxes[3]
    assert ((x1 + x2) / 2, (y1 + y2) / 2) == (pytest.approx(9, abs=0.1), pytest.approx(9, abs=0.1))


def test_cvat_video_and_labels_of_its_task(tmp_path):
    for number in range(3):
        image(tmp_path / "images" / f"frame_{number:06d}.png")
    box = '<box frame="{}" outside="{}" xtl="1" ytl="2" xbr="5" ybr="6"/>'
    tracks = f'<track id="0" label="dog">{box.format(0, 0)}{box.format(1, 0)}{box.format(2, 1)}</track>'
    names = "<label><name>cat</name></label><label><name>dog</name></label>"
    task = f"<meta><task><labels>{names}</labels></task></meta>"
    (tmp_path / "annotations.xml").write_text(f"<annotations>{task}{tracks}</annotations>")
    for number in range(3):
        path = tmp_path / "images" / f"frame_{number:06d}.png"
        path.rename(path.with_name(f"frame_{number:06d}"))  # an image may lack its ending
    data = CvatData(str(tmp_path), val_fraction=0)
    assert data.classes == ("cat", "dog") and data.summary("train").classes == {"cat": 0, "dog": 2}
    assert data.summary("train").unlabeled == 1, "a track that is outside is not shown"


def test_labelme_groups_are_one_object(tmp_path):
    SETS["labelme"](tmp_path)
    data = LabelmeData(str(tmp_path), target="masks")
    target = data.samples("train")[0].target
    assert target["boxes"][1].tolist() == [2, 3, 14, 14] and len(target["labels"]) == 2
    image(tmp_path / "train" / "alone.jpg")
    again = LabelmeData(str(tmp_path))
    assert again.summary("train").passed_over == {"images without a json file": 1}


def test_keypoints_go_from_coco_to_yolo_and_back(tmp_path):
    SETS["coco keypoints"](tmp_path / "set")
    source = CocoKeypointData(str(tmp_path / "set"), skeleton=SKELETON, val_fraction=0)
    message = convert(source, tmp_path / "yolo", "yolo")
    assert message.losses.lines() == ["YOLO holds no crowds, so they are left out: 2 objects"]
    pose = YoloPoseData(str(tmp_path / "yolo" / "data.yaml"))
    assert pose.skeleton.keypoints == ("a", "b", "c") and pose.skeleton.flip_pairs == (("a", "b"),)
    assert pose.classes == ("pet",)
    first, second = source.labeled("val")[1], pose.labeled("val")[1]
    assert np.allclose(first.more["keypoints"], second.more["keypoints"], atol=1e-4)
    assert np.allclose(first.boxes, second.boxes)
    convert(pose, tmp_path / "coco", "coco")
    back = CocoKeypointData(str(tmp_path / "coco"), skeleton=SKELETON)
    assert np.allclose(back.labeled("val")[1].more["keypoints"], second.more["keypoints"], atol=1e-3)
    boxes = YoloData(str(tmp_path / "yolo" / "data.yaml")).labeled("val")[1]
    assert boxes.segments == [None] * 3, "keypoint columns are no polygon"


def test_instance_maps_are_written_and_read(tmp_path):
    SETS["coco"](tmp_path / "set")
    message = convert(tmp_path / "set", tmp_path / "maps", "maps")
    assert any("one class" in line for line in message.losses.lines())
    data = open_objects(tmp_path / "maps", val_fraction=0)
    assert isinstance(data, InstanceMapData) and data.splits() == ["train", "val"]
    assert sum(map(len, data.labeled("train"))) > 0


@pytest.mark.parametrize(
    "names", [("train", "valid", "test"), ("training", "dev", "testing"), ("train_set", "val_set", "test_set")]
)
@pytest.mark.parametrize("form", ["coco", "voc", "yolo", "labelme"])
def test_splits_by_whatever_word_are_kept(form, names, tmp_path):
    """Folders train, valid, test with labels beside the images, as exports have them."""
    for count, name in enumerate(names, start=2):
        folder = tmp_path / name
        for number in range(count):
            image(folder / f"{number}.jpg", 10 * count + number)
            if form == "labelme":
                shape = {"label": "cat", "points": [[1, 1], [9, 9]], "shape_type": "rectangle"}
                write(folder / f"{number}.json", json.dumps({"shapes": [shape], "imagePath": f"{number}.jpg"}))
            if form == "voc":
                box = "<bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
                write(folder / f"{number}.xml", f"<annotation><object><name>cat</name>{box}</object></annotation>")
            if form == "yolo":
                write(folder / f"{number}.txt", "0 0.5 0.5 0.5 0.5\n")
        if form == "coco":
            images = [{"id": k, "file_name": f"{k}.jpg"} for k in range(count)]
            each = [{"id": k, "image_id": k, "category_id": 1, "bbox": [1, 1, 8, 8]} for k in range(count)]
            top = {"images": images, "annotations": each, "categories": [{"id": 1, "name": "cat"}]}
            write(folder / "_annotations.coco.json", json.dumps(top))
    if form == "yolo":
        write(tmp_path / "data.yaml", "".join(f"{name}: ../{name}\n" for name in names) + "names: [cat]\n")
    data = open_objects(tmp_path)
    assert [len(data.labeled(split)) for split in ("train", "val", "test")] == [2, 3, 4]
    result = convert(tmp_path, tmp_path.parent / f"{tmp_path.name}-out", "voc")
    assert result.images == {"train": 2, "val": 3, "test": 4}


NAMES = ["no", "1e3", "null", "0x1F", "12:30", "yes", "~", "3", "a, b", 'it\'s "x"', "é", "#1", "- x", "{a}", "1_000"]


def test_names_that_yaml_reads_as_something_else_stay(tmp_path):
    image(tmp_path / "images" / "a.png")
    write(tmp_path / "labels" / "a.txt", "".join(f"{k} 0.5 0.5 0.5 0.5\n" for k in range(len(NAMES))))
    described = pyyaml.safe_dump({"train": "images", "names": NAMES}, allow_unicode=True)
    write(tmp_path / "data.yaml", described)
    assert YoloData.discover_classes(str(tmp_path / "data.yaml")) == NAMES
    write(tmp_path / "bare.yaml", "train: images\nnames: [no, 1e3, null, 0x1F, 12:30]\n")
    assert YoloData.discover_classes(str(tmp_path / "bare.yaml")) == NAMES[:5]
    source = tmp_path / "data.yaml"
    for form in ("coco", "yolo", "csv", "yolo"):
        out = tmp_path / f"out-{len(list(tmp_path.iterdir()))}"
        convert(source, out, form)
        data = open_objects(out)
        assert sorted(data.classes) == sorted(NAMES)
        source = out


def test_what_is_not_recognized_is_said_with_what_was_seen(tmp_path):
    image(tmp_path / "photos" / "a.jpg")
    write(tmp_path / "photos" / "a.txt", "0 0.5 0.5 0.5 0.5\n")
    with pytest.raises(
        DataError, match=r"it has 1 \.jpg, 1 \.txt, and the folders photos; YOLO's txt .*--from .*--labels"
    ):
        open_objects(tmp_path)
    write(tmp_path / "x.json", "{}")
    with pytest.raises(DataError, match=r"x\.json: its format is not recognized; name it with --from"):
        open_objects(tmp_path / "x.json")
    with pytest.raises(UsageError, match=r"--from cvta: .*did you mean 'cvat'"):
        open_objects(tmp_path, "cvta")


def test_convert_takes_one_json_and_writes_splits_out(tmp_path, capsys):
    SETS["coco alone"](tmp_path / "set")
    (tmp_path / "set" / "annotations" / "instances_default.json").rename(tmp_path / "all.json")
    shutil.move(tmp_path / "set" / "images", tmp_path / "photos")
    command = ["convert", str(tmp_path / "all.json"), "--images", "photos", "--to", "yolo"]
    options = ["--val_fraction", "0.34", "--test-fraction", "0.2"]
    assert cli.main([*command, "--out", str(tmp_path / "out"), *options]) == 0
    said = capsys.readouterr()
    assert "34% of" in said.out and "6 images (3 train, 2 val, 1 test)" in said.out
    split = YoloData(str(tmp_path / "out" / "data.yaml"))
    assert [len(split.labeled(name)) for name in ("train", "val", "test")] == [3, 2, 1]
    assert cli.main([*command, "--out", str(tmp_path / "out2"), "--val_fraction", "1"]) == 2


def test_hidden_files_and_links_are_counted_not_read(tmp_path):
    SETS["yolo"](tmp_path)
    folder = tmp_path / "images" / "train"
    image(folder / ".ipynb_checkpoints" / "0-checkpoint.png")
    image(folder / "._0.png")
    (folder / "notes.doc").write_text("x")
    (tmp_path / "more").mkdir()
    image(tmp_path / "more" / "x.png").rename(tmp_path / "more" / "x.jfif")
    (folder / "link").symlink_to(tmp_path / "more")
    (folder / "loop").symlink_to(folder)
    data = YoloData(str(tmp_path / "data.yaml"))
    summary = data.summary("train")
    assert summary.images == 3 and summary.unlabeled == 1
    assert {"hidden": 2, "not an image (.doc)": 1}.items() <= dict(summary.passed_over).items()


def test_coco_ids_and_flags_in_every_spelling(tmp_path):
    for number in range(4):
        image(tmp_path / "images" / "train" / f"{number}.png", number)
    ids = [0, "7", 3.0, 2**70]
    images = [{"id": key, "file_name": f"{k}.png"} for k, key in enumerate(ids)]
    spelled = ["0", 7, "3", str(2**70)]
    flags = ["0", "1", False, None]
    annotations = [
        {"id": f"a{k}", "image_id": key, "category_id": "1", "bbox": ["1", 2, 3.5, 4], "iscrowd": flags[k]}
        for k, key in enumerate(spelled)
    ]
    top = {"images": images, "annotations": annotations, "categories": [{"id": 1.0, "name": "cat"}]}
    path = write(tmp_path / "annotations" / "instances_train.json", json.dumps(top))
    entries = CocoData(str(tmp_path), val_fraction=0).labeled("train")
    assert [len(entry) for entry in entries] == [1] * 4 and sum(int(e.crowded.sum()) for e in entries) == 1
    assert entries[0].boxes.tolist() == [[1, 2, 4.5, 6]]
    for wrong in (True, [1], {}, None, 0.5, ""):
        annotations[0]["image_id"] = wrong
        path.write_text(json.dumps(top))
        with pytest.raises(DataError, match="image_id is"):
            CocoData(str(tmp_path)).labeled("train")


def test_coco_widths_stay_as_they_are_written(tmp_path):
    """The sum x + w - x loses a bit, and an overlap of exactly .75 falls to the other side."""
    image(tmp_path / "images" / "val" / "0.png")
    image(tmp_path / "images" / "train" / "0.png")
    box = [0.1, 0.7, 5.1, 7.9]
    each = {"id": 1, "image_id": 0, "category_id": 1, "bbox": box}
    top = {"images": [{"id": 0, "file_name": "0.png"}], "annotations": [each], "categories": [{"id": 1, "name": "cat"}]}
    for split in ("train", "val"):
        write(tmp_path / "annotations" / f"instances_{split}.json", json.dumps(top))
    data = CocoData(str(tmp_path))
    assert 0.7 + 7.9 - 0.7 != 7.9
    assert data.samples("val")[0].target["file_xywh"].tolist() == [box]
    assert "file_xywh" not in data.samples("train")[0].target
    convert(tmp_path, tmp_path.parent / "again", "coco")
    written = json.loads((tmp_path.parent / "again" / "annotations" / "instances_val.json").read_text())
    assert written["annotations"][0]["bbox"] == box


def test_widths_of_csv_and_yolo_stay_as_they_are_written(tmp_path):
    image(tmp_path / "a.png")
    header = "filename,class,x,y,width,height,split\n"
    write(
        tmp_path / "boxes.csv", header + "".join(f"a.png,cat,0.1,0.7,5.1,7.9,{split}\n" for split in ("train", "val"))
    )
    data = CsvBoxData(str(tmp_path / "boxes.csv"))
    assert data.samples("val")[0].target["file_xywh"].tolist() == [[0.1, 0.7, 5.1, 7.9]]
    for split in ("train", "val"):
        image(tmp_path / "yolo" / split / "images" / "a.png")
        write(tmp_path / "yolo" / split / "labels" / "a.txt", "0 0.5 0.5 0.3 0.1\n")
    write(tmp_path / "yolo" / "data.yaml", "train: train/images\nval: val/images\nnames: [cat]\n")
    target = YoloData(str(tmp_path / "yolo" / "data.yaml")).samples("val")[0]
    height, width = target.image.size
    assert target.target["file_xywh"][0, 2:].tolist() == [0.3 * width, 0.1 * height]


def test_painted_masks_that_cvat_marks_as_crowds(tmp_path, caplog):
    made = SETS["coco"](tmp_path)
    for path in made.annotations:
        top = json.loads(path.read_text())
        for each in top["annotations"]:
            each["iscrowd"] = 1
        path.write_text(json.dumps(top))
    with pytest.raises(
        DataError, match=r"all of its 6 objects are crowds, which --data.crowds objects takes as objects"
    ):
        CocoData(str(tmp_path)).samples("train")
    assert "6 of 6 objects are marked as crowds" in caplog.text
    assert CocoData(str(tmp_path)).summary("val").crowds == 6
    data = CocoData(str(tmp_path), target="masks", crowds="objects")
    assert sum(len(sample.target["labels"]) for sample in data.samples("train")) == 6


def test_roboflows_placeholder_is_left_out_and_counted(tmp_path):
    made = SETS["coco"](tmp_path)
    for path in made.annotations:
        top = json.loads(path.read_text())
        top["categories"] = [{"id": 0, "name": "pets", "supercategory": "none"}] + [
            {**each, "supercategory": "pets"} for each in top["categories"]
        ]
        path.write_text(json.dumps(top))
    data = CocoData(str(tmp_path))
    assert data.classes == ("cat", "dog")
    assert any("placeholder category 'pets'" in reason for reason in data.summary("train").passed_over)
    top["categories"][1]["supercategory"] = "animal"  # an ordinary class that has no objects yet
    made.annotations[0].write_text(json.dumps(top))
    assert CocoData.discover_classes(str(tmp_path)) == ["pets", "cat", "dog"]


def test_one_label_file_is_split_and_never_tested_on_its_training_images(tmp_path):
    SETS["coco alone"](tmp_path)
    for labels in (None, "annotations/instances_default.json"):
        data = CocoData(str(tmp_path), labels=labels, val_fraction=0.34)
        train, val = ({entry.file for entry in data.labeled(split)} for split in ("train", "val"))
        assert len(train) == 4 and len(val) == 2 and not train & val
        assert "34% of" in data.summary("val").source and "names no val split" in data.summary("val").source
        with pytest.raises(UsageError, match=r"no test split .*test_fraction 0\.1 .*or set it to 1 to take all"):
            data.labeled("test")
        assert len(CocoData(str(tmp_path), labels=labels, test_fraction=1).labeled("test")) == 6


def test_a_lone_file_of_another_split_stays_that_split(tmp_path):
    SETS["coco"](tmp_path / "set")
    result = convert(tmp_path / "set" / "annotations" / "instances_val.json", tmp_path / "out", "yolo")
    assert result.images == {"val": 2}, "its images are found beside the folder of labels"
    made = CocoData(str(tmp_path / "set"), labels="annotations/instances_val.json")
    assert [Path(sample.id).parent.name for sample in made.samples("train")] == ["val", "val"], "training takes it"

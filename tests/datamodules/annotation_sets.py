"""A small valid data set of every annotation format, with the way to read all of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from datamodules.box_csv import CsvBoxData, OpenImagesData
from datamodules.coco import CocoData
from datamodules.coco_keypoints import CocoKeypointData
from datamodules.csv_labels import CsvData
from datamodules.cvat import CvatData
from datamodules.labelme import LabelmeData
from datamodules.mpii import MpiiData
from datamodules.voc import VocData
from datamodules.yolo import YoloData
from datamodules.yolo_pose import YoloPoseData
from visionkit.data import Split, VisionDataModule
from visionkit.masks import encode_masks

HEIGHT, WIDTH = 24, 20
SPLITS: tuple[Split, ...] = ("train", "val")


@dataclass
class AnnotationSet:
    """A data set in a folder.

    Attributes:
        annotations: Its label files, lists and descriptions.
        open: Makes its data module.
    """

    annotations: list[Path]
    open: Callable[[], VisionDataModule]

    def read(self) -> int:
        """Reads every split, every sample's target; gives the number of samples."""
        data = self.open()
        count = 0
        for split in SPLITS:
            data.summary(split)
            for sample in data.samples(split):
                target: Any = sample.target
                if "masks" in target:
                    np.asarray(target["masks"])
                count += 1
        return count


def image(path: Path, shade: int = 90) -> Path:
    """Writes a tiny image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT), (shade % 256, 90, 90)).save(path)
    return path


def write(path: Path, text: str) -> Path:
    """Writes a text file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _coco_top(count: int, keypoints: bool = False) -> dict[str, Any]:
    mask = np.zeros((1, HEIGHT, WIDTH), bool)
    mask[0, 3:9, 2:11] = True
    annotations: list[dict[str, Any]] = []
    for number in range(count):
        for outline in (
            [[2.0, 3, 11, 3, 11, 9.5]],
            dict(encode_masks(mask)[0]),
            {"size": [24, 20], "counts": [30, 9, 441]},
        ):
            each = {"id": len(annotations) + 1, "image_id": number, "category_id": len(annotations) % 2 + 1}
            each |= {"bbox": [2, 3, 9, 6.5], "area": 40.5, "iscrowd": int(len(annotations) == 2)}
            each |= (
                {"keypoints": [3, 4, 2, 5, 6, 1, 0, 0, 0], "num_keypoints": 2}
                if keypoints
                else {"segmentation": outline}
            )
            annotations.append(each)
    images = [{"id": k, "file_name": f"{k}.png", "height": HEIGHT, "width": WIDTH} for k in range(count)]
    categories: list[dict[str, Any]] = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    if keypoints:
        categories = [{**each, "keypoints": ["a", "b", "c"], "skeleton": [[1, 2]]} for each in categories]
    return {"images": images, "annotations": annotations, "categories": categories}


SKELETON = {"name": "three", "keypoints": ["a", "b", "c"], "flip_pairs": [["a", "b"]], "subject": "pet"}


def coco(root: Path) -> AnnotationSet:
    files = []
    for split in SPLITS:
        for number in range(2):
            image(root / "images" / split / f"{number}.png", number)
        files.append(write(root / "annotations" / f"instances_{split}.json", json.dumps(_coco_top(2))))
    return AnnotationSet(files, lambda: CocoData(str(root), target="masks"))


def coco_alone(root: Path) -> AnnotationSet:
    for number in range(6):
        image(root / "images" / f"{number}.png", number)
    path = write(root / "annotations" / "instances_default.json", json.dumps(_coco_top(6)))
    return AnnotationSet([path], lambda: CocoData(str(root), val_fraction=0.4))


def coco_keypoints(root: Path) -> AnnotationSet:
    files = []
    for split in SPLITS:
        for number in range(2):
            image(root / "images" / split / f"{number}.png", number)
        text = json.dumps(_coco_top(2, keypoints=True))
        files.append(write(root / "annotations" / f"person_keypoints_{split}.json", text))
    return AnnotationSet(files, lambda: CocoKeypointData(str(root), skeleton=SKELETON))


def voc(root: Path) -> AnnotationSet:
    files = []
    for name in "abc":
        image(root / "JPEGImages" / f"{name}.jpg")
        box = "<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>9</xmax><ymax>12</ymax></bndbox>"
        objects = "".join(f"<object><name>{c}</name><difficult>0</difficult>{box}</object>\n" for c in ("cat", "dog"))
        size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>\n"
        text = f"<annotation><filename>{name}.jpg</filename>\n{size}{objects}</annotation>\n"
        files.append(write(root / "Annotations" / f"{name}.xml", text))
    files.append(write(root / "ImageSets" / "Main" / "train.txt", "a\nb\n"))
    files.append(write(root / "ImageSets" / "Main" / "val.txt", "c 1\n"))
    return AnnotationSet(files, lambda: VocData(str(root)))


def yolo(root: Path) -> AnnotationSet:
    files = []
    for split in SPLITS:
        for number in range(2):
            image(root / "images" / split / f"{number}.png", number)
            text = "0 0.5 0.5 0.4 0.3\n1 0.1 0.2 0.5 0.2 0.5 0.7 0.2 0.6\n"
            files.append(write(root / "labels" / split / f"{number}.txt", text))
    described = "path: .\ntrain: images/train\nval: images/val\ntest: ''\nnc: 2\nnames:\n  0: cat\n  1: dog\n"
    files += [write(root / "data.yaml", described)] * 3
    return AnnotationSet(files, lambda: YoloData(str(root / "data.yaml")))


def yolo_list(root: Path) -> AnnotationSet:
    for number in range(4):
        image(root / "obj_train_data" / f"{number}.png", number)
        write(root / "obj_train_data" / f"{number}.txt", "0 0.5 0.5 0.4 0.3\n")
    files = [
        write(root / "train.txt", "data/obj_train_data/0.png\ndata/obj_train_data/1.png\n"),
        write(root / "valid.txt", "data/obj_train_data/2.png\nobj_train_data/3.png\n"),
        write(root / "obj.names", "cat\ndog\n"),
        write(
            root / "obj.data", "classes = 2\ntrain = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\n"
        ),
    ]
    return AnnotationSet(files, lambda: YoloData(str(root / "obj.data")))


def mpii(root: Path) -> AnnotationSet:
    files = []
    for split in ("train", "valid"):
        people = []
        for number in range(2):
            image(root / "images" / f"{split}{number}.png", number)
            keypoints = [[4 + k % 9, 5 + k] for k in range(16)]
            person = {"image": f"{split}{number}.png", "center": [9, 12], "scale": 0.1, "joints": keypoints}
            people.append({**person, "joints_vis": [1] * 15 + [0]})
        files.append(write(root / "annot" / f"{split}.json", json.dumps(people)))
    return AnnotationSet(files, lambda: MpiiData(str(root)))


def csv_labels(root: Path) -> AnnotationSet:
    rows = ["path,label,split"]
    for number in range(4):
        image(root / f"{number}.png", number)
        rows.append(f"{number}.png,{'cat' if number % 2 else 'dog'},{'train' if number < 2 else 'val'}")
    path = write(root / "labels.csv", "\n".join(rows) + "\n")
    return AnnotationSet([path], lambda: CsvData(str(path)))


def yolo_pose(root: Path) -> AnnotationSet:
    files = []
    for split in SPLITS:
        for number in range(2):
            image(root / "images" / split / f"{number}.png", number)
            text = "0 0.5 0.5 0.6 0.6 0.4 0.4 2 0.5 0.6 1 0 0 0\n"
            files.append(write(root / "labels" / split / f"{number}.txt", text))
    described = "train: images/train\nvalid: images/val\nkpt_shape: [3, 3]\nflip_idx: [1, 0, 2]\nnames: [pet]\n"
    files += [write(root / "data.yaml", described)] * 2
    return AnnotationSet(files, lambda: YoloPoseData(str(root / "data.yaml")))


def cvat(root: Path) -> AnnotationSet:
    images = []
    for number in range(4):
        image(root / "images" / f"{number}.png", number)
        subset = "Train" if number < 2 else "Validation"
        shapes = [
            '<box label="cat" xtl="2" ytl="3" xbr="9.5" ybr="12" occluded="0"></box>',
            '<polygon label="dog" points="2,3;9,3;9,12"></polygon>',
            '<mask label="dog" left="2" top="3" width="4" height="3" rle="2, 4, 1, 5"></mask>',
            '<ellipse label="cat" cx="9" cy="9" rx="4" ry="3" rotation="30"></ellipse>',
            '<points label="cat" points="2,3"></points>',
        ]
        size = f'width="{WIDTH}" height="{HEIGHT}"'
        text = "\n    ".join(shapes)
        images.append(f'  <image id="{number}" name="{number}.png" subset="{subset}" {size}>\n    {text}\n  </image>')
    path = write(root / "annotations.xml", "<annotations>\n" + "\n".join(images) + "\n</annotations>\n")
    return AnnotationSet([path], lambda: CvatData(str(root), target="boxes"))


def labelme(root: Path) -> AnnotationSet:
    files = []
    for split in SPLITS:
        for number in range(2):
            image(root / split / f"{number}.jpg", number)
            shapes = [
                {"label": "cat", "points": [[2, 3], [9, 3], [9, 12.5]], "group_id": None, "shape_type": "polygon"},
                {"label": "dog", "points": [[2, 3], [9, 12]], "group_id": 1, "shape_type": "rectangle"},
                {"label": "dog", "points": [[12, 12], [14, 12]], "group_id": 1, "shape_type": "circle"},
            ]
            top = {"shapes": shapes, "imagePath": f"{number}.jpg", "imageData": None}
            top |= {"imageHeight": HEIGHT, "imageWidth": WIDTH}
            files.append(write(root / split / f"{number}.json", json.dumps(top)))
    return AnnotationSet(files, lambda: LabelmeData(str(root), target="masks"))


def open_images(root: Path) -> AnnotationSet:
    files = [write(root / "class-descriptions-boxable.csv", "/m/1,Cat\n/m/2,Dog\n")]
    head = (
        "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
    )
    for split in ("train", "validation"):
        rows = [head]
        for number in range(2):
            image(root / split / f"{split}{number}.jpg", number)
            rows.append(f"{split}{number},xclick,/m/1,1,0.1,0.6,0.2,0.7,0,0,0,0,0")
            rows.append(f"{split}{number},xclick,/m/2,1,0.1,0.6,0.2,0.7,0,0,{number},0,0")
        files.append(write(root / f"{split}-annotations-bbox.csv", "\n".join(rows) + "\n"))
    return AnnotationSet(files, lambda: OpenImagesData(str(root)))


def box_csv(root: Path) -> AnnotationSet:
    rows = ["filename,width,height,class,xmin,ymin,xmax,ymax,split"]
    for number in range(4):
        image(root / "images" / f"{number}.png", number)
        split = "train" if number < 2 else "valid"
        rows += [f"{number}.png,{WIDTH},{HEIGHT},{name},2,3,9,12.5,{split}" for name in ("cat", "dog")]
    path = write(root / "boxes.csv", "\n".join(rows) + "\n")
    return AnnotationSet([path], lambda: CsvBoxData(str(path)))


SETS: dict[str, Callable[[Path], AnnotationSet]] = {
    "box csv": box_csv,
    "coco": coco,
    "coco alone": coco_alone,
    "coco keypoints": coco_keypoints,
    "csv labels": csv_labels,
    "cvat": cvat,
    "labelme": labelme,
    "mpii": mpii,
    "open images": open_images,
    "voc": voc,
    "yolo": yolo,
    "yolo list": yolo_list,
    "yolo pose": yolo_pose,
}

"""Writes scenes as real files in the formats that people have, so that readers and whole runs can be tried on them."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from visionkit.errors import EnvironmentFault, UsageError
from visionkit.synthetic.faces import FACE_LANDMARKS, draw_face
from visionkit.synthetic.generate import DEFAULT_SIZE, make_scene
from visionkit.synthetic.people import KEYPOINTS, SKELETON
from visionkit.synthetic.scene import OBJECT_CLASSES, SEMANTIC_CLASSES, Scene

SPLITS: Mapping[str, float] = {"train": 0.7, "val": 0.15, "test": 0.15}
FACES_EACH = 8
"""Images of every person."""

_FIRST_PERSON = {"train": 0, "val": 500, "test": 1000}
FIRST: Mapping[str, int] = {"train": 0, "val": 1_000_000_000, "test": 2_000_000_000}
"""Number of the first scene or clip of each split."""
_README = """Drawn scenes with the labels of eight vision tasks: {count} images, seed {seed}.

They were made by `visionkit scenes --count {count} --seed {seed}`.
They were drawn by a program and are free of anybody's rights. Splits: {splits}.

images/<split>/NNNNNN.jpg                       the scenes, {height} x {width} pixels (height x width){varying}
classification/<split>/<class>/NNNNNN.jpg       class folders; the class is that of the object of which most is seen
labels.csv                                      path,label,split
presence.csv                                    path,split and one 0/1 column a class: every class that is seen
annotations/instances_<split>.json              COCO: boxes, masks (polygons; run lengths where seen in parts)
annotations/person_keypoints_<split>.json       COCO: 17 keypoints of every person
label_maps/<split>/NNNNNN.png                   8-bit png, value = line of label_maps/classes.txt, from 0
depth/<split>/NNNNNN.png                        16-bit png, millimeters, 0 = not measured
faces/<split>/person_NNN/NNN.png                aligned faces 112 x 112; every split has its own people
faces/landmarks.csv                             the five landmarks in these images
high_res/<split>/NNNNNN.png                     scenes of twice the size, for super-resolution
"""


def check_empty(folder: Path) -> None:
    """Checks that nothing is replaced.

    Raises:
        UsageError: The folder is a file or has files.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"--out {folder}: holds something already; give a new or empty folder")


def write_scenes(
    out: str | Path,
    count: int = 200,
    seed: int = 0,
    size: tuple[int, int] = DEFAULT_SIZE,
    max_size: tuple[int, int] | None = None,
    splits: Mapping[str, float] = SPLITS,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, int]:
    """Writes a data set for all eight tasks.

    Args:
        out: A folder that does not exist yet or is empty.
        count: Scenes over all splits.
        seed: Another seed gives other scenes.
        size: Height and width in pixels.
        max_size: Where given, every image has a size of its own between `size` and this.
        splits: Fraction of each split among `train`, `val`, `test`; each gets at least one scene.
        progress: Called with scenes written and their total.

    Returns:
        Number of scenes by split.

    Raises:
        UsageError: The folder holds something, or the numbers make no sense.
        EnvironmentFault: It cannot be written.
    """
    folder = Path(out)
    unknown = [name for name in splits if name not in FIRST]
    if unknown or not splits or min(splits.values()) <= 0:
        raise UsageError(f"splits {dict(splits)}: give fractions above 0 of {', '.join(FIRST)}")
    if count < len(splits):
        raise UsageError(f"--count {count}: at least {len(splits)} scenes are needed, one per split")
    if min(size) < 32 or (max_size is not None and (max_size[0] < size[0] or max_size[1] < size[1])):
        raise UsageError(f"--size {size[0]} {size[1]}: at least 32, and at most the largest size given")
    check_empty(folder)
    numbers = fraction_out(count, splits)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        done = 0
        rows: list[tuple[str, str, Scene]] = []
        for split, number in numbers.items():
            coco = _Coco()
            for k in range(number):
                scene = make_scene(seed, FIRST[split] + k, size, max_size)
                _write_one(folder, split, f"{k:06d}", scene, coco)
                double = make_scene(seed, FIRST[split] + k, (2 * size[0], 2 * size[1]))
                _save(folder / "high_res" / split / f"{k:06d}.png", double.image)
                rows.append((f"images/{split}/{k:06d}.jpg", split, _without_pixels(scene)))
                done += 1
                if progress is not None:
                    progress(done, count)
            coco.write(folder / "annotations", split)
        _write_tables(folder, rows)
        _write_faces(folder, seed, numbers)
        (folder / "label_maps" / "classes.txt").write_text("\n".join(SEMANTIC_CLASSES) + "\n")
        varying = "" if max_size is None else f" up to {max_size[0]} x {max_size[1]}, each its own"
        fractions = ", ".join(f"{name} {number}" for name, number in numbers.items())
        readme = _README.format(
            count=count, seed=seed, splits=fractions, height=size[0], width=size[1], varying=varying
        )
        (folder / "README.txt").write_text(readme)
    except OSError as error:
        raise EnvironmentFault(f"{folder}: cannot write the scenes ({error.strerror or error})") from error
    return numbers


def fraction_out(count: int, splits: Mapping[str, float]) -> dict[str, int]:
    """A count by the fractions of splits, each at least one."""
    total = sum(splits.values())
    numbers = {name: max(1, round(count * fraction / total)) for name, fraction in splits.items()}
    largest = max(numbers, key=lambda name: numbers[name])
    numbers[largest] += count - sum(numbers.values())
    return numbers


def _without_pixels(scene: Scene) -> Scene:
    empty = np.zeros((0, 0), dtype=np.uint8)
    return Scene(empty, scene.objects, empty, empty, empty, scene.seed, scene.index)


def _save(path: Path, array: np.ndarray, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        options.setdefault("compress_level", 1)  # PNG's own level was half of the time of drawing a set
    Image.fromarray(array).save(path, **options)


def _write_one(folder: Path, split: str, name: str, scene: Scene, coco: _Coco) -> None:
    image = folder / "images" / split / f"{name}.jpg"
    _save(image, scene.image, quality=95, subsampling=0)
    copy = folder / "classification" / split / OBJECT_CLASSES[scene.label] / f"{name}.jpg"
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_bytes(image.read_bytes())
    indexed = Image.fromarray(scene.label_map).convert("P")
    indexed.putdata(scene.label_map.ravel().tolist())
    indexed.putpalette(_palette())
    target = folder / "label_maps" / split / f"{name}.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    indexed.save(target, compress_level=1)
    _save(folder / "depth" / split / f"{name}.png", np.round(scene.depth * 1000).astype(np.uint16))
    coco.add(f"{name}.jpg", scene)


def _palette() -> list[int]:
    """The colors of Pascal VOC: bits of the index spread over the channels, so 255 is nearly white."""
    return [
        sum(((index >> (3 * bit + channel)) & 1) << (7 - bit) for bit in range(8))
        for index in range(256)
        for channel in range(3)
    ]


def _write_tables(folder: Path, rows: list[tuple[str, str, Scene]]) -> None:
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split"])
        writer.writerows([path, OBJECT_CLASSES[scene.label], split] for path, split, scene in rows)
    with (folder / "presence.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "split", *OBJECT_CLASSES])
        writer.writerows([path, split, *scene.presence.astype(int).tolist()] for path, split, scene in rows)


def _write_faces(folder: Path, seed: int, numbers: Mapping[str, int]) -> None:
    people = {split: max(2, number // FACES_EACH) for split, number in numbers.items()}
    with_header = [["path", "person", *(f"{name}_{axis}" for name in FACE_LANDMARKS for axis in "xy")]]
    for split in numbers:
        first = _FIRST_PERSON[split]
        for person in range(first, first + people[split]):
            for k in range(FACES_EACH):
                face = draw_face(seed, person, k).aligned()
                path = Path("faces") / split / f"person_{person:03d}" / f"{k:03d}.png"
                _save(folder / path, face.image)
                with_header.append([str(path), f"person_{person:03d}", *(f"{v:.2f}" for v in face.landmarks.ravel())])
    with (folder / "faces" / "landmarks.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(with_header)


class _Coco:
    """Collects the two COCO files of one split."""

    def __init__(self) -> None:
        self.images: list[dict[str, Any]] = []
        self.instances: list[dict[str, Any]] = []
        self.people: list[dict[str, Any]] = []

    def add(self, name: str, scene: Scene) -> None:
        height, width = scene.depth.shape
        number = len(self.images) + 1
        self.images.append({"id": number, "file_name": name, "height": height, "width": width})
        for k, each in enumerate(scene.objects):
            x1, y1, x2, y2 = (float(v) for v in each.box)
            entry: dict[str, Any] = {
                "id": len(self.instances) + 1,
                "image_id": number,
                "category_id": each.label + 1,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": float(each.area),
                "iscrowd": 0,
                "segmentation": segmentation(scene.mask(k)),
            }
            self.instances.append(entry)
            if each.keypoints is not None:
                points = [
                    [round(float(x), 2), round(float(y), 2), int(v)] if v else [0, 0, 0] for x, y, v in each.keypoints
                ]
                seen = sum(point[2] > 0 for point in points)
                self.people.append(
                    entry | {"keypoints": list(itertools.chain.from_iterable(points)), "num_keypoints": seen}
                )

    def write(self, folder: Path, split: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        info = {"description": "scenes drawn by visionkit", "version": "1"}
        names = [{"id": k + 1, "name": name, "supercategory": "object"} for k, name in enumerate(OBJECT_CLASSES)]
        person = [{"id": 1, "name": "person", "supercategory": "person", "keypoints": KEYPOINTS, "skeleton": SKELETON}]
        for kind, entries, categories in (
            ("instances", self.instances, names),
            ("person_keypoints", self.people, person),
        ):
            whole = {
                "info": info,
                "licenses": [],
                "images": self.images,
                "annotations": entries,
                "categories": categories,
            }
            (folder / f"{kind}_{split}.json").write_text(json.dumps(whole))


def segmentation(mask: np.ndarray) -> list[list[float]] | dict[str, Any]:
    """COCO's form of a mask (h, w) bool.

    It is the polygon along its pixel borders, or run lengths where the mask has several parts or holes.
    """
    # Four times enlarged, a contour's corners lie a quarter pixel inside the borders: rounding puts them on it.
    enlarged = mask.astype(np.uint8).repeat(4, axis=0).repeat(4, axis=1)
    contours, _ = cv2.findContours(enlarged, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if len(contours) == 1:
        corners = np.floor((contours[0][:, 0] + 2) / 4)
        keep = np.any(corners != np.roll(corners, 1, axis=0), axis=1)
        corners = _straightened(corners[keep])
        if len(corners) >= 3:
            return [corners.ravel().tolist()]
    runs = np.flatnonzero(np.diff(np.concatenate([[0], mask.T.ravel().astype(np.int8), [-1]])))
    counts = np.diff(np.concatenate([[0], runs])).tolist()
    return {"counts": counts, "size": list(mask.shape)}


def _straightened(corners: np.ndarray) -> np.ndarray:
    """Drops points that lie on a straight run."""
    before, after = corners - np.roll(corners, 1, axis=0), np.roll(corners, -1, axis=0) - corners
    turning: np.ndarray = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    return np.asarray(corners[turning])

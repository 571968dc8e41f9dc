import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visionkit.errors import UsageError
from visionkit.synthetic import OBJECT_CLASSES, SEMANTIC_CLASSES, make_scene
from visionkit.synthetic.files import segmentation, write_scenes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scenes") / "set"
    seen: list[tuple[int, int]] = []
    numbers = write_scenes(out, 24, seed=1, size=(64, 80), progress=lambda done, total: seen.append((done, total)))
    assert numbers == {"train": 16, "val": 4, "test": 4}
    assert seen[-1] == (24, 24)
    return out


def test_images_and_maps_are_those_of_the_generator(folder: Path) -> None:
    for k in range(4):
        scene = make_scene(1, k, (64, 80))
        with Image.open(folder / f"images/train/{k:06d}.jpg") as image:
            assert np.abs(np.asarray(image).astype(int) - scene.image).mean() < 3
        with Image.open(folder / f"label_maps/train/{k:06d}.png") as label_map:
            assert label_map.mode == "P"
            assert (np.asarray(label_map) == scene.label_map).all()
        with Image.open(folder / f"depth/train/{k:06d}.png") as depth:
            assert depth.mode == "I;16"
            assert np.abs(np.asarray(depth) / 1000 - scene.depth).max() <= 0.0005001
        name = OBJECT_CLASSES[scene.label]
        assert (folder / f"classification/train/{name}/{k:06d}.jpg").exists()
        with Image.open(folder / f"high_res/train/{k:06d}.png") as large:
            assert large.size == (160, 128)
    assert (folder / "label_maps/classes.txt").read_text().split() == list(SEMANTIC_CLASSES)
    assert "label_maps/<split>" in (folder / "README.txt").read_text()


def test_splits_fraction_no_scene(folder: Path) -> None:
    contents = [path.read_bytes() for path in (folder / "images").rglob("*.jpg")]
    assert len(contents) == len(set(contents)) == 24


def test_coco_instances(folder: Path) -> None:
    coco = json.loads((folder / "annotations/instances_train.json").read_text())
    assert [each["name"] for each in coco["categories"]] == list(OBJECT_CLASSES)
    assert len(coco["images"]) == 16
    ids = [each["id"] for each in coco["annotations"]]
    assert len(set(ids)) == len(ids)
    for image in coco["images"]:
        scene = make_scene(1, image["id"] - 1, (64, 80))
        entries = [each for each in coco["annotations"] if each["image_id"] == image["id"]]
        assert len(entries) == len(scene.objects)
        for number, (entry, each) in enumerate(zip(entries, scene.objects, strict=True)):
            assert entry["category_id"] == each.label + 1 and entry["area"] == each.area
            x, y, w, h = entry["bbox"]
            assert [x, y, x + w, y + h] == each.box.tolist()
            assert (rasterize(entry["segmentation"], 64, 80) == scene.mask(number)).all()


def rasterize(segmentation: object, height: int, width: int) -> np.ndarray:
    """Even-odd filling at pixel centers, or run lengths column by column."""
    if isinstance(segmentation, dict):
        assert segmentation["size"] == [height, width]
        values = np.arange(len(segmentation["counts"])) % 2 == 1
        return np.repeat(values, segmentation["counts"]).reshape(width, height).T
    assert isinstance(segmentation, list) and len(segmentation) == 1
    corners = np.array(segmentation[0]).reshape(-1, 2)
    y, x = np.mgrid[:height, :width] + 0.5
    inside = np.zeros((height, width), dtype=bool)
    for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y1 != y2:
            inside ^= ((y1 > y) != (y2 > y)) & (x < (x2 - x1) * (y - y1) / (y2 - y1) + x1)
    return inside


@pytest.mark.parametrize("kind", ["solid", "hole", "parts", "pixel", "full"])
def test_segmentation_is_exact(kind: str) -> None:
    mask = np.zeros((12, 9), dtype=bool)
    mask[2:8, 3:9] = True
    if kind == "hole":
        mask[4, 5] = False
    elif kind == "parts":
        mask[10:, 0] = True
    elif kind == "pixel":
        mask[:] = False
        mask[0, 0] = True
    elif kind == "full":
        mask[:] = True
    form = segmentation(mask)
    assert isinstance(form, list) == (kind in ("solid", "pixel", "full"))
    assert (rasterize(form, 12, 9) == mask).all()


def test_coco_people(folder: Path) -> None:
    coco = json.loads((folder / "annotations/person_keypoints_train.json").read_text())
    (category,) = coco["categories"]
    assert category["name"] == "person" and len(category["keypoints"]) == 17 and category["skeleton"][0] == [16, 14]
    assert coco["annotations"]
    for entry in coco["annotations"]:
        points = np.array(entry["keypoints"]).reshape(17, 3)
        assert entry["num_keypoints"] == (points[:, 2] > 0).sum()
        assert (points[points[:, 2] == 0] == 0).all()


def test_tables(folder: Path) -> None:
    with (folder / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24 and {row["split"] for row in rows} == {"train", "val", "test"}
    assert all((folder / row["path"]).exists() and row["label"] in OBJECT_CLASSES for row in rows)
    with (folder / "presence.csv").open() as file:
        marks = list(csv.DictReader(file))
    assert all(mark[row["label"]] == "1" for mark, row in zip(marks, rows, strict=True))


def test_faces(folder: Path) -> None:
    people = {split: {p.name for p in (folder / "faces" / split).iterdir()} for split in ("train", "val", "test")}
    assert all(people.values()) and len(set.union(*people.values())) == sum(map(len, people.values()))
    with (folder / "faces/landmarks.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(list((folder / "faces").rglob("*.png")))
    assert abs(float(rows[0]["left_eye_x"]) - 38.3) < 14


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(UsageError, match="holds something already"):
        write_scenes(tmp_path, 4)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 2}, "--count 2"),
        ({"size": (10, 64)}, "--size 10 64"),
        ({"size": (64, 64), "max_size": (32, 64)}, "--size"),
        ({"splits": {"train": 1.0, "vla": 0.5}}, "splits"),
    ],
)
def test_senseless_numbers(tmp_path: Path, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        write_scenes(tmp_path / "out", **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()

"""Faces out of labels of whole people."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.coco_faces import CocoFaceData, face_boxes
from visionkit.errors import DataError
from visionkit.geometry import InputSpec
from visionkit.skeleton import Skeleton

COCO = Skeleton.of("coco17").keypoints
FRONT = {"nose": (50, 56), "left_eye": (60, 44), "right_eye": (40, 44), "left_ear": (70, 48), "right_ear": (30, 48)}


def person(number: int, places: dict[str, tuple[float, float]], image: int = 1, **more: object) -> dict:
    keypoints = [value for name in COCO for value in ((*places[name], 2) if name in places else (0, 0, 0))]
    return {"id": number, "image_id": image, "category_id": 1, "iscrowd": 0, "bbox": [10, 10, 80, 85], "area": 4000,
            "keypoints": keypoints, "num_keypoints": len(places), **more}  # fmt: skip


def written(folder: Path, people: list[dict], names: tuple[str, ...] = COCO) -> Path:
    (folder / "images").mkdir()
    Image.new("RGB", (100, 100)).save(folder / "images" / "a.png")
    Image.new("RGB", (100, 100)).save(folder / "images" / "b.png")
    images = [{"id": 1, "file_name": "a.png", "height": 100, "width": 100},
              {"id": 2, "file_name": "b.png", "height": 100, "width": 100}]  # fmt: skip
    category = {"id": 1, "name": "person", "keypoints": list(names), "skeleton": []}
    stated = {"images": images, "annotations": people, "categories": [category]}
    (folder / "people.json").write_text(json.dumps(stated), encoding="utf-8")
    return folder


def read(folder: Path, **more: object) -> CocoFaceData:
    return CocoFaceData(
        str(folder), labels="people.json", images="images", val_fraction=0, input=InputSpec((64, 64)), **more
    )


def test_a_face_is_where_nose_and_an_eye_are(tmp_path: Path) -> None:
    profile = {name: FRONT[name] for name in ("nose", "left_eye", "left_ear")}
    back = {"left_ear": (70, 48), "left_shoulder": (80, 90)}
    body = {"left_wrist": (20, 20)}
    tiny = {name: (50 + (x - 50) / 10, 50 + (y - 50) / 10) for name, (x, y) in FRONT.items()}
    data = read(written(tmp_path, [person(k, each) for k, each in enumerate((FRONT, profile, back, body, tiny), 1)]))
    first, second = data.labeled("train")
    assert len(second) == 0  # an image without people shows no face
    assert data.classes == ("face",) and data.skeleton.name == "head5"
    assert first.crowded.tolist() == [False, False, True, True]  # nothing of `body` is a head
    assert first.more["keypoints"].shape == (4, 5, 3)
    assert first.more["keypoints"][0, 1].tolist() == [60, 44, 2]


def test_boxes_of_faces_follow_their_size_and_place() -> None:
    places = np.array(
        [[(*FRONT[name], 2) for name in ("nose", "left_eye", "right_eye", "left_ear", "right_ear")]], float
    )
    box = face_boxes(places)[0]
    assert box[0] < 30 and box[2] > 70 and box[1] < 35 and 62 < box[3] < 85
    moved = places.copy()
    moved[..., :2] = moved[..., :2] * 3 + 7
    assert np.allclose(face_boxes(moved)[0], box * 3 + 7)
    mirrored = places[:, [0, 2, 1, 4, 3]].copy()
    mirrored[..., 0] = 100 - mirrored[..., 0]
    assert np.allclose(face_boxes(mirrored)[0], [100 - box[2], box[1], 100 - box[0], box[3]])
    profile = places.copy()
    profile[0, [2, 4]] = 0
    left, _, right, _ = face_boxes(profile)[0]
    assert left < 50 and right > 66  # from before the nose to beyond the half of the way to the ear


def test_labels_without_a_head_are_refused(tmp_path: Path) -> None:
    folder = written(tmp_path, [person(1, FRONT)])
    stated = json.loads((folder / "people.json").read_text("utf-8"))
    lsp = Skeleton.of("lsp14")
    stated["categories"][0]["keypoints"] = list(lsp.keypoints)
    stated["annotations"][0]["keypoints"] = [5, 5, 2] * len(lsp)
    (folder / "people.json").write_text(json.dumps(stated), encoding="utf-8")
    with pytest.raises(DataError, match="has no keypoint 'nose', which faces are made from"):
        read(folder).labeled("train")
    with pytest.raises(DataError, match="faces of people have the skeleton head5"):
        read(folder, skeleton="coco17")

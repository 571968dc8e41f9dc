"""Which faces count as found, and what is right about an image of clothes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.face_finders import matched, on_clothes
from visionkit.tiling import Located


def test_a_face_is_found_by_one_box_of_about_its_size() -> None:
    true, middles = np.array([(10, 10, 30, 30), (60, 10, 80, 30.0)]), np.array([(20, 19), (70, 19.0)])
    boxes = np.array([(12, 12, 28, 28), (11, 11, 29, 29), (58, 8, 82, 32), (0, 0, 99, 99), (68, 17, 72, 21.0)])
    assert matched(boxes, np.array([0.9, 0.5, 0.8, 0.95, 0.99]), true, middles).tolist() == [0, -1, 1, -1, -1]
    assert matched(boxes[:2], np.array([0.5, 0.9]), true, middles).tolist() == [-1, 0], "the higher score has it"
    assert matched(boxes, np.ones(5), true[:0], middles[:0]).tolist() == [-1] * 5


def test_a_face_lies_about_the_hair_and_on_skin(tmp_path: Path) -> None:
    labels = np.zeros((100, 60), np.uint8)
    labels[10:20, 20:40] = 1  # hair
    labels[15:30, 24:36] = 2  # skin
    labels[60:70, 20:40] = 2  # a hand
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    Image.fromarray(np.zeros((100, 60, 3), np.uint8)).save(tmp_path / "images" / "a.png")
    Image.fromarray(labels).save(tmp_path / "labels" / "a.png")
    names = {"0": "null", "1": "hair", "2": "skin", "3": "glasses", "4": "sunglasses"}
    (tmp_path / "classes.json").write_text(json.dumps(names), encoding="utf-8")
    face, hand, low = (22, 12, 38, 30), (24, 58, 36, 72), (22, 12, 38, 30)

    def find(image: np.ndarray) -> Located:
        return Located(np.array([face, hand, low], np.float32), np.array([0.9, 0.8, 0.1], np.float32))

    assert on_clothes(find, tmp_path, 0.5) == {"photos": 1, "found": 1.0, "false or double, per photo": 1.0}
    assert on_clothes(find, tmp_path, 0.95) == {"photos": 1, "found": 0.0, "false or double, per photo": 0.0}

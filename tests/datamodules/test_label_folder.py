"""The folder of labels: nothing outside of it, and labels that belong to the pixels beside them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.label_folder import Description, LabelFolder
from datamodules.object_entries import AnnotatedImage
from visionkit.errors import DataError

CLASSES = ("cat", "dog")
SIZE = (20, 30)


def photo(path: Path, gray: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE[::-1], (gray,) * 3).save(path)
    return path


def entry(label: int = 0) -> AnnotatedImage:
    return AnnotatedImage("a.png", "", np.array([[1.0, 2, 10, 12]]), np.array([label]), scores=np.array([0.5]))


def made(tmp_path: Path) -> Path:
    with LabelFolder(tmp_path / "out", Description("coco", "detection", "boxes", CLASSES)) as folder:
        folder.add(photo(tmp_path / "photos" / "a.png", 10), entry(), SIZE, "model")
    return tmp_path / "out"


@pytest.mark.parametrize("name", ["../private.png", "/etc/a.png", "..", "a/b.png", "a\\b.png", "", 7, None])
def test_a_journal_names_images_of_its_folder_alone(name: object, tmp_path: Path) -> None:
    out = made(tmp_path)
    journal = out / "label.jsonl"
    journal.write_text(journal.read_text("utf-8") + json.dumps({"image": name, "source": "x"}) + "\n", "utf-8")
    with pytest.raises(DataError, match="no name of an image in this folder"):
        LabelFolder(out)


def test_labels_belong_to_the_pixels_beside_them(tmp_path: Path) -> None:
    out = made(tmp_path)
    source = photo(tmp_path / "photos" / "a.png", 200)  # replaced since
    with LabelFolder(out) as folder:
        name = folder.add(source, entry(1), SIZE, "model")
        assert folder.store.image(name).read_bytes() == source.read_bytes()


def test_a_category_that_another_program_has_left_out_is_there_again(tmp_path: Path) -> None:
    out = made(tmp_path)
    path = out / "annotations" / "instances_train.json"
    content = json.loads(path.read_text("utf-8"))
    content["categories"] = [each for each in content["categories"] if each["name"] == "cat"]
    path.write_text(json.dumps(content, indent=1), "utf-8")
    with LabelFolder(out) as folder:
        folder.correct("a.png", entry(1), SIZE, reviewed=True)
        assert folder.store.read("a.png").labels.tolist() == [1]
    content = json.loads(path.read_text("utf-8"))
    names = {each["id"]: each["name"] for each in content["categories"]}
    assert [names[each["category_id"]] for each in content["annotations"]] == ["dog"]
    assert len(names) == 2

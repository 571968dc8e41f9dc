"""Boxes and masks in the terminal and in the demo: words, COCO results, and controls that do not ask the network."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ui import cli
from ui.coco_results import CocoResults
from ui.downloads import Downloads
from ui.views import detections as view
from ui.views import views
from visionkit.errors import DataError, UsageError
from visionkit.masks import encode_masks
from visionkit.predictions import Classification, Detections, Instances

NAMES = ("cat", "dog")


def boxes() -> Detections:
    scores, labels = [0.9, 0.6, 0.3], [0, 1, 0]
    return Detections(NAMES, (40, 60), [[1, 2, 21, 22], [5, 5, 9, 9], [30, 30, 40, 39]], scores, labels)


def instances(size=(40, 60)) -> Instances:
    masks = np.zeros((2, *size), bool)
    masks[0, 5:20, 5:25] = masks[1, 30:, 30:] = True
    return Instances(
        ("cell",), size, [[5, 5, 25, 20], [30, 30, 60, 40]], [0.9, 0.4], [0, 0], masks=tuple(encode_masks(masks))
    )


def test_words():
    found = boxes()
    assert found.text() == "cat 0.90, dog 0.60"
    assert found.with_options({"score_threshold": 0.2}).text(2) == "2 cat, 1 dog; the highest-scoring cat 0.90"
    assert found.chosen([2]).text() == "0 objects found (highest-scoring: cat 0.30)"
    assert found.chosen([]).text() == "0 objects found"
    prediction = Classification(("a", "b"), np.array([0.9, 0.1]))
    assert prediction.with_options({"score_threshold": 0.2}) is prediction


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # pycocotools with numpy 2
def test_coco_results_with_numbers_of_their_own(tmp_path):
    results = CocoResults(tmp_path)
    results.add(Path("000000000139.jpg"), instances(), (40, 60))
    results.add(Path("b.jpg"), instances().chosen([]), (40, 60))
    rows = json.loads(results.write().read_text())
    assert [row["score"] for row in rows] == [0.9, 0.4] and rows[0]["bbox"] == [5, 5, 20, 15]
    assert rows[0] | {"segmentation": None} == {
        **{"image_id": 139, "category_id": 1, "bbox": [5, 5, 20, 15], "score": 0.9},
        "segmentation": None,
    }
    images = json.loads((tmp_path / "coco_images.json").read_text())
    assert [each["file_name"] for each in images["images"]] == ["000000000139.jpg", "b.jpg"]
    from pycocotools.coco import COCO

    truth = COCO(str(tmp_path / "coco_images.json"))
    found = truth.loadRes(str(tmp_path / "coco_results.json"))
    assert found.annToMask(found.anns[1]).sum() == 300


def test_coco_results_with_the_ids_of_a_label_file(tmp_path):
    labels = tmp_path / "labels.json"
    top = {
        "images": [{"id": 139, "file_name": "val/a.jpg"}, {"id": 285, "file_name": "b.jpg"}],
        "annotations": [],
        "categories": [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}],
    }
    labels.write_text(json.dumps(top))
    results = CocoResults(tmp_path, labels)
    results.add(Path("/x/val/a.jpg"), boxes(), (40, 60))
    results.add(Path("/y/b.jpg"), boxes(), (40, 60))
    assert [(row["image_id"], row["category_id"]) for row in results.results[:3]] == [(139, 17), (139, 18), (139, 17)]
    assert results.results[3]["image_id"] == 285
    with pytest.raises(DataError, match=r"no image 'c\.jpg'"):
        results.add(Path("/y/c.jpg"), boxes(), (40, 60))
    results = CocoResults(tmp_path, labels)
    with pytest.raises(DataError, match="no category 'cell'"):
        results.add(Path("/y/b.jpg"), instances(), (40, 60))
    with pytest.raises(UsageError, match="this model predicts classification"):
        results.add(Path("/y/b.jpg"), Classification(("a", "b"), np.array([0.9, 0.1])), (40, 60))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "score_threshold"], "give NAME=VALUE"),
        (["--coco-results"], "name a folder for the file"),
    ],
)
def test_options_that_make_no_sense_are_reported(options, message, tmp_path, capsys):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    assert cli.main(["predict", "none.ckpt", str(tmp_path / "a.png"), *options]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("prediction", [boxes(), instances()])
def test_controls_redraw_without_the_network(prediction, tmp_path):
    image = np.full((40, 60, 3), 80, np.uint8)
    values = views()[prediction.kind].show(prediction, image, Downloads(tmp_path))
    kept, drawn, score, switches, _, table, file = values
    assert score == 0.5 and switches["value"] == list(dict.fromkeys(prediction.names))
    assert (drawn != 80).any() and len(table) == int((prediction.scores >= 0.5).sum())
    written = list(csv.reader(Path(file).read_text().splitlines()))
    assert len(written) == len(table) + 1 and written[1][0] == prediction.names[0]
    everything, message, rows = view._redraw(kept, 0.0, list(prediction.classes))
    assert len(rows) == len(prediction) and message.startswith(f"{len(prediction)} of {len(prediction)} objects")
    assert (everything != drawn).any()
    nothing, message, rows = view._redraw(kept, 0.0, [])
    assert rows == [] and message == f"0 of {len(prediction)} objects" and (nothing == 80).all()
    if prediction.kind == "detections":
        _, _, rows = view._redraw(kept, 0.0, ["dog"])
        assert [row[0] for row in rows] == ["dog"]
        assert switches["visible"]
    assert view._redraw(None, 0.5, []) == (None, "", [])


def test_a_large_image_is_redrawn_small_and_listed_in_its_own_pixels(tmp_path):
    size = (2000, 3000)
    image = np.full((*size, 3), 80, np.uint8)
    kept, drawn, *_ = views()["instances"].show(instances(size), image, Downloads(tmp_path))
    assert max(drawn.shape) <= 1280
    _, _, rows = view._redraw(kept, 0.0, ["cell"])
    assert rows[1][2:6] == [30.0, 30.0, 60.0, 40.0] and rows[0][6] == 300
    whole = instances(size)
    assert abs(np.asarray(whole.resized((1000, 1500)).boxes) * 2 - whole.boxes).max() == 0

"""Objects of tiles become those of the image: each once, whole where some tile saw it whole, joined on seams."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.detection import DetectionTask
from visionkit.errors import UsageError
from visionkit.geometry import InputSpec
from visionkit.images import ImageSource
from visionkit.masks import encode_masks, mask_areas
from visionkit.predictions import Detections, Instances
from visionkit.predictor import Predictor
from visionkit.tiling import merge_tiles, object_tiles
from visionkit.types import View

SIZE = (300, 500)


def seen(view: View, objects: np.ndarray, labels: np.ndarray, score: float) -> Instances:
    """What a perfect network states about a tile: everything in it, cut at its borders."""
    x1, y1, x2, y2 = view.box
    boxes = np.clip(objects, [x1, y1, x1, y1], [x2, y2, x2, y2])
    there = ((boxes[:, 2:] - boxes[:, :2]) > 3).all(axis=1)
    masks = np.zeros((int(there.sum()), *SIZE), bool)
    for mask, (a, b, c, d) in zip(masks, boxes[there].astype(int), strict=True):
        mask[b:d, a:c] = True
    scores = score + 0.001 * np.arange(int(there.sum()))
    return Instances(("a", "b"), SIZE, boxes[there], scores, labels[there], masks=tuple(encode_masks(masks)))


def test_tiles_cover_the_image():
    views = object_tiles(SIZE, 200)
    covered = np.zeros(SIZE, bool)
    for view in views:
        x1, y1, x2, y2 = (int(v) for v in view.box)
        assert (x2 - x1, y2 - y1) == (200, 200)
        covered[y1:y2, x1:x2] = True
    assert covered.all() and object_tiles((200, 200), 200) == [] and object_tiles(SIZE, 0) == []
    assert all(view.box[3] == 100 for view in object_tiles((100, 900), 200))


@pytest.mark.parametrize("seed", range(8))
def test_every_object_once_and_whole(seed):
    """Objects somewhat larger than the overlap of 50 pixels: some are whole in no tile."""
    rng = np.random.default_rng(seed)
    cells = [(x, y) for x in range(5) for y in range(3)]
    corners = 100.0 * np.array(cells) + 20
    objects = np.concatenate([corners, corners + rng.integers(20, 76, (len(cells), 2))], axis=1)
    labels = rng.integers(0, 2, len(objects))
    views = object_tiles(SIZE, 200)
    nothing = seen(View((0, 0, 1, 1)), objects, labels, 0.5)
    merged = merge_tiles([nothing, *(seen(view, objects, labels, 0.6) for view in views)], views)
    assert len(merged) == len(objects)
    order = np.lexsort((merged.boxes[:, 1], merged.boxes[:, 0]))
    wanted = np.lexsort((objects[:, 1], objects[:, 0]))
    assert np.allclose(merged.boxes[order], objects[wanted]) and (merged.labels[order] == labels[wanted]).all()
    areas = (objects[:, 2] - objects[:, 0]) * (objects[:, 3] - objects[:, 1])
    assert mask_areas(merged.masks)[order].tolist() == areas[wanted].tolist()


def test_an_object_larger_than_a_tile_is_joined():
    objects, labels = np.array([[30.0, 60, 470, 130]]), np.array([1])
    views = object_tiles(SIZE, 200)
    parts = [seen(view, objects, labels, 0.6) for view in views]
    nothing = seen(View((0, 0, 1, 1)), objects, labels, 0.5)
    merged = merge_tiles([nothing, *parts], views)
    assert np.allclose(merged.boxes, objects) and mask_areas(merged.masks).tolist() == [440 * 70]
    known = seen(View((0, 0, 500, 300)), objects, labels, 0.5)
    assert len(merge_tiles([known, *parts], views)) == 1, "the whole wins over its parts, though they are surer"


def test_neighbors_of_one_class_stay_two():
    objects, labels = np.array([[100.0, 60, 160, 130], [150.0, 70, 230, 140]]), np.array([0, 0])
    views = object_tiles(SIZE, 200)
    nothing = seen(View((0, 0, 1, 1)), objects, labels, 0.5)
    merged = merge_tiles([nothing, *(seen(view, objects, labels, 0.6) for view in views)], views, overlap=0.5)
    assert len(merged) == 2
    assert len(merge_tiles([nothing, *(seen(v, objects, labels, 0.6) for v in views)], views, most=1)) == 1


def test_boxes_alone_and_no_objects():
    empty = Detections(("a",), SIZE, np.zeros((0, 4)), [], [])
    views = object_tiles(SIZE, 200)
    assert len(merge_tiles([empty] * (1 + len(views)), views)) == 0


def test_a_predictor_uses_tiles_of_large_images():
    spec = InputSpec(size=(64, 64), resize_mode="letterbox")
    task = DetectionTask(
        "test_resnet",
        classes=["a", "b"],
        input=spec,
        fcos={"neck_channels": 16, "convs": 1},
        tile=100,
        score_threshold=0.0,
    )
    image = np.random.default_rng(0).integers(0, 255, (150, 210, 3), dtype=np.uint8)
    assert len(task.plan(ImageSource(image)).views) == 1 + 2 * 3
    found = Predictor(task.eval())(image)
    assert isinstance(found, Detections) and found.size == (150, 210) and len(found) > 0
    assert len(task.plan(ImageSource(image[:90, :90])).views) == 1
    counts = [len(Predictor(task)(image, nms_threshold=value)) for value in (0.1, 0.6, 1.0)]
    assert counts[0] < counts[1] == len(found) < counts[2], "the call's overlap holds across tiles too"
    assert len(Predictor(task)(image, max_detections=5)) == 5
    assert "overlapping tiles of 100" in task.protocol
    assert len(Predictor(task)(image, tile=0)) == len(Predictor(task)(image, views=[None])) and task.tile == 100
    with pytest.raises(UsageError, match=r"tile 3: give 0"):
        Predictor(task)(image, tile=3)
    with pytest.raises(UsageError, match=r"model\.tile 3"):
        DetectionTask("test_resnet", classes=["a"], input=spec, tile=3)

"""Our measures of boxes and masks against COCO's own evaluation, and against counting by hand."""

from __future__ import annotations

import contextlib
import io
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tests.ranks import on_two_ranks
from tests.real_data import real_data
from visionkit.families.detection.coco_eval import (
    DetectionMetrics,
    Flat,
    box_areas,
    box_pairs,
    confusion_matrix,
    detection_tables,
    evaluate,
    voc_ap50,
)
from visionkit.masks import MaskSet, Rle, encode_masks
from visionkit.predictions import Detections, Instances

# Published with the data set, three digits.
BOX = [0.505, 0.697, 0.573, 0.586, 0.519, 0.501, 0.387, 0.594, 0.595, 0.640, 0.566, 0.564]
MASK = [0.320, 0.562, 0.299, 0.387, 0.310, 0.327, 0.268, 0.415, 0.417, 0.469, 0.377, 0.381]
NAMES = ["ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar1", "ar10", "ar100"]
NAMES += ["ar_small", "ar_medium", "ar_large"]


@lru_cache(maxsize=2)
def fake100(folder: Path, kind: str) -> tuple[COCO, COCO]:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(folder / "instances_val2014_100.json"))
        found = truth.loadRes(str(folder / f"instances_val2014_fake{kind}100_results.json"))
    return truth, found


def coco_says(truth: COCO, found: COCO, kind: str) -> COCOeval:
    with contextlib.redirect_stdout(io.StringIO()):
        judge = COCOeval(truth, found, kind)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge


def images(truth: COCO, found: COCO, masks: bool) -> tuple[int, list[Any], list[Any]]:
    """The data set as predictions and targets in file pixels, in the order of the image ids."""
    numbers = {category: number for number, category in enumerate(sorted(truth.cats))}
    names = tuple(truth.cats[category]["name"] for category in sorted(truth.cats))
    predictions: list[Any] = []
    targets = []
    for image in sorted(truth.imgs):
        size = truth.imgs[image]["height"], truth.imgs[image]["width"]
        said, known = found.imgToAnns[image], truth.imgToAnns[image]
        arguments = {
            "classes": names,
            "size": size,
            "boxes": corners([each["bbox"] for each in said]),
            "scores": np.array([each["score"] for each in said]),
            "labels": np.array([numbers[each["category_id"]] for each in said], dtype=int),
        }
        target: dict[str, Any] = {
            "labels": torch.tensor([numbers[each["category_id"]] for each in known], dtype=torch.int64),
            "file_boxes": torch.from_numpy(corners([each["bbox"] for each in known])),
            "area": torch.tensor([each["area"] for each in known], dtype=torch.float32),
            "iscrowd": torch.tensor([each["iscrowd"] for each in known], dtype=torch.int64),
        }
        if masks:
            target["file_masks"] = torch.from_numpy(MaskSet(size, [rle(truth, each) for each in known]).pack())
            predictions.append(Instances(**arguments, masks=tuple(rle(truth, each) for each in said)))
        else:
            predictions.append(Detections(**arguments))
        targets.append(target)
    return len(names), predictions, targets


def corners(boxes: list[list[float]]) -> np.ndarray:
    out = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    out[:, 2:] += out[:, :2]
    return out


def rle(truth: COCO, annotation: dict[str, Any]) -> Rle:
    made = truth.annToRLE(annotation)
    counts = made["counts"]
    return Rle(size=list(made["size"]), counts=counts if isinstance(counts, str) else counts.decode())


@pytest.mark.parametrize("masks", [False, True])
def test_all_numbers_of_the_published_example(masks):
    """The numbers that come with COCO's evaluation code, and pycocotools' own to the last digits."""
    truth, found = fake100(real_data("detection/coco_val2014_fake100"), "segm" if masks else "bbox")
    classes, predictions, targets = images(truth, found, masks)
    metrics = DetectionMetrics(classes, masks=masks)
    for start in range(0, len(targets), 7):
        metrics.update(predictions[start : start + 7], targets[start : start + 7])
    computed = metrics.compute()
    kind = "mask" if masks else "box"
    ours = [float(computed[f"{kind}_{name}"]) for name in NAMES]
    assert [round(value, 3) for value in ours] == (MASK if masks else BOX)
    assert np.allclose(ours, coco_says(truth, found, "segm" if masks else "bbox").stats, rtol=0, atol=1e-6)
    per_class = computed[f"{kind}_per_class"].numpy()
    assert per_class[:, 0][per_class[:, 0] > -1].mean() == pytest.approx(ours[0], abs=0.02)


def random_set(seed: int, image_list: int = 30, classes: int = 3) -> tuple[COCO, COCO]:
    """Boxes on a coarse grid, so that overlaps and scores are often equal, with crowds and objects without a box."""
    rng = np.random.default_rng(seed)
    images = [{"id": k + 1, "height": 120, "width": 160} for k in range(image_list)]
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image in images:
        for _ in range(rng.integers(0, 9)):
            box = [*(rng.integers(0, 12, 2) * 10.0), *(rng.integers(1, 9, 2) * 10.0)]
            common = {"image_id": image["id"], "category_id": int(rng.integers(1, classes + 1))}
            annotations.append(
                {
                    **common,
                    "id": len(annotations) + 1,
                    "bbox": [float(value) for value in box],
                    "area": float(box[2] * box[3] * rng.uniform(0.3, 1)),
                    "iscrowd": int(rng.random() < 0.15),
                }
            )
            for _ in range(rng.integers(0, 4)):
                shift = rng.integers(-1, 2, 4) * 5.0
                near = [float(max(a + b, 1)) for a, b in zip(box, shift, strict=True)]
                results.append({**common, "bbox": near, "score": float(rng.integers(1, 10) / 10)})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": k, "name": f"c{k}"} for k in range(1, classes + 1)],
        }
        truth.createIndex()
        return truth, truth.loadRes(results)


def flat(truth: COCO, anns: list[dict[str, Any]], masks: bool = False) -> Flat:
    boxes = corners([each["bbox"] for each in anns])
    return Flat(
        np.array([each["image_id"] for each in anns], dtype=np.int64),
        np.array([each["category_id"] - 1 for each in anns], dtype=np.int64),
        boxes,
        np.array([each["area"] for each in anns], dtype=np.float64),
        np.array([each["score"] for each in anns if "score" in each], dtype=np.float64),
        np.array([each["iscrowd"] for each in anns if "score" not in each], dtype=bool),
        [rle(truth, each) for each in anns] if masks else (),
    )


@pytest.mark.parametrize("seed", range(12))
def test_equals_pycocotools_curve_by_curve(seed):
    truth, found = random_set(seed)
    judge = coco_says(truth, found, "bbox")
    scores = evaluate(flat(truth, list(found.anns.values())), flat(truth, list(truth.anns.values())), 3, box_pairs)
    assert np.abs(scores.precision - judge.eval["precision"][..., 2]).max() < 1e-12
    assert np.abs(scores.recall - judge.eval["recall"]).max() < 1e-12
    assert np.abs(np.array(list(scores.numbers().values())) - judge.stats).max() < 1e-9
    assert list(scores.numbers()) == NAMES


def one(box: list[float], label: int = 0, score: float | None = None, image: int = 0, crowd: bool = False) -> Any:
    return image, label, box, score, crowd


def flats(said: list[Any], known: list[Any]) -> tuple[Flat, Flat]:
    out = []
    for rows, scored in ((said, True), (known, False)):
        boxes = np.array([row[2] for row in rows], dtype=np.float64).reshape(-1, 4)
        out.append(
            Flat(
                np.array([row[0] for row in rows], dtype=np.int64),
                np.array([row[1] for row in rows], dtype=np.int64),
                boxes,
                box_areas(boxes),
                np.array([row[3] for row in rows], dtype=np.float64) if scored else np.zeros(0),
                np.zeros(0, bool) if scored else np.array([row[4] for row in rows], dtype=bool),
            )
        )
    return out[0], out[1]


def test_voc_counts_by_hand():
    """Right, wrong, right of four objects: areas under 1, 2/3 by either protocol; the fourth is difficult."""
    a, b, c = [0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]
    known = [one(a), one(b), one(c), one([60, 0, 70, 10], crowd=True)]
    said = [one(a, score=0.9), one([80, 0, 90, 10], score=0.8), one(b, score=0.7), one([60, 0, 70, 10], score=0.6)]
    ap = voc_ap50(*flats(said, known), 1, box_pairs)
    assert ap.area[0] == pytest.approx((1 + 2 / 3) / 3)
    assert ap.points11[0] == pytest.approx((4 * 1 + 3 * 2 / 3) / 11)


def test_voc_takes_the_best_match_only_where_coco_takes_the_next():
    """Two objects over each other: the second find prefers the one that is taken."""
    known = [one([0, 0, 10, 10]), one([2, 0, 12, 10])]
    said = [one([0, 0, 10, 10], score=0.9), one([0.4, 0, 10.4, 10], score=0.8)]
    found, true = flats(said, known)
    assert voc_ap50(found, true, 1, box_pairs).area[0] == pytest.approx(0.5)
    assert evaluate(found, true, 1, box_pairs).numbers()["ap50"] == pytest.approx(1.0)


def test_confusions_by_hand():
    known = [one([0, 0, 10, 10], 0), one([20, 0, 30, 10], 1), one([40, 0, 60, 20], 1, crowd=True), one([70, 0, 80, 9])]
    said = [
        one([0, 0, 10, 10], 1, 0.9),  # taken for the other class
        one([20, 0, 30, 10], 1, 0.8),
        one([21, 0, 31, 10], 0, 0.7),  # a second find of the same
        one([40, 0, 60, 20], 0, 0.9),  # in the crowd
        one([70, 0, 80, 9], 0, 0.3),  # below the score threshold
    ]
    assert confusion_matrix(*flats(said, known), 2, box_pairs).tolist() == [[0, 1, 1], [0, 1, 0], [1, 0, 0]]


def test_nothing_there_and_nothing_found():
    names = ("a", "b")
    metrics = DetectionMetrics(2, masks=True)
    nothing = {
        "labels": torch.zeros(0, dtype=torch.int64),
        "file_boxes": torch.zeros(0, 4, dtype=torch.float64),
        "file_masks": torch.from_numpy(MaskSet((8, 8)).pack()),
    }
    empty = Instances(names, (8, 8), np.zeros((0, 4)), np.zeros(0), np.zeros(0))
    metrics.update([empty], [nothing])
    assert float(metrics.compute()["mask_ap"]) == -1
    metrics.reset()
    mask = np.zeros((1, 8, 8), bool)
    mask[0, 2:6, 2:6] = True
    something = {
        "labels": torch.tensor([1]),
        "file_boxes": torch.tensor([[2.0, 2, 6, 6]], dtype=torch.float64),
        "file_masks": torch.from_numpy(MaskSet((8, 8), encode_masks(mask)).pack()),
    }
    metrics.update([empty, empty], [something, nothing])
    assert float(metrics.compute()["mask_ap"]) == 0
    metrics.reset()
    full = Instances(names, (8, 8), [[2, 2, 6, 6]], [0.9], [1], masks=tuple(encode_masks(mask)))
    metrics.update([full], [something])
    computed = metrics.compute()
    assert float(computed["mask_ap"]) == float(computed["box_ap"]) == float(computed["voc_ap50"]) == 1
    tables = detection_tables(computed, names)
    assert [row["objects"] for row in tables["per class"]] == [0, 1] and tables["confusion"][1]["b"] == 1
    assert len(tables["COCO"]) == 12 and tables["precision-recall"][-1]["b"] == pytest.approx(1)
    json.dumps(tables)
    single = [name for name, value in computed.items() if value.numel() == 1]
    assert len(single) == 26, "twelve of boxes, twelve of masks, VOC's two; a table must not pass for a number"


def test_masks_are_measured_by_their_own_area():
    """A thin cross in a large box is small as a mask: without `area`, the mask's own decides."""
    mask = np.zeros((1, 200, 200), bool)
    mask[0, 100, :] = mask[0, :, 100] = True
    target = {
        "labels": torch.tensor([0]),
        "file_boxes": torch.tensor([[0.0, 0, 200, 200]], dtype=torch.float64),
        "file_masks": torch.from_numpy(MaskSet((200, 200), encode_masks(mask)).pack()),
    }
    metrics = DetectionMetrics(1, masks=True)
    said = Instances(("x",), (200, 200), [[0, 0, 200, 200]], [0.9], [0], masks=tuple(encode_masks(mask)))
    metrics.update([said], [target])
    computed = metrics.compute()
    assert float(computed["mask_ap_small"]) == 1 and float(computed["mask_ap_large"]) == -1
    assert float(computed["box_ap_large"]) == 1


def test_crowded_images_are_measured_with_more_than_a_hundred_objects():
    """150 objects per image, all found: COCO's own count stops at a hundred, a larger one does not."""
    boxes = np.array([[4.0 * (k % 50), 20.0 * (k // 50), 4.0 * (k % 50) + 3, 20.0 * (k // 50) + 9] for k in range(150)])
    target = {"labels": torch.zeros(150, dtype=torch.int64), "file_boxes": torch.from_numpy(boxes)}
    said = Detections(("x",), (100, 200), boxes, np.linspace(0.9, 0.1, 150), np.zeros(150, dtype=np.int64))
    usual, more = DetectionMetrics(1), DetectionMetrics(1, most=400)
    for metrics in (usual, more):
        metrics.update([said], [target])
    assert float(usual.compute()["box_ar100"]) == pytest.approx(100 / 150)
    computed = more.compute()
    assert float(computed["box_ar400"]) == 1 and float(computed["box_ap"]) == 1 and "box_ar100" not in computed
    tables = detection_tables(computed, ["x"])
    assert "AR, at most 400 per image and class" in [row["measure"] for row in tables["COCO"]]
    assert tables["per class"][0]["box AR400"] == 1


def _measured(rank: int, folder: Path) -> dict[str, dict[str, np.ndarray]]:
    said = {}
    for kind in ("bbox", "segm"):
        truth, found = fake100(folder, kind)
        classes, predictions, targets = images(truth, found, kind == "segm")
        metrics = DetectionMetrics(classes, masks=kind == "segm")
        metrics.update(predictions[rank::2], targets[rank::2])
        said[kind] = {name: value.numpy() for name, value in metrics.compute().items()}
    return said


@pytest.mark.timeout(600)
def test_two_ranks_state_what_one_states():
    folder = real_data("detection/coco_val2014_fake100")
    all_predictions = on_two_ranks(_measured, folder)
    for kind in ("bbox", "segm"):
        truth, found = fake100(folder, kind)
        classes, predictions, targets = images(truth, found, kind == "segm")
        alone = DetectionMetrics(classes, masks=kind == "segm")
        alone.update(predictions, targets)
        expected = alone.compute()
        for prediction in all_predictions:
            assert prediction[kind].keys() == expected.keys()
            for name, value in expected.items():
                assert np.array_equal(prediction[kind][name], value.numpy()), name


def test_true_boxes_count_as_their_file_states_them():
    """By x, y, width and height of the file, as pycocotools takes them: nothing is clipped, no bit is lost."""
    x, y, w, h = 0.7, 2.0, 7.9, 4.0
    found = Detections(("a",), (8, 5), np.array([[x, y, x + w, y + h]]), np.array([0.9]), np.array([0]))
    target = {"labels": np.array([0]), "file_boxes": np.array([[x, y, 5, 6]])}
    for sides, wanted in (({}, 0.1), ({"file_xywh": np.array([[x, y, w, h]])}, 1.0)):
        metric = DetectionMetrics(1)
        metric.update([found], [target | sides])
        assert float(metric.compute()["box_ap"]) == pytest.approx(wanted)


def test_from_the_json_to_the_number_it_is_that_of_pycocotools(tmp_path):
    """Decimal boxes and areas just above 32 x 32, from a label file through a batch of the data module."""
    from PIL import Image

    from datamodules.coco import CocoData
    from visionkit.geometry import InputSpec

    rng = np.random.default_rng(0)
    truth: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    predictions, results = [], []
    (tmp_path / "val").mkdir()
    for number in range(1, 13):
        Image.new("RGB", (80, 60)).save(tmp_path / "val" / f"{number}.png")
        truth["images"].append({"id": number, "file_name": f"{number}.png", "height": 60, "width": 80})
        x, y, w = (float(value) / 10 for value in (*rng.integers(1, 99, 2), rng.integers(101, 399)))
        area = 1024.0000001 if number % 3 else 1024.0
        each = {"id": number, "image_id": number, "category_id": 1, "iscrowd": 0, "bbox": [x, y, w, 16.0], "area": area}
        truth["annotations"].append(each)
        boxes = np.array([[x, y, x + w, y + 12 + number % 2]])
        predictions.append(Detections(("cat",), (60, 80), boxes, rng.uniform(0.1, 0.9, 1), np.array([0])))
        x1, y1, x2, y2 = predictions[-1].boxes[0].astype(float).tolist()
        score = float(predictions[-1].scores[0])
        results.append({"image_id": number, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score})
    (tmp_path / "annotations").mkdir()
    for split in ("train", "val"):
        (tmp_path / "annotations" / f"instances_{split}.json").write_text(json.dumps(truth))
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO(str(tmp_path / "annotations" / "instances_val.json"))
        judge = coco_says(known, known.loadRes(results), "bbox")
    data = CocoData(str(tmp_path), images="val", input=InputSpec((32, 32)), eval_batch_size=12)
    metrics = DetectionMetrics(1)
    for batch in data.val_dataloader():
        metrics.update(predictions, batch["target"])
    computed = metrics.compute()
    assert [float(computed[f"box_{name}"]) for name in NAMES] == pytest.approx(judge.stats.tolist(), abs=1e-6)
    assert judge.stats[2] > 0 and judge.stats[3] != judge.stats[4]

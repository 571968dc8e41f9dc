"""Row 7: COCO's evaluation of boxes and of masks, on made-up images with COCO's mixture of objects.

From predictions and truth in memory to the twelve numbers.

- `ours`: `visionkit.families.detection.coco_eval.evaluate`.
- `pycocotools`: the reference, from its own dictionaries, `evaluate` and `accumulate`.
- `torchmetrics`: `MeanAveragePrecision` with the backend faster_coco_eval, `update` and `compute`.

The three give the same numbers: ours and pycocotools' to 1e-9.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from benchmarks import timing
from benchmarks.timing import Goal, Options, Report, Stopwatch
from visionkit.families.detection.coco_eval import Flat, box_pairs, evaluate, mask_pairs
from visionkit.masks import Rle, decode_masks, encode_masks, mask_areas, mask_boxes

CLASSES = 80
SIZE = (480, 640)


def images(number: int) -> tuple[Flat, Flat]:
    """Found and true objects: seven true ones an image of skewed classes, each found well, badly or not, and noise."""
    rng = np.random.default_rng(0)
    fraction = 1 / (np.arange(CLASSES) + 2.0)
    rows: dict[str, list[Any]] = {"true": [], "found": []}
    for image in range(number):
        for _ in range(rng.poisson(7)):
            label = int(rng.choice(CLASSES, p=fraction / fraction.sum()))
            side = np.exp(rng.uniform(np.log(12), np.log(250), 2))
            corner = rng.uniform(0, 1, 2) * (np.array(SIZE[::-1]) - side).clip(1)
            rows["true"].append((image, label, corner, side, 1.0))
            for _ in range(rng.integers(0, 5)):
                shift = rng.normal(0, rng.choice([0.03, 0.2]), 4)
                there = (corner + shift[:2] * side, side * np.exp(shift[2:]))
                rows["found"].append((image, label, *there, float(rng.beta(2, 2))))
        for _ in range(rng.poisson(6)):
            label, side = int(rng.integers(CLASSES)), np.exp(rng.uniform(np.log(12), np.log(200), 2))
            rows["found"].append((image, label, rng.uniform(0, 1, 2) * 300, side, float(rng.beta(1, 4))))
    return _flat(rows["found"], True), _flat(rows["true"], False)


def _flat(rows: Sequence[Any], found: bool) -> Flat:
    """Ellipses in the boxes; areas and boxes are the masks' own."""
    masks: list[Rle] = []
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    for _, _, corner, side, _ in rows:
        inside = ((x - corner[0] - side[0] / 2) / side[0]) ** 2 + ((y - corner[1] - side[1] / 2) / side[1]) ** 2 < 0.25
        inside[int(np.clip(corner[1], 0, SIZE[0] - 1)), int(np.clip(corner[0], 0, SIZE[1] - 1))] = True
        masks += encode_masks(inside[None])
    scores = np.array([row[4] for row in rows]) if found else np.zeros(0)
    crowd = np.zeros(0 if found else len(rows), dtype=bool)
    image, labels = (np.array([row[k] for row in rows], dtype=np.int64) for k in range(2))
    boxes = mask_boxes(masks).astype(np.float64)
    return Flat(image, labels, boxes, mask_areas(masks).astype(np.float64), scores, crowd, masks)


def _for_pycocotools(found: Flat, true: Flat, kind: str) -> Any:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def rows(flat: Flat, scored: bool) -> list[dict[str, Any]]:
        out = []
        for k in range(len(flat)):
            x1, y1, x2, y2 = flat.boxes[k].tolist()
            row = {
                "id": k + 1,
                "image_id": int(flat.image[k]) + 1,
                "category_id": int(flat.labels[k]) + 1,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": float(flat.areas[k]),
                "iscrowd": 0,
                "segmentation": {"size": list(SIZE), "counts": flat.masks[k]["counts"].encode()},
            }
            out.append(row | ({"score": float(flat.scores[k])} if scored else {}))
        return out

    tops = []
    images = [{"id": int(k) + 1, "height": SIZE[0], "width": SIZE[1]} for k in np.unique(true.image)]
    with contextlib.redirect_stdout(io.StringIO()):
        for flat, scored in ((true, False), (found, True)):
            top = COCO()
            top.dataset = {
                "images": images,
                "annotations": rows(flat, scored),
                "categories": [{"id": k + 1, "name": str(k)} for k in range(CLASSES)],
            }
            top.createIndex()
            tops.append(top)
        return COCOeval(tops[0], tops[1], kind)


def _for_torchmetrics(found: Flat, true: Flat, masks: bool) -> tuple[list[Any], list[Any]]:
    sides: list[list[Any]] = [[], []]
    for image in np.unique(true.image):
        for side, flat in zip(sides, (found, true), strict=True):
            rows = np.flatnonzero(flat.image == image)
            entry = {"labels": torch.from_numpy(flat.labels[rows])}
            if masks:
                entry["masks"] = torch.from_numpy(decode_masks([flat.masks[int(row)] for row in rows], SIZE))
            else:
                entry["boxes"] = torch.from_numpy(flat.boxes[rows]).float()
            if len(flat.scores):
                entry["scores"] = torch.from_numpy(flat.scores[rows]).float()
            else:
                entry["area"] = torch.from_numpy(flat.areas[rows])
            side.append(entry)
    return sides[0], sides[1]


def run(options: Options) -> Report:
    clock = options.clock or "cpu"
    report = Report(7, "COCO evaluation, boxes and masks", clock)
    number = 20 if options.quick else 500
    found, true = images(number)
    kept = np.isin(found.image, np.unique(true.image))
    found = found.take(np.flatnonzero(kept))
    report.note(f"{number} images, {len(true)} objects, {len(found)} found")
    with timing.watched(report):
        for kind, overlaps, name in (("bbox", box_pairs, "boxes"), ("segm", mask_pairs, "masks")):
            _one(report, options, clock, (found, true), kind, overlaps, name)
    return report


def _one(report: Report, options: Options, clock: Any, flats: Any, kind: str, overlaps: Any, name: str) -> None:
    from torchmetrics.detection import MeanAveragePrecision

    found, true = flats
    judge = _for_pycocotools(found, true, kind)
    predicted, known = _for_torchmetrics(found, true, kind == "segm")

    def ours(watch: Stopwatch) -> Any:
        return list(evaluate(found, true, CLASSES, overlaps).numbers().values())

    def pycocotools(watch: Stopwatch) -> Any:
        with contextlib.redirect_stdout(io.StringIO()):
            judge.evaluate()
            judge.accumulate()
            watch.stop()
            judge.summarize()
        return list(judge.stats)

    def torchmetrics(watch: Stopwatch) -> Any:
        metric = MeanAveragePrecision(iou_type="segm" if kind == "segm" else "bbox", backend="faster_coco_eval")
        metric.update(predicted, known)
        return float(metric.compute()["map"])

    mine = ours(Stopwatch(clock))
    np.testing.assert_allclose(mine, pycocotools(Stopwatch(clock)), rtol=0, atol=1e-9)
    np.testing.assert_allclose(mine[0], torchmetrics(Stopwatch(clock)), atol=1e-3)  # its boxes are float32
    times = timing.measure(
        {"ours": ours, "pycocotools": pycocotools, "torchmetrics": torchmetrics},
        rounds=options.rounds or (2 if options.quick else 7),
        clock=clock,
        attempts=1 if options.quick else 3,
        wanted=lambda t: [t.speed("ours", "pycocotools"), t.speed("ours", "torchmetrics")],
    )
    report.add(f"{name}: ours", times.per_unit("ours", 1e-3), unit="ms")
    report.add(f"{name}: against pycocotools", times.speed("ours", "pycocotools"), Goal(10, "at least"), times=times)
    report.add(f"{name}: against torchmetrics", times.speed("ours", "torchmetrics"), Goal(1.8, "at least"))


if __name__ == "__main__":
    raise SystemExit(timing.main(run, __doc__ or ""))

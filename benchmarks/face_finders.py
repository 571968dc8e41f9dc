"""What finders of faces find in photographs: a trained model beside scikit-image's cascade, the built-in one.

`python -m benchmarks.face_finders MODEL --coco coco_val2017_person [--clothes ccp_person_parsing] [--orl orl_faces]`
prints one line of json per set and finder. COCO's faces are those of the test split of the experiment
`coco_faces_keypoint_rcnn`: a face is found where a box holds the middle of its eyes and nose and has between half and
twice its side, since finders differ in how much of a head they frame. In photographs with labels of clothes a face is
right where its center lies about the hair and on hair, skin or glasses. An image of ORL shows one face alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

HEAD = ("hair", "skin", "glasses", "sunglasses")
"""Labels of CCP that a face's center may lie on."""


def coco_entries(root: Path) -> list[Any]:
    """The images of the test split, with boxes, crowds and keypoints of their faces."""
    from datamodules.coco_faces import CocoFaceData
    from visionkit.geometry import InputSpec

    data = CocoFaceData(
        str(root), labels="person_keypoints.json", images="images", val_fraction=0.1, test_fraction=0.1,
        input=InputSpec(size=(320, 320)),
    )  # fmt: skip
    return data.labeled("test")


def matched(boxes: np.ndarray, scores: np.ndarray, true: np.ndarray, middles: np.ndarray) -> np.ndarray:
    """Which true face each box has found, the highest-scoring first: (N,) int64, -1 for none.

    Args:
        boxes: (N, 4) found.
        scores: (N,).
        true: (M, 4) boxes of faces.
        middles: (M, 2) middles of their eyes and noses.
    """
    out = np.full(len(boxes), -1)
    for number in np.argsort(-scores, kind="stable"):
        x1, y1, x2, y2 = boxes[number]
        inside = (middles > (x1, y1)).all(axis=1) & (middles < (x2, y2)).all(axis=1)
        ratio = (x2 - x1) / np.maximum(true[:, 2] - true[:, 0], 1e-6)
        fits = np.flatnonzero(inside & (ratio > 0.5) & (ratio < 2) & ~np.isin(np.arange(len(true)), out))
        if len(fits):
            away = np.hypot(*(middles[fits] - ((x1 + x2) / 2, (y1 + y2) / 2)).T)
            out[number] = fits[np.argmin(away)]
    return out


def on_coco(find: Any, place: Any, entries: Iterable[Any], least: float) -> dict[str, Any]:
    """Recall, precision, COCO's AP of the boxes, and errors of eyes and nose over the face's side.

    Args:
        find: A `FaceFinder` that gives every box.
        place: A `LandmarkPlacer` for boxes without landmarks.
        entries: See `coco_entries`.
        least: Score from which a face is shown.
    """
    from tasks.face_recognition.alignment import named_landmarks
    from visionkit.families.detection.coco_eval.metric import DetectionMetrics
    from visionkit.images import read_image
    from visionkit.predictions import Detections
    from visionkit.skeleton import Skeleton

    names, metrics = Skeleton.of("head5").keypoints, DetectionMetrics(1)
    faces = shown = right = elsewhere = 0
    errors: list[float] = []
    for entry in entries:
        pixels = read_image(entry.file)
        found = find(pixels)
        zeros = np.zeros(len(found.boxes), np.int64)
        prediction = Detections(("face",), pixels.shape[:2], found.boxes, found.scores, zeros)
        truth = {"labels": entry.labels * 0, "file_boxes": entry.boxes, "iscrowd": entry.crowded}
        metrics.update([prediction], [truth])
        keep = found.scores >= least
        boxes, scores = found.boxes[keep], found.scores[keep]
        points = place(pixels, boxes) if found.landmarks is None else found.landmarks[keep]
        keypoints = entry.more["keypoints"]
        labeled = keypoints[:, :3, 2] > 0
        middles = (keypoints[:, :3, :2] * labeled[..., None]).sum(1) / labeled.sum(1).clip(min=1)[:, None]
        own = ~entry.crowded
        true = np.asarray(named_landmarks(names, keypoints[own][..., :2])) if own.any() else np.zeros((0, 5, 2))
        partners = matched(boxes, scores, entry.boxes[own], middles[own])
        other = matched(boxes[partners < 0], scores[partners < 0], entry.boxes[~own], middles[~own])
        elsewhere += int((other >= 0).sum())  # small faces, and heads whose face is turned away, count neither way
        faces, shown, right = faces + int(own.sum()), shown + len(boxes), right + int((partners >= 0).sum())
        sides = entry.boxes[own, 2] - entry.boxes[own, 0]
        seen = labeled[own][:, [2, 1, 0]]  # right eye, left eye, nose: the order of the landmarks
        for row in np.flatnonzero(partners >= 0):
            face = partners[row]
            away = np.hypot(*(points[row, :3] - true[face, :3]).T)[seen[face]]
            errors += list(away / sides[face])
    computed = metrics.compute()
    return {
        "faces": faces, "recall": right / max(faces, 1), "precision": right / max(shown - elsewhere, 1),
        "AP50": float(computed["box_ap50"]), "AP": float(computed["box_ap"]),
        "error of eyes and nose over the side": float(np.mean(errors)), "median": float(np.median(errors)),
    }  # fmt: skip


def on_clothes(find: Any, root: Path, least: float) -> dict[str, Any]:
    """How many photographs of one person have their one face found, and faces that are none.

    Args:
        find: A `FaceFinder`.
        root: Folder with `images`, `labels` and `classes.json`.
        least: Score from which a face is shown.
    """
    from visionkit.images import read_image

    names = json.loads((root / "classes.json").read_text("utf-8"))
    number: Mapping[str, int] = {name: int(key) for key, name in names.items()}
    photos = right = wrong = 0
    for path, labels in _labeled(root):
        rows, columns = np.nonzero(labels == number["hair"])
        if not len(rows):
            continue
        photos += 1
        low, high = np.array([columns.min(), rows.min()]), np.array([columns.max(), rows.max()])
        reach = (high - low) / 2
        found = find(read_image(path))
        good = 0
        for box in found.boxes[found.scores >= least]:
            center = (box[:2] + box[2:]) / 2
            x, y = np.clip(center.astype(int), 0, (labels.shape[1] - 1, labels.shape[0] - 1))
            near = bool((center > low - reach).all() and (center < high + reach).all())
            good += near and labels[y, x] in [number[name] for name in HEAD]
        right, wrong = right + (good > 0), wrong + int((found.scores >= least).sum()) - (good > 0)
    return {"photos": photos, "found": right / max(photos, 1), "false or double, per photo": wrong / max(photos, 1)}


def _labeled(root: Path) -> Iterator[tuple[Path, np.ndarray]]:
    from PIL import Image

    for path in sorted((root / "images").iterdir()):
        with Image.open(root / "labels" / f"{path.stem}.png") as image:
            yield path, np.asarray(image)


def on_orl(find: Any, root: Path, least: float) -> dict[str, Any]:
    """How many images of one face have one face found."""
    from visionkit.images import ImageSource

    paths = sorted(root.glob("s*/*.pgm"))
    count = [int((find(ImageSource(path).read(3)).scores >= least).sum()) for path in paths]
    one, none = (float(np.mean(np.equal(count, number))) for number in (1, 0))
    return {"images": len(paths), "one face": one, "none": none}


def main() -> int:
    from tasks.face_recognition.finding import CascadeFinder, DetectionFinder, EyePlacer
    from visionkit import load

    parser = argparse.ArgumentParser(prog="python -m benchmarks.face_finders", description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--coco", type=Path)
    parser.add_argument("--clothes", type=Path)
    parser.add_argument("--orl", type=Path)
    parser.add_argument("--score", type=float, default=0.5, help="from which the model's faces are shown (%(default)s)")
    args = parser.parse_args()
    model: Any = load(args.model)
    model.task.score_threshold = 0.01
    for name, find, least in (
        ("model", DetectionFinder(model, threshold=0.01), args.score),
        ("cascade", CascadeFinder(), 0.0),
    ):
        parts = (
            (args.coco, lambda find, root, least: on_coco(find, EyePlacer(), coco_entries(root), least)),
            (args.clothes, on_clothes),
            (args.orl, on_orl),
        )
        for root, measure in parts:
            if root is not None:
                print(json.dumps({"finder": name, "set": root.name, **measure(find, root, least)}), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

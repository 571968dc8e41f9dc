"""What the field's two tools of tracks give for the same tracks, where they are installed, and random tracks."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from visionkit.tracking.metrics import TrackPair
from visionkit.tracking.rows import TrackRows


@contextmanager
def reference(name: str) -> Iterator[object]:
    """A tool by name; skips the test where it is not installed, also not in the folder `TRACKING_REFERENCES`."""
    folder = os.environ.get("TRACKING_REFERENCES", "")
    if folder and Path(folder).is_dir():
        sys.path.append(folder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield pytest.importorskip(name, exc_type=ImportError)
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


def random_tracks(seed: int) -> tuple[TrackRows, TrackRows]:
    """Wandering boxes, and predictions as trackers make them: shifted, lost, exchanged, cut in two, some of nothing."""
    rng = np.random.default_rng(seed)
    frames, count = int(rng.integers(1, 40)), int(rng.integers(0, 9))
    true, predicted = [], []
    other = 100
    places = rng.uniform(0, 120, (count, 2))
    sides = rng.uniform(20, 60, (count, 2))
    speeds = rng.normal(0, 3, (count, 2))
    numbers = np.arange(count)
    shift, lost, swap = rng.uniform(0, 14), rng.uniform(0, 0.5), rng.uniform(0, 0.3)
    for frame in range(1, frames + 1):
        places = places + speeds + rng.normal(0, 1, places.shape)
        if count > 1 and rng.random() < swap:
            a, b = rng.choice(count, 2, replace=False)
            numbers[[a, b]] = numbers[[b, a]]
        if count and rng.random() < swap:
            other += 1
            numbers[rng.integers(count)] = other
        for k in rng.permutation(count):
            box = [*places[k], *(places[k] + sides[k])]
            if rng.random() > 0.15:
                true.append((frame, 7 * k + 3, *box))
            if rng.random() > lost:
                predicted.append((frame, numbers[k], *(np.array(box) + rng.normal(0, shift + 1e-3, 4))))
        for k in range(rng.poisson(0.5)):
            corner = rng.uniform(0, 150, 2)
            predicted.append((frame, 1000 + frame * 10 + k, *corner, *(corner + rng.uniform(5, 50, 2))))
    return rows(true, "truth"), rows(predicted, "predicted")


def rows(table: list[tuple[float, ...]], name: str) -> TrackRows:
    values = np.array(table, dtype=np.float64).reshape(-1, 6)
    return TrackRows(values[:, 0].astype(int), values[:, 1].astype(int), values[:, 2:], name=name)


def by_trackeval(pair: TrackPair) -> dict[str, float]:
    with reference("trackeval"):
        from trackeval.metrics import CLEAR, HOTA, Identity
    data = {
        "gt_ids": list(pair.true),
        "tracker_ids": list(pair.predicted),
        "similarity_scores": [overlaps.copy() for overlaps in pair.overlaps],
        "num_timesteps": len(pair.true),
        "num_gt_ids": pair.true_tracks,
        "num_tracker_ids": pair.predicted_tracks,
        "num_gt_dets": pair.true_boxes,
        "num_tracker_dets": pair.predicted_boxes,
    }
    quiet = {"PRINT_CONFIG": False}
    found = {}
    for metric in (CLEAR(quiet), Identity(quiet), HOTA()):
        found.update(metric.eval_sequence(data))
    names = {"CLR_Re": "recall", "CLR_Pr": "precision", "CLR_FP": "fp", "CLR_FN": "fn", "IDSW": "ids", "Frag": "fm"}
    return {names.get(name, name.lower()): float(np.mean(value)) for name, value in found.items()}


def by_motmetrics(truth: TrackRows, predicted: TrackRows) -> dict[str, float]:
    with reference("motmetrics") as tool:
        accumulator = tool.MOTAccumulator()
        for frame, (first, second) in enumerate(
            zip(truth.each_frame(40), predicted.each_frame(40), strict=True), start=1
        ):
            mine, theirs = truth.boxes[first], predicted.boxes[second]
            overlaps = tool.distances.boxiou(_sides(mine)[:, None], _sides(theirs)[None])
            distances = np.where(1 - overlaps > 0.5, np.nan, 1 - overlaps)
            accumulator.update(truth.ids[first], predicted.ids[second], distances, frameid=frame)
        names = tool.metrics.motchallenge_metrics
        found = tool.metrics.create().compute(accumulator, metrics=names).iloc[0].to_dict()
    short = {
        "num_false_positives": "fp",
        "num_misses": "fn",
        "num_switches": "ids",
        "num_fragmentations": "fm",
        "mostly_tracked": "mt",
        "partially_tracked": "pt",
        "mostly_lost": "ml",
    }
    found = {short.get(name, name): float(value) for name, value in found.items()}
    return {**found, "motp": 1 - found["motp"]}


def _sides(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)

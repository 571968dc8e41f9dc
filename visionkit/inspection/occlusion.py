"""Which parts of an image a prediction needs: the score of a class while a gray square covers each part in turn.

Zeiler, Fergus, "Visualizing and Understanding Convolutional Networks" (ECCV 2014), section 4.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from visionkit.errors import UsageError
from visionkit.explain import Explanation, can_explain, class_score, label_of
from visionkit.images import ImageLike
from visionkit.inputs import batch_of_one

if TYPE_CHECKING:
    from visionkit.predictor import Predictor

BATCH = 16
"""Covered images that go through the network together."""

_GRAY = 128


def occlude(
    predictor: Predictor, image: ImageLike, name: str | None = None, patch: float = 0.2, overlap: float = 0.5
) -> Explanation:
    """Where covering the image lowers the score of a class.

    Args:
        predictor: Predictor of a task with classes, run by torch.
        image: Image, as a predictor takes it.
        name: The class; the highest-scoring one by default.
        patch: Side of the square, as a fraction of the shorter side of the input.
        overlap: Fraction of the square by which neighboring ones overlap.

    Returns:
        The mean drop of the score over the squares that cover a pixel; the largest is 1.

    Raises:
        UsageError: As `visionkit.explain.explain`; or a patch or overlap out of range.
        DataError: The image cannot be read.
    """
    task = predictor.task
    if not can_explain(task):
        raise UsageError(f"{task.name}: only predictions of classes can be explained")
    if not 0 < patch <= 1 or not 0 <= overlap < 1:
        raise UsageError(f"patch {patch}: above 0 and at most 1; overlap {overlap}: at least 0 and below 1")
    example = predictor.prepare(image)
    device = next(task.parameters()).device
    whole, *rest = (each.to(device) for each in batch_of_one(example))
    height, width = whole.shape[-2:]
    side = max(1, round(patch * min(height, width)))
    step = max(1, round(side * (1 - overlap)))
    corners = [(top, left) for top in _starts(height, side, step) for left in _starts(width, side, step)]
    drops, times = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
    with torch.no_grad():
        logits = task(whole, *rest).logits.float()
        label = label_of(task, logits, name)
        full = float(class_score(logits, label, len(task.classes))[0])
        for begin in range(0, len(corners), BATCH):
            part = corners[begin : begin + BATCH]
            covered = whole.repeat(len(part), *[1] * (whole.ndim - 1))
            for number, (top, left) in enumerate(part):
                covered[number, ..., top : top + side, left : left + side] = _GRAY
            others = (each.repeat(len(part), *[1] * (each.ndim - 1)) for each in rest)
            scores = class_score(task(covered, *others).logits.float(), label, len(task.classes))
            for (top, left), score in zip(part, scores.tolist(), strict=True):
                drops[top : top + side, left : left + side] += max(0.0, full - score)
                times[top : top + side, left : left + side] += 1
    values = example["geometry"].invert_map(torch.from_numpy(drops / np.maximum(times, 1))[None], fill=0.0)[0]
    return Explanation.scaled(task.classes[label], values)


def _starts(length: int, side: int, step: int) -> list[int]:
    """Positions at which squares begin, so that they reach both ends."""
    return [*range(0, max(1, length - side), step), max(0, length - side)]

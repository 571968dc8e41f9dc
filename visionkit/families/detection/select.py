"""From dense scores to the boxes that are reported: threshold, the best of each level, non-maximum suppression."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from visionkit.errors import UsageError

SMALLEST_SIDE = 1e-2
"""A box of a second stage that is thinner, in input pixels, is dropped."""


class SelectedBoxes(NamedTuple):
    """What was found in one image, best first.

    Attributes:
        boxes: (N, 4) float32 in input pixels.
        scores: (N,) float32 in [0, 1].
        labels: (N,) int64, 0-based without background.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


class Thresholds(NamedTuple):
    """How predictions are selected; all of it can be set in a call.

    Attributes:
        score: Lowest score that is reported, in [0, 1].
        nms: IoU threshold of non-maximum suppression: of two boxes of one class that overlap by more (intersection over
            union), the worse is dropped.
        detections: Boxes per image, at most.
        candidates: Boxes that go into the suppression, at most: of a level, or of a class for SSD.
    """

    score: float = 0.05
    nms: float = 0.5
    detections: int = 100
    candidates: int = 1000

    def given(
        self, score: float | None, nms: float | None, detections: int | None, candidates: int | None = None
    ) -> Thresholds:
        """The same with what is not None put in its place.

        Raises:
            UsageError: A value that makes no sense.
        """
        chosen = Thresholds(
            self.score if score is None else score,
            self.nms if nms is None else nms,
            self.detections if detections is None else detections,
            self.candidates if candidates is None else candidates,
        )
        for name, value in (("score_threshold", chosen.score), ("nms_threshold", chosen.nms)):
            check_fraction(name, value)
        for name, count in (("max_detections", chosen.detections), ("candidates", chosen.candidates)):
            if not isinstance(count, Integral):
                raise UsageError(f"{name} {count!r}: a whole number is required")
            if count < 1:
                raise UsageError(f"{name} {count}: must be at least 1")
        return chosen


def check_fraction(name: str, value: float) -> float:
    """The value, where it is a number from 0 to 1.

    Raises:
        UsageError: It is not.
    """
    if not isinstance(value, Real):
        raise UsageError(f"{name} {value!r}: a number from 0 to 1 is required")
    if not 0 <= value <= 1:
        raise UsageError(f"{name} {value}: allowed is 0 to 1")
    return value


def select_by_sigmoid(
    logits: Tensor, boxes: Tensor, counts: Sequence[int], limits: Thresholds, centerness: Tensor | None = None
) -> SelectedBoxes:
    """Of one image whose classes are judged each by itself (RetinaNet, FCOS).

    Args:
        logits: (A, K).
        boxes: (A, 4), cut off at the image.
        counts: Anchors of each level.
        limits: What is processed.
        centerness: (A,) logits; the score is then the geometric mean of both.
    """
    classes = logits.shape[1]
    lowest = limits.score if centerness is None else limits.score**2
    floor = -math.inf if lowest <= 0 else math.inf if lowest >= 1 else math.log(lowest / (1 - lowest))
    chosen, values = [], []
    start = 0
    for count in counts:
        # The logits that can reach the threshold are few: the rest is not worth its exponential.
        flat = logits[start : start + count].reshape(-1)
        places = (flat > floor).nonzero().squeeze(1)
        score = flat[places].float().sigmoid()
        if centerness is not None:
            score = (score * centerness[start + places // classes].float().sigmoid()).sqrt()
            good = score > limits.score
            places, score = places[good], score[good]
        score, best = score.topk(min(limits.candidates, len(score)))
        chosen.append(places[best] + start * classes)
        values.append(score)
        start += count
    places, scores = torch.cat(chosen), torch.cat(values)
    return _suppress(boxes[places // classes], scores, places % classes, limits)


def select_by_class(probabilities: Tensor, boxes: Tensor, limits: Thresholds) -> SelectedBoxes:
    """Of one image whose classes share a softmax, with the best boxes of each class (SSD).

    Args:
        probabilities: (A, K), background left out.
        boxes: (A, 4), cut off at the image.
        limits: What is processed.
    """
    scores, index = probabilities.T.topk(min(limits.candidates, len(boxes)), dim=1)
    labels = torch.arange(len(scores), device=boxes.device)[:, None].expand_as(scores)
    good = scores > limits.score
    return _suppress(boxes[index[good]], scores[good], labels[good], limits)


def select_by_softmax(probabilities: Tensor, boxes: Tensor, limits: Thresholds) -> SelectedBoxes:
    """Of one image whose classes share a softmax and each have boxes of their own (the second stage of R-CNN).

    Args:
        probabilities: (P, K), background left out.
        boxes: (P, K, 4), cut off at the image.
        limits: What is processed.
    """
    row, labels = (probabilities > limits.score).nonzero(as_tuple=True)
    scores, found = probabilities[row, labels], boxes[row, labels]
    good = ((found[:, 2:] - found[:, :2]) >= SMALLEST_SIDE).all(dim=1)
    return _suppress(found[good], scores[good], labels[good], limits)


def _suppress(boxes: Tensor, scores: Tensor, labels: Tensor, limits: Thresholds) -> SelectedBoxes:
    keep = batched_nms(boxes, scores, labels, limits.nms)[: limits.detections]
    return SelectedBoxes(boxes[keep], scores[keep], labels[keep])

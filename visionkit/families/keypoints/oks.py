"""COCO's keypoint evaluation: object keypoint similarity, and the ten numbers made of it, equal to pycocotools."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_POINTS = np.linspace(0.0, 1.0, 101)
MAX_PEOPLE = 20
"""Of one image, the highest-scoring so many count."""

AREAS = {"all": (0.0, 1e10), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
"""Ranges of the annotation's area in file pixels."""


@dataclass(frozen=True, eq=False)
class PoseResults:
    """People that were found.

    Attributes:
        image: (N,) int64 number of the image; its order decides among equal scores.
        keypoints: (N, K, 2) float64 x, y in file pixels.
        scores: (N,) float64.
        area: (N,) float64, which decides whether an unmatched person counts as medium or large; by default of the box
            around its keypoints.
    """

    image: np.ndarray
    keypoints: np.ndarray
    scores: np.ndarray
    area: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> PoseResults:
        """Some of the people."""
        area = None if self.area is None else self.area[rows]
        return PoseResults(self.image[rows], self.keypoints[rows], self.scores[rows], area)


@dataclass(frozen=True, eq=False)
class Truth:
    """People that there are.

    Attributes:
        image: (M,) int64 number of the image.
        keypoints: (M, K, 3) float64 x, y, visibility in file pixels.
        area: (M,) float64, the annotation's own.
        crowd: (M,) bool: a region of many, which is left out of the count.
        boxes: (M, 4) float64 x1, y1, x2, y2.
        name: Name of the image, where all are of one.
    """

    image: np.ndarray
    keypoints: np.ndarray
    area: np.ndarray
    crowd: np.ndarray
    boxes: np.ndarray
    name: str = ""

    def take(self, rows: np.ndarray) -> Truth:
        """Some of the people."""
        keypoints, area, crowd, boxes = self.keypoints[rows], self.area[rows], self.crowd[rows], self.boxes[rows]
        return Truth(self.image[rows], keypoints, area, crowd, boxes, self.name)


def oks(
    found_keypoints: np.ndarray, keypoints: np.ndarray, area: np.ndarray, boxes: np.ndarray, sigmas: np.ndarray
) -> np.ndarray:
    """Object keypoint similarity of every found person with every true one.

    exp(-d^2 / (2 area (2 sigma)^2)), mean over the labeled keypoints. A person without labeled ones, which counts for
    nothing, is compared by how far keypoints lie outside twice its box.

    Args:
        found_keypoints: (N, K, 2).
        keypoints: (M, K, 3).
        area: (M,).
        boxes: (M, 4) x1, y1, x2, y2.
        sigmas: (K,).

    Returns:
        (N, M) float64 in [0, 1].
    """
    labeled = keypoints[:, :, 2] > 0
    number = labeled.sum(axis=1)
    offset = found_keypoints[:, None] - keypoints[None, :, :, :2]
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    low = np.stack([boxes[:, 0] - width, boxes[:, 1] - height], axis=-1)
    high = np.stack([boxes[:, 0] + 2 * width, boxes[:, 1] + 2 * height], axis=-1)
    outside = np.maximum(0.0, low[None, :, None] - found_keypoints[:, None]) + np.maximum(
        0.0, found_keypoints[:, None] - high[None, :, None]
    )
    distance = np.where((number > 0)[None, :, None, None], offset, outside)
    variance = (2 * sigmas) ** 2
    exponent = (distance**2).sum(axis=-1) / variance / (area + np.spacing(1))[None, :, None] / 2
    counted = np.where((number > 0)[:, None], labeled, True)
    similar = np.where(counted[None], np.exp(-exponent), 0.0)
    return np.asarray(similar.sum(axis=-1) / counted.sum(axis=1)[None])


@dataclass(frozen=True, eq=False)
class MatchedPeople:
    """Found people and what became of them, the highest-scoring first.

    Attributes:
        image: (N,) int64 number of the image of each found person.
        right: For each range of areas (10, N) bool: it matches a true one that counts, at each threshold.
        wrong: The same: it counts and matches none.
        true_image: (M,) int64 number of the image of each true person.
        counted: For each range of areas (M,) bool.
    """

    image: np.ndarray
    right: dict[str, np.ndarray]
    wrong: dict[str, np.ndarray]
    true_image: np.ndarray
    counted: dict[str, np.ndarray]


def matched_people(found: PoseResults, true: Truth, sigmas: np.ndarray) -> MatchedPeople:
    """Matches found people to true ones in every range of areas; arguments as in `evaluate`."""
    images = np.union1d(found.image, true.image)
    rows_found, rows_true = rows_by_image(found.image, images), rows_by_image(true.image, images)
    kept: list[np.ndarray] = [np.zeros(0, np.int64)]
    nothing = np.zeros((len(THRESHOLDS), 0), bool)
    right: dict[str, list[np.ndarray]] = {name: [nothing] for name in AREAS}
    wrong: dict[str, list[np.ndarray]] = {name: [nothing] for name in AREAS}
    labeled = np.asarray((true.keypoints[:, :, 2] > 0).any(axis=1)) & ~true.crowd
    counted = {name: labeled & (true.area >= least) & (true.area <= most) for name, (least, most) in AREAS.items()}
    if found.area is not None:
        found_area = found.area
    else:
        spread = found.keypoints.max(axis=1) - found.keypoints.min(axis=1) if len(found.keypoints) else np.zeros((0, 2))
        found_area = np.asarray(spread.prod(axis=1))
    for d, g in zip(rows_found, rows_true, strict=True):
        d = d[np.argsort(-found.scores[d], kind="stable")][:MAX_PEOPLE]
        kept.append(d)
        similar = oks(found.keypoints[d], true.keypoints[g], true.area[g], true.boxes[g], sigmas)
        for name, (least, most) in AREAS.items():
            hit, left_out = _match(similar, ~counted[name][g], true.crowd[g])
            off = np.asarray((found_area[d] < least) | (found_area[d] > most))
            right[name].append(hit & ~left_out)
            wrong[name].append(~hit & ~off)
    rows = np.concatenate(kept)
    order = np.argsort(-found.scores[rows], kind="stable")
    hits, misses = ({name: np.concatenate(each[name], axis=1)[:, order] for name in AREAS} for each in (right, wrong))
    return MatchedPeople(found.image[rows[order]], hits, misses, true.image, counted)


def evaluate(found: PoseResults, true: Truth, sigmas: np.ndarray) -> dict[str, float]:
    """The ten numbers of COCO: ap, ap50, ap75, ap_medium, ap_large and the same of ar; -1 where nothing is to be found.

    Args:
        found: Predictions in any order.
        true: Ground truth in any order.
        sigmas: (K,) of the skeleton.
    """
    people = matched_people(found, true, sigmas)
    out: dict[str, float] = {}
    recalls: dict[str, float] = {}
    for name in AREAS:
        wanted = int(people.counted[name].sum())
        if not wanted:
            precision, recall = np.full((10, 101), -1.0), np.full(10, -1.0)
        else:
            precision, recall = _curve(people.right[name], people.wrong[name], wanted)
        suffix = "" if name == "all" else f"_{name}"
        out[f"ap{suffix}"], recalls[f"ar{suffix}"] = float(precision.mean()), float(recall.mean())
        if name == "all":
            out |= {"ap50": float(precision[0].mean()), "ap75": float(precision[5].mean())}
            recalls |= {"ar50": float(recall[0]), "ar75": float(recall[5])}
    return out | recalls


def rows_by_image(image: np.ndarray, images: np.ndarray) -> list[np.ndarray]:
    """Rows of each image.

    Args:
        image: (N,) number of the image of each row.
        images: (I,) numbers of the images, rising.
    """
    order = np.argsort(image, kind="stable")
    edges = np.searchsorted(image[order], images, side="left"), np.searchsorted(image[order], images, side="right")
    return [order[first:last] for first, last in zip(*edges, strict=True)]


def _match(similar: np.ndarray, ignored: np.ndarray, crowd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """COCO's greedy matching, the highest-scoring person first, at all thresholds at once.

    Returns:
        (10, N) bool whether a found person matches a true one, and whether that one is left out of the count.
    """
    steps, count = len(THRESHOLDS), len(similar)
    matched, left_out = np.zeros((steps, count), bool), np.zeros((steps, count), bool)
    if not similar.shape[1]:
        return matched, left_out
    taken = np.zeros((steps, similar.shape[1]), bool)
    least = np.minimum(THRESHOLDS, 1 - 1e-10)[:, None]
    each = np.arange(steps)
    for d in range(count):
        free = (~taken | crowd) & (similar[d] >= least)
        counted = free & ~ignored
        # What counts goes before what is ignored; of equal ones COCO takes the last.
        choice = np.where(counted.any(axis=1)[:, None], counted, free)
        value = np.where(choice, similar[d], -1.0)[:, ::-1]
        best = similar.shape[1] - 1 - value.argmax(axis=1)
        hit = choice.any(axis=1)
        matched[:, d] = hit
        left_out[:, d] = hit & ignored[best]
        taken[each[hit], best[hit]] = True
    return matched, left_out


def _curve(right: np.ndarray, wrong: np.ndarray, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """(10, 101) precision at each recall and (10,) the highest recall."""
    hits, misses = right.cumsum(axis=1, dtype=np.float64), wrong.cumsum(axis=1, dtype=np.float64)
    precision = np.zeros((len(right), len(RECALL_POINTS)))
    if not right.shape[1]:
        return precision, np.zeros(len(right))
    recall = hits / wanted
    exact = hits / (hits + misses + np.spacing(1))
    exact = np.maximum.accumulate(exact[:, ::-1], axis=1)[:, ::-1]
    for row in range(len(right)):
        at = np.searchsorted(recall[row], RECALL_POINTS, side="left")
        reached = at < right.shape[1]
        precision[row, reached] = exact[row, at[reached]]
    return precision, recall[:, -1]

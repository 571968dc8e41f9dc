"""Every number of found people against true ones: COCO's ten, PCK, and the errors of faces and hands.

Taken by the metric of a training and by `visionkit evaluate` alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from visionkit.families.keypoints.oks import PoseResults, Truth, evaluate, oks
from visionkit.skeleton import Skeleton

PCK_FRACTION = {"torso": 0.2, "head": 0.5}
"""A keypoint is right within this fraction of the torso (PCK) or of the head (PCKh)."""

FACE_LIMIT = 0.08
"""NME up to which the area under the cumulative error of faces is taken."""

HAND_LIMIT = 30.0
"""Pixels up to which the area under the PCK of hands is taken."""

IMAGE_COLUMNS = ("people", "OKS", "EPE", "NME")
"""Of the values of each image; -1 where there is nothing to measure."""


@dataclass(frozen=True, eq=False)
class Measures:
    """What was measured.

    Attributes:
        values: Values by name: `ap` and so on, `pck`, `pckh`, and for faces and hands `epe`, `nme`, `nme_box`, `auc`.
        keypoints: (K, 3) fraction of correct keypoints, mean similarity and number of labeled ones.
        images: (I,) int64 numbers of the images with labeled people.
        of_images: (I, 4) float64, see `IMAGE_COLUMNS`.
    """

    values: dict[str, float]
    keypoints: np.ndarray
    images: np.ndarray
    of_images: np.ndarray


def measure(found: PoseResults, true: Truth, skeleton: Skeleton, sigmas: np.ndarray) -> Measures:
    """Measures found people.

    Args:
        found: Predictions in any order.
        true: Ground truth in any order.
        skeleton: Skeleton of both.
        sigmas: (K,) of object keypoint similarity.
    """
    values = evaluate(found, true, sigmas)
    distance, similar = _pairs(found, true, sigmas)
    labeled = (true.keypoints[:, :, 2] > 0) & ~true.crowd[:, None]
    keypoints = np.zeros((len(skeleton), 3))
    keypoints[:, 2] = labeled.sum(axis=0)
    keypoints[:, 1] = np.where(labeled, similar, 0).sum(axis=0) / np.maximum(labeled.sum(axis=0), 1)
    torso = skeleton.pair("torso")
    unit = _lengths(true, torso) if torso else (true.boxes[:, 2:] - true.boxes[:, :2]).max(axis=1, initial=0)
    values["pck"], keypoints[:, 0] = _fraction(distance, labeled, unit * PCK_FRACTION["torso"])
    if head := skeleton.pair("head"):
        values["pckh"], keypoints[:, 0] = _fraction(distance, labeled, _lengths(true, head) * PCK_FRACTION["head"])
    epe, nme = _means(distance, labeled), np.full(len(labeled), np.nan)
    if has_errors(skeleton):
        nme = epe / face_units(true, skeleton)
        values |= _errors(distance, labeled, nme, epe / _box_units(true), skeleton)
    return Measures(values, keypoints, *_of_images(true, labeled, similar, epe, nme))


def has_errors(skeleton: Skeleton) -> bool:
    """Whether distances themselves are measured: of faces and hands."""
    return skeleton.subject in ("face", "hand") or bool(skeleton.interocular)


def face_units(true: Truth, skeleton: Skeleton) -> np.ndarray:
    """(M,) what NME divides by: the distance of the eyes where the skeleton names them, else the box."""
    eyes = skeleton.pair("interocular")
    return _lengths(true, eyes) if eyes else _box_units(true)


def fractions_protocol(skeleton: Skeleton) -> str:
    """How the fractions of correct keypoints are taken, for a protocol."""
    torso = "the torso" if skeleton.torso else "the box's longer side"
    message = f"PCK@{PCK_FRACTION['torso']:g} by {torso}"
    return f"{message}, PCKh@{PCK_FRACTION['head']:g} by the head's length" if skeleton.head else message


def errors_protocol(skeleton: Skeleton) -> str:
    """How the errors of faces and hands are taken, for a protocol; empty where they are not."""
    if not has_errors(skeleton):
        return ""
    by_box = "the root of the box's width x height"
    unit = f"the distance {skeleton.interocular[0]} to {skeleton.interocular[1]}" if skeleton.interocular else by_box
    area = f"NME from 0 to {FACE_LIMIT:g}" if skeleton.subject == "face" else f"EPE from 0 to {HAND_LIMIT:g} px"
    return (
        f"EPE in file pixels, mean over labeled keypoints; NME by {unit}, NME_box by {by_box}, mean over "
        f"{skeleton.subject}s; AUC of the fraction within {area}, exact; who was not found counts in AUC alone"
    )


def _errors(
    distance: np.ndarray, labeled: np.ndarray, nme: np.ndarray, nme_box: np.ndarray, skeleton: Skeleton
) -> dict[str, float]:
    reached = labeled & np.isfinite(distance)
    out = {"epe": float(distance[reached].mean()) if reached.any() else -1.0}
    some = labeled.any(axis=1)
    for name, values in (("nme", nme), ("nme_box", nme_box)):
        known = values[some & np.isfinite(values)]
        out[name] = float(known.mean()) if len(known) else -1.0
    if skeleton.subject == "face":  # of each face, and of each keypoint of other subjects
        # An infinite error is a face that was missed; NaN one whose unit nobody knows.
        spread = nme[some & ~np.isnan(nme)] / FACE_LIMIT
    else:
        spread = distance[labeled] / HAND_LIMIT
    out["auc"] = float(np.maximum(0.0, 1.0 - spread).mean()) if len(spread) else -1.0
    return out


def _means(distance: np.ndarray, labeled: np.ndarray) -> np.ndarray:
    """(M,) mean distance over the labeled keypoints of each person; inf where it was not found."""
    total = np.where(labeled, distance, 0.0).sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.asarray(total / np.maximum(labeled.sum(axis=1), 1))


def _box_units(true: Truth) -> np.ndarray:
    sides = (true.boxes[:, 2:] - true.boxes[:, :2]).clip(min=0)
    root = np.sqrt(sides.prod(axis=1))
    return np.where(root > 0, root, np.nan)


def _of_images(
    true: Truth, labeled: np.ndarray, similar: np.ndarray, epe: np.ndarray, nme: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    some = labeled.any(axis=1)
    score = np.where(labeled, similar, 0.0).sum(axis=1) / np.maximum(labeled.sum(axis=1), 1)
    images, number = np.unique(true.image[some], return_inverse=True)
    out = np.full((len(images), len(IMAGE_COLUMNS)), -1.0)
    out[:, 0] = np.bincount(number, minlength=len(images))
    for column, values in enumerate((score[some], epe[some], nme[some]), 1):
        known = np.isfinite(values)
        counts = np.bincount(number[known], minlength=len(images))
        sums = np.bincount(number[known], values[known], minlength=len(images))
        out[:, column] = np.where(counts > 0, sums / np.maximum(counts, 1), -1.0)
    return images, out


def _pairs(found: PoseResults, true: Truth, sigmas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance and similarity of every true keypoint to that of the found person most like its own; inf where none is.

    Returns:
        (M, K) pixels and (M, K) in [0, 1].
    """
    count, keypoints = true.keypoints.shape[:2]
    distance, similar = np.full((count, keypoints), np.inf), np.zeros((count, keypoints))
    order = np.argsort(found.image, kind="stable")
    for image in np.unique(true.image):
        g = np.flatnonzero((true.image == image) & ~true.crowd)
        first, last = np.searchsorted(found.image[order], [image, image + 1])
        d = order[first:last]
        values = oks(found.keypoints[d], true.keypoints[g], true.area[g], true.boxes[g], sigmas)
        for _ in range(min(values.shape)):
            row, column = np.unravel_index(int(values.argmax()), values.shape)
            offset = found.keypoints[d[row]] - true.keypoints[g[column], :, :2]
            distance[g[column]] = np.sqrt((offset**2).sum(axis=1))
            exponent = (offset**2).sum(axis=1) / (2 * sigmas) ** 2 / (true.area[g[column]] + np.spacing(1)) / 2
            similar[g[column]] = np.exp(-exponent)
            values[row], values[:, column] = -1.0, -1.0
    return distance, similar


def _lengths(true: Truth, pair: tuple[int, int]) -> np.ndarray:
    """(M,) distance of two keypoints; NaN where one of them is not labeled."""
    ends = true.keypoints[:, list(pair)]
    length = np.sqrt(((ends[:, 0, :2] - ends[:, 1, :2]) ** 2).sum(axis=1))
    return np.where((ends[..., 2] > 0).all(axis=1) & (length > 0), length, np.nan)


def _fraction(distance: np.ndarray, labeled: np.ndarray, limit: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean over keypoints of the fraction within the limit, and that fraction of each.

    People without a limit are left out.
    """
    counted = labeled & np.isfinite(limit)[:, None]
    right = counted & (distance <= np.where(np.isfinite(limit), limit, 0)[:, None])
    number = counted.sum(axis=0)
    fraction = np.where(number > 0, right.sum(axis=0) / np.maximum(number, 1), np.nan)
    return float(np.nanmean(fraction)) if number.any() else -1.0, np.nan_to_num(fraction, nan=-1.0)

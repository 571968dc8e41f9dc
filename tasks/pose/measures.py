"""Every number of found people against true ones: COCO's ten, PCK, and the errors of faces and hands.

Taken by the metric of a training and by `visionkit evaluate` alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from visionkit.families.keypoints.oks import PoseResults, Truth, evaluate, oks
from visionkit.skeleton import Skeleton
from visionkit.uncertainty.weighted_curves import mean_over

_LEAST = 1e-12

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
    errors, similar = person_errors(found, true, skeleton, sigmas)
    values, fractions = errors.weighted(np.ones((1, len(true.image))))
    keypoints = np.zeros((len(skeleton), 3))
    keypoints[:, 0] = np.nan_to_num(fractions[0], nan=-1.0)
    keypoints[:, 2] = errors.labeled.sum(axis=0)
    keypoints[:, 1] = np.where(errors.labeled, similar, 0).sum(axis=0) / np.maximum(keypoints[:, 2], 1)
    own = {name: float(np.nan_to_num(value[0], nan=-1.0)) for name, value in values.items()}
    return Measures(evaluate(found, true, sigmas) | own, keypoints, *_of_images(true, errors, similar))


@dataclass(frozen=True, eq=False)
class PersonErrors:
    """How far the keypoints of each true person are from those of the found person most like it.

    Attributes:
        distance: (M, K) pixels, inf where nobody was found.
        labeled: (M, K) bool.
        limits: By the name of a fraction (M,) pixels up to which a keypoint is right; NaN where there is none.
        epe: (M,) mean over the labeled keypoints.
        nme: (M,) by the unit of the subject, and by the box; NaN where it is unknown or not measured.
        nme_box: The same by the box.
        subject: Of the skeleton, where errors themselves are measured; else empty.
    """

    distance: np.ndarray
    labeled: np.ndarray
    limits: dict[str, np.ndarray]
    epe: np.ndarray
    nme: np.ndarray
    nme_box: np.ndarray
    subject: str | None

    def weighted(self, weights: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Fractions of correct keypoints and errors of weighted people.

        Args:
            weights: (r, M) weights.

        Returns:
            (r,) values by name, NaN where there is nothing to measure, and the (r, K) last fraction of each keypoint.
        """
        values: dict[str, np.ndarray] = {}
        fractions = np.zeros((len(weights), self.labeled.shape[1]))
        for name, limit in self.limits.items():
            counted = self.labeled & np.isfinite(limit)[:, None]
            right = counted & (self.distance <= np.where(np.isfinite(limit), limit, 0)[:, None])
            number = weights @ counted.astype(np.float64)
            fractions = np.where(number > 0, weights @ right.astype(np.float64) / np.maximum(number, _LEAST), np.nan)
            values[name] = mean_over(fractions, number > 0)
        if self.subject is not None:
            values |= {name: _ratio(weights, *parts) for name, parts in self._sums().items()}
        return values, fractions

    def _sums(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """For each error the sum of it and the number that it is the mean of, (M,) of each person."""
        reached = self.labeled & np.isfinite(self.distance)
        out = {"epe": (np.where(reached, self.distance, 0.0).sum(axis=1), reached.sum(axis=1))}
        some = self.labeled.any(axis=1)
        for name, values in (("nme", self.nme), ("nme_box", self.nme_box)):
            known = some & np.isfinite(values)
            out[name] = np.where(known, values, 0.0), known
        if self.subject == "face":  # of each face, and of each keypoint of other subjects
            # An infinite error is a face that was missed; NaN one whose unit nobody knows.
            known = some & ~np.isnan(self.nme)
            out["auc"] = np.where(known, np.maximum(0.0, 1.0 - self.nme / FACE_LIMIT), 0.0), known
        else:
            within = np.maximum(0.0, 1.0 - self.distance / HAND_LIMIT)
            out["auc"] = np.where(self.labeled, within, 0.0).sum(axis=1), self.labeled.sum(axis=1)
        return out


def person_errors(
    found: PoseResults, true: Truth, skeleton: Skeleton, sigmas: np.ndarray
) -> tuple[PersonErrors, np.ndarray]:
    """Errors of every true person, and the (M, K) similarity of its keypoints; arguments as in `measure`."""
    distance, similar = _pairs(found, true, sigmas)
    labeled = (true.keypoints[:, :, 2] > 0) & ~true.crowd[:, None]
    torso = skeleton.pair("torso")
    unit = _lengths(true, torso) if torso else (true.boxes[:, 2:] - true.boxes[:, :2]).max(axis=1, initial=0)
    limits = {"pck": unit * PCK_FRACTION["torso"]}
    if head := skeleton.pair("head"):
        limits["pckh"] = _lengths(true, head) * PCK_FRACTION["head"]
    epe = _means(distance, labeled)
    subject, nme, nme_box = None, np.full(len(labeled), np.nan), np.full(len(labeled), np.nan)
    if has_errors(skeleton):
        subject, nme, nme_box = skeleton.subject, epe / face_units(true, skeleton), epe / _box_units(true)
    return PersonErrors(distance, labeled, limits, epe, nme, nme_box, subject), similar


def _ratio(weights: np.ndarray, total: np.ndarray, number: np.ndarray) -> np.ndarray:
    count = weights @ number.astype(np.float64)
    return np.where(count > 0, weights @ total / np.maximum(count, _LEAST), np.nan)


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


def _means(distance: np.ndarray, labeled: np.ndarray) -> np.ndarray:
    """(M,) mean distance over the labeled keypoints of each person; inf where it was not found."""
    total = np.where(labeled, distance, 0.0).sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.asarray(total / np.maximum(labeled.sum(axis=1), 1))


def _box_units(true: Truth) -> np.ndarray:
    sides = (true.boxes[:, 2:] - true.boxes[:, :2]).clip(min=0)
    root = np.sqrt(sides.prod(axis=1))
    return np.where(root > 0, root, np.nan)


def _of_images(true: Truth, errors: PersonErrors, similar: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labeled, some = errors.labeled, errors.labeled.any(axis=1)
    score = np.where(labeled, similar, 0.0).sum(axis=1) / np.maximum(labeled.sum(axis=1), 1)
    images, number = np.unique(true.image[some], return_inverse=True)
    out = np.full((len(images), len(IMAGE_COLUMNS)), -1.0)
    out[:, 0] = np.bincount(number, minlength=len(images))
    for column, values in enumerate((score[some], errors.epe[some], errors.nme[some]), 1):
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

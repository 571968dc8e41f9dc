"""Where the faces of an image are, and five landmarks of each; every part can be replaced by a trained one.

The embedded default is made of what is at hand without a download: scikit-image's cascade of local binary patterns for
the boxes (frontal faces, turned by little), and eye centers by the means of gradients (Timm and Barth, 2011), from
which nose and mouth follow by the proportions of an average face. It knows nothing of profiles and little of faces
turned by more than some 20 degrees; a detection model finds those, and a model of five keypoints places them.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Protocol

import numpy as np

from tasks.face_recognition.alignment import named_landmarks, similarity
from visionkit.errors import UsageError
from visionkit.geometry import resize_image
from visionkit.predictions import Poses
from visionkit.tiling import Located

PLACES = np.array([(0.27, 0.36), (0.73, 0.36), (0.50, 0.63), (0.31, 0.84), (0.69, 0.84)])
"""Landmarks in the cascade's box, as fractions of its sides: of ORL's mean face in the mean box that is found there."""

_TO_MOUTH = 0.48
_SIDE = 64  # pixels of a face in which eyes are looked for
_REACH = (0.13, 0.12)  # of the box, how far from its place an eye may be
_LARGEST = 640  # pixels of the longer side in which faces are looked for
_HALF = 5.0  # windows about a face that make its score one half; a face has dozens, and what is none has few

NO_FACE = 0.45
"""Score below which what was found is refused as a face to be enrolled or verified."""


class FaceFinder(Protocol):
    """Finds the faces of an image."""

    def __call__(self, image: np.ndarray) -> Located:
        """(h, w, 3) uint8 RGB to its faces."""
        ...


class LandmarkPlacer(Protocol):
    """Places five landmarks in each box."""

    def __call__(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """(h, w, 3) uint8 RGB and (N, 4) boxes to (N, 5, 2) landmarks in file pixels."""
        ...


class CascadeFinder:
    """scikit-image's frontal-face cascade, the embedded default.

    A face's score is n / (n + 5), where n of the cascade's windows lie on it. Of faces that overlap, the one with the
    highest score is kept.

    Args:
        smallest: Side of the smallest face, as a fraction of the image's shorter side.
    """

    def __init__(self, smallest: float = 0.08) -> None:
        self.smallest = smallest

    @cached_property
    def _cascade(self) -> Any:
        from skimage import data
        from skimage.feature import Cascade

        return Cascade(data.lbp_frontal_face_cascade_filename())

    def __call__(self, image: np.ndarray) -> Located:
        """See `FaceFinder`; the larger faces come first."""
        small, scale = _reduced(image)
        height, width = small.shape[:2]
        least = max(24, round(self.smallest * min(height, width)))
        if min(height, width) < least:
            return Located(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
        found = self._cascade.detect_multi_scale(
            img=small, scale_factor=1.15, step_ratio=1, min_size=(least, least), max_size=(min(height, width),) * 2
        )
        boxes = np.array([(f["c"], f["r"], f["c"] + f["width"], f["r"] + f["height"]) for f in found], np.float32)
        boxes = boxes.reshape(-1, 4) / np.float32(scale)
        if not len(boxes):
            return Located(boxes, np.zeros(0, np.float32))
        every = self._cascade.detect_multi_scale(
            img=small, scale_factor=1.15, step_ratio=1, min_size=(least, least), max_size=(min(height, width),) * 2,
            min_neighbor_number=0, intersection_score_threshold=1.0,
        )  # fmt: skip
        tiles = np.array([(f["c"], f["r"], f["c"] + f["width"], f["r"] + f["height"]) for f in every], np.float32)
        shared, areas, own = _shared(boxes, tiles.reshape(-1, 4) / np.float32(scale))
        count = (shared / (areas[:, None] + own[None] - shared) > 0.5).sum(axis=1)
        scores = (count / (count + _HALF)).astype(np.float32)
        keep = suppressed(boxes, scores)
        order = keep[np.argsort(-(boxes[keep, 2] - boxes[keep, 0]), kind="stable")]
        return Located(boxes[order], scores[order])


def suppressed(boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Numbers of the faces that are kept: of those that overlap by .3, or lie within each other, the highest score.

    Args:
        boxes: (N, 4) x1, y1, x2, y2.
        scores: (N,).
    """
    shared, areas, _ = _shared(boxes, boxes)
    near = shared / (areas[:, None] + areas[None] - shared).clip(min=1e-9) > 0.3
    within = shared / np.minimum(areas[:, None], areas[None]).clip(min=1e-9) > 0.6
    kept: list[int] = []
    for number in np.argsort(-scores, kind="stable").tolist():
        if not (near | within)[number, kept].any():
            kept.append(number)
    return np.array(kept, dtype=np.int64)


def _shared(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N, M) areas that boxes share, and (N,) and (M,) of their own."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    areas = [(each[:, 2:] - each[:, :2]).prod(axis=1) for each in (first, second)]
    return (high - low).clip(min=0).prod(axis=2), areas[0], areas[1]


class DetectionFinder:
    """Any model of visionkit that predicts detections or with poses finds the faces.

    Keypoints of eyes and nose are taken for the landmarks too, see `named_landmarks`.

    Args:
        predictor: Gives `Detections`, or `Poses`.
        label: The class that is a face; the only one, or the one named `face`, by default.
        threshold: Lowest score.

    Raises:
        UsageError: The model has several classes and none of them is named `face`.
    """

    def __init__(self, predictor: Any, label: str = "", threshold: float = 0.5) -> None:
        names = list(predictor.classes)
        label = label or ("face" if "face" in names else names[0] if len(names) == 1 else "")
        if names and label not in names:
            raise UsageError(
                f"the face finder has the classes {', '.join(names[:8])} and none is {label or 'face'!r}; take a model "
                "that was trained on faces"
            )
        self.predictor, self.number, self.threshold = predictor, names.index(label) if names else 0, threshold

    def __call__(self, image: np.ndarray) -> Located:
        """See `FaceFinder`; the larger faces come first."""
        prediction = self.predictor(image)
        if prediction.kind not in ("detections", "instances", "poses"):
            raise UsageError(f"the face finder predicts {prediction.kind}; a detection or keypoint model is required")
        labels = getattr(prediction, "labels", np.zeros(len(prediction.boxes)))
        keep = np.flatnonzero((prediction.scores >= self.threshold) & (labels == self.number))
        boxes = np.asarray(prediction.boxes)[keep]
        kept = suppressed(boxes, np.asarray(prediction.scores)[keep])
        sides = boxes[kept, 2:] - boxes[kept, :2]
        keep = keep[kept[np.argsort(-sides.prod(axis=1), kind="stable")]]
        landmarks = None
        if isinstance(prediction, Poses):
            landmarks = named_landmarks(prediction.skeleton.keypoints, prediction.keypoints[keep][..., :2])
        return Located(
            np.asarray(prediction.boxes[keep], np.float32), np.asarray(prediction.scores[keep], np.float32), landmarks
        )


class EyePlacer:
    """Landmarks from the two eyes, the embedded default."""

    def __call__(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """See `LandmarkPlacer`. Where the eyes that were found make no sense, an average face is laid into the box."""
        return np.stack([self._one(image, box) for box in boxes]) if len(boxes) else np.zeros((0, 5, 2), np.float32)

    def _one(self, image: np.ndarray, box: np.ndarray) -> np.ndarray:
        import cv2

        corner, sides = box[:2], np.maximum(box[2:] - box[:2], 1)
        average = PLACES * sides + corner
        gray = cv2.cvtColor(np.ascontiguousarray(_inside(image, box)), cv2.COLOR_RGB2GRAY)
        face = cv2.resize(gray, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
        eyes = np.stack([_eye(face, PLACES[number]) for number in (0, 1)])
        across = eyes[1] - eyes[0]
        far, tilt = np.hypot(*across), np.degrees(np.arctan2(across[1], across[0]))
        if not (0.27 <= far <= 0.55 and abs(tilt) <= 25):
            return np.asarray(average, np.float32)
        # Eyes alone decide how far the face is turned; the box, which is steadier, has its part in the size.
        turn = np.deg2rad(tilt)
        mouth = eyes.mean(axis=0) + _TO_MOUTH * np.array([-np.sin(turn), np.cos(turn)])
        both = np.concatenate([eyes, mouth[None]])
        target = np.concatenate([PLACES[:2], PLACES[3:].mean(axis=0, keepdims=True)])
        scale, angle, shift = similarity(target, both)
        rotate = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        return np.asarray((PLACES @ rotate.T + shift) * sides + corner, np.float32)


def _reduced(image: np.ndarray) -> tuple[np.ndarray, float]:
    """The image with a longer side of at most `_LARGEST`, and how many times as large it is now."""
    height, width = image.shape[:2]
    scale = min(1.0, _LARGEST / max(height, width))
    if scale == 1.0:
        return image, 1.0
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return np.ascontiguousarray(resize_image(image, size).permute(1, 2, 0).numpy()), scale


def _inside(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The part of the image in a box, its border repeated where the box reaches outside."""
    height, width = image.shape[:2]
    x1, y1 = int(np.floor(box[0])), int(np.floor(box[1]))
    columns = np.clip(np.arange(x1, max(x1 + 1, int(np.ceil(box[2])))), 0, width - 1)
    rows = np.clip(np.arange(y1, max(y1 + 1, int(np.ceil(box[3])))), 0, height - 1)
    return np.asarray(image[rows[:, None], columns])


def _eye(face: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The center toward which most gradients near a place point away from the dark, as fractions of the box."""
    import cv2

    smooth = cv2.GaussianBlur(face, (0, 0), 1.2)
    gx, gy = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    reach_x, reach_y = round(_REACH[0] * _SIDE), round(_REACH[1] * _SIDE)
    x, y = round(float(place[0]) * _SIDE), round(float(place[1]) * _SIDE)
    rows, columns = np.mgrid[max(0, y - reach_y) : y + reach_y + 1, max(0, x - reach_x) : x + reach_x + 1]
    size = np.hypot(gx[rows, columns], gy[rows, columns]).ravel()
    strong = size > max(size.mean() + 0.3 * size.std(), 1e-6)
    if not strong.any():
        return np.asarray(place, np.float64)
    points = np.stack([columns.ravel(), rows.ravel()], axis=1)[strong].astype(np.float32)
    direction = np.stack([gx[rows, columns].ravel(), gy[rows, columns].ravel()], axis=1)[strong] / size[strong, None]
    centers = np.stack([columns.ravel(), rows.ravel()], axis=1).astype(np.float32)
    away = points[None] - centers[:, None]
    away /= np.maximum(np.linalg.norm(away, axis=2, keepdims=True), 1e-6)
    agree = np.maximum((away * direction[None]).sum(axis=2), 0) ** 2
    dark = 255 - smooth[rows, columns].ravel()
    # A mild preference for the usual place: brows and the frames of glasses are dark as well.
    usual = np.exp(-(((centers - (x, y)) / (reach_x * 1.2, reach_y * 1.0)) ** 2).sum(axis=1))
    best = centers[np.argmax(agree.mean(axis=1) * dark * usual)]
    return np.asarray((best + 0.5) / _SIDE, np.float64)

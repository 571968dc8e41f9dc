"""Five landmarks to the aligned image: a similarity, done as a view inside the one resample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from visionkit.predictions.faces import POINTS
from visionkit.types import View


class Framing(NamedTuple):
    """How much of a head an aligned image shows.

    Attributes:
        size: Height and width of the canvas.
        points: (5, 2) x, y of the landmarks on it, see `visionkit.predictions.faces.POINTS`.
    """

    size: tuple[int, int]
    points: np.ndarray


FRAMINGS: dict[str, Framing] = {
    # Deng et al., 2019: the face alone.
    "arcface": Framing(
        (112, 112),
        np.array([(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]),
    ),
    # The head with its hair, as ORL's images show it: read off the mean of its 400 images.
    "head": Framing((112, 92), np.array([(30.0, 51.2), (63.0, 51.6), (46.5, 71.5), (33.0, 86.0), (60.0, 86.0)])),
}

_NO_TURN = 1e-7
"""Degrees. A view that is not turned at all is rounded to whole file pixels, which moves a small face's landmarks."""


def template(framing: str = "arcface", size: tuple[int, int] | None = None) -> np.ndarray:
    """Where the five landmarks of an aligned image lie.

    Args:
        framing: `arcface` or `head`.
        size: Height and width of the image, to which the canvas is stretched; the canvas's own by default.

    Returns:
        (5, 2) float64 x, y in pixels of the image.
    """
    canvas, points = FRAMINGS[framing]
    height, width = size or canvas
    return np.asarray(points * (width / canvas[1], height / canvas[0]))


def similarity(source: np.ndarray, target: np.ndarray) -> tuple[float, float, np.ndarray]:
    """The similarity that takes points to others with the least squared error, without reflection (Umeyama, 1991).

    Args:
        source: (N, 2) x, y; at least two different ones.
        target: (N, 2).

    Returns:
        Scale, angle in radians (turning x toward y), and the (2,) shift: `target = scale * turn @ source + shift`.

    Raises:
        ValueError: The points are all the same, or not finite.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    a, b = source - source.mean(axis=0), target - target.mean(axis=0)
    spread = float((a * a).sum())
    if not np.isfinite(a).all() or not np.isfinite(b).all() or spread < 1e-12:
        raise ValueError("landmarks: at least two different, finite points are needed")
    along, across = float((a * b).sum()), float((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum())
    scale, angle = math.hypot(along, across) / spread, math.atan2(across, along)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return scale, angle, target.mean(axis=0) - scale * turn @ source.mean(axis=0)


def named_landmarks(names: Sequence[str], keypoints: np.ndarray) -> np.ndarray | None:
    """The five landmarks of faces out of keypoints that have names.

    Where no corners of the mouth are among them, an average face is laid over eyes and nose. `left_ear` means that left
    and right are the person's own, as in COCO; without ears they are those of the image.

    Args:
        names: K names, such as those of the skeletons `face5` and `head5`.
        keypoints: (N, K, 2) x, y.

    Returns:
        (N, 5, 2), see `visionkit.predictions.faces.POINTS`; None where eyes or nose are not among the names.
    """
    order = ("right_eye", "left_eye", "nose") if "left_ear" in names else POINTS
    if not set(order) <= set(names):
        return None
    found = np.asarray(keypoints, np.float64)[:, [list(names).index(name) for name in order]]
    if len(order) == len(POINTS):
        return np.asarray(found, np.float32)
    average = template()
    out = np.empty((len(found), len(POINTS), 2), np.float32)
    for number, points in enumerate(found):
        scale, angle, shift = similarity(average[: len(order)], points)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        out[number] = scale * average @ turn.T + shift
        out[number, : len(order)] = points
    return out


def face_view(landmarks: np.ndarray, framing: str = "arcface") -> View:
    """The region of the file that an aligned image shows.

    The similarity is worked out on the canvas of the framing; the network takes that canvas, stretched to its input.

    Args:
        landmarks: (5, 2) x, y in file pixels.
        framing: See `template`.

    Raises:
        ValueError: See `similarity`.
    """
    (height, width), points = FRAMINGS[framing]
    scale, angle, shift = similarity(landmarks, points)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    x, y = turn.T @ (np.array([width / 2, height / 2]) - shift) / scale
    half_w, half_h = width / 2 / scale, height / 2 / scale
    # A view turns the image counter-clockwise as seen, where y points down.
    rotation = -math.degrees(angle) or _NO_TURN
    return View((float(x - half_w), float(y - half_h), float(x + half_w), float(y + half_h)), False, rotation)

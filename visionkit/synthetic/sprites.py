"""What an object looks like on its own: color, coverage and relief, ready to be put into a scene."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from visionkit.synthetic.world import color

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "heart")
"""Classes distinguished by outline alone: color and pattern are drawn at random."""

_FINE = 4  # subpixels a side when the coverage of an outline is measured


class Sprite(NamedTuple):
    """A drawn object.

    Attributes:
        x: Column of its left border in the image (may be negative).
        y: Row of its upper border.
        color: (h, w, 3) float32 RGB 0 to 255, times coverage.
        coverage: (h, w) float32, 0 to 1.
        relief: (h, w) float32 meters by which a pixel is nearer than the object's own distance.
        keypoints: (K, 3) float32 x, y in image pixels and 1 (hidden by itself) or 2; None for a shape.
    """

    x: int
    y: int
    color: np.ndarray
    coverage: np.ndarray
    relief: np.ndarray
    keypoints: np.ndarray | None = None


def _star(points: int, inner: float) -> np.ndarray:
    angles = np.arange(2 * points) * np.pi / points - np.pi / 2
    radii = np.where(np.arange(2 * points) % 2 == 0, 0.5, 0.5 * inner)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def _disc(radius: float, corners: int = 48) -> np.ndarray:
    angles = np.arange(corners) * 2 * np.pi / corners
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _heart() -> np.ndarray:
    t = np.arange(48) * 2 * np.pi / 48
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return np.stack([x / 33, (y - 2.5) / 33], axis=1)


def _cross(arm: float = 0.17) -> np.ndarray:
    quarter = np.array([(-arm, -0.5), (arm, -0.5), (arm, -arm)])
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    return np.concatenate([quarter @ np.linalg.matrix_power(turn, k) for k in range(4)])


_OUTLINES: dict[str, list[np.ndarray]] = {
    "circle": [_disc(0.5)],
    "square": [np.array([(-0.44, -0.44), (0.44, -0.44), (0.44, 0.44), (-0.44, 0.44)])],
    "triangle": [np.array([(0.0, -0.5), (0.5, 0.42), (-0.5, 0.42)])],
    "star": [_star(5, 0.42)],
    "cross": [_cross()],
    "ring": [_disc(0.5), _disc(0.27)],
    "heart": [_heart()],
}
"""Contours in a unit square about the origin, y downwards; a second contour is a hole."""

_TILT = {"circle": 180.0, "square": 18.0, "triangle": 10.0, "star": 18.0, "cross": 16.0, "ring": 180.0, "heart": 14.0}


def draw_shape(
    rng: np.random.Generator, name: str, x: float, base: float, side: float, scale: float, light: np.ndarray
) -> Sprite:
    """Draws one shape as a padded solid that stands on the floor.

    Args:
        rng: Draws tilt, colors and pattern.
        name: One of `SHAPES`.
        x: Column of its center, continuous pixels.
        base: Row on which it stands.
        side: Its size in pixels.
        scale: Pixels per meter at its distance.
        light: (3,) unit vector to the light: right, down, toward the camera.
    """
    angle = np.deg2rad(rng.uniform(-1, 1) * _TILT[name])
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    squeeze = np.array([rng.uniform(0.85, 1.0), 1.0])
    contours = [contour * squeeze @ turn * side for contour in _OUTLINES[name]]
    center = np.array([x, base - contours[0][:, 1].max()])
    low = np.floor(contours[0].min(axis=0) + center).astype(int) - 1
    high = np.ceil(contours[0].max(axis=0) + center).astype(int) + 1
    width, height = high - low
    coverage = _coverage([contour + center - low for contour in contours], (int(height), int(width)))
    # Distance from the rim makes it round: a ball for the circle, a beveled slab for the rest.
    solid = (coverage > 0.5).astype(np.uint8)
    rim = cv2.distanceTransform(solid, cv2.DIST_L2, 3)
    radius = max((0.5 if name == "circle" else 0.16) * side, 1.0)
    bulge = radius * np.sqrt(1 - (1 - np.minimum(rim / radius, 1)) ** 2)
    bulge = cv2.GaussianBlur(bulge, (3, 3), 0)
    brightness, gloss = _shade(bulge, light)
    paint = _pattern(rng, (int(height), int(width)), center - low, turn, side)
    lit = np.clip(paint * brightness[..., None] + 255 * gloss[..., None] * rng.uniform(0.1, 0.6), 0, 255)
    return Sprite(int(low[0]), int(low[1]), lit * coverage[..., None], coverage, np.minimum(bulge / scale, 0.3) * solid)


def _coverage(contours: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    fine = np.zeros((size[0] * _FINE, size[1] * _FINE), dtype=np.uint8)
    # OpenCV counts pixel centers from 0, continuous coordinates from 0.5; 4 fractional bits.
    points = [np.round((contour * _FINE - 0.5) * 16).astype(np.int32) for contour in contours]
    cv2.fillPoly(fine, points, 255, cv2.LINE_8, 4)
    return cv2.resize(fine, size[::-1], interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _shade(bulge: np.ndarray, light: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    dx = cv2.Sobel(bulge, cv2.CV_32F, 1, 0, ksize=3, scale=0.125)
    dy = cv2.Sobel(bulge, cv2.CV_32F, 0, 1, ksize=3, scale=0.125)
    norm = np.sqrt(dx * dx + dy * dy + 1)
    towards = (-dx * light[0] - dy * light[1] + light[2]) / norm
    return 0.45 + 0.62 * np.maximum(towards, 0), np.maximum(towards, 0) ** 16


def _pattern(
    rng: np.random.Generator, size: tuple[int, int], center: np.ndarray, turn: np.ndarray, side: float
) -> np.ndarray:
    first = color(rng, (0.45, 0.95), (0.6, 1.0))
    kind = rng.integers(5)
    if kind > 2:
        return np.broadcast_to(first, (*size, 3))
    second = color(rng, (0.2, 0.9), (0.5, 1.0))
    rows = np.arange(size[0], dtype=np.float32)[:, None] + 0.5 - center[1]
    columns = np.arange(size[1], dtype=np.float32)[None] + 0.5 - center[0]
    u = (columns * turn[0, 0] + rows * turn[0, 1]) / side
    v = (columns * turn[1, 0] + rows * turn[1, 1]) / side
    period = rng.uniform(0.18, 0.3)
    if kind == 0:
        where = np.mod(v, period) < period / 2
    elif kind == 1:
        where = np.mod(u, period) < period / 2
    else:
        where = (np.mod(u, period) - period / 2) ** 2 + (np.mod(v, period) - period / 2) ** 2 < (0.3 * period) ** 2
    return np.where(where[..., None], second, first)

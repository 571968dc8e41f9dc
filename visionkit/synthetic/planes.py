"""Textured planes in space as a camera sees them: image, owner, depth and motion of every pixel, in closed form.

A plane is a texture with a place: where its first corner lies in the world, and where one texture pixel to the right
and one down lead. Its image under a camera is then one homography, so depth and motion are known exactly, whatever
moves: the plane, the camera, or both. Motion between two times is optical flow; between two cameras at one time it is
disparity.

World and camera axes run to the right, down and forward, in meters; pixel and texture coordinates are continuous.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from visionkit.camera import CameraIntrinsics

SOLID = 0.5
"""Coverage from which a pixel belongs to a plane."""

_HALF = np.array([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])  # OpenCV counts pixel centers from 0, we from 0.5
_NO_HALF = np.array([[1.0, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])


@dataclass(frozen=True)
class Plane:
    """A texture that moves in space.

    Attributes:
        texture: (h, w, 4) float32, color 0 to 255 times coverage, and coverage 0 to 1.
        place: From a time to (3, 3): the steps of one texture pixel to the right and down, and the texture's first
            corner, as columns in meters.
    """

    texture: np.ndarray
    place: Callable[[float], np.ndarray]

    def corners(self, homography: np.ndarray) -> np.ndarray:
        """(4, 2) where the corners of the texture are seen."""
        height, width = self.texture.shape[:2]
        seen = homography @ np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1]], dtype=float)
        return np.asarray((seen[:2] / seen[2]).T)


@dataclass(frozen=True)
class Viewpoint:
    """A camera at one moment.

    Attributes:
        camera: Its intrinsics.
        pose: (4, 4) camera to world.
        time: When, in frames from the beginning of the clip.
        size: Height and width of the image.
    """

    camera: CameraIntrinsics
    pose: np.ndarray
    time: float
    size: tuple[int, int]

    def homography(self, plane: Plane) -> np.ndarray:
        """(3, 3) from texture to image coordinates; the third one is then the depth in meters."""
        fx, fy, cx, cy = self.camera
        place = plane.place(self.time)
        place[:, 2] -= self.pose[:3, 3]
        inside = self.pose[:3, :3].T @ place
        return np.asarray(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]) @ inside)


class Silhouette(NamedTuple):
    """All of a plane as it would be seen with nothing before it.

    Attributes:
        x: Column of its left border in the image (may be negative).
        y: Row of its upper border.
        color: (h, w, 3) float32, times coverage.
        coverage: (h, w) float32.
    """

    x: int
    y: int
    color: np.ndarray
    coverage: np.ndarray

    @property
    def area(self) -> int:
        """Number of its pixels, those outside the image too."""
        return int((self.coverage > SOLID).sum())

    @property
    def box(self) -> np.ndarray:
        """(4,) float32 around its pixels, x2 and y2 exclusive; it may leave the image. Zeros where it has none."""
        solid = self.coverage > SOLID
        rows, columns = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
        if not len(rows):
            return np.zeros(4, np.float32)
        low, high = (columns[0], rows[0]), (columns[-1] + 1, rows[-1] + 1)
        return np.array([low[0] + self.x, low[1] + self.y, high[0] + self.x, high[1] + self.y], np.float32)


class Seen(NamedTuple):
    """What a camera sees.

    Attributes:
        color: (h, w, 3) float32, 0 to 255.
        owner: (h, w) uint8, number of the plane that each pixel belongs to.
        silhouettes: One per plane that is no background.
    """

    color: np.ndarray
    owner: np.ndarray
    silhouettes: tuple[Silhouette, ...]


class Motion(NamedTuple):
    """Where what one view shows is in another.

    Attributes:
        flow: (2, h, w) float32 pixels to the right and downwards.
        depth: (h, w) float32 meters, its depth in the other view.
        visible: (h, w) bool, whether the other view shows it too.
    """

    flow: np.ndarray
    depth: np.ndarray
    visible: np.ndarray


def outline(plane: Plane, view: Viewpoint) -> Silhouette:
    """One plane by itself, also where it is outside the image."""
    homography = view.homography(plane)
    corners = plane.corners(homography)
    x, y = np.floor(corners.min(axis=0)).astype(int).tolist()
    width, height = (np.ceil(corners.max(axis=0)).astype(int) - (x, y)).tolist()
    moved = np.array([[1.0, 0, -x], [0, 1, -y], [0, 0, 1]]) @ homography
    drawn = _warp(plane.texture, moved, (height, width))
    return Silhouette(x, y, drawn[..., :3], drawn[..., 3])


def render(background: Sequence[Plane], objects: Sequence[Plane], view: Viewpoint) -> Seen:
    """Draws the planes, the background first and then the objects, the farthest first.

    Args:
        background: Planes that each cover those before them; the first covers the whole image.
        objects: Planes that stand before it; their numbers follow those of the background.
        view: The camera.
    """
    color = np.zeros((*view.size, 3), np.float32)
    owner = np.zeros(view.size, np.uint8)
    for number, plane in enumerate(background):
        drawn = _warp(plane.texture, view.homography(plane), view.size)
        if number:
            color *= 1 - drawn[..., 3:]
            owner[drawn[..., 3] > SOLID] = number
        color += drawn[..., :3]
    silhouettes = tuple(outline(plane, view) for plane in objects)
    depths = [view.homography(plane)[2, 2] for plane in objects]
    for number in sorted(range(len(objects)), key=lambda k: -depths[k]):
        x, y, own, coverage = silhouettes[number]
        top, left = max(-y, 0), max(-x, 0)
        cut = slice(top, max(top, view.size[0] - y)), slice(left, max(left, view.size[1] - x))
        if not coverage[cut].size:
            continue
        height, width = coverage[cut].shape
        part = slice(y + top, y + top + height), slice(x + left, x + left + width)
        color[part] *= 1 - coverage[cut][..., None]
        color[part] += own[cut]
        owner[part][coverage[cut] > SOLID] = len(background) + number
    return Seen(color, owner, silhouettes)


def depth_map(planes: Sequence[Plane], owner: np.ndarray, view: Viewpoint) -> np.ndarray:
    """(h, w) float32 meters along the optical axis."""
    depth = np.zeros(owner.shape, np.float32)
    for rows, columns, plane in _parts(planes, owner):
        depth[rows, columns] = 1 / _texture_points(plane, view, rows, columns)[2]
    return depth


def motion(
    planes: Sequence[Plane], owner: np.ndarray, view: Viewpoint, other_owner: np.ndarray, other: Viewpoint
) -> Motion:
    """Where every pixel of one view is in another.

    Args:
        planes: All planes, the background first.
        owner: What the view shows, see `Seen`.
        view: The view.
        other_owner: What the other view shows.
        other: The other view.
    """
    height, width = owner.shape
    flow, depth = np.zeros((2, height, width), np.float32), np.zeros((height, width), np.float32)
    visible = np.zeros((height, width), bool)
    for rows, columns, plane in _parts(planes, owner):
        points = _texture_points(plane, view, rows, columns)
        x, y, far = other.homography(plane) @ (points / points[2])
        x, y = x / far, y / far
        flow[:, rows, columns] = x - (columns + 0.5), y - (rows + 0.5)
        depth[rows, columns] = far
        # A small margin, so that rounding puts no point of a border into the pixel beside it.
        column, row = np.floor(x + 1e-6).astype(int), np.floor(y + 1e-6).astype(int)
        inside = (far > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        shown = other_owner[np.where(inside, row, 0), np.where(inside, column, 0)] == owner[rows, columns]
        visible[rows, columns] = inside & shown
    return Motion(flow, depth, visible)


def _parts(planes: Sequence[Plane], owner: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, Plane]]:
    return [(*np.nonzero(owner == number), planes[number]) for number in np.unique(owner)]


def _texture_points(plane: Plane, view: Viewpoint, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(3, n) homogeneous texture coordinates of pixel centers; the third is one over the depth."""
    pixels = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))])
    return np.asarray(np.linalg.inv(view.homography(plane)) @ pixels)


def _warp(texture: np.ndarray, homography: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    matrix = _NO_HALF @ homography @ _HALF
    return np.asarray(cv2.warpPerspective(texture, matrix, size[::-1], flags=cv2.INTER_LINEAR))

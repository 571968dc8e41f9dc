"""A pinhole camera: what turns depth into points in space, and what a resize changes in place of meters."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from visionkit.errors import DataError, UsageError

if TYPE_CHECKING:
    pass


class CameraIntrinsics(NamedTuple):
    """Intrinsics in pixels of one image; x runs from 0 at its left border, so the first pixel's center is at 0.5.

    Attributes:
        fx: Focal length in pixels, horizontally.
        fy: Focal length in pixels, vertically.
        cx: Column of the optical axis.
        cy: Row of the optical axis.
    """

    fx: float
    fy: float
    cx: float
    cy: float

    @classmethod
    def of_view(cls, size: tuple[int, int], degrees: float = 60.0) -> CameraIntrinsics:
        """A camera that looks through the middle of an image.

        Args:
            size: Height and width of the image.
            degrees: Field of view along the longer side, above 0 and below 180.

        Raises:
            UsageError: No such field of view.
        """
        if not 0 < degrees < 180:
            raise UsageError(f"field of view {degrees}: allowed is above 0 and below 180 degrees")
        focal = max(size) / 2 / math.tan(math.radians(degrees) / 2)
        return cls(focal, focal, size[1] / 2, size[0] / 2)

    @classmethod
    def parse(cls, text: str) -> CameraIntrinsics:
        """From `fx,fy,cx,cy`, or from a file that holds these four numbers or a 3x3 matrix.

        Raises:
            UsageError: Neither.
            DataError: The file holds something else.
        """
        path = Path(text)
        words = text
        if path.is_file():
            try:
                words = path.read_text("utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise DataError(f"{path}: cannot be read as text ({type(error).__name__})") from None
        try:
            numbers = [float(word) for word in words.replace(",", " ").split()]
        except ValueError:
            numbers = []
        if len(numbers) == 9:  # as most files have it: the center of the first pixel is at 0 there
            numbers = [numbers[0], numbers[4], numbers[2] + 0.5, numbers[5] + 0.5]
        if len(numbers) != 4 or not all(map(math.isfinite, numbers)) or min(numbers[:2]) <= 0:
            what = f"{path}: holds" if path.is_file() else f"camera {text!r}:"
            kind = DataError if path.is_file() else UsageError
            raise kind(f"{what} no intrinsics; give fx,fy,cx,cy in pixels, or a file with them or with a 3x3 matrix")
        return cls(*numbers)

    def points(self, depth: np.ndarray) -> np.ndarray:
        """Positions in space of every pixel.

        Args:
            depth: (h, w) meters along the axis, of an image that this camera took.

        Returns:
            (h, w, 3) float32 meters: x to the right, y down, z away from the camera.
        """
        height, width = depth.shape
        x = ((np.arange(width) + 0.5 - self.cx) / self.fx).astype(np.float32)
        y = ((np.arange(height) + 0.5 - self.cy) / self.fy).astype(np.float32)
        return np.stack([x[None] * depth, y[:, None] * depth, depth], axis=-1).astype(np.float32)


def point_cloud(depth: np.ndarray, image: np.ndarray, camera: CameraIntrinsics) -> tuple[np.ndarray, np.ndarray]:
    """The colored points of what is known.

    Args:
        depth: (h, w) meters, 0 not known.
        image: (h, w, 3) uint8 RGB.
        camera: Camera that took it.

    Returns:
        (n, 3) float32 meters and (n, 3) uint8 RGB.

    Raises:
        UsageError: Depth and image differ in size.
    """
    if depth.shape != image.shape[:2]:
        raise UsageError(f"depth of {depth.shape} and an image of {image.shape[:2]} make no cloud; they must agree")
    known = depth > 0
    return camera.points(depth)[known], image[known]


def ply(points: np.ndarray, colors: np.ndarray) -> bytes:
    """A binary PLY file, as MeshLab, Blender and CloudCompare open it.

    Args:
        points: (n, 3) meters; y down and z away from the camera, which the file keeps.
        colors: (n, 3) uint8 RGB.
    """
    rows = np.empty(len(points), dtype=[("place", "<f4", 3), ("color", "u1", 3)])
    rows["place"], rows["color"] = points, colors
    head = (
        "ply\nformat binary_little_endian 1.0\ncomment meters; x right, y down, z away from the camera\n"
        f"element vertex {len(points)}\nproperty float x\nproperty float y\nproperty float z\n"
        "property uchar red\nproperty uchar green\nproperty uchar blue\nend_header\n"
    )
    return head.encode("ascii") + rows.tobytes()

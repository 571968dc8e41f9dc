"""The motion of every place of a blurred image, by a classifier of patches (Sun et al., 2015)."""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass

import numpy as np

from visionkit.errors import DataError, UsageError
from visionkit.families.restoration.motions import Motion
from visionkit.images import ImageLike, read_image
from visionkit.inputs import Given
from visionkit.predictions import Classification
from visionkit.predictor import Predictor


@dataclass(frozen=True, eq=False)
class BlurField:
    """Motion on a grid of places.

    Attributes:
        rows: (n,) float, vertical place of each row of the grid in pixels of the image.
        columns: (m,) float, horizontal place of each column.
        lengths: (n, m) float32, length of the motion in pixels; 1 is none.
        angles: (n, m) float32, degrees from 0 up to 180, counter-clockwise as seen, from the horizontal.
        probabilities: (n, m) float32 in [0, 1], of these motions among all candidates.
    """

    rows: np.ndarray
    columns: np.ndarray
    lengths: np.ndarray
    angles: np.ndarray
    probabilities: np.ndarray

    @property
    def vectors(self) -> np.ndarray:
        """(n, m, 2) float32: the motions as x and y in pixels, y downward; which end is the beginning is not known."""
        radians = np.radians(self.angles)
        return np.stack([self.lengths * np.cos(radians), -self.lengths * np.sin(radians)], axis=2)

    def draw(self, image: ImageLike, min_probability: float = 0.0) -> np.ndarray:
        """The image with a line for each motion, its color by the angle; a dot where there is none.

        Args:
            image: The image that the field is of.
            min_probability: Places whose motion is less probable are left out.

        Returns:
            (h, w, 3) uint8, enlarged by a whole factor where the image is small.
        """
        from PIL import Image, ImageDraw

        from visionkit.drawing import enlarged

        pixels = read_image(image)
        canvas = enlarged(pixels)
        factor = canvas.shape[1] // pixels.shape[1]
        sheet = Image.fromarray(canvas)
        pen, width = ImageDraw.Draw(sheet), max(1, round(min(canvas.shape[:2]) / 250))
        vectors = self.vectors
        for row, column in zip(*np.nonzero(self.probabilities >= min_probability), strict=True):
            x, y = ((place[k] + 0.5) * factor for place, k in ((self.columns, column), (self.rows, row)))
            if self.lengths[row, column] <= 1:
                pen.ellipse((x - width, y - width, x + width, y + width), fill="white", outline="black")
                continue
            dx, dy = (float(value) * factor / 2 for value in vectors[row, column])
            hue = colorsys.hsv_to_rgb(float(self.angles[row, column]) / 180, 0.9, 1.0)
            line = (x - dx, y - dy, x + dx, y + dy)
            pen.line(line, fill="black", width=width + 2)
            pen.line(line, fill=tuple(round(255 * value) for value in hue), width=width)
        return np.asarray(sheet)


def find_blur_field(
    predictor: Predictor, image: ImageLike, *, stride: int = 16, rotations: int = 5, smooth: float = 1.0
) -> BlurField:
    """Estimates how every place of an image moved during the exposure.

    Patches are classified as they are and rotated by steps, which gives `rotations` times as many angles as the
    classifier knows: 361 motions of the paper's 73. Probabilities of places near each other are averaged in place of
    the paper's Markov random field.

    Args:
        predictor: A classifier whose classes are motions, see `Motion`, such as `MotionPatchData` trains.
        image: The blurred image.
        stride: Pixels from one place to the next.
        rotations: Number of rotations of each patch, the first by 0 degrees.
        smooth: Standard deviation of the Gaussian that averages probabilities, in places; 0 is off.

    Raises:
        UsageError: The classifier's classes are not motions, or an argument that is not allowed.
        DataError: The image is smaller than a patch.
    """
    import cv2

    if stride < 1 or rotations < 1 or smooth < 0:
        raise UsageError(f"stride {stride} and rotations {rotations} at least 1, smooth {smooth:g} at least 0")
    known = [Motion.of(name) for name in predictor.classes]
    if not known:
        raise UsageError("the model has no classes; give a classifier of motions")
    step = _angle_step(known) / rotations
    pixels, side = read_image(image), predictor.task.input.size[0]
    if min(pixels.shape[:2]) < side:
        raise DataError(f"{pixels.shape[1]}x{pixels.shape[0]} pixels: the classifier takes patches of {side}x{side}")
    rows, columns = (_places(length, side, stride) for length in pixels.shape[:2])
    candidates: dict[Motion, int] = {}
    total = np.zeros((len(rows), len(columns), len(known) * rotations), dtype=np.float32)
    seen_by = np.zeros(total.shape[2], dtype=np.float32)  # rotations that a candidate is a class of
    for number in range(rotations):
        # What is seen at an angle in a patch that was rotated by so much lies at a smaller angle in the image.
        seen = [motion if motion.length <= 1 else _rotated(motion, -number * step) for motion in known]
        places = [candidates.setdefault(motion, len(candidates)) for motion in seen]
        seen_by[places] += 1
        for row, y in enumerate(rows):
            patches: list[Given] = [_rotated_patch(pixels, y, x, side, number * step) for x in columns]
            found = [each for each in predictor(patches) if isinstance(each, Classification)]
            total[row][:, places] += np.stack([each.probabilities for each in found])
    # No motion is a class of every rotation, a motion that of one: each counts by its mean.
    total = total[:, :, : len(candidates)] / seen_by[: len(candidates)]
    total /= total.sum(axis=2, keepdims=True)
    if smooth:
        for number in range(total.shape[2]):
            total[:, :, number] = cv2.GaussianBlur(np.ascontiguousarray(total[:, :, number]), (0, 0), smooth)
    best = total.argmax(axis=2)
    motions = np.array(list(candidates), dtype=np.float32)[best]
    probabilities = np.take_along_axis(total, best[:, :, None], axis=2)[:, :, 0]
    return BlurField(rows, columns, motions[:, :, 0], motions[:, :, 1], probabilities)


def _angle_step(motions: list[Motion]) -> float:
    angles = sorted({motion.angle for motion in motions if motion.length > 1})
    return 180.0 / len(angles) if angles else 180.0


def _rotated(motion: Motion, degrees: float) -> Motion:
    return Motion(motion.length, round((motion.angle + degrees) % 180, 6) % 180)


def _places(length: int, side: int, stride: int) -> np.ndarray:
    """The middles of patches that are as far from both ends of that length."""
    spare = length - side
    return spare % stride // 2 + np.arange(0, spare + 1, stride) + (side - 1) / 2


def _rotated_patch(image: np.ndarray, y: float, x: float, side: int, degrees: float) -> np.ndarray:
    """The patch around a place, (side, side, 3), its content rotated counter-clockwise as seen."""
    import cv2

    middle = (side - 1) / 2
    if degrees == 0:
        top, left = round(y - middle), round(x - middle)
        return np.ascontiguousarray(image[top : top + side, left : left + side])
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    matrix = np.array([[cos, sin, middle - cos * x - sin * y], [-sin, cos, middle + sin * x - cos * y]])
    patch: np.ndarray = cv2.warpAffine(
        image, matrix, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )
    return patch

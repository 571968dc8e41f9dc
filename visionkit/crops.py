"""The region about a person that a network is shown: the same in training, in evaluation and behind a detector."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from visionkit.errors import UsageError


@dataclass(frozen=True)
class PersonCrop:
    """How a crop follows from a box.

    Attributes:
        padding: Sides of the crop over those of the box, from 1 on; limbs often leave the box.
    """

    padding: float = 1.25

    def __post_init__(self) -> None:
        if not 1 <= self.padding <= 4:
            raise UsageError(f"crop.padding {self.padding}: allowed is 1 to 4")

    def region(self, box: Sequence[float] | np.ndarray, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """The region with the network's ratio of sides that holds the padded box, about the same center.

        Args:
            box: x1, y1, x2, y2 in file pixels.
            size: Height and width of the network's input.

        Returns:
            x1, y1, x2, y2 in file pixels; may reach outside the image.
        """
        x1, y1, x2, y2 = (float(value) for value in box)
        ratio = size[1] / size[0]
        width, height = max(x2 - x1, 1.0), max(y2 - y1, 1.0)
        height = max(height, width / ratio) * self.padding
        width = height * ratio
        x, y = (x1 + x2) / 2, (y1 + y2) / 2
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def whole_image_box(source: tuple[int, int], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The region with the network's ratio of sides that just holds a whole image, for one person that fills it.

    Args:
        source: Height and width of the image.
        size: Height and width of the network's input.
    """
    return PersonCrop(1.0).region((0, 0, source[1], source[0]), size)


def usable_box(box: Sequence[float] | np.ndarray, source: tuple[int, int]) -> np.ndarray | None:
    """The part of a box that lies in the image; None where none does, or a number is not finite.

    Args:
        box: x1, y1, x2, y2 in file pixels.
        source: Height and width of the image.
    """
    values = np.asarray(box, dtype=np.float64)
    if values.shape != (4,) or not all(math.isfinite(value) for value in values):
        return None
    height, width = source
    cut = np.clip(values, 0, [width, height, width, height])
    return cut if cut[2] - cut[0] >= 1 and cut[3] - cut[1] >= 1 else None

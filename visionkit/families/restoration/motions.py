"""The motions that a classifier of motion blur distinguishes, as class names and back (Sun et al., 2015)."""

from __future__ import annotations

import re
from typing import NamedTuple

from visionkit.errors import UsageError

_NAME = re.compile(r"(\d+(?:\.\d+)?) px (\d+(?:\.\d+)?) deg")


class Motion(NamedTuple):
    """A motion along a line during the exposure.

    Attributes:
        length: Length of the way in pixels; 1 is no motion.
        angle: Degrees, 0 up to 180, counter-clockwise as seen, from the horizontal.
    """

    length: float
    angle: float

    @property
    def name(self) -> str:
        """Name of its class: `sharp`, or such as `9 px 30 deg`."""
        return "sharp" if self.length <= 1 else f"{self.length:g} px {self.angle:g} deg"

    @classmethod
    def of(cls, name: str) -> Motion:
        """The motion of a class.

        Raises:
            UsageError: The class is no motion.
        """
        if name == "sharp":
            return cls(1.0, 0.0)
        match = _NAME.fullmatch(name)
        if match is None:
            raise UsageError(f"class {name!r}: is no motion; these are called sharp, or such as '9 px 30 deg'")
        return cls(float(match[1]), float(match[2]) % 180)


def candidate_motions(max_length: int = 25, angle_step: float = 30.0) -> list[Motion]:
    """All motions of odd lengths and evenly spaced angles, and none.

    Args:
        max_length: Longest motion in pixels; odd.
        angle_step: Degrees between angles; a divisor of 180.

    Returns:
        No motion, then those of 3 pixels, 5 and so on, by angle: 73 for 25 pixels and 30 degrees, as in the paper.

    Raises:
        UsageError: An even length, or angles that do not divide 180 degrees.
    """
    if max_length < 3 or max_length % 2 == 0:
        raise UsageError(f"max_length {max_length}: allowed is an odd number of pixels from 3 on")
    count = round(180 / angle_step) if angle_step > 0 else 0
    if count < 1 or abs(count * angle_step - 180) > 1e-9:
        raise UsageError(f"angle_step {angle_step:g}: allowed are degrees that divide 180, such as 30")
    angles = [number * angle_step for number in range(count)]
    moving = [Motion(float(length), angle) for length in range(3, max_length + 1, 2) for angle in angles]
    return [Motion(1.0, 0.0), *moving]

"""The base of what degrades an image, and several of them one after the other.

Every draw comes from the generator that is handed in, so a degraded image depends on (seed, epoch, index) alone.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from visionkit.errors import UsageError
from visionkit.remembered import RemembersArguments

Range = float | tuple[float, float]
"""A number, or the smallest and the largest of those that one is drawn from evenly."""

GRAY = 128.0
"""What holes are filled with by default: of what lay there nothing is left."""


class Degraded(NamedTuple):
    """A degraded image, and what is known of its degradation.

    Attributes:
        image: (h, w, C) float32 on a scale of 0 to 255, which noise may leave.
        mask: (h, w) bool, where the image is missing, or None.
        noise_level: (h, w) float32, standard deviation of the noise in gray levels of 255, or None.
    """

    image: np.ndarray
    mask: np.ndarray | None = None
    noise_level: np.ndarray | None = None


class DegradationPart(ABC, metaclass=RemembersArguments):
    """One thing that degrades an image.

    Attributes:
        condition: The further input that it makes known, `mask` or `noise_level`, or None.
    """

    condition: str | None = None

    @abstractmethod
    def __call__(self, degraded: Degraded, rng: np.random.Generator) -> Degraded:
        """Degrades an image; draws from `rng` alone and writes to no array that it is given."""

    @property
    def reach(self) -> int:
        """Pixels around a patch that its result depends on: cut with them, a patch is that of the whole image."""
        return 0

    @property
    def margin(self) -> int:
        """Pixels of each border of the image that are not valid afterwards and are left out."""
        return 0

    @property
    def grid(self) -> int:
        """Pixels from one of its blocks to the next."""
        return 1

    @property
    def wraps(self) -> bool:
        """Whether the image goes on beyond its border with its other side."""
        return False

    @property
    def noise_levels(self) -> tuple[float, float] | None:
        """Smallest and largest deviation of Gaussian noise that it adds, in gray levels, or None."""
        return None

    def leaves_levels(self, whole: bool) -> bool:
        """Whether pixels are whole numbers from 0 to 255 afterwards, given whether they were before."""
        return whole


Degradations = DegradationPart | list[DegradationPart]
"""What an option of a data module takes: a part, or a list of parts."""


class DegradationChain:
    """Applies parts in order.

    Args:
        parts: The parts; None for none of them.
        option: Option that they were given with, for messages.

    Raises:
        UsageError: Something else than parts, or holes before another part, which would change what they are filled
            with and carry it into known pixels.
    """

    def __init__(self, parts: Degradations | None, option: str = "data.degradations") -> None:
        parts = parts if isinstance(parts, (list, tuple)) else [] if parts is None else [parts]
        if wrong := [part for part in parts if not isinstance(part, DegradationPart)]:
            raise UsageError(f"{option}: {wrong[0]!r} is not a degradation; give objects such as GaussianNoise(25)")
        for part, after in pairwise(parts):
            if part.condition == "mask" != after.condition:
                raise UsageError(
                    f"{option}: {type(part).__name__} stands before {type(after).__name__}, which would change its "
                    "holes and the pixels around them; put parts that make holes last"
                )
        self.parts = tuple(parts)
        self.reach = sum(part.reach for part in self.parts)
        self.margin = sum(part.margin for part in self.parts)
        self.grid = math.lcm(*(part.grid for part in self.parts))
        self.wraps = any(part.wraps for part in self.parts)
        self.conditions = frozenset(part.condition for part in self.parts if part.condition is not None)

    def __bool__(self) -> bool:
        return bool(self.parts)

    @property
    def noise_levels(self) -> tuple[float, float] | None:
        """Smallest and largest deviation of Gaussian noise, in gray levels; None without any."""
        known = [part.noise_levels for part in self.parts if part.noise_levels is not None]
        return (min(low for low, _ in known), max(high for _, high in known)) if known else None

    def leaves_levels(self, whole: bool) -> bool:
        """See `DegradationPart.leaves_levels`."""
        for part in self.parts:
            whole = part.leaves_levels(whole)
        return whole

    def __call__(self, image: np.ndarray, rng: np.random.Generator, mask: np.ndarray | None = None) -> Degraded:
        """Degrades an image.

        Args:
            image: (h, w, C) uint8, or float32 on a scale of 0 to 255.
            rng: Where all draws come from.
            mask: (h, w) bool, what is missing of the degraded image.
        """
        degraded = Degraded(np.ascontiguousarray(image, dtype=np.float32))
        for part in self.parts:
            degraded = part(degraded, rng)
        return degraded if mask is None else with_holes(degraded, mask)


def with_holes(degraded: Degraded, mask: np.ndarray, fill: float = GRAY) -> Degraded:
    """The image with holes.

    Args:
        degraded: The image, and the holes that it has.
        mask: (h, w) bool, the new holes.
        fill: Gray level that they are filled with.
    """
    image = np.where(mask[:, :, None], np.float32(fill), degraded.image)
    return degraded._replace(image=image, mask=mask if degraded.mask is None else degraded.mask | mask)


def bounds_of(value: Range, low: float, high: float, name: str) -> tuple[float, float]:
    """The smallest and the largest of an option that is a number or a range.

    Args:
        value: The option.
        low: Smallest allowed value.
        high: Largest allowed value.
        name: Names it in the message: "GaussianNoise.sigma".

    Raises:
        UsageError: No range, or outside of what is allowed.
    """
    pair = tuple(value) if isinstance(value, (list, tuple)) else (value, value)
    if len(pair) != 2 or not low <= pair[0] <= pair[1] <= high:
        raise UsageError(
            f"{name} {value}: give a number, or the smallest and the largest of a range, from {low:g} to {high:g}"
        )
    return float(pair[0]), float(pair[1])


def drawn(bounds: tuple[float, float], rng: np.random.Generator) -> float:
    """A number drawn evenly between two bounds; where they are equal, nothing is drawn."""
    return bounds[0] if bounds[0] == bounds[1] else float(rng.uniform(*bounds))

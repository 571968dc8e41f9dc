"""Receptive fields as arithmetic: which input pixels a unit depends on, along each side.

Araujo, Norris, Sim, "Computing Receptive Fields of Convolutional Neural Networks" (Distill 2019): a stack of layers has
`size' = size + (kernel - 1) * dilation * jump` and `jump' = jump * stride`. Layers that enlarge have fractional jumps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import reduce

_ROUNDING = 1e-6


@dataclass(frozen=True)
class Window:
    """The pixels along one side that the units of a map depend on.

    Unit i depends on the pixels from `first + i * jump` to `first + i * jump + size - 1`; where layers enlarge, these
    bounds are those of the unit that sees most.

    Attributes:
        size: Width of the receptive field in pixels.
        jump: Input pixels between two neighboring units: the product of the strides.
        first: First pixel that unit 0 depends on; negative where it lies in the padding.
    """

    size: float = 1
    jump: float = 1
    first: float = 0

    @property
    def center(self) -> float:
        """Center of unit 0 in pixels; the center of the first pixel is 0.5."""
        return self.first + self.size / 2

    def interval(self, unit: int) -> tuple[int, int]:
        """First and last pixel that a unit depends on, padding included."""
        first = self.first + unit * self.jump
        return math.ceil(first - _ROUNDING), math.floor(first + self.size - 1 + _ROUNDING)

    def convolved(self, kernel: float, stride: float = 1, padding: float = 0, dilation: float = 1) -> Window:
        """Behind a convolution or a pooling."""
        return Window(
            self.size + (kernel - 1) * dilation * self.jump, self.jump * stride, self.first - padding * self.jump
        )

    def transposed(self, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> Window:
        """Behind a transposed convolution: output o takes part in input i where `o = i * stride - padding + t`."""
        reach = (kernel - 1) * dilation
        first = self.first + (padding - reach) / stride * self.jump
        return Window(self.size + reach / stride * self.jump, self.jump / stride, first)

    def resized(self, factor: float, taps: int = 1, aligned: bool = False) -> Window:
        """Behind a resize by a factor.

        Args:
            factor: Output units per input unit.
            taps: Input units that an output interpolates between: 1 nearest, 2 bilinear, 4 bicubic.
            aligned: The centers of the first and last units stay in place (`align_corners`).
        """
        if factor == 1:
            return self
        # Output o lies at (o + 1/2) / factor - 1/2 and reads the units less than taps / 2 away. With a whole factor, no
        # unit that is read lies nearer to that bound than a step of 1 / factor, or half of it where the factor is even.
        shift = 0.0 if aligned else 0.5 / factor - 0.5
        if taps == 1:
            reach = 0.5 - 0.5 / factor if factor > 1 else 0.5
        else:
            even = factor % 2 == 0
            reach = taps / 2 - (0.0 if aligned or factor % 1 else (0.5 if even else 1) / factor)
        first = self.first + (shift - reach) * self.jump
        return Window(self.size + 2 * reach * self.jump, self.jump / factor, first)

    def sliced(self, start: int, step: int = 1) -> Window:
        """Behind a slice of the map."""
        return replace(self, first=self.first + start * self.jump, jump=self.jump * step)

    def merged(self, other: Window) -> Window:
        """The smallest window that holds two of one jump."""
        first = min(self.first, other.first)
        end = max(self.first + self.size, other.first + other.size)
        return Window(end - first, self.jump, first)


@dataclass(frozen=True)
class ReceptiveField:
    """What the units of a tensor depend on.

    Attributes:
        windows: One per side of the input, height first.
        whole: Some layer before (global pooling, attention, squeeze and excitation, group normalization) mixes all
            positions, so a unit depends on the whole image; `windows` are then those along the other layers.
        axes: Where the sides lie in the tensor; a single one for tokens, none for a vector.
    """

    windows: tuple[Window, ...]
    whole: bool = False
    axes: tuple[int, ...] = ()

    @property
    def size(self) -> tuple[float, ...]:
        """Size along each side in pixels."""
        return tuple(window.size for window in self.windows)

    @property
    def jump(self) -> tuple[float, ...]:
        """Jump along each side in pixels."""
        return tuple(window.jump for window in self.windows)

    @property
    def center(self) -> tuple[float, ...]:
        """Center of the first unit along each side in pixels."""
        return tuple(window.center for window in self.windows)

    def box(self, units: Iterable[int], sides: Iterable[int]) -> tuple[tuple[int, int], ...]:
        """First and last pixel, along each side, that a unit depends on.

        Args:
            units: Position of the unit.
            sides: Height and width of the input.
        """
        if self.whole:
            return tuple((0, side - 1) for side in sides)
        bounds = zip(self.windows, units, sides, strict=True)
        found = ((*window.interval(unit), side) for window, unit, side in bounds)
        return tuple((max(0, first), min(side - 1, last)) for first, last, side in found)

    def mixed(self) -> ReceptiveField:
        """Behind a layer that mixes all positions and keeps them apart."""
        return replace(self, whole=True)

    def vector(self) -> ReceptiveField:
        """Behind a layer that leaves one unit of all positions."""
        return replace(self, whole=True, axes=())


def merged(fields: Iterable[ReceptiveField]) -> ReceptiveField:
    """Where branches meet, with the sides in the same places: the largest."""
    return reduce(_merged, fields)


def _merged(one: ReceptiveField, two: ReceptiveField) -> ReceptiveField:
    if len(two.axes) > len(one.axes):
        one, two = two, one
    whole = one.whole or two.whole
    if one.axes != two.axes or one.jump != two.jump:
        return replace(one, whole=whole or bool(one.axes) or one.windows != two.windows)
    windows = (a.merged(b) for a, b in zip(one.windows, two.windows, strict=True))
    return replace(one, windows=tuple(windows), whole=whole)

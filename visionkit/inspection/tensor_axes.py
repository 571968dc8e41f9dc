"""Where the sides of an image lie in a tensor behind functions that only rearrange it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from visionkit.inspection.receptive_field import ReceptiveField


def permuted(
    field: ReceptiveField, ndim: int, args: Sequence[Any], kwargs: Mapping[str, Any], swap: bool = False
) -> ReceptiveField:
    """Behind `permute`, or behind `transpose` where two axes are swapped."""
    given = [*args, *(value for value in kwargs.values() if not isinstance(value, Tensor))]
    order = [int(axis) % ndim for axis in (given[0] if isinstance(given[0], Sequence) else given)]
    if swap:
        one, two = order
        order = list(range(ndim))
        order[one], order[two] = two, one
    return replace(field, axes=tuple(order.index(axis) for axis in field.axes))


def reshaped(field: ReceptiveField, before: tuple[int, ...], after: tuple[int, ...]) -> ReceptiveField:
    """Behind `view` and its like: each side is found by its length and by the product of what stands before it.

    Two sides that become one are tokens, and tokens that become two sides are a map again. What splits or mixes a side
    (windows, patches) leaves a vector, which depends on the whole image unless the map has a single position.
    """
    if not field.axes:
        return field
    if len(field.axes) == len(field.windows):
        found = [_place(after, math.prod(before[:axis]), before[axis]) for axis in field.axes]
        axes = tuple(place for place in found if place is not None)
        if len(axes) == len(found):
            return replace(field, axes=axes)
        first, last = field.axes[0], field.axes[-1]
        is_run = field.axes == tuple(range(first, last + 1))
        merged = _place(after, math.prod(before[:first]), math.prod(before[first : last + 1])) if is_run else None
        if merged is not None:
            return replace(field, axes=(merged,))
    else:
        (axis,) = field.axes
        start = math.prod(before[:axis])
        place = _place(after, start, before[axis])
        if place is not None:
            return replace(field, axes=(place,))
        for place in range(len(after) - 1):
            if math.prod(after[:place]) == start and after[place] * after[place + 1] == before[axis]:
                return replace(field, axes=(place, place + 1))
    if all(before[axis] == 1 for axis in field.axes):
        return replace(field, axes=())
    return field.vector()


def _place(shape: tuple[int, ...], start: int, length: int) -> int | None:
    """The axis of that length before which `start` positions stand."""
    for axis, side in enumerate(shape):
        if side == length and math.prod(shape[:axis]) == start:
            return axis
    return None


def indexed(field: ReceptiveField, shape: tuple[int, ...], index: Any) -> ReceptiveField:
    """Behind `x[...]` with numbers and slices; anything else mixes all positions."""
    parts = list(index) if isinstance(index, tuple) else [index]
    if not all(each is None or each is Ellipsis or isinstance(each, int | slice) for each in parts):
        return field.vector()
    taken = sum(each is not None and each is not Ellipsis for each in parts)
    fill = [slice(None)] * (len(shape) - taken)
    place = parts.index(Ellipsis) if Ellipsis in parts else len(parts)
    parts[place : place + 1] = fill
    windows, axes, axis, out = list(field.windows), [], 0, 0
    for part in parts:
        if part is None:
            out += 1
            continue
        if axis in field.axes:
            number = field.axes.index(axis)
            if isinstance(part, int):
                return field.vector()
            if len(field.axes) == len(windows):
                start, _, step = part.indices(shape[axis])
                windows[number] = windows[number].sliced(start, step)
            axes.append(out)
        axis += 1
        out += not isinstance(part, int)
    return replace(field, windows=tuple(windows), axes=tuple(axes))

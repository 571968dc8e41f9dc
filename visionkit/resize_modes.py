"""Where each resize mode of `InputSpec` puts an image on the canvas of the network."""

from __future__ import annotations

import math

from visionkit.input_spec import InputSpec

_FAR = 16
"""Of an image that is longer than so many crops, only the middle is resized: a 30,000 x 1 one would take gigabytes."""


def without_far_ends(spec: InputSpec, source: tuple[int, int]) -> tuple[int, int, int, int]:
    """x1, y1, x2, y2 of the middle of a file, whole unless it is extremely long."""
    height, width = source
    scale = max(spec.size[0] / height, spec.size[1] / width) / spec.crop_fraction
    keep = []
    for side, crop in ((height, spec.size[0]), (width, spec.size[1])):
        least = min(side, math.ceil(_FAR * crop / scale))
        keep.append(least + (side - least) % 2)  # the same on both ends, so the center stays
    top, left = (height - keep[0]) // 2, (width - keep[1]) // 2
    return left, top, left + keep[1], top + keep[0]


Placement = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]  # resized, offset, size


def _stretch(spec: InputSpec, height: float, width: float, is_view: bool) -> Placement:
    return spec.size, (0, 0), spec.size


def _crop(spec: InputSpec, height: float, width: float, is_view: bool) -> Placement:
    if is_view:
        return spec.size, (0, 0), spec.size
    # The protocol of the published ImageNet numbers: round the short side down, then the center.
    want = (math.floor(spec.size[0] / spec.crop_fraction), math.floor(spec.size[1] / spec.crop_fraction))
    if height / want[0] <= width / want[1]:
        resized = (want[0], max(want[1], int(want[0] * width / height)))
    else:
        resized = (max(want[0], int(want[1] * height / width)), want[1])
    offset = (-round((resized[0] - spec.size[0]) / 2), -round((resized[1] - spec.size[1]) / 2))
    return resized, offset, spec.size


def _letterbox(spec: InputSpec, height: float, width: float, is_view: bool, enlarge: bool = True) -> Placement:
    scale = min(spec.size[0] / height, spec.size[1] / width)
    if not enlarge:
        scale = min(scale, 1.0)
    resized = (
        min(spec.size[0], max(1, round(height * scale))),
        min(spec.size[1], max(1, round(width * scale))),
    )
    return resized, ((spec.size[0] - resized[0]) // 2, (spec.size[1] - resized[1]) // 2), spec.size


def _pad(spec: InputSpec, height: float, width: float, is_view: bool) -> Placement:
    return _letterbox(spec, height, width, is_view, enlarge=False)


def _native(spec: InputSpec, height: float, width: float, is_view: bool) -> Placement:
    resized = (max(1, round(height)), max(1, round(width)))
    size = (-(-resized[0] // spec.divisor) * spec.divisor, -(-resized[1] // spec.divisor) * spec.divisor)
    return resized, (0, 0), size


PLACEMENTS = {"stretch": _stretch, "crop": _crop, "letterbox": _letterbox, "pad": _pad, "native": _native}
"""For each resize mode: the spec, height and width of the cut and whether it is a view, to where it goes."""

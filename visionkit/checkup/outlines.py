"""What is wrong with outlines: polygons that cross themselves, leave their image, or do not belong to their box."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from visionkit.checkup.findings import Finding
from visionkit.checkup.objects import Objects, object_check, proper, shown_box
from visionkit.masks import mask_areas, mask_boxes

_ROUNDING = 1.5  # pixels by which outlines are rounded
_LOOP = 0.01  # fraction of the area from which a loop counts
_LEAST_LOOP = 4.0  # pixels
_LONGEST = 1500  # corners; of a longer outline every n-th is taken


@object_check
def outlines(objects: Objects) -> Iterator[Finding]:
    """Everything about the outline of each object."""
    if objects.segments is None:
        return
    lacking = np.array([segment is None for segment in objects.segments]) & ~objects.crowd
    if 0 < lacking.sum() < 0.5 * len(objects):
        for row in np.flatnonzero(lacking).tolist():
            yield objects.finding("missing-outline", row, f"{objects.name(row)}: other objects have an outline")
    good = proper(objects)
    for row, segment in enumerate(objects.segments):
        if segment is None:
            continue
        if isinstance(segment, list):
            parts = [np.asarray(part, dtype=np.float64).reshape(-1, 2) for part in segment]
            points = tuple((float(x), float(y)) for x, y in np.concatenate(parts))
            area = sum(abs(_area(part)) for part in parts)
            yield from _of_polygons(objects, row, parts, area, points)
            low, high = np.concatenate(parts).min(axis=0), np.concatenate(parts).max(axis=0)
            extent = np.concatenate([low, high])
        else:
            points, area = (), float(mask_areas([segment])[0])
            if area == 0:
                yield objects.finding("degenerate-polygon", row, f"{objects.name(row)}: its mask has no pixel")
                continue
            extent = mask_boxes([segment])[0].astype(np.float64)
        if good[row] and not objects.crowd[row] and area >= _LEAST_LOOP:
            yield from _with_box(objects, row, extent, area, points)


def _of_polygons(
    objects: Objects, row: int, parts: list[np.ndarray], area: float, points: tuple[tuple[float, float], ...]
) -> Iterator[Finding]:
    name = objects.name(row)
    loop = max((crossing_loop(part) for part in parts), default=0.0)
    if area == 0 and loop == 0:
        yield objects.finding("degenerate-polygon", row, f"{name}: its outline encloses nothing", points=points)
        return
    if loop > max(_LEAST_LOOP, _LOOP * area):
        message = f"{name}: its outline crosses itself, with a loop of {loop:,.0f} pixels"
        yield objects.finding("self-crossing-polygon", row, message, points=points)
    limit = objects.size[row, ::-1]
    whole = np.concatenate(parts)
    far = float(np.maximum(-whole, whole - limit).max()) if np.isfinite(limit).all() else 0.0
    if far > _ROUNDING:
        message = f"{name}: its outline reaches {far:.3g} pixels beyond its image"
        yield objects.finding("outline-beyond-image", row, message, points=points)


def _with_box(
    objects: Objects, row: int, extent: np.ndarray, area: float, points: tuple[tuple[float, float], ...]
) -> Iterator[Finding]:
    box, name = objects.boxes[row], objects.name(row)
    low, high = np.maximum(box[:2], extent[:2]), np.minimum(box[2:], extent[2:])
    shared = float(np.clip(high - low, 0, None).prod())
    both = float((box[2:] - box[:2]).prod() + (extent[2:] - extent[:2]).prod()) - shared
    if shared < 0.5 * both and np.abs(box - extent).max() > 2 * _ROUNDING:
        message = f"{name}: the box is {shown_box(box)}, and the outline reaches over {shown_box(extent)}"
        yield objects.finding("outline-box-mismatch", row, message, points=points)
    stated = float(objects.area[row])
    if stated >= 0 and abs(stated - area) > max(20.0, 0.5 * max(stated, area)):
        message = f"{name}: the area is stated as {stated:,.0f} and that of the outline is {area:,.0f}"
        yield objects.finding("area-mismatch", row, message, points=points)


def _area(points: np.ndarray) -> float:
    x, y = (points - points[:1]).T
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2)


def crossing_loop(points: np.ndarray) -> float:
    """Area of the largest loop that a closed outline makes by crossing itself.

    At a crossing the outline falls into two loops; the smaller one counts. Corners that touch are no crossing.

    Args:
        points: (n, 2) x, y.

    Returns:
        Square pixels, 0 where it does not cross itself.
    """
    points = points[:: -(-len(points) // _LONGEST)]
    if len(points) < 4:
        return 0.0
    ends = np.roll(points, -1, axis=0)
    along = ends - points

    def side(of: np.ndarray) -> np.ndarray:
        """(n, m) on which side of edge n the point m lies."""
        offset = of[None] - points[:, None]
        return np.asarray(along[:, None, 0] * offset[..., 1] - along[:, None, 1] * offset[..., 0])

    starts_side = side(points)
    opposite = starts_side * np.roll(starts_side, -1, axis=1) < 0
    first, second = np.nonzero(np.triu(opposite & opposite.T, 2))
    largest = 0.0
    for i, j in zip(first[:200].tolist(), second[:200].tolist(), strict=True):
        cross = along[i, 0] * along[j, 1] - along[i, 1] * along[j, 0]
        offset = points[j] - points[i]
        t = (offset[0] * along[j, 1] - offset[1] * along[j, 0]) / cross
        meeting = points[i] + t * along[i]
        inner = np.concatenate([[meeting], points[i + 1 : j + 1]])
        outer = np.concatenate([[meeting], points[j + 1 :], points[: i + 1]])
        largest = max(largest, min(abs(_area(inner)), abs(_area(outer))))
    return largest

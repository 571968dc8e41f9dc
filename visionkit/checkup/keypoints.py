"""What is wrong with keypoints: visibility that contradicts itself, places where they cannot be."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from visionkit.checkup.findings import Finding
from visionkit.checkup.objects import Objects, object_check, proper
from visionkit.wording import counted

_MARGIN = 0.5  # of the box's longer side
_ROUNDING = 1.0
_FEW, _MOST = 3, 0.9


@object_check
def keypoints(objects: Objects) -> Iterator[Finding]:
    """Everything about the keypoints of each person."""
    if objects.keypoints is None or not objects.keypoints.size:
        return
    places, visible = objects.keypoints[..., :2], objects.keypoints[..., 2]
    labeled = (visible > 0) & ~objects.crowd[:, None]
    fractions = labeled & (np.abs(places) <= 1).all(axis=-1) & (places != 0).any(axis=-1)
    if labeled.sum() >= _FEW and fractions.sum() > _MOST * labeled.sum():
        message = f"{fractions.sum()} of {counted(int(labeled.sum()), 'keypoint')} lie between 0 and 1"
        yield objects.finding("fractional-keypoints", int(np.argwhere(fractions)[0, 0]), message)
        return
    origin = labeled & (places == 0).all(axis=-1)
    wrong = ~np.isin(visible, (0, 1, 2)) | (labeled & ~np.isfinite(places).all(axis=-1))
    placed = (visible == 0) & (places != 0).any(axis=-1) & ~objects.crowd[:, None]
    limit = objects.size[:, None, ::-1]
    with np.errstate(invalid="ignore"):
        outside = ((places < -_ROUNDING) | (places > limit + _ROUNDING)).any(axis=-1) & labeled & ~origin
        sides = objects.boxes[:, 2:] - objects.boxes[:, :2]
        margin = _MARGIN * sides.max(axis=1, initial=0)[:, None, None] + 1
        low, high = objects.boxes[:, None, :2] - margin, objects.boxes[:, None, 2:] + margin
        far = (
            ((places < low) | (places > high)).any(axis=-1)
            & (visible == 2)
            & ~objects.crowd[:, None]
            & ~origin
            & ~outside
        )
    far &= proper(objects)[:, None]  # a box is about what is visible
    yield from _reported(objects, "keypoint-visibility", wrong, "has the visibility {v:g} at ({x:g}, {y:g})")
    yield from _reported(objects, "keypoint-at-origin", origin, "is labeled (visibility {v:g}) at 0, 0")
    yield from _reported(objects, "keypoint-outside-image", outside, "lies at ({x:g}, {y:g}), outside its image")
    yield from _reported(objects, "keypoint-outside-box", far, "lies at ({x:g}, {y:g}), far outside its box")
    yield from _reported(objects, "unlabeled-keypoint-placed", placed, "has visibility 0 and lies at ({x:g}, {y:g})")
    yield from _coincident(objects, labeled & ~origin & (visible == 2))


def _reported(objects: Objects, kind: str, hit: np.ndarray, message: str) -> Iterator[Finding]:
    """One finding for each person with such a keypoint."""
    assert objects.keypoints is not None
    for row in np.flatnonzero(hit.any(axis=1)).tolist():
        which = np.flatnonzero(hit[row])
        x, y, v = np.round(objects.keypoints[row, which[0]], 2)
        more = f" and {counted(len(which) - 1, 'other')}" if len(which) > 1 else ""
        text = f"keypoint {which[0] + 1}{more} {message.format(x=x, y=y, v=v)}"
        yield objects.finding(kind, row, text, points=_points(objects, row, which))


def _coincident(objects: Objects, seen: np.ndarray) -> Iterator[Finding]:
    assert objects.keypoints is not None
    for row in np.flatnonzero(seen.sum(axis=1) > 1).tolist():
        which = np.flatnonzero(seen[row])
        places, counts = np.unique(objects.keypoints[row, which, :2], axis=0, return_counts=True)
        most = int(counts.max())
        if most > 1:
            x, y = places[int(counts.argmax())]
            message = f"{counted(most, 'visible keypoint')} lie at one place, ({x:g}, {y:g})"
            yield objects.finding("coincident-keypoints", row, message, points=_points(objects, row, which))


def _points(objects: Objects, row: int, which: np.ndarray) -> tuple[tuple[float, float], ...]:
    assert objects.keypoints is not None
    places = objects.keypoints[row, which, :2]
    return tuple((float(x), float(y)) for x, y in places[np.isfinite(places).all(axis=1)])

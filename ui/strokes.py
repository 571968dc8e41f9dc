"""What a person paints on an image: strokes of a round brush as text, and the mask that they make."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from visionkit.errors import UsageError

if TYPE_CHECKING:
    from ui.inference import Upload

MOST = 200_000
"""Points that one painting may have."""


class Stroke(NamedTuple):
    """One movement of the brush.

    Attributes:
        radius: Of the brush, in pixels of the image.
        erases: It takes away what was painted before.
        points: (N, 2) float, x and y in pixels of the image.
    """

    radius: float
    erases: bool
    points: np.ndarray


def mark_of(upload: Upload) -> str:
    """What distinguishes one image from another: strokes are painted on the image that they were made for alone."""
    return hashlib.sha256(upload.path.encode()).hexdigest()[:16]


def read_strokes(text: str | None, mark: str) -> list[Stroke]:
    """Reads what the page sends: `{"of": mark, "strokes": [[radius, erases, [x, y, x, y, ...]], ...]}`.

    Args:
        text: What was sent; none, or what was painted on another image, is no stroke.
        mark: Mark of the image.

    Raises:
        UsageError: Anything else, or more than `MOST` points.
    """
    if not text:
        return []
    try:
        sent = json.loads(text)
        if sent["of"] != mark:
            return []
        strokes = [_stroke(*each) for each in sent["strokes"]]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UsageError("what was painted cannot be read; clear it and paint again") from error
    if sum(len(stroke.points) for stroke in strokes) > MOST:
        raise UsageError(f"what was painted has more than {MOST:,} points; give the mask as an image")
    return strokes


def _stroke(radius: Any, erases: Any, points: Any) -> Stroke:
    places = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    if not len(places) or not np.isfinite([*places.ravel(), float(radius)]).all() or not 0 < radius <= 1e5:
        raise ValueError("no stroke")
    return Stroke(float(radius), bool(erases), places.clip(-1e5, 1e5))


def paint(strokes: list[Stroke], mask: np.ndarray) -> np.ndarray:
    """The mask with the strokes on it, in their order.

    Args:
        strokes: The strokes.
        mask: (h, w) uint8, 255 where something is painted already; it stays as it is.
    """
    import cv2

    painted = np.array(mask)
    for stroke in strokes:
        value, part = 0 if stroke.erases else 255, 16  # cv2 takes sixteenths of a pixel
        # The middle of a pixel is at a half here, and at a whole number there.
        places = np.round((stroke.points - 0.5) * part).astype(np.int32)
        thick = int(min(2 * stroke.radius + 0.5, 32_767))
        if len(places) > 1 and thick >= 1:
            cv2.polylines(painted, [places], False, value, thick, shift=4)
        for x, y in places[[0, -1]].tolist():
            cv2.circle(painted, (x, y), int(stroke.radius * part), value, -1, shift=4)
    return painted

"""How many objects a video shows, and how many cross a line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from visionkit.predictions import Tracks

_REMEMBERED = 2000  # ids whose last position is kept; of more, those that were not seen lately are forgotten


class LineCounter:
    """Counts objects whose center crosses a line, by class and direction.

    Args:
        line: x1, y1, x2, y2 in file pixels. Seen from the first point towards the second, an object goes from the left
            to the right, or from the right to the left.

    Attributes:
        right: Number by class of those that went from the left to the right.
        left: The same from the right to the left.
    """

    def __init__(self, line: Sequence[float]) -> None:
        self.line = tuple(float(value) for value in line)
        self.right: Counter[str] = Counter()
        self.left: Counter[str] = Counter()
        self._seen: dict[int, tuple[float, float, float]] = {}  # side and center where the object was not on the line

    def update(self, tracks: Tracks) -> None:
        """Takes the objects of one frame."""
        x1, y1, x2, y2 = self.line
        centers = (tracks.boxes[:, :2].astype(np.float64) + tracks.boxes[:, 2:]) / 2
        sides = (x2 - x1) * (centers[:, 1] - y1) - (y2 - y1) * (centers[:, 0] - x1)
        for number, name, (x, y), side in zip(
            tracks.ids.tolist(), tracks.names, centers.tolist(), sides.tolist(), strict=True
        ):
            if side == 0:
                continue
            before = self._seen.pop(number, None)
            if before is not None and (before[0] > 0) != (side > 0) and self._within(before[1], before[2], x, y):
                (self.right if side > 0 else self.left)[name] += 1  # y goes down, so a positive side is the right one
            self._seen[number] = (side, x, y)
        while len(self._seen) > _REMEMBERED:
            self._seen.pop(next(iter(self._seen)))

    def _within(self, ax: float, ay: float, bx: float, by: float) -> bool:
        """Whether the way from a to b meets the line between its ends."""
        x1, y1, x2, y2 = self.line
        first = (bx - ax) * (y1 - ay) - (by - ay) * (x1 - ax)
        second = (bx - ax) * (y2 - ay) - (by - ay) * (x2 - ax)
        return (first >= 0) != (second >= 0) or first == 0 or second == 0

    def to_json(self) -> dict[str, Any]:
        """The line and what crossed it."""
        return {"line": list(self.line), "left_to_right": dict(self.right), "right_to_left": dict(self.left)}


class TrackCounts:
    """Counts the objects of a video by class, and those that cross lines.

    Args:
        lines: See `LineCounter`.
    """

    def __init__(self, lines: Sequence[Sequence[float]] = ()) -> None:
        self.lines = [LineCounter(line) for line in lines]
        self.frames = 0
        self._ids: dict[str, set[int]] = {}

    def update(self, tracks: Tracks) -> None:
        """Takes the objects of one frame."""
        self.frames += 1
        for name, number in zip(tracks.names, tracks.ids.tolist(), strict=True):
            self._ids.setdefault(name, set()).add(number)
        for line in self.lines:
            line.update(tracks)

    @property
    def objects(self) -> dict[str, int]:
        """Number of different objects by class."""
        return {name: len(ids) for name, ids in sorted(self._ids.items())}

    def to_json(self) -> dict[str, Any]:
        """All counts."""
        counts: dict[str, Any] = {"frames": self.frames, "objects": self.objects}
        return {**counts, "lines": [line.to_json() for line in self.lines]} if self.lines else counts

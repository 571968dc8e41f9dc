"""What is handed out of a tracked video, by the terminal and by the demo: records, MOTChallenge's text and drawings."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from visionkit.predictions import Tracks
    from visionkit.tracking.counts import LineCounter, TrackCounts
    from visionkit.video import Frame

LINE_COLOR = (255, 214, 0)

OBJECT = "object"
"""Class of the one object that is followed, in records."""


def frame_record(frame: Frame, prediction: dict[str, Any]) -> dict[str, Any]:
    """The record of a frame.

    Args:
        frame: The frame.
        prediction: What was predicted on it, as json has it.
    """
    return {
        "frame": frame.number,
        "seconds": round(frame.seconds, 4),
        "size": list(frame.pixels.shape[:2]),
        "prediction": prediction,
    }


def object_tracks(frame: Frame, box: np.ndarray, score: float) -> Tracks:
    """One object that is followed, as the tracks of a frame.

    Args:
        frame: The frame.
        box: (4,) x1, y1, x2, y2 in its pixels.
        score: How well the place matches.
    """
    import numpy as np

    from visionkit.predictions import Tracks

    size, number = (frame.pixels.shape[0], frame.pixels.shape[1]), np.ones(1, np.int64)
    return Tracks((OBJECT,), size, box[None], np.array([score]), number - 1, 0.0, ids=number)


def mot_text(frame: Frame, tracks: Tracks) -> str:
    """The lines of a frame in MOTChallenge's text."""
    import numpy as np

    from visionkit.tracking.mot_files import mot_lines
    from visionkit.tracking.rows import TrackRows

    order = np.argsort(tracks.ids)
    number = np.full(len(tracks), frame.number + 1)
    rows = TrackRows(number, tracks.ids[order], tracks.boxes[order], tracks.scores[order], tracks.labels[order] + 1)
    return "".join(f"{line}\n" for line in mot_lines(rows))


def drawn_tracks(pixels: np.ndarray, tracks: Tracks, count: TrackCounts) -> np.ndarray:
    """A frame with its objects, and the lines with what crossed them along their arrow and against it.

    Args:
        pixels: (h, w, 3) uint8 RGB, the frame.
        tracks: Its objects.
        count: What was counted up to it.
    """
    drawn = tracks.draw(pixels)
    for line in count.lines:
        _draw_line(drawn, line, drawn.shape[1] / pixels.shape[1])
    return drawn


def _draw_line(drawn: np.ndarray, line: LineCounter, factor: float) -> None:
    import cv2

    wide = max(1, round(min(drawn.shape[:2]) / 300))
    x1, y1, x2, y2 = (value * factor for value in line.line)
    length = math.hypot(x2 - x1, y2 - y1)
    middle = ((x1 + x2) / 2, (y1 + y2) / 2)
    # Left to right as seen from the first point towards the second: across the line, by a fifth of its length at most.
    reach = min(16 * wide, length / 5) / length
    tip = (middle[0] - (y2 - y1) * reach, middle[1] + (x2 - x1) * reach)
    points = [(round(x), round(y)) for x, y in ((x1, y1), (x2, y2), middle, tip)]
    cv2.line(drawn, points[0], points[1], LINE_COLOR, wide, cv2.LINE_AA)
    cv2.arrowedLine(drawn, points[2], points[3], LINE_COLOR, wide, cv2.LINE_AA, tipLength=0.4)
    text = f"{sum(line.right.values())} / {sum(line.left.values())}"
    where = (round(min(x1, x2)) + 4 * wide, max(round(min(y1, y2)) - 4 * wide, 14))
    cv2.putText(drawn, text, where, cv2.FONT_HERSHEY_SIMPLEX, 0.5 * wide, LINE_COLOR, wide, cv2.LINE_AA)

"""Faces with their boxes, landmarks and names."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

from visionkit.drawing.base import MIN_SIDE, enlarged, font, letter_size, shortened
from visionkit.drawing.labels import Labels, Rectangle
from visionkit.images import ImageLike, read_image
from visionkit.predictions import Faces

_KNOWN = (64, 200, 120)
_UNKNOWN = (84, 160, 255)
_INK = (255, 255, 255)


def draw(prediction: Faces, image: ImageLike) -> np.ndarray:
    """One box per face, dots at the landmarks, and the name with its similarity where it covers no face and no name."""
    source_image = read_image(image)
    factor = max(1, -(-MIN_SIDE // max(source_image.shape[:2])))
    canvas = Image.fromarray(enlarged(source_image))
    pen = ImageDraw.Draw(canvas)
    size = letter_size(canvas.height, canvas.width)
    letters, line = font(size), max(1, size // 7)
    assert prediction.similarities is not None
    boxes = prediction.boxes.astype(np.float64) * factor
    paints = [_KNOWN if name else _UNKNOWN for name in prediction.names]
    for (x1, y1, x2, y2), points, paint in zip(boxes, prediction.landmarks * factor, paints, strict=True):
        pen.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=paint, width=line)
        for x, y in points[~np.isnan(points).any(axis=1)]:
            pen.ellipse((x - line, y - line, x + line, y + line), fill=paint)
    labels = Labels(boxes, (canvas.height, canvas.width), free=True)
    room = (canvas.width - 2 * size) / (1 if len(boxes) == 1 else 2)
    written = []
    for number, (name, similarity, paint) in enumerate(
        zip(prediction.names, prediction.similarities, paints, strict=True)
    ):
        if name is None and np.isnan(similarity):
            continue
        text = name or "nobody known"
        words = shortened(text if np.isnan(similarity) else f"{text} {similarity:.2f}", letters, room)
        wide, tall = math.ceil(letters.getlength(words)) + size, math.ceil(1.5 * size)
        place = labels.place(number, wide, tall)
        if place is not None:
            written.append((place, words, paint))
            pen.line(_link(place, boxes[number]), fill=paint, width=line)
    for place, words, paint in written:
        pen.rectangle((place[0], place[1], place[2] - 1, place[3] - 1), fill=paint)
        pen.text((place[0] + size / 2, place[1] + 1.1 * size), words, font=letters, fill=_INK, anchor="ls")
    return np.asarray(canvas)


def _link(label: Rectangle, box: np.ndarray) -> tuple[float, float, float, float]:
    """The shortest line between a label and its box, straight where one lies above or beside the other."""
    ends = []
    for axis in (0, 1):
        low, high = float(box[axis]), float(box[axis + 2])
        if label[axis + 2] <= low:
            ends.append((label[axis + 2] - 1.0, low))
        elif label[axis] >= high:
            ends.append((float(label[axis]), high - 1))
        else:
            middle = (max(label[axis], low) + min(label[axis + 2], high)) / 2
            ends.append((middle, middle))
    (x1, x2), (y1, y2) = ends
    return x1, y1, x2, y2

"""Faces with their boxes, landmarks and names."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from visionkit.drawing.base import MIN_SIDE, draw, enlarged, font, letter_size, shortened
from visionkit.images import ImageLike, read_image
from visionkit.predictions import Faces

_KNOWN = (64, 200, 120)
_UNKNOWN = (84, 160, 255)
_INK = (255, 255, 255)


@draw.register(Faces)
def _faces(prediction: Faces, image: ImageLike) -> np.ndarray:
    """A box a face, dots at the landmarks, the name below with its similarity."""
    picture = read_image(image)
    factor = max(1, -(-MIN_SIDE // max(picture.shape[:2])))
    canvas = Image.fromarray(enlarged(picture))
    pen = ImageDraw.Draw(canvas)
    size = letter_size(canvas.height, canvas.width)
    letters, line = font(size), max(1, size // 7)
    assert prediction.similarities is not None
    for box, points, name, similarity in zip(
        prediction.boxes * factor, prediction.landmarks * factor, prediction.names, prediction.similarities, strict=True
    ):
        paint = _KNOWN if name else _UNKNOWN
        x1, y1, x2, y2 = (float(value) for value in box)
        pen.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=paint, width=line)
        for x, y in points[~np.isnan(points).any(axis=1)]:
            pen.ellipse((x - line, y - line, x + line, y + line), fill=paint)
        if name is None and np.isnan(similarity):
            continue
        told = name or "nobody known"
        words = shortened(
            told if np.isnan(similarity) else f"{told} {similarity:.2f}", letters, canvas.width - 2 * size
        )
        wide = letters.getlength(words) + size
        left = min(max(0.0, x1), max(0.0, canvas.width - wide))
        top = y2 if y2 + 1.5 * size <= canvas.height else max(0.0, y1 - 1.5 * size)
        pen.rectangle((left, top, left + wide, top + 1.5 * size), fill=paint)
        pen.text((left + size / 2, top + 1.1 * size), words, font=letters, fill=_INK, anchor="ls")
    return np.asarray(canvas)

"""Boxes and masks with their names, readable from one object to hundreds.

Every class has its color. A name is written where it covers no other name and as little as possible of other objects,
among many objects only where it is smaller than its own object; what finds no place is named by a legend that lists the
colors with their counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from visionkit.drawing.base import enlarged, font, letter_size, shortened
from visionkit.drawing.colors import palette
from visionkit.drawing.labels import Labels, Rectangle
from visionkit.images import ImageLike, read_image
from visionkit.masks import decode_crop
from visionkit.predictions import Detections, Instances

_TINT = 0.42
_MANY = 60
"""Objects from which lines become as thin as they can be."""

_CROWDED = 20
"""Objects from which a name must not be larger than what it names."""

_LEGEND = 8
_RIM = (16, 18, 24)
_PLATE = (16, 18, 24, 200)
_INK = (255, 255, 255)


def draw(prediction: Detections, image: ImageLike) -> np.ndarray:
    """The objects from `threshold` on, small ones over large ones."""
    source_image = read_image(image)
    canvas = np.ascontiguousarray(enlarged(source_image))
    factor = canvas.shape[1] // source_image.shape[1]
    shown = prediction.above()
    # Of one class alone, what is to be distinguished are its objects.
    apart = isinstance(shown, Instances) and len(shown.classes) == 1
    colors = palette(max(1, len(shown))) if apart else palette(len(shown.classes))[shown.labels]
    boxes = shown.boxes.astype(np.float64) * factor
    sides = boxes[:, 2:] - boxes[:, :2]
    order = np.argsort(-sides.prod(axis=1), kind="stable")
    width = _line_width(canvas.shape[:2], len(shown))
    if isinstance(shown, Instances):
        for number in order:
            _mask(canvas, shown, int(number), colors[number], factor, width)
        width = max(1, width // 2)
    for number in order:
        _box(canvas, boxes[number], colors[number], width)
    if _names(canvas, shown, boxes, colors, width):
        _legend(canvas, shown)
    return canvas


def _line_width(size: tuple[int, ...], number: int) -> int:
    width = 0.0038 * (size[0] * size[1]) ** 0.5
    return max(1, int(width * (0.5 if number > _MANY else 1.0) + 0.5))


def _box(canvas: np.ndarray, box: np.ndarray, color: np.ndarray, width: int) -> None:
    """Lines inside of the box's border, with a dark rim that sets them off from an image of the same color."""
    height, length = canvas.shape[:2]
    x1, y1 = (max(0, round(float(value))) for value in box[:2])
    x2, y2 = min(length, round(float(box[2]))), min(height, round(float(box[3])))
    x2, y2 = max(x2, x1 + 1), max(y2, y1 + 1)
    if width > 1 and min(x2 - x1, y2 - y1) > 6 * width:
        inner = (x1 + width, y1 + width, x2 - width, y2 - width)
        _frame(canvas, inner, np.array(_RIM), 1)
    _frame(canvas, (x1, y1, x2, y2), color, min(width, max(1, min(x2 - x1, y2 - y1) // 4)))


def _frame(canvas: np.ndarray, box: Rectangle, color: np.ndarray, width: int) -> None:
    x1, y1, x2, y2 = box
    canvas[y1 : y1 + width, x1:x2] = color
    canvas[max(y2 - width, y1) : y2, x1:x2] = color
    canvas[y1:y2, x1 : x1 + width] = color
    canvas[y1:y2, max(x2 - width, x1) : x2] = color


def _mask(canvas: np.ndarray, shown: Instances, number: int, color: np.ndarray, factor: int, width: int) -> None:
    """A tint with a firm outline; only the part of the image under the mask is touched."""
    x1, y1, x2, y2, crop = decode_crop(shown.masks[number])
    if not crop.size:
        return
    if factor > 1:
        crop = crop.repeat(factor, axis=0).repeat(factor, axis=1)
    part = canvas[y1 * factor : y2 * factor, x1 * factor : x2 * factor]
    bitmap = np.pad(crop.astype(np.uint8), 1)
    thick = max(1, width // 2 + 1)
    inner = cv2.erode(bitmap, np.ones((3, 3), np.uint8), iterations=thick)[1:-1, 1:-1].astype(bool)
    tinted = part[crop].astype(np.float32) * (1 - _TINT) + color.astype(np.float32) * _TINT
    part[crop] = tinted.astype(np.uint8)
    part[crop & ~inner] = color


def _names(canvas: np.ndarray, shown: Detections, boxes: np.ndarray, colors: np.ndarray, width: int) -> int:
    """Writes names, highest-scoring first; gives the number of objects that bear none."""
    height, length = canvas.shape[:2]
    size = max(11, round(letter_size(height, length) * (0.45 if len(shown) > _MANY else 0.6)))
    letters = font(size)
    labels = Labels(boxes, (height, length))
    sheet = Image.fromarray(canvas)
    pen = ImageDraw.Draw(sheet)
    missing = 0
    # One name on dozens of objects carries no information: the legend states it once.
    alone = len(shown) > 3 and len(set(shown.names)) == 1
    crowded = len(shown) > _CROWDED
    known = shown.threshold == 0 and bool((shown.scores == 1).all())  # the truth has no scores worth writing
    for number, name in enumerate(shown.names):
        score = "" if known or len(shown) > _MANY else f"{shown.scores[number]:.2f}"
        room = min(length * 0.5, max(6.0 * size, 2.0 * float(boxes[number, 2] - boxes[number, 0])))
        text = score if alone else f"{shortened(name, letters, room)} {score}".rstrip()
        w, h = round(letters.getlength(text)) + size // 2 + 1, round(1.3 * size)
        fits = text and not (crowded and (boxes[number, 2:] - boxes[number, :2]).prod() < 1.6 * w * h)
        place = labels.place(number, w, h) if fits else None
        missing += alone
        if place is None:
            missing += 1
            continue
        color = tuple(int(value) for value in colors[number])
        pen.rectangle((place[0], place[1], place[2] - 1, place[3] - 1), fill=color)
        ink = _INK if _luma(color) < 150 else _RIM
        pen.text((place[0] + size // 4, place[1] + round(1.02 * size)), text, font=letters, fill=ink, anchor="ls")
    canvas[:] = np.asarray(sheet)
    return missing


def _luma(color: Sequence[int]) -> float:
    return 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]


def _legend(canvas: np.ndarray, shown: Detections) -> None:
    """Colors, names and counts on a plate in the lower left corner."""
    height, width = canvas.shape[:2]
    size = max(11, round(letter_size(height, width) * 0.62))
    letters = font(size)
    line, margin = round(1.35 * size), size // 2
    counts = Counter(int(label) for label in shown.labels).most_common()
    most = max(1, min(_LEGEND, (height // 2) // line - 1))
    listed, rest = counts[:most], counts[most:]
    colors = palette(len(shown.classes))
    lines = [(f"{shown.classes[label]}: {number}", tuple(int(v) for v in colors[label])) for label, number in listed]
    if rest:
        lines.append((f"{len(rest)} more classes: {sum(number for _, number in rest)}", _RIM))
    room = width - 4 * margin - size
    texts = [shortened(text, letters, room) for text, _ in lines]
    wide = round(max(letters.getlength(text) for text in texts)) + 3 * margin + size
    tall = len(lines) * line + margin
    top = max(0, height - tall - margin)
    corner = Image.fromarray(canvas[top : top + tall, margin : margin + wide]).convert("RGBA")
    layer = Image.new("RGBA", corner.size)
    pen = ImageDraw.Draw(layer)
    pen.rounded_rectangle((0, 0, corner.width - 1, corner.height - 1), radius=size // 3, fill=_PLATE)
    for row, ((_, color), text) in enumerate(zip(lines, texts, strict=True)):
        y = margin // 2 + row * line
        pen.rectangle((margin, y + size // 4, margin + size - 1, y + size // 4 + size - 1), fill=(*color, 255))
        pen.text((2 * margin + size, y + round(1.12 * size)), text, font=letters, fill=(*_INK, 255), anchor="ls")
    blended = np.asarray(Image.alpha_composite(corner, layer).convert("RGB"))
    canvas[top : top + tall, margin : margin + wide] = blended

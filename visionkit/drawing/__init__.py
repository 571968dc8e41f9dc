"""Drawing: one line, prediction and picture in, picture out. One module for each kind of prediction."""

from visionkit.drawing import (  # each registers its drawing
    answers,
    classification,
    depth_map,
    detections,
    faces,
    label_map,
    picture,
    poses,
)
from visionkit.drawing.base import MIN_SIDE, draw, enlarged, font, letter_size, shortened
from visionkit.drawing.files import jpeg

__all__ = [
    "MIN_SIDE",
    "answers",
    "classification",
    "depth_map",
    "detections",
    "draw",
    "enlarged",
    "faces",
    "font",
    "jpeg",
    "label_map",
    "letter_size",
    "picture",
    "poses",
    "shortened",
]

"""Drawing: one line, prediction and picture in, picture out. One module for each kind of prediction."""

from visionkit.drawing import classification, detections, faces, label_map, picture, poses  # register their drawings
from visionkit.drawing.base import MIN_SIDE, draw, enlarged, font, letter_size, shortened

__all__ = [
    "MIN_SIDE",
    "classification",
    "detections",
    "draw",
    "enlarged",
    "faces",
    "font",
    "label_map",
    "letter_size",
    "picture",
    "poses",
    "shortened",
]

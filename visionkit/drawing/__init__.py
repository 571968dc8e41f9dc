"""Drawing: what `Prediction.draw` calls, one module for each type of prediction, and what these share."""

from visionkit.drawing.base import MIN_SIDE, enlarged, font, letter_size, shortened
from visionkit.drawing.files import jpeg

__all__ = ["MIN_SIDE", "enlarged", "font", "jpeg", "letter_size", "shortened"]

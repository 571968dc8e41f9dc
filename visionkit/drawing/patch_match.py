"""The first patch with the verdict on the pair, framed in its color."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from visionkit.drawing.base import enlarged, font, letter_size
from visionkit.images import ImageLike, read_image
from visionkit.predictions.patch_match import PatchMatch

_MATCH, _OTHER = (0, 158, 115), (213, 94, 0)  # distinguished with any color vision (Okabe and Ito, 2008)


def draw(prediction: PatchMatch, image: ImageLike) -> np.ndarray:
    """The patch with a frame and the verdict on its lower border."""
    canvas = Image.fromarray(enlarged(read_image(image)))
    pen, color = ImageDraw.Draw(canvas), _MATCH if prediction.is_match else _OTHER
    size = letter_size(canvas.height, canvas.width)
    pen.rectangle((0, 0, canvas.width - 1, canvas.height - 1), outline=color, width=max(2, size // 4))
    pen.rectangle((0, canvas.height - 2 * size, canvas.width, canvas.height), fill=color)
    pen.text((size // 2, canvas.height - size), prediction.verdict, font=font(size), fill="white", anchor="lm")
    return np.asarray(canvas)

"""The place of a fault, drawn on its image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from visionkit.checkup.findings import Finding


def mark(image: Image.Image, finding: Finding, across: float, down: float) -> None:
    """Draws the box, the outline or the keypoints that a finding is about; nothing where it is about a whole image.

    Args:
        image: Drawn on.
        finding: The finding, in file pixels.
        across: Pixels of `image` per file pixel, along its width.
        down: The same along its height.
    """
    pen = ImageDraw.Draw(image)
    scale = np.array([across, down])
    if finding.box is not None:
        (x1, y1), (x2, y2) = (np.array(finding.box).reshape(2, 2) * scale).clip(0, (image.width - 1, image.height - 1))
        pen.rectangle((min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)), outline="#ff3b30", width=2)
    points: Sequence[tuple[float, float]] = [(x * across, y * down) for x, y in finding.points]
    if finding.kind.endswith("keypoints") or finding.kind.startswith(("keypoint", "unlabeled")):
        for x, y in points:
            pen.ellipse((x - 3, y - 3, x + 3, y + 3), outline="#ffd60a", width=2)
    elif len(points) > 1:
        pen.line([*points, points[0]], fill="#ffd60a", width=2)

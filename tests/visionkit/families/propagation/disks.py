"""A drawn clip with its masks: disks of one texture move over a background of another."""

from __future__ import annotations

import cv2
import numpy as np

SIZE = (96, 128)
COLORS = ((220, 60, 40), (40, 90, 220))


def texture(seed: int, color: tuple[int, int, int], size: tuple[int, int] = SIZE) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 40, (size[0] // 4, size[1] // 4, 3)).astype(np.float32)
    grown = cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC)
    return np.clip(grown + np.array(color, np.float32), 0, 255).astype(np.uint8)


def clip(frames: int = 6, objects: int = 1) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Frames (h, w, 3) and label maps (h, w) with 0 and 1 to `objects`."""
    background = texture(0, (110, 130, 100))
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    images, masks = [], []
    for t in range(frames):
        image, mask = background.copy(), np.zeros(SIZE, np.uint8)
        for k in range(objects):
            # The first goes to the right, the second to the left below it.
            center = (30 + 4 * t, 30) if k == 0 else (96 - 4 * t, 70)
            inside = (x - center[0]) ** 2 + (y - center[1]) ** 2 <= 18**2
            own = np.roll(texture(k + 1, COLORS[k]), (center[1], center[0]), (0, 1))
            image[inside], mask[inside] = own[inside], k + 1
        images.append(image)
        masks.append(mask)
    return images, masks


def iou(found: np.ndarray, truth: np.ndarray, label: int = 1) -> float:
    a, b = found == label, truth == label
    return float((a & b).sum() / max((a | b).sum(), 1))

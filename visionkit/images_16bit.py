"""Pixels with the channels and the depth of their file: 16 bit, gray, alpha.

Pillow reads 16-bit gray and drops the low bytes of 16-bit colors; those are decoded by OpenCV.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

_BITS, _ORIENTATION = 258, 274  # tags of TIFF
_LUMA = np.array([0.299, 0.587, 0.114])


def is_deep(image: Image.Image) -> bool:
    """Whether an opened image has 16 bits a channel, whole numbers; reads nothing more of it."""
    if image.mode.startswith("I"):
        return True
    if image.format == "PNG":  # Pillow calls the mode RGB all the same
        return any("16" in str(tile[3]) for tile in getattr(image, "tile", ()))
    if image.format == "TIFF":
        bits = getattr(image, "tag_v2", {}).get(_BITS, (8,))
        return set(bits if isinstance(bits, tuple) else (bits,)) == {16} and image.mode in ("RGB", "RGBA", "L", "LA")
    return False


def deep_pixels(image: Image.Image, source: Any, orientation: int) -> tuple[np.ndarray, int]:
    """Decodes an image that `is_deep`.

    Args:
        image: Image, as opened.
        source: The encoded bytes, or the image itself where somebody gave one.
        orientation: EXIF orientation of what Pillow gives.

    Returns:
        (h, w, C) uint16 with 1 gray, 2 gray and alpha, 3 RGB or 4 RGBA channels, and the orientation still to apply.

    Raises:
        ValueError: Damaged.
    """
    if image.mode.startswith("I") or not isinstance(source, bytes):
        image.load()
        pixels = np.asarray(image if image.mode.startswith("I") else image.convert("RGBA"))
        if pixels.dtype == np.uint8:
            pixels = pixels.astype(np.uint16) * 257
        pixels = np.clip(pixels, 0, 65535).astype(np.uint16)
        return (pixels[:, :, None] if pixels.ndim == 2 else pixels), orientation
    import cv2

    if image.format == "TIFF":  # Pillow turns the pixels itself, OpenCV leaves all as it lies
        orientation = int(getattr(image, "tag_v2", {}).get(_ORIENTATION, 1))
    decoded = cv2.imdecode(np.frombuffer(source, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype != np.uint16:
        raise ValueError("its 16-bit pixels cannot be read")
    pixels = np.asarray(decoded)
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    if image.mode == "LA":
        pixels = pixels[:, :, [0, -1]]
    elif pixels.shape[2] >= 3:
        pixels = pixels[:, :, [2, 1, 0, 3][: pixels.shape[2]]]
    return np.ascontiguousarray(pixels), orientation


def as_is(image: Image.Image) -> np.ndarray:
    """(h, w, C) uint8 of a loaded image, gray kept gray and alpha kept; other color spaces become RGB."""
    gray = image.mode in ("1", "L", "LA")
    if image.has_transparency_data:
        pixels = np.array(image.convert("RGBA"))
        return np.ascontiguousarray(pixels[:, :, [0, 3]]) if gray else pixels
    pixels = np.array(image.convert("L" if gray else "RGB"))
    return pixels[:, :, None] if gray else pixels


def with_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """(h, w, 1 to 4) uint16, or float32 on a scale of 255, as 1 gray, 3 RGB (transparency over white) or 4 RGBA."""
    have, is_float = pixels.shape[2], pixels.dtype == np.float32
    white, half = (np.float32(255), 0.0) if is_float else (np.float32(65535), 0.5)
    colors = pixels[:, :, :1] if have < 3 else pixels[:, :, :3]
    alpha = pixels[:, :, -1:] if have in (2, 4) else None
    if alpha is not None and channels != 4:
        fraction = alpha.astype(np.float32) / white
        colors = (colors * fraction + white * (1 - fraction) + half).astype(pixels.dtype)
    if channels == 1:
        if colors.shape[2] == 3:
            colors = (colors @ _LUMA + half).astype(pixels.dtype)[:, :, None]
        return np.ascontiguousarray(colors)
    colors = colors.repeat(3, axis=2) if colors.shape[2] == 1 else np.ascontiguousarray(colors)
    if channels == 3:
        return colors
    return np.concatenate([colors, np.full_like(colors[:, :, :1], white) if alpha is None else alpha], axis=2)

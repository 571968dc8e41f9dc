"""Clips with one drawn object whose box is known in every frame."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

SIZE = (96, 128)


def drawn(frame: int, box: tuple[float, float, float, float], size: tuple[int, int] = SIZE) -> np.ndarray:
    """A patchy square on a patchy ground, antialiased, with noise that differs from frame to frame."""
    height, width = size
    rng = np.random.default_rng(7)
    ground = rng.integers(60, 130, (height // 8 + 1, width // 8 + 1, 3)).repeat(8, 0).repeat(8, 1)[:height, :width]
    patches = rng.integers(0, 256, (5, 5, 3)).astype(float)
    x1, y1, x2, y2 = box
    fine = 2  # samples per pixel and direction
    rows = (np.arange(height * fine) + 0.5) / fine
    columns = (np.arange(width * fine) + 0.5) / fine
    canvas = ground.repeat(fine, 0).repeat(fine, 1).astype(float)
    inside_rows, inside_columns = (rows >= y1) & (rows < y2), (columns >= x1) & (columns < x2)
    picks = [
        np.clip((at - low) / (high - low) * 5, 0, 4).astype(int)
        for at, low, high in ((rows[inside_rows], y1, y2), (columns[inside_columns], x1, x2))
    ]
    canvas[np.ix_(inside_rows, inside_columns)] = patches[picks[0]][:, picks[1]]
    pixels = canvas.reshape(height, fine, width, fine, 3).mean((1, 3))
    noise = np.random.default_rng(frame).normal(0, 3, pixels.shape)
    return (pixels + noise).round().clip(0, 255).astype(np.uint8)


def moving(t: int, side: float = 24) -> tuple[float, float, float, float]:
    """A square that goes right and down."""
    x, y = 20.5 + 2.3 * t, 18 + 1.4 * t
    return x, y, x + side, y + side


def growing(t: int, rate: float = 1.02) -> tuple[float, float, float, float]:
    """A square in the middle that grows."""
    half = 13 * rate**t
    return 62 - half, 46 - half, 62 + half, 46 + half


def clip(box: Callable[[int], tuple[float, float, float, float]], count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Frames and true boxes."""
    return [(drawn(t, box(t)), np.array(box(t))) for t in range(count)]

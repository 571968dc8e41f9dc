"""Histograms of oriented gradients of many small images at once (Felzenszwalb et al., 2010)."""

from __future__ import annotations

import numpy as np

CELL = 4
"""Pixels of a side of a cell."""

_BINS = 18
_CUT_OFF = 0.2
"""Where normalized values are cut off."""


def gradient_histograms(images: np.ndarray) -> np.ndarray:
    """(N, cells down, cells across, 31): 18 directions, 9 orientations and 4 energies, normalized by the neighborhood.

    Args:
        images: (N, h, w) gray; h and w are multiples of `CELL`.
    """
    count, height, width = images.shape
    down, across = np.gradient(images, axis=(1, 2))
    direction = np.arctan2(down, across) / (2 * np.pi) * _BINS % _BINS
    lower = np.floor(direction)
    upper_part = direction - lower
    strength = np.hypot(down, across)
    rows, columns = height // CELL, width // CELL
    cell = (np.arange(height) // CELL)[:, None] * columns + (np.arange(width) // CELL)[None]
    cell = cell[None] + (np.arange(count) * rows * columns)[:, None, None]
    total = count * rows * columns * _BINS
    histogram = np.zeros(total)
    for bins, part in ((lower, 1 - upper_part), (lower + 1, upper_part)):
        index = cell * _BINS + bins.astype(np.int64) % _BINS
        histogram += np.bincount(index.ravel(), (strength * part).ravel(), total)
    signed = histogram.reshape(count, rows, columns, _BINS)
    unsigned = signed[..., : _BINS // 2] + signed[..., _BINS // 2 :]
    energy = np.pad((unsigned**2).sum(axis=-1), ((0, 0), (1, 1), (1, 1)), mode="edge")
    blocks = energy[:, :-1, :-1] + energy[:, 1:, :-1] + energy[:, :-1, 1:] + energy[:, 1:, 1:]
    around = [blocks[:, top : top + rows, left : left + columns] for top in (0, 1) for left in (0, 1)]
    factors = [1 / np.sqrt(each + 1e-8)[..., None] for each in around]
    signed_cut = sum(np.minimum(signed * each, _CUT_OFF) for each in factors)
    unsigned_each = [np.minimum(unsigned * each, _CUT_OFF) for each in factors]
    energies = np.stack([each.sum(axis=-1) for each in unsigned_each], axis=-1)
    return np.concatenate([0.5 * signed_cut, 0.5 * sum(unsigned_each), energies / np.sqrt(_BINS)], axis=-1)

"""COCO's run lengths: the counts of a mask down its columns, and the letters that COCO compresses them to."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, TypedDict

import numpy as np

_MOST_LETTERS = 10  # of one run length, fifty bits


class Rle(TypedDict):
    """One mask as COCO's json has it: `size` is [height, width], `counts` compressed run lengths."""

    size: list[int]
    counts: str


def empty_runs(size: tuple[int, int]) -> np.ndarray:
    """Run lengths of a mask without a pixel."""
    return np.array([size[0] * size[1]], dtype=np.int64)


def crop_runs(crop: np.ndarray, top: int, left: int, size: tuple[int, int]) -> np.ndarray:
    """Run lengths of an image that is empty outside of a crop (h, w) bool."""
    rows = np.zeros((crop.shape[0] + 2, crop.shape[1]), dtype=bool)
    rows[1:-1] = crop
    return row_runs(rows, top, left, size)


def row_runs(rows: np.ndarray, top: int, left: int, size: tuple[int, int]) -> np.ndarray:
    """The same of a crop with an empty row above and below, (h + 2, w) bool and contiguous."""
    height, flat, w = size[0], rows.reshape(-1), rows.shape[1]
    # Where neighbors of a column differ a run begins or ends. Runs go down the columns and memory along the rows, so
    # the few edges are sorted rather than the many pixels turned.
    row, column = np.divmod(np.flatnonzero(flat[w:] != flat[:-w]), w)
    return runs_between(np.sort((column + left) * height + row + top), height * size[1])


def runs_between(bounds: np.ndarray, total: int) -> np.ndarray:
    """Run lengths from rising, alternating starts and ends of runs."""
    if len(bounds) > 2:
        touching = np.flatnonzero(bounds[1:-1:2] == bounds[2::2])  # a run that goes on at the top of the next column
        if len(touching):
            keep = np.ones(len(bounds), dtype=bool)
            keep[2 * touching + 1] = keep[2 * touching + 2] = False
            bounds = bounds[keep]
    counts = np.empty(len(bounds) + 1, dtype=np.int64)
    counts[:-1], counts[-1] = bounds, total
    counts[1:] -= bounds
    return counts[:-1] if len(counts) > 1 and counts[-1] == 0 else counts


def compress(runs: Sequence[np.ndarray]) -> list[str]:
    """COCO's compression: differences to the count before last, five bits a letter, all masks in one pass."""
    if not runs:
        return []
    lengths = np.array([len(each) for each in runs])
    ends = np.cumsum(lengths)
    values = np.concatenate(runs).astype(np.int64)
    place = np.arange(len(values)) - np.repeat(ends - lengths, lengths)
    later = np.flatnonzero(place > 2)
    differences = values.copy()
    differences[later] -= values[later - 2]
    # A value is finished when what remains is only its sign.
    digits = []
    more = np.ones(len(values), dtype=bool)
    written = np.zeros(len(values), dtype=np.int64)
    while more.any():
        low = differences & 31
        differences >>= 5
        goes_on = np.where(low & 16, differences != -1, differences != 0)
        digits.append((low + 48 + 32 * goes_on).astype(np.uint8))
        written += more
        more &= goes_on
    table = np.stack(digits, axis=1)
    text = table[np.arange(table.shape[1]) < written[:, None]].tobytes().decode("ascii")
    bounds = np.concatenate([[0], np.cumsum(written)])[np.concatenate([[0], ends])]
    return [text[a:b] for a, b in pairwise(bounds.tolist())]


def decompress(text: str) -> np.ndarray:
    """Counts from COCO's letters.

    Raises:
        ValueError: Letters that are no run lengths.
    """
    if not text.isascii():
        raise ValueError("these letters are no compressed run lengths")
    codes = np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64) - 48
    if not len(codes):
        return np.zeros(0, dtype=np.int64)
    if codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise ValueError("these letters are no compressed run lengths")
    last = (codes & 32) == 0
    starts = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])
    lengths = np.diff(np.append(starts, len(codes)))
    if lengths.max() > _MOST_LETTERS:
        raise ValueError("a run length is longer than any image")
    place = np.arange(len(codes)) - np.repeat(starts, lengths)
    values = np.add.reduceat((codes & 31) << (5 * place), starts)
    negative = (codes[last] & 16) != 0
    values[negative] -= np.int64(1) << (5 * lengths[negative])
    # Undo the differences: the third count is absolute, from the fourth on each adds to the one before last.
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def with_text(rle: dict[str, Any]) -> Rle:
    """A mask of COCO's library, which writes its counts as bytes, with its counts as text."""
    counts = rle["counts"]
    size = [int(rle["size"][0]), int(rle["size"][1])]
    return Rle(size=size, counts=counts.decode("ascii") if isinstance(counts, bytes) else str(counts))

"""Images that are copies of each other, found by perceptual hashes and confirmed by their small forms.

Two difference hashes (Krawetz 2013: which of two neighboring cells is brighter, across and down) of 64 bits each name
candidates: images that share one of sixteen bands of 16 bits, so nobody compares all pairs. A candidate counts where
the two images, reduced to 16 x 16 and freed of brightness and contrast, agree as a whole and in each part of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np

CELLS = 8
SIDE = 16
"""Side of the small form in pixels."""

_BRIGHTER = 2.0  # gray levels by which a neighbor is brighter
_FLAT = 4.0  # gray levels of deviation below which an image shows nothing to compare
_BITS = 128
_BAND = 16
_FULLEST = 100  # images of one band; of more the band is of a type of image, and only neighbors in it are compared
_FARTHEST = 24  # of 128 bits
_CHUNK = 20_000
_BLOCK = 1 << 20


class Fingerprint(NamedTuple):
    """What an image is compared by.

    Attributes:
        bits: (16,) uint8, the two hashes.
        flipped: (16,) uint8, those of the image flipped left and right.
        small: (16, 16, 3) uint8.
        flat: It has no contrast, so it is compared with nothing.
    """

    bits: np.ndarray
    flipped: np.ndarray
    small: np.ndarray
    flat: bool


def fingerprint_of(pixels: np.ndarray) -> Fingerprint:
    """The fingerprint of an image.

    Args:
        pixels: (h, w, 3) uint8.
    """
    small = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    if max(gray.shape) > 128:  # what remains is the mean of many pixels either way
        gray = cv2.resize(gray, (72, 72), interpolation=cv2.INTER_AREA)
    across = cv2.resize(gray, (CELLS + 1, CELLS), interpolation=cv2.INTER_AREA).astype(np.int16)
    down = cv2.resize(gray, (CELLS, CELLS + 1), interpolation=cv2.INTER_AREA).astype(np.int16)
    flat = float(small.astype(np.float32).std(axis=(0, 1)).max()) < _FLAT
    return Fingerprint(_hash(across, down), _hash(across[:, ::-1], down[:, ::-1]), small, flat)


def _hash(across: np.ndarray, down: np.ndarray) -> np.ndarray:
    bits = [np.diff(across, axis=1) > _BRIGHTER, np.diff(down, axis=0) > _BRIGHTER]
    return np.packbits(np.concatenate([each.ravel() for each in bits]))


class Pairs(NamedTuple):
    """Pairs of images that are copies.

    Attributes:
        first: (P,) int.
        second: (P,) int, above `first`.
        flipped: (P,) bool, one is the other flipped left and right.
        difference: (P,) float32, gray levels by which they differ.
    """

    first: np.ndarray
    second: np.ndarray
    flipped: np.ndarray
    difference: np.ndarray


def find_copies(prints: Sequence[Fingerprint]) -> Pairs:
    """All pairs of images that are copies of each other: saved again, scaled, lighter, slightly cut, flipped.

    Args:
        prints: A fingerprint for each image.
    """
    if len(prints) < 2:
        none = np.zeros(0, dtype=np.int64)
        return Pairs(none, none, none.astype(bool), none.astype(np.float32))
    bits, flipped = (np.stack([getattr(each, key) for each in prints]) for key in ("bits", "flipped"))
    flat = np.array([each.flat for each in prints])
    small = np.stack([each.small for each in prints])
    found = []
    for other, is_flipped in ((bits, False), (flipped, True)):
        a, b = _candidates(bits, other, flat, is_flipped)
        for start in range(0, len(a), _CHUNK):
            first, second = a[start : start + _CHUNK], b[start : start + _CHUNK]
            shown = small[second][:, :, ::-1] if is_flipped else small[second]
            alike, difference = compare(small[first], shown)
            rows = np.flatnonzero(alike)
            found.append((first[rows], second[rows], np.full(len(rows), is_flipped), difference[rows]))
    columns = [np.concatenate(each) for each in zip(*found, strict=True)] if found else [np.zeros(0, np.int64)] * 4
    order = np.lexsort((columns[2], columns[1], columns[0]))
    first, second, is_flip, difference = (column[order] for column in columns)
    # An image that is its own flip is found both ways.
    keep = np.ones(len(first), dtype=bool)
    keep[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
    return Pairs(first[keep], second[keep], is_flip[keep].astype(bool), difference[keep].astype(np.float32))


def _candidates(bits: np.ndarray, other: np.ndarray, flat: np.ndarray, flipped: bool) -> tuple[np.ndarray, np.ndarray]:
    """Pairs whose hashes share a band and differ in few bits."""
    count = len(bits)
    words, their_words = (each.view(np.uint64) for each in (bits, other))
    near: list[np.ndarray] = [np.zeros(0, dtype=np.int64)]
    for own, theirs in zip(_bands(bits), _bands(other if flipped else bits), strict=True):
        for a, b in _sharing(own, theirs, flat):
            apart = np.bitwise_count(words[a] ^ their_words[b]).sum(axis=1)
            keep = (apart <= _FARTHEST) & (a != b)
            near.append(np.minimum(a, b)[keep] * count + np.maximum(a, b)[keep])
    pairs = np.unique(np.concatenate(near))
    return pairs // count, pairs % count


def _bands(bits: np.ndarray) -> Iterator[np.ndarray]:
    """(n,) keys of each band: bits that lie together, and bits that lie apart."""
    single = np.unpackbits(bits, axis=1)
    for order in (single, single.reshape(len(bits), _BAND, -1).swapaxes(1, 2).reshape(len(bits), -1)):
        packed = np.packbits(order, axis=1)
        for start in range(0, _BITS // 8, _BAND // 8):
            yield packed[:, start].astype(np.int64) << 8 | packed[:, start + 1]


def _sharing(own: np.ndarray, theirs: np.ndarray, flat: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs (a, b) where the key of a is that of b in the other list, in blocks that fit into memory."""
    usable = np.flatnonzero(~flat)
    order = usable[np.argsort(theirs[usable], kind="stable")]
    keys = theirs[order]
    low, high = np.searchsorted(keys, own[usable], "left"), np.searchsorted(keys, own[usable], "right")
    # Of a full band, those that follow an image in the order of the data are taken.
    place = np.empty(len(own), dtype=np.int64)
    place[order] = np.arange(len(order))
    full = high - low > _FULLEST
    low = np.where(full, np.clip(place[usable], low, high), low)
    lengths = np.minimum(high - low, _FULLEST)
    ends = np.cumsum(lengths)
    first = 0
    while first < len(usable):
        before = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + _BLOCK, "right")))
        some = lengths[first:last]
        begins = low[first:last] - (np.cumsum(some) - some)
        yield np.repeat(usable[first:last], some), order[np.arange(some.sum()) + np.repeat(begins, some)]
        first = last


def compare(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether the small forms of two images show the same.

    Args:
        first: (P, 16, 16, 3) uint8.
        second: As large.

    Returns:
        (P,) bool, and (P,) float32 by how many gray levels they differ in the mean.
    """
    a, b = (_freed(each) for each in (first, second))
    scale = np.sqrt(a[1] * b[1])
    difference = (a[0] - b[0]) * scale[:, None, None, None]
    square = (difference**2).mean(axis=3)
    whole = np.sqrt(square.mean(axis=(1, 2)))
    parts = np.sqrt(square.reshape(len(square), 4, SIDE // 4, 4, SIDE // 4).mean(axis=(2, 4))).max(axis=(1, 2))
    return (whole < WHOLE * scale) & (whole < WHOLE_LEVELS) & (parts < PART_LEVELS), whole


WHOLE, WHOLE_LEVELS, PART_LEVELS = 0.2, 8.0, 16.0
"""Largest difference of two copies: as a fraction of their contrast, in gray levels, and in one sixteenth of them."""


def _freed(small: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Small forms of mean 0 and deviation 1, and their deviations."""
    values = small.astype(np.float32)
    values -= values.mean(axis=(1, 2), keepdims=True)
    deviation = np.maximum(np.sqrt((values**2).mean(axis=(1, 2, 3))), 1e-3)
    return values / deviation[:, None, None, None], deviation


def groups_of(first: np.ndarray, second: np.ndarray) -> list[list[int]]:
    """Images that are connected by pairs, each group ascending."""
    parent: dict[int, int] = {}

    def top(number: int) -> int:
        while parent.setdefault(number, number) != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        low, high = sorted((top(a), top(b)))
        parent[high] = low
    found: dict[int, list[int]] = {}
    for number in sorted(parent):
        found.setdefault(top(number), []).append(number)
    return list(found.values())

"""COCO's greedy matching, for all images and classes at once.

Within an image and class, the highest-scoring found object takes the true one that it overlaps most, then the next.
That is a chain, but chains of different images know nothing of each other: step r matches every image's r-th object in
one operation.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from visionkit.families.detection.coco_eval.flat import Flat, Pairs

_CELLS = 1 << 22  # numbers in one array of a step


class Matches(NamedTuple):
    """What became of each found object.

    Attributes:
        matched: (N, A, T) bool, it has a true object at that range of areas and overlap.
        ignored: (N, A, T) bool, it counts neither for nor against.
    """

    matched: np.ndarray
    ignored: np.ndarray


def match(
    found: Flat, true: Flat, pairs: Pairs, ignored: np.ndarray, ranges: np.ndarray, thresholds: np.ndarray
) -> Matches:
    """Matches found objects to true ones.

    Args:
        found: Sorted by image and class, highest-scoring first within.
        true: Objects there are.
        pairs: Overlaps within an image and class of at least the smallest threshold.
        ignored: (M, A) bool, the true object is left out of the count in that range.
        ranges: (A, 2) smallest and largest area.
        thresholds: (T,) overlaps.
    """
    areas, steps = len(ranges), len(thresholds)
    matched = np.zeros((len(found), areas, steps), dtype=bool)
    outside = (found.areas[:, None] < ranges[:, 0]) | (found.areas[:, None] > ranges[:, 1])
    skip = np.repeat(outside[:, :, None], steps, axis=2)
    for chain in _chains(found, pairs, areas * steps):
        _run(chain, true, ignored, np.minimum(thresholds, 1 - 1e-10), matched, skip)
    return Matches(matched, skip)


class _Chains(NamedTuple):
    """Chains of about the same number of true objects, the longest first.

    Attributes:
        rows: (C, R) found object of each step, -1 after the end.
        true: (C, G) true objects, the last one first, -1 where there are fewer.
        iou: (C, R, G) float64, -1 where they do not meet.
    """

    rows: np.ndarray
    true: np.ndarray
    iou: np.ndarray


def _chains(found: Flat, pairs: Pairs, cells: int) -> list[_Chains]:
    if not len(pairs.found):
        return []
    # Objects that meet nothing are no step of a chain: they are unmatched and change nothing.
    d, at_d = np.unique(pairs.found, return_inverse=True)
    key = found.image[d] * (int(found.labels.max()) + 1) + found.labels[d]
    groups, group_of_d = np.unique(key, return_inverse=True)
    group_of_pair = group_of_d[at_d]
    lengths = np.bincount(group_of_d, minlength=len(groups))
    step_of_d = _places(group_of_d, len(groups))
    g, at_g = np.unique(pairs.true, return_inverse=True)
    group_of_g = np.zeros(len(g), dtype=np.int64)
    group_of_g[at_g] = group_of_pair
    widths = np.bincount(group_of_g, minlength=len(groups))
    place_of_g = widths[group_of_g] - 1 - _places(group_of_g, len(groups))
    order = np.lexsort((-lengths, widths))
    out = []
    start = 0
    while start < len(order):
        # Chains of similar width go together, as many as memory allows.
        width = int(widths[order[start]])
        end = int(np.searchsorted(widths[order], width * 1.5 + 1, side="right"))
        width = int(widths[order[end - 1]])
        longest = int(lengths[order[start:end]].max())
        end = min(end, start + max(1, _CELLS // (width * max(cells, longest))))
        part = order[start:end]
        part = part[np.argsort(-lengths[part], kind="stable")]
        out.append(_chain(part, d, g, pairs, (at_d, at_g), (group_of_d, step_of_d), (group_of_g, place_of_g),
                          (int(lengths[part].max()), int(widths[part].max()))))  # fmt: skip
        start = end
    return out


def _places(groups: np.ndarray, number: int) -> np.ndarray:
    """For each item how many of its group stand before it."""
    order = np.argsort(groups, kind="stable")
    counts = np.bincount(groups, minlength=number)
    place = np.empty(len(groups), dtype=np.int64)
    place[order] = np.arange(len(groups)) - np.repeat(np.cumsum(counts) - counts, counts)
    return place


def _chain(
    part: np.ndarray,
    d: np.ndarray,
    g: np.ndarray,
    pairs: Pairs,
    at: tuple[np.ndarray, np.ndarray],
    of_d: tuple[np.ndarray, np.ndarray],
    of_g: tuple[np.ndarray, np.ndarray],
    shape: tuple[int, int],
) -> _Chains:
    number = np.full(max(int(of_d[0].max()), int(of_g[0].max())) + 1, -1)
    number[part] = np.arange(len(part))
    rows = np.full((len(part), shape[0]), -1)
    true = np.full((len(part), shape[1]), -1)
    iou = np.full((len(part), *shape), -1.0)
    here = number[of_d[0]] >= 0
    rows[number[of_d[0][here]], of_d[1][here]] = d[here]
    here = number[of_g[0]] >= 0
    true[number[of_g[0][here]], of_g[1][here]] = g[here]
    chain = number[of_d[0][at[0]]]
    here = chain >= 0
    iou[chain[here], of_d[1][at[0][here]], of_g[1][at[1][here]]] = pairs.iou[here]
    return _Chains(rows, true, iou)


def _run(
    chain: _Chains, true: Flat, ignored: np.ndarray, thresholds: np.ndarray, matched: np.ndarray, skip: np.ndarray
) -> None:
    rows, columns, iou = chain
    crowd = (true.crowd[columns] & (columns >= 0))[:, None, None, :]
    left_out = np.moveaxis(ignored[columns], 1, 2)[:, :, None, :]  # (C, A, 1, G)
    areas, steps = ignored.shape[1], len(thresholds)
    free = np.ones((len(rows), areas, steps, columns.shape[1]), dtype=bool)
    for step in range(rows.shape[1]):
        active = int(np.searchsorted(-(rows[:, step] >= 0).astype(np.int8), 0, side="left"))
        overlap = iou[:active, step, None, None, :]
        possible = free[:active] & (overlap >= thresholds[:, None])
        # A true object that counts goes before any that is left out; among equals the last wins, so they lie reversed.
        value = np.where(possible, overlap - 4.0 * left_out[:active], -9.0)
        best = value.argmax(axis=-1)[..., None]
        hit = np.take_along_axis(possible, best, axis=-1)
        who = rows[:active, step]
        matched[who] = hit[..., 0]
        of_best = np.take_along_axis(np.broadcast_to(left_out[:active], possible.shape), best, axis=-1)[..., 0]
        skip[who] = np.where(hit[..., 0], of_best, skip[who])
        stays = np.take_along_axis(np.broadcast_to(crowd[:active], possible.shape), best, axis=-1)
        now = np.take_along_axis(free[:active], best, axis=-1)
        np.put_along_axis(free[:active], best, now & (~hit | stays), axis=-1)

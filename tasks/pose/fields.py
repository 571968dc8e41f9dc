"""Part affinity fields (Cao et al., 2017): drawn along limbs, and read back to state whose keypoint is whose.

Peaks and the evidence for all pairs of them are found for all limbs at once on the device; only the greedy choice,
which is small, runs over people.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.pose.postprocess import PoseCandidates
from visionkit.families.keypoints.heatmaps import Decoding, refine

CANDIDATES = 24
"""Peaks of one keypoint in one image, at most."""

MAX_PEOPLE = 30
"""People of one image, at most."""

_SAMPLES = 10
"""Points along a limb at which its field is read."""


def draw_fields(
    keypoints: Tensor, limbs: Sequence[tuple[int, int]], size: tuple[int, int], stride: float, width: float
) -> Tensor:
    """Draws the fields of one image.

    Args:
        keypoints: (N, K, 3) x, y in input pixels and visibility.
        limbs: L pairs of keypoints.
        size: Height and width of the maps in cells.
        stride: Input pixels a cell.
        width: Half the width of a limb in cells.

    Returns:
        (2 L, h, w) float32: the mean of the unit vectors of the people whose limb covers a cell, else 0.
    """
    device = keypoints.device
    ends = keypoints[:, torch.tensor(limbs, device=device).T]  # (N, 2, L, 3)
    seen = (ends[..., 2] > 0).all(dim=1)
    first, second = ends[:, 0, :, :2] / stride - 0.5, ends[:, 1, :, :2] / stride - 0.5
    along = second - first
    length = along.norm(dim=-1, keepdim=True)
    unit = along / length.clamp(min=1e-6)
    x = torch.arange(size[1], device=device, dtype=torch.float32)
    y = torch.arange(size[0], device=device, dtype=torch.float32)
    dx, dy = x - first[..., 0:1], y - first[..., 1:2]
    ahead = unit[..., 0, None, None] * dx[:, :, None, :] + unit[..., 1, None, None] * dy[:, :, :, None]
    beside = unit[..., 0, None, None] * dy[:, :, :, None] - unit[..., 1, None, None] * dx[:, :, None, :]
    on = (ahead >= -0.5) & (ahead <= length[..., None] + 0.5) & (beside.abs() <= width)
    on &= (seen & (length[..., 0] > 1e-3))[..., None, None]
    vectors = (on[:, :, None] * unit[..., None, None]).sum(dim=0)
    count = on.sum(dim=0).clamp(min=1)[:, None]
    mean: Tensor = vectors / count
    return mean.flatten(0, 1)


def read_people(
    heatmaps: Tensor,
    fields: Tensor,
    limbs: Sequence[tuple[int, int]],
    stride: float,
    *,
    decoding: Decoding = "dark",
    least_peak: float = 0.1,
    least_field: float = 0.05,
    least_keypoints: int = 3,
    max_people: int = MAX_PEOPLE,
) -> PoseCandidates:
    """Finds the people of one image.

    Args:
        heatmaps: (K, h, w) float.
        fields: (2 L, h, w) float.
        limbs: L pairs of keypoints, those that hold a person together first.
        stride: Input pixels a cell.
        decoding: How a peak is read.
        least_peak: Lowest peak that is a keypoint.
        least_field: Field along the limb from which a point counts as on it.
        least_keypoints: People of fewer keypoints are left out.
        max_people: Maximum number of people, the highest-scoring ones.
    """
    keypoints, columns = heatmaps.shape[0], heatmaps.shape[2]
    maps = heatmaps.float()
    top = F.max_pool2d(maps[None], 3, 1, 1)[0]
    peaks = torch.where((maps == top) & (maps >= least_peak), maps, maps.new_full((), -1.0)).flatten(1)
    heights, cells = peaks.topk(min(CANDIDATES, peaks.shape[1]), dim=1)
    # Pairs grow with the square of the candidates, so as many are compared as the keypoint with the most peaks has.
    count = max(1, int((heights > 0).sum(dim=1).max()))
    heights, cells = heights[:, :count], cells[:, :count]
    x, y = cells % columns, cells // columns
    of = torch.arange(keypoints, device=maps.device).repeat_interleave(count)
    moved = refine(maps, of, x.flatten(), y.flatten(), decoding).view(keypoints, count, 2)
    places = torch.stack([x, y], dim=-1) + moved  # cells, centers counted from 0
    evidence, fraction = _evidence(fields.float(), places, limbs, least_field)
    valid = heights > 0
    a, b = torch.tensor(limbs, device=maps.device).T
    good = (fraction >= 0.8) & (evidence > 0) & valid[a][:, :, None] & valid[b][:, None, :]
    scores = torch.where(good, evidence, torch.zeros_like(evidence))
    packed = torch.cat([places.flatten(), heights.flatten(), scores.flatten()]).detach().cpu().double().numpy()
    at = np.cumsum([places.numel(), heights.numel()])
    places_n, heights_n, scores_n = (part for part in np.split(packed, at))
    return _assemble(
        (places_n.reshape(keypoints, count, 2) + 0.5) * stride,
        heights_n.reshape(keypoints, count),
        scores_n.reshape(len(limbs), count, count),
        limbs,
        least_keypoints,
        max_people,
    )


def _evidence(fields: Tensor, places: Tensor, limbs: Sequence[tuple[int, int]], least: float) -> tuple[Tensor, Tensor]:
    """For every limb and every pair of candidates the mean of the field along it, and the fraction of points on it."""
    number, (rows, columns) = len(limbs), fields.shape[-2:]
    a, b = torch.tensor(limbs, device=fields.device).T
    start, end = places[a][:, :, None], places[b][:, None, :]  # (L, C, 1, 2), (L, 1, C, 2)
    along = end - start
    length = along.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    fraction = torch.linspace(0, 1, _SAMPLES, device=fields.device)
    points = start[..., None, :] + along[..., None, :] * fraction[:, None]  # (L, C, C, P, 2)
    column = points[..., 0].round().long().clamp(0, columns - 1)
    row = points[..., 1].round().long().clamp(0, rows - 1)
    flat = fields.view(number, 2, -1)
    cell = (row * columns + column).flatten(1)[:, None].expand(-1, 2, -1)
    vector = flat.gather(2, cell).view(number, 2, *row.shape[1:])
    unit = along / length
    dot = vector[:, 0] * unit[..., 0, None] + vector[:, 1] * unit[..., 1, None]
    # A limb longer than half the image is unlikely.
    far = (0.5 * max(rows, columns) / length[..., 0] - 1).clamp(max=0)
    return dot.mean(dim=-1) + far, (dot > least).float().mean(dim=-1)


def _assemble(
    places: np.ndarray,
    heights: np.ndarray,
    scores: np.ndarray,
    limbs: Sequence[tuple[int, int]],
    least_keypoints: int,
    max_people: int,
) -> PoseCandidates:
    keypoints = len(places)
    people: list[dict[int, int]] = []
    for limb, (a, b) in enumerate(limbs):
        used_a: set[int] = set()
        used_b: set[int] = set()
        pairs = np.argwhere(scores[limb] > 0)
        for i, j in pairs[np.argsort(-scores[limb][tuple(pairs.T)], kind="stable")].tolist():
            if i in used_a or j in used_b:
                continue
            used_a.add(i)
            used_b.add(j)
            _connect(people, (a, i), (b, j))
    kept: list[tuple[float, dict[int, int]]] = []
    for person in people:
        if len(person) < least_keypoints:
            continue
        height = sum(heights[joint, at] for joint, at in person.items())
        # Between the mean over its own keypoints and that over all: a few confident ones alone do not make a confident
        # person, and somebody half hidden is not lost.
        score = height / math.sqrt(len(person) * keypoints)
        kept.append((min(float(score), 1.0), person))
    kept.sort(key=lambda each: -each[0])
    kept = kept[:max_people]
    out_places = np.zeros((len(kept), keypoints, 2), dtype=np.float32)
    out_scores = np.zeros((len(kept), keypoints), dtype=np.float32)
    for row, (_, person) in enumerate(kept):
        for joint, at in person.items():
            out_places[row, joint] = places[joint, at]
            out_scores[row, joint] = np.clip(heights[joint, at], 0, 1)
        _fill(out_places[row], set(person), limbs)
    total_scores = np.array([score for score, _ in kept], dtype=np.float32)
    return PoseCandidates(*map(torch.from_numpy, (out_places, out_scores, total_scores)))


def _connect(people: list[dict[int, int]], first: tuple[int, int], second: tuple[int, int]) -> None:
    """Puts a limb to the person that has one of its ends, joins two people by it, or begins a new one."""
    (a, i), (b, j) = first, second
    with_a = next((k for k, person in enumerate(people) if person.get(a) == i), None)
    with_b = next((k for k, person in enumerate(people) if person.get(b) == j), None)
    if with_a is None and with_b is None:
        people.append({a: i, b: j})
    elif with_b is None:
        assert with_a is not None
        people[with_a].setdefault(b, j)
    elif with_a is None:
        people[with_b].setdefault(a, i)
    elif with_a != with_b and not people[with_a].keys() & people[with_b].keys():
        people[with_a] |= people[with_b]
        del people[with_b]


def _fill(places: np.ndarray, known: set[int], limbs: Sequence[tuple[int, int]]) -> None:
    """Guesses keypoints that were not found: where a neighbor along a limb is, else the middle of the person."""
    middle = places[sorted(known)].mean(axis=0)
    for joint in range(len(places)):
        if joint not in known:
            near = [a if b == joint else b for a, b in limbs if joint in (a, b)]
            found = [places[k] for k in near if k in known]
            places[joint] = np.mean(found, axis=0) if found else middle

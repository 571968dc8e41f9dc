"""Part affinity fields (Cao et al., 2017): drawn along limbs, and read back to tell whose joint is whose.

Peaks and the evidence for all pairs of them are found for all limbs at once on the device; only the greedy choice,
which is small, runs over persons.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.pose.codec import Decoding, refine
from tasks.pose.postprocess import FoundPersons

CANDIDATES = 24
"""Peaks of one joint in one picture, at most."""

MAX_PERSONS = 30
"""Persons of one picture, at most."""

_SAMPLES = 10
"""Points along a limb at which its field is asked."""


def draw_fields(
    keypoints: Tensor, limbs: Sequence[tuple[int, int]], size: tuple[int, int], stride: float, width: float
) -> Tensor:
    """Draws the fields of one picture.

    Args:
        keypoints: (N, K, 3) x, y in input pixels and visibility.
        limbs: L pairs of joints.
        size: Height and width of the maps in cells.
        stride: Input pixels a cell.
        width: Half the width of a limb in cells.

    Returns:
        (2 L, h, w) float32: the mean of the unit vectors of the persons whose limb covers a cell, else 0.
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


def read_persons(
    heatmaps: Tensor,
    fields: Tensor,
    limbs: Sequence[tuple[int, int]],
    stride: float,
    *,
    decoding: Decoding = "dark",
    least_peak: float = 0.1,
    least_field: float = 0.05,
    least_joints: int = 3,
    max_persons: int = MAX_PERSONS,
) -> FoundPersons:
    """Finds the persons of one picture.

    Args:
        heatmaps: (K, h, w) float.
        fields: (2 L, h, w) float.
        limbs: L pairs of joints, those that hold a person together first.
        stride: Input pixels a cell.
        decoding: How a peak is read.
        least_peak: Lowest peak that is a joint.
        least_field: Field along the limb from which a point counts as on it.
        least_joints: Persons of fewer joints are left out.
        max_persons: Of the surest, at most.
    """
    joints, columns = heatmaps.shape[0], heatmaps.shape[2]
    maps = heatmaps.float()
    top = F.max_pool2d(maps[None], 3, 1, 1)[0]
    peaks = torch.where((maps == top) & (maps >= least_peak), maps, maps.new_full((), -1.0)).flatten(1)
    heights, cells = peaks.topk(min(CANDIDATES, peaks.shape[1]), dim=1)
    # Pairs grow with the square of the candidates, so as many are compared as the joint with the most peaks has.
    count = max(1, int((heights > 0).sum(dim=1).max()))
    heights, cells = heights[:, :count], cells[:, :count]
    x, y = cells % columns, cells // columns
    of = torch.arange(joints, device=maps.device).repeat_interleave(count)
    moved = refine(maps, of, x.flatten(), y.flatten(), decoding).view(joints, count, 2)
    places = torch.stack([x, y], dim=-1) + moved  # cells, centres counted from 0
    evidence, share = _evidence(fields.float(), places, limbs, least_field)
    valid = heights > 0
    a, b = torch.tensor(limbs, device=maps.device).T
    good = (share >= 0.8) & (evidence > 0) & valid[a][:, :, None] & valid[b][:, None, :]
    scores = torch.where(good, evidence, torch.zeros_like(evidence))
    packed = torch.cat([places.flatten(), heights.flatten(), scores.flatten()]).detach().cpu().double().numpy()
    at = np.cumsum([places.numel(), heights.numel()])
    places_n, heights_n, scores_n = (part for part in np.split(packed, at))
    return _assemble(
        (places_n.reshape(joints, count, 2) + 0.5) * stride,
        heights_n.reshape(joints, count),
        scores_n.reshape(len(limbs), count, count),
        limbs,
        least_joints,
        max_persons,
    )


def _evidence(fields: Tensor, places: Tensor, limbs: Sequence[tuple[int, int]], least: float) -> tuple[Tensor, Tensor]:
    """For every limb and every pair of candidates the mean of the field along it, and the share of points on it."""
    number, (rows, columns) = len(limbs), fields.shape[-2:]
    a, b = torch.tensor(limbs, device=fields.device).T
    start, end = places[a][:, :, None], places[b][:, None, :]  # (L, C, 1, 2), (L, 1, C, 2)
    along = end - start
    length = along.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    share = torch.linspace(0, 1, _SAMPLES, device=fields.device)
    points = start[..., None, :] + along[..., None, :] * share[:, None]  # (L, C, C, P, 2)
    column = points[..., 0].round().long().clamp(0, columns - 1)
    row = points[..., 1].round().long().clamp(0, rows - 1)
    flat = fields.view(number, 2, -1)
    cell = (row * columns + column).flatten(1)[:, None].expand(-1, 2, -1)
    vector = flat.gather(2, cell).view(number, 2, *row.shape[1:])
    unit = along / length
    dot = vector[:, 0] * unit[..., 0, None] + vector[:, 1] * unit[..., 1, None]
    # A limb longer than half the picture is unlikely.
    far = (0.5 * max(rows, columns) / length[..., 0] - 1).clamp(max=0)
    return dot.mean(dim=-1) + far, (dot > least).float().mean(dim=-1)


def _assemble(
    places: np.ndarray,
    heights: np.ndarray,
    scores: np.ndarray,
    limbs: Sequence[tuple[int, int]],
    least_joints: int,
    max_persons: int,
) -> FoundPersons:
    joints = len(places)
    persons: list[dict[int, int]] = []
    for limb, (a, b) in enumerate(limbs):
        used_a: set[int] = set()
        used_b: set[int] = set()
        pairs = np.argwhere(scores[limb] > 0)
        for i, j in pairs[np.argsort(-scores[limb][tuple(pairs.T)], kind="stable")].tolist():
            if i in used_a or j in used_b:
                continue
            used_a.add(i)
            used_b.add(j)
            _connect(persons, (a, i), (b, j))
    kept: list[tuple[float, dict[int, int]]] = []
    for person in persons:
        if len(person) < least_joints:
            continue
        height = sum(heights[joint, at] for joint, at in person.items())
        # Between the mean over its own joints and that over all: a few sure ones alone do not make a sure person, and
        # somebody half hidden is not lost.
        score = height / math.sqrt(len(person) * joints)
        kept.append((min(float(score), 1.0), person))
    kept.sort(key=lambda each: -each[0])
    kept = kept[:max_persons]
    out_places = np.zeros((len(kept), joints, 2), dtype=np.float32)
    out_scores = np.zeros((len(kept), joints), dtype=np.float32)
    for row, (_, person) in enumerate(kept):
        for joint, at in person.items():
            out_places[row, joint] = places[joint, at]
            out_scores[row, joint] = np.clip(heights[joint, at], 0, 1)
        _fill(out_places[row], set(person), limbs)
    total_scores = np.array([score for score, _ in kept], dtype=np.float32)
    return FoundPersons(*map(torch.from_numpy, (out_places, out_scores, total_scores)))


def _connect(persons: list[dict[int, int]], first: tuple[int, int], second: tuple[int, int]) -> None:
    """Puts a limb to the person that has one of its ends, joins two persons by it, or begins a new one."""
    (a, i), (b, j) = first, second
    with_a = next((k for k, person in enumerate(persons) if person.get(a) == i), None)
    with_b = next((k for k, person in enumerate(persons) if person.get(b) == j), None)
    if with_a is None and with_b is None:
        persons.append({a: i, b: j})
    elif with_b is None:
        assert with_a is not None
        persons[with_a].setdefault(b, j)
    elif with_a is None:
        persons[with_b].setdefault(a, i)
    elif with_a != with_b and not persons[with_a].keys() & persons[with_b].keys():
        persons[with_a] |= persons[with_b]
        del persons[with_b]


def _fill(places: np.ndarray, known: set[int], limbs: Sequence[tuple[int, int]]) -> None:
    """Guesses joints that were not found: where a neighbour along a limb is, else the middle of the person."""
    middle = places[sorted(known)].mean(axis=0)
    for joint in range(len(places)):
        if joint not in known:
            near = [a if b == joint else b for a, b in limbs if joint in (a, b)]
            found = [places[k] for k in near if k in known]
            places[joint] = np.mean(found, axis=0) if found else middle

"""Semi-global matching (Hirschmüller, 2008) with the penalties of Mei et al. (2011), as MC-CNN has it."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from visionkit.families.matching.cost_volume import shifted


class Penalties(NamedTuple):
    """What a change of disparity between neighbors costs.

    Attributes:
        p1: Of one pixel of disparity.
        p2: Of more.
        q1: Both are divided by it where one of the images has an edge there.
        q2: Both are divided by it where both have one.
        vertical: `p1` is divided by it between rows.
        edge: Difference of neighboring gray values that is an edge.
    """

    p1: float
    p2: float
    q1: float = 3.0
    q2: float = 6.0
    vertical: float = 1.5
    edge: float = 0.08


def semi_global(cost: Tensor, left: Tensor, right: Tensor, penalties: Penalties) -> Tensor:
    """Costs with those of the cheapest way to each pixel from four directions, the mean over the directions.

    Args:
        cost: (B, D, h, w) float, smaller is more likely.
        left: (B, h, w) float gray image that the costs belong to.
        right: (B, h, w) the other one, which shows a point at x - d.
        penalties: Costs of changes of disparity.

    Returns:
        (B, D, h, w).
    """
    bins = cost.shape[1]
    total = torch.zeros_like(cost)
    for axis in (-1, -2):
        ours, theirs = (_is_edge(image, axis, penalties.edge) for image in (left, right))
        edges = torch.stack([ours.byte() + moved[:, 0].byte() for moved in shifted(theirs[:, None].float(), bins)], 1)
        p1 = penalties.p1 / (penalties.vertical if axis == -2 else 1.0)
        # Positions along the way first, disparities last: (T, B, other side, D).
        order = (3, 0, 2, 1) if axis == -1 else (2, 0, 3, 1)
        costs, steps = cost.permute(order).contiguous(), edges.permute(order).contiguous()
        factors = torch.tensor([1.0, 1 / penalties.q1, 1 / penalties.q2], dtype=cost.dtype, device=cost.device)
        back = (1, 3, 2, 0) if axis == -1 else (1, 3, 0, 2)
        for reverse in (False, True):
            total += _along(costs, steps, factors, p1, penalties.p2, reverse).permute(back)
    return total / 4


def _is_edge(image: Tensor, axis: int, limit: float) -> Tensor:
    """Whether a pixel differs from the one before it; the first one does not."""
    step = image.diff(dim=axis).abs() >= limit
    return F.pad(step, (1, 0) if axis == -1 else (0, 0, 1, 0))


def _along(costs: Tensor, edges: Tensor, factors: Tensor, p1: float, p2: float, reverse: bool) -> Tensor:
    """One direction: each position adds the cheapest way to it to its own cost."""
    length = costs.shape[0]
    out = torch.empty_like(costs)
    previous = costs[-1 if reverse else 0]
    out[-1 if reverse else 0] = previous
    for step in range(1, length):
        here = length - 1 - step if reverse else step
        factor = factors[edges[here + 1 if reverse else here].long()]  # an edge lies between two positions
        above = previous - previous.amin(dim=-1, keepdim=True)
        beside = torch.minimum(
            F.pad(above[..., :-1], (1, 0), value=torch.inf), F.pad(above[..., 1:], (0, 1), value=torch.inf)
        )
        best = torch.minimum(torch.minimum(above, beside + p1 * factor), p2 * factor)
        previous = out[here] = costs[here] + best
    return out

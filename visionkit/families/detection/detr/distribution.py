"""Fine-grained distribution refinement (D-FINE): the sides of a box as distributions over offsets from a first box."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

UP = 0.5
"""The largest offset of a side within the bins, as a fraction of the first box's side; the outermost bins lie at twice
that."""


def offset_bins(bins: int, scale: float) -> Tensor:
    """(bins + 1) offsets, in units of the first box's side over `scale`: dense around 0, sparse outside.

    The weighting function W(n) of Peng et al., 2024, equation 4.

    Args:
        bins: Even number of steps.
        scale: Curvature; larger is flatter in the middle and steeper outside.
    """
    reach = UP * scale
    step: float = (reach + 1) ** (2 / (bins - 2))
    half: list[float] = [step**power - 1 for power in range(1, bins // 2)]
    return torch.tensor([-2 * reach, *(-value for value in reversed(half)), 0.0, *half, 2 * reach])


def expected_offsets(logits: Tensor, bins: Tensor) -> Tensor:
    """(..., 4 * (bins + 1)) logits to the means of the four distributions, (..., 4)."""
    probabilities = logits.float().unflatten(-1, (4, len(bins))).softmax(dim=-1)
    # Under autocast a product of matrices would be taken in 16 bits.
    return cast(Tensor, (probabilities * bins).sum(dim=-1))


def moved_boxes(first: Tensor, offsets: Tensor, scale: float) -> Tensor:
    """Moves the sides of boxes outwards.

    Args:
        first: (..., 4) center and sides.
        offsets: (..., 4) of left, top, right and bottom side, see `offset_bins`.
        scale: Curvature of the bins.

    Returns:
        (..., 4) center and sides.
    """
    sides = torch.cat([first[..., 2:], first[..., 2:]], dim=-1)
    reach = (0.5 * scale + offsets) * (sides / scale)
    low, high = first[..., :2] - reach[..., :2], first[..., :2] + reach[..., 2:]
    return torch.cat([(low + high) / 2, high - low], dim=-1)


class Bins(NamedTuple):
    """Where known sides lie among the bins.

    Attributes:
        left: (..., 4) int64, the bin below; the one above follows.
        weight: (..., 4) weight of the bin above, in [0, 1].
    """

    left: Tensor
    weight: Tensor


def bins_of(first: Tensor, boxes: Tensor, bins: Tensor, scale: float) -> Bins:
    """The bins between which the sides of true boxes lie, as seen from first boxes.

    Args:
        first: (..., 4) center and sides of the first boxes.
        boxes: (..., 4) center and sides of the true ones.
        bins: From `offset_bins`.
        scale: Curvature of the bins.
    """
    low, high = boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2
    reach = torch.cat([first[..., :2] - low, high - first[..., :2]], dim=-1)
    unit = torch.cat([first[..., 2:], first[..., 2:]], dim=-1) / scale + 1e-16
    offsets = reach / unit - 0.5 * scale
    last = len(bins) - 1
    left = torch.searchsorted(bins, offsets.contiguous(), right=True) - 1
    inside = left.clamp(0, last - 1)
    below, above = bins[inside], bins[inside + 1]
    weight = ((offsets - below) / (above - below)).clamp(0, 1)
    return Bins(inside, weight)


def localization_loss(log_probabilities: Tensor, target: Bins) -> Tensor:
    """Fine-grained localization loss of each side: cross entropy with the two bins around it (equation 6).

    Args:
        log_probabilities: (..., 4, bins + 1).
        target: The bins of the true sides, (..., 4) each; broadcast.
    """
    shape = log_probabilities.shape[:-1]
    left = target.left.expand(shape)[..., None]
    below, above = log_probabilities.gather(-1, left), log_probabilities.gather(-1, left + 1)
    return -(below.squeeze(-1) * (1 - target.weight) + above.squeeze(-1) * target.weight)


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Divergence of the student's distributions from the teacher's, times the squared temperature.

    Args:
        student: (..., 4, bins + 1) logits.
        teacher: The same of the last layer; no gradient reaches it.
        temperature: Both are divided by it.

    Returns:
        (..., 4).
    """
    own = F.log_softmax(student.float() / temperature, dim=-1)
    wanted = F.log_softmax(teacher.detach().float() / temperature, dim=-1)
    return (wanted.exp() * (wanted - own)).sum(dim=-1) * temperature**2

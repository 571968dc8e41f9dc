"""What is minimized: end-point errors at several resolutions, and of the estimates of a recurrent network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

FINEST_HALVES = 0.5
"""Weight of each resolution of `multi_scale_loss` as a fraction of that of the next finer one."""


def known_pixels(flow: Tensor, valid: Tensor, max_flow: float) -> Tensor:
    """(B, h, w) bool: where the true motion is known and not longer than `max_flow` pixels.

    Args:
        flow: (B, 2, h, w) true motion.
        valid: (B, h, w) bool.
        max_flow: Longest motion that is trained on.
    """
    return valid & (flow.square().sum(dim=1) < max_flow**2)


def end_point_error(flow: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Mean length of the error vectors over the known pixels; 0 where there are none.

    Args:
        flow: (B, 2, h, w).
        truth: (B, 2, h, w).
        known: (B, h, w) bool.
    """
    # The root of 0 has no gradient.
    error = ((flow.float() - truth).square().sum(dim=1) + 1e-12).sqrt()
    return (error * known).sum() / known.sum().clamp(min=1)


def multi_scale_loss(estimates: Sequence[Tensor], truth: Tensor, known: Tensor) -> dict[str, Tensor]:
    """End-point errors of a coarse-to-fine network (Dosovitskiy et al., 2015), one term per resolution.

    The truth of a coarse pixel is the mean of what is known in it. The weights fall by half from one resolution to the
    next coarser one, as in the paper's sums over pixels.

    Args:
        estimates: (B, 2, h', w') each in pixels of the input, the finest first.
        truth: (B, 2, h, w).
        known: (B, h, w) bool.
    """
    terms: dict[str, Tensor] = {}
    there = known[:, None].to(truth.dtype)
    for number, estimate in enumerate(estimates):
        size = (estimate.shape[-2], estimate.shape[-1])
        part = F.adaptive_avg_pool2d(there, size)
        mean = F.adaptive_avg_pool2d(truth * there, size) / part.clamp(min=1e-6)
        error = end_point_error(estimate, mean, part[:, 0] > 0)
        terms[f"epe_{round(truth.shape[-1] / size[1])}"] = FINEST_HALVES**number * error
    return terms


def sequence_loss(estimates: Sequence[Tensor], truth: Tensor, known: Tensor, gamma: float) -> dict[str, Tensor]:
    """Mean absolute differences of every estimate of a recurrent network, later ones weighted more (Teed & Deng, 2020).

    Args:
        estimates: (B, 2, h, w) each, the last one last.
        truth: (B, 2, h, w).
        known: (B, h, w) bool.
        gamma: Weight of an estimate as a fraction of that of the next.
    """
    count = known.sum().clamp(min=1)
    total = torch.zeros((), device=truth.device)
    for number, estimate in enumerate(reversed(estimates)):
        difference = (estimate.float() - truth).abs().sum(dim=1)
        total = total + gamma**number * (difference * known).sum() / count
    return {"sequence": total}

"""Losses at every measured pixel, by name and as weighted sums. Nothing waits for the device; no pixel gives NaN.

All take predictions and truth as (B, h, w) and a mask of what was measured; a batch that measured nothing gives 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from visionkit.errors import UsageError, suggest
from visionkit.families.dense.depth_alignment import least_squares

_TINY = 1e-6


class ScaleInvariantLog(nn.Module):
    """Scale-invariant log loss (Eigen et al., 2014): the spread of log errors, and a fraction of their common part.

    sqrt(mean(g^2) - variance_focus * mean(g)^2) an image, with g = log(prediction) - log(truth).

    Args:
        variance_focus: Variance focus in [0, 1]: at 1 a common factor costs nothing, at 0 it is the RMSE of the
            logarithm.
    """

    def __init__(self, variance_focus: float = 0.85) -> None:
        super().__init__()
        if not 0 <= variance_focus <= 1:
            raise UsageError(f"model.loss_options silog: variance_focus {variance_focus}: allowed is 0 to 1")
        self.variance_focus = variance_focus

    def forward(self, depth: Tensor, truth: Tensor, known: Tensor) -> Tensor:
        """Loss of a batch, in log units.

        Args:
            depth: (B, h, w) meters, above 0.
            truth: (B, h, w) meters.
            known: (B, h, w) bool.
        """
        g = _log_error(depth, truth, known).flatten(1)
        count = known.flatten(1).sum(dim=1)
        there = count > 0
        mean, square = g.sum(dim=1) / count.clamp(min=1), g.square().sum(dim=1) / count.clamp(min=1)
        # The root has no slope at 0, which rounding can undershoot.
        spread = (square - self.variance_focus * mean.square()).clamp(min=0)
        each = (spread + _TINY).sqrt() - _TINY**0.5
        mean_loss: Tensor = (each * there).sum() / there.sum().clamp(min=1)
        return mean_loss


class LogL1(nn.Module):
    """Mean absolute difference of the logarithms: about the relative error."""

    def forward(self, depth: Tensor, truth: Tensor, known: Tensor) -> Tensor:
        """Loss of a batch, see `ScaleInvariantLog`."""
        return _log_error(depth, truth, known).abs().sum() / known.sum().clamp(min=1)


class BerHu(nn.Module):
    """Reverse Huber loss in meters (Laina et al., 2016): L1 up to a threshold, quadratic above it.

    Args:
        fraction: The threshold as a fraction of the batch's largest error.
    """

    def __init__(self, fraction: float = 0.2) -> None:
        super().__init__()
        if not 0 < fraction <= 1:
            raise UsageError(f"model.loss_options berhu: fraction {fraction}: allowed is above 0 and up to 1")
        self.fraction = fraction

    def forward(self, depth: Tensor, truth: Tensor, known: Tensor) -> Tensor:
        """Loss of a batch in meters, see `ScaleInvariantLog`."""
        error = torch.where(known, depth - truth, 0.0).abs()
        bend = (self.fraction * error.detach().amax()).clamp(min=_TINY)
        each = torch.where(error <= bend, error, (error.square() + bend.square()) / (2 * bend))
        return (each * known).sum() / known.sum().clamp(min=1)


class GradientMatching(nn.Module):
    """Differences between neighbors, at several scales, shall be those of the truth: edges where they belong.

    Of log depth (Li and Snavely, 2018). A difference counts where both neighbors were measured.

    Args:
        scales: Every pixel, every second, every fourth, ...
    """

    def __init__(self, scales: int = 4) -> None:
        super().__init__()
        if scales < 1:
            raise UsageError(f"model.loss_options gradient: scales {scales}: at least 1")
        self.scales = scales

    def forward(self, depth: Tensor, truth: Tensor, known: Tensor) -> Tensor:
        """Loss of a batch, see `ScaleInvariantLog`."""
        return matched_gradients(_log_error(depth, truth, known), known, self.scales)


class ScaleShiftInvariant(nn.Module):
    """For relative depth: inverse depth is compared after the best scale and shift of each image (MiDaS).

    Ranftl et al., 2020: least squares alignment, and matched gradients of what is left over, at several scales.

    Args:
        gradient: Weight of the matched gradients.
        scales: See `GradientMatching`.
    """

    def __init__(self, gradient: float = 0.5, scales: int = 4) -> None:
        super().__init__()
        self.gradient, self.scales = gradient, scales

    def forward(self, nearness: Tensor, truth: Tensor, known: Tensor) -> Tensor:
        """Loss of a batch.

        Args:
            nearness: (B, h, w) inverse depth up to a scale and a shift.
            truth: (B, h, w) meters.
            known: (B, h, w) bool.
        """
        goal = torch.where(known, 1 / truth.clamp(min=_TINY), 0.0)
        # In units of the image's own spread, so that a near scene does not outweigh a far one.
        count = known.flatten(1).sum(dim=1).clamp(min=1)
        center = goal.flatten(1).sum(dim=1) / count
        off = torch.where(known, goal - center[:, None, None], 0.0)
        spread = (off.flatten(1).abs().sum(dim=1) / count).clamp(min=_TINY)
        goal = off / spread[:, None, None]
        scale, shift = least_squares(nearness, goal, known)
        rest = torch.where(known, scale[:, None, None] * nearness + shift[:, None, None] - goal, 0.0)
        loss = rest.square().sum() / (2 * known.sum().clamp(min=1))
        return loss + self.gradient * matched_gradients(rest, known, self.scales)


def matched_gradients(rest: Tensor, known: Tensor, scales: int) -> Tensor:
    """Mean absolute difference of neighbors in what a prediction is off by, summed over scales.

    Args:
        rest: (B, h, w), 0 where not known.
        known: (B, h, w) bool.
        scales: Number of scales.
    """
    total = rest.new_zeros(())
    for scale in range(scales):
        step = 2**scale
        some, there = rest[:, ::step, ::step], known[:, ::step, ::step]
        for one, other in (
            (some[:, 1:] - some[:, :-1], there[:, 1:] & there[:, :-1]),
            (some[:, :, 1:] - some[:, :, :-1], there[:, :, 1:] & there[:, :, :-1]),
        ):
            total = total + (one.abs() * other).sum() / other.sum().clamp(min=1)
    return total


def _log_error(depth: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    g = depth.clamp(min=_TINY).log() - torch.where(known, truth, 1.0).clamp(min=_TINY).log()
    return torch.where(known, g, 0.0)


LOSSES: dict[str, Callable[..., nn.Module]] = {
    "silog": ScaleInvariantLog,
    "log_l1": LogL1,
    "berhu": BerHu,
    "gradient": GradientMatching,
    "scale_shift_invariant": ScaleShiftInvariant,
}

RELATIVE = ("scale_shift_invariant",)
"""Losses of relative depth; the others need meters."""


class DepthLoss(nn.Module):
    """A weighted sum of losses.

    Args:
        terms: Weight of each loss by name.
        options: Arguments of each loss by its name: `{"silog": {"variance_focus": 0.5}}`.
        relative: The network gives relative depth.

    Raises:
        UsageError: An unknown loss or argument, or one of the other type of depth.
    """

    def __init__(
        self,
        terms: Mapping[str, float],
        options: Mapping[str, Mapping[str, Any]] | None = None,
        relative: bool = False,
    ) -> None:
        super().__init__()
        fitting = [name for name in LOSSES if (name in RELATIVE) == relative]
        for name in (*terms, *(options or {})):
            if name not in LOSSES:
                raise UsageError(f"model.losses {name!r}: allowed are {', '.join(fitting)}{suggest(name, LOSSES)}")
            if name not in fitting:
                kind = "relative" if relative else "metric"
                raise UsageError(f"model.losses {name!r}: not for {kind} depth; allowed are {', '.join(fitting)}")
        if not terms or any(value <= 0 for value in terms.values()):
            raise UsageError("model.losses: give at least one loss, each with a weight above 0")
        self.terms = dict(terms)
        self.parts = nn.ModuleDict()
        for name in terms:
            try:
                self.parts[name] = LOSSES[name](**dict((options or {}).get(name, {})))
            except TypeError as error:
                raise UsageError(f"model.loss_options {name}: {error}") from None

    def forward(self, values: Tensor, truth: Tensor, known: Tensor) -> dict[str, Tensor]:
        """Each term with its weight; see `ScaleInvariantLog` and `ScaleShiftInvariant` for the arguments."""
        values = values.float()
        return {name: self.terms[name] * part(values, truth, known) for name, part in self.parts.items()}

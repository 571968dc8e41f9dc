"""What the losses of the one-stage networks have in common: sums over anchors that do not wait for the device."""

from __future__ import annotations

import torch
from torch import Tensor


def gather(values: Tensor, index: Tensor) -> Tensor:
    """(B, N, ...) values of objects by the (B, A) index."""
    if values.dim() == 2:
        return values.gather(1, index)
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))


def one_hot(labels: Tensor, positive: Tensor, logits: Tensor) -> Tensor:
    """(B, A, K) of zeros, with a one at the label of each positive anchor."""
    target = torch.zeros(logits.shape, device=logits.device)
    return target.scatter_(2, labels[..., None], positive[..., None].float())


def masked(values: Tensor, mask: Tensor) -> Tensor:
    """Sum over anchors of the values under the mask, one per image."""
    return torch.where(mask, values, torch.zeros((), device=values.device)).sum(dim=1)

"""Proposals that take in what proposals of other frames show (Wu et al., 2019: SELSA)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEAD = 64
"""Channels that are compared by themselves."""

FACTOR = 20.0
"""What cosine similarities are multiplied by at the beginning of training."""


class References(NamedTuple):
    """Proposals of frames of one video, as the hidden layers of the box head state them.

    Attributes:
        features: (B, R, L, D) what each of L hidden layers gives, before its activation.
        valid: (B, R) bool; the others are filling.
    """

    features: Tensor
    valid: Tensor

    @classmethod
    def joined(cls, parts: Sequence[References]) -> References:
        """Those of several frames as one.

        Args:
            parts: At least one, of the same batch.
        """
        return cls(*(torch.cat(columns, dim=1) for columns in zip(*parts, strict=True)))


class ProposalAggregation(nn.Module):
    """Adds to each proposal a mean of the references, weighted by their similarity to it.

    The weights are a softmax of cosine similarities of two learned embeddings, times a learned factor; groups of
    channels are compared apart. Both embeddings begin alike, so what looks alike is similar from the beginning, and the
    last layer begins with zeros, so training begins with the detector of single frames.

    Args:
        channels: D.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = max(1, channels // HEAD) if channels % HEAD == 0 else 1
        self.query, self.key, self.value, self.out = (nn.Linear(channels, channels, bias=False) for _ in range(4))
        nn.init.orthogonal_(self.query.weight)
        self.key.weight.data.copy_(self.query.weight.data)
        nn.init.orthogonal_(self.value.weight)
        nn.init.zeros_(self.out.weight)
        self.log_factor = nn.Parameter(torch.full((self.heads, 1, 1), math.log(FACTOR)))

    def forward(self, proposals: Tensor, references: Tensor, valid: Tensor) -> Tensor:
        """Aggregates.

        Args:
            proposals: (B, P, D).
            references: (B, R, D).
            valid: (B, R) bool.

        Returns:
            (B, P, D).
        """
        # Where nothing is valid all is filling, whose weights would be NaN otherwise.
        mask = (valid | ~valid.any(dim=1, keepdim=True))[:, None, None]
        query, key = (F.normalize(self._split(each), dim=-1) for each in (self.query(proposals), self.key(references)))
        value = self._split(self.value(references))
        mixed = F.scaled_dot_product_attention(query * self.log_factor.exp(), key, value, attn_mask=mask, scale=1.0)
        out: Tensor = proposals + self.out(mixed.transpose(1, 2).flatten(2))
        return out

    def _split(self, values: Tensor) -> Tensor:
        split: Tensor = values.unflatten(2, (self.heads, -1))
        return split.transpose(1, 2)

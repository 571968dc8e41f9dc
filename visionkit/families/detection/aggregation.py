"""Proposals that take in what proposals of other frames show (Wu et al., 2019: SELSA)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEAD = 64
"""Channels that are compared by themselves."""


class References(NamedTuple):
    """Proposals of other frames of the same video, as the hidden layers of the box head state them.

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

    The similarity is the inner product of two learned embeddings, scaled and brought to a sum of 1 by softmax; groups
    of channels are compared apart. The last layer begins with zeros, so training begins with the detector of single
    frames.

    Args:
        channels: D.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = max(1, channels // HEAD) if channels % HEAD == 0 else 1
        self.query, self.key, self.value, self.out = (nn.Linear(channels, channels) for _ in range(4))
        for layer in (self.query, self.key, self.value):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

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
        query, key, value = self._split(self.query(proposals)), self.key(references), self.value(references)
        mixed = F.scaled_dot_product_attention(query, self._split(key), self._split(value), attn_mask=mask)
        out: Tensor = proposals + self.out(mixed.transpose(1, 2).flatten(2))
        return out

    def _split(self, values: Tensor) -> Tensor:
        split: Tensor = values.unflatten(2, (self.heads, -1))
        return split.transpose(1, 2)

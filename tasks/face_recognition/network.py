"""Backbone and embedding head."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from visionkit.backbones import Backbone, Features

HeadKind = Literal["own", "pool", "gdc"]


class FaceOutputs(NamedTuple):
    """Raw outputs.

    Attributes:
        embedding: (B, D) float, not normalized.
    """

    embedding: Tensor


class PooledHead(nn.Module):
    """The backbone's pooled features to an embedding: normalized, mapped, normalized.

    The last batch norm keeps all directions of the embedding in use, which margin losses need (Deng et al., 2019).

    Args:
        features: Width of the pooled features.
        embedding: Width D of the embedding.
        dropout: Before the map, in [0, 1).
    """

    def __init__(self, features: int, embedding: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm1d(features),
            nn.Dropout(dropout),
            nn.Linear(features, embedding, bias=False),
            nn.BatchNorm1d(embedding),
        )

    def forward(self, pooled: Tensor) -> Tensor:
        """(B, F) to (B, D)."""
        embedding: Tensor = self.layers(pooled)
        return embedding


class DepthwiseHead(nn.Module):
    """A global depthwise convolution over the last map (Chen et al., 2018) and a map to the embedding.

    Averaging forgets where in the face a feature was seen; this weighs every position of every channel. It fixes the
    size of the input.

    Args:
        features: Channels C of the map.
        size: Height and width of the map.
        embedding: Width D of the embedding.
        dropout: Before the map to the embedding, in [0, 1).
    """

    def __init__(self, features: int, size: tuple[int, int], embedding: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.weigh = nn.Sequential(
            nn.Conv2d(features, features, size, groups=features, bias=False), nn.BatchNorm2d(features)
        )
        self.embed = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(features, embedding, bias=False), nn.BatchNorm1d(embedding)
        )

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to (B, D)."""
        embedding: Tensor = self.embed(self.weigh(features).flatten(1))
        return embedding


class FaceNetwork(nn.Module):
    """An image to an embedding; in evaluation mode, of the image and its flip together.

    Args:
        backbone: Any timm backbone; for `gdc` with one stride and without its final features.
        kind: `own` takes what the backbone's pooling gives (MobileFaceNet's is a global depthwise convolution), `pool`
            and `gdc` put a head on.
        embedding: Width D; for `own` the backbone's.
        size: Height and width of the input.
        dropout: Dropout probability of the head.
        flip_tta: Add the embedding of the flipped image, the field's protocol.
    """

    def __init__(
        self,
        backbone: Backbone,
        kind: HeadKind,
        embedding: int,
        size: tuple[int, int],
        dropout: float = 0.0,
        flip_tta: bool = True,
    ) -> None:
        super().__init__()
        self.backbone, self.kind, self.flip_tta = backbone, kind, flip_tta
        self.head: nn.Module
        if kind == "own":
            self.head = nn.Identity()
        elif kind == "pool":
            self.head = PooledHead(backbone.num_features, embedding, dropout)
        else:
            ((stride, channels),) = backbone.channels.items()
            self.head = DepthwiseHead(channels, _map_size(backbone, size, stride), embedding, dropout)

    def read(self, features: Features, size: tuple[int, int]) -> FaceOutputs:
        """The head's half: a backbone pass that other heads share is enough."""
        if self.kind == "gdc":
            (map_,) = features.pyramid.values()
            return FaceOutputs(self.head(map_))
        return FaceOutputs(self.head(self.backbone.pool(features.final)))

    def forward(self, image: Tensor) -> FaceOutputs:
        """(B, C, H, W) normalized images to embeddings."""
        size = (image.shape[-2], image.shape[-1])
        if self.training or not self.flip_tta:
            return self.read(self.backbone(image), size)
        both = self.read(self.backbone(torch.cat([image, image.flip(-1)])), size).embedding
        return FaceOutputs(both.unflatten(0, (2, -1)).sum(dim=0))


@torch.no_grad()
def _map_size(backbone: Backbone, size: tuple[int, int], stride: int) -> tuple[int, int]:
    """Height and width of the map; tried, since a declared stride may be a pixel off."""
    training = backbone.training
    backbone.eval()
    map_ = backbone(torch.zeros(1, len(backbone.mean), *size)).pyramid[stride]
    backbone.train(training)
    return int(map_.shape[-2]), int(map_.shape[-1])

"""Backbone and classifier."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from visionkit.backbones import Backbone, Features


class ClassificationOutputs(NamedTuple):
    """Raw outputs.

    Attributes:
        logits: (B, K) float.
    """

    logits: Tensor


class ClassificationHead(nn.Module):
    """Pooled features to class logits.

    Args:
        classifier: What the backbone's family ends with, as `Backbone.take_classifier` hands it over; (B, F) to (B, K).
        dropout: Dropout probability of the pooled features, in [0, 1).
    """

    def __init__(self, classifier: nn.Module, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.classifier = classifier

    def forward(self, embedding: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.dropout(embedding))
        return logits


class ClassificationNetwork(nn.Module):
    """A backbone whose final features are pooled as its family does, and a head.

    Args:
        backbone: Any timm backbone.
        head: Takes what `backbone.pool` gives.
    """

    def __init__(self, backbone: Backbone, head: ClassificationHead) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def read(self, features: Features, size: tuple[int, int]) -> ClassificationOutputs:
        """The head's half: a backbone pass that other heads share is enough."""
        return ClassificationOutputs(self.head(self.backbone.pool(features.final)))

    def forward(self, image: Tensor) -> ClassificationOutputs:
        """(B, C, H, W) normalized images to logits."""
        return self.read(self.backbone(image), (image.shape[-2], image.shape[-1]))

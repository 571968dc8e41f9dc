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
    """Pooled features to class logits, with the classifier that the backbone's family uses.

    Distilled families (DeiT, LeViT, EfficientFormer) bring two classifiers, whose logits are averaged as at their own
    inference.

    Args:
        classifiers: One module, mostly `nn.Linear`, or the two of a distilled family; (B, F) to (B, K).
        dropout: Of the pooled features, in [0, 1).
    """

    def __init__(self, classifiers: list[nn.Module], dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.classifiers = nn.ModuleList(classifiers)

    def forward(self, embedding: Tensor) -> Tensor:
        embedding = self.dropout(embedding)
        logits: Tensor = self.classifiers[0](embedding)
        for classifier in self.classifiers[1:]:
            logits = logits + classifier(embedding)
        return logits / len(self.classifiers) if len(self.classifiers) > 1 else logits


class ClassificationNetwork(nn.Module):
    """A backbone whose final features are pooled as its family does, and a head.

    Args:
        backbone: Any timm backbone.
        head: Takes what `backbone.pool` gives.
    """

    def __init__(self, backbone: Backbone, head: ClassificationHead) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def read(self, features: Features) -> ClassificationOutputs:
        """The head's half: a backbone pass that other heads share is enough."""
        return ClassificationOutputs(self.head(self.backbone.pool(features.final)))

    def forward(self, image: Tensor) -> ClassificationOutputs:
        """(B, C, H, W) normalised pictures to logits."""
        return self.read(self.backbone(image))

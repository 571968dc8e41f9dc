"""Differences of what a backbone sees in two images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from visionkit.backbones import Backbone


class FrozenFeatures:
    """Feature maps of a backbone that is not trained.

    It is no module and no part of a task: its public weights are fetched when the first features are computed, and are
    in no checkpoint.

    Args:
        name: A timm model.
        strides: Strides of its features, in pixels; VGG has 1, 2, 4, 8, 16 and 32.
        pretrained: Random features where false (for tests).
    """

    def __init__(self, name: str, strides: Sequence[int], pretrained: bool = True) -> None:
        self.name, self.strides, self.pretrained = name, tuple(strides), pretrained
        self._backbone: Backbone | None = None

    def __call__(self, image: Tensor) -> list[Tensor]:
        """The features of images, one map per stride.

        Args:
            image: (B, 1 or 3, H, W) float gray or RGB on [0, 1]; what leaves it is clipped, as it is served.
        """
        if self._backbone is None:
            made = Backbone(self.name, pretrained=self.pretrained, strides=self.strides, use_final=False)
            self._backbone = made.requires_grad_(False).eval()
        backbone = self._backbone.to(image.device)
        mean, std = (image.new_tensor(v).view(1, 3, 1, 1) for v in (backbone.mean, backbone.std))
        pyramid = backbone((image.clamp(0, 1) - mean) / std).pyramid
        return [pyramid[stride] for stride in self.strides]


class PerceptualLoss:
    """Mean squared difference of features (Johnson et al., 2016).

    Args:
        name: A timm model, see `FrozenFeatures`.
        stride: Stride of its features, in pixels; VGG has 1, 2, 4, 8, 16 and 32.
        weight: Weight of the term.
        pretrained: Random features where false (for tests).
    """

    def __init__(self, name: str, stride: int, weight: float, pretrained: bool = True) -> None:
        self.features, self.weight = FrozenFeatures(name, (stride,), pretrained), weight

    def __call__(self, image: Tensor, target: Tensor) -> Tensor:
        """The weighted term of two batches of images, (B, 1 or 3, H, W) float on [0, 1]."""
        with torch.no_grad():
            (theirs,) = self.features(target)
        (ours,) = self.features(image)
        return self.weight * F.mse_loss(ours.float(), theirs.float())

"""What is minimized: differences of pixels, and optionally of what a VGG sees in them."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionkit.backbones import Backbone
from visionkit.errors import UsageError, suggest
from visionkit.families.restoration.color import luma

PixelLoss = Literal["l1", "l2", "charbonnier"]
_CHARBONNIER = 1e-3


class SuperResolutionLoss(nn.Module):
    """Difference of pixels in [0, 1], of luma where the network works on that alone.

    Args:
        kind: `l1`, `l2`, or `charbonnier`: sqrt(d^2 + 1e-6) (Lai et al., 2017).
        color: `y` compares luma, `rgb` the three channels.
        border: Pixels at the border of the high resolution that are left out: there a network with a large receptive
            field sees less in a patch than in an image.
        perceptual: Weight of the perceptual term; 0 is off.
        backbone: A timm model for that term.
        stride: Stride of the features that are compared, in pixels.

    Raises:
        UsageError: Unknown type.
    """

    def __init__(
        self,
        kind: PixelLoss = "l1",
        color: Literal["y", "rgb"] = "rgb",
        border: int = 0,
        perceptual: float = 0.0,
        backbone: str = "vgg19.tv_in1k",
        stride: int = 8,
    ) -> None:
        super().__init__()
        if kind not in get_args(PixelLoss):
            allowed = get_args(PixelLoss)
            raise UsageError(f"model.loss {kind!r}: allowed are {', '.join(allowed)}{suggest(kind, allowed)}")
        if perceptual < 0:
            raise UsageError(f"model.perceptual {perceptual}: is 0 (off) or a weight above it")
        self.kind, self.color, self.border = kind, color, border
        self.perceptual = PerceptualLoss(backbone, stride, perceptual) if perceptual else None

    def forward(self, high_res: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Named terms.

        Args:
            high_res: (B, 3, H, W) float RGB, about [0, 1].
            target: (B, 3, H, W) uint8.
        """
        if (edge := self.border) and min(target.shape[-2:]) > 2 * edge:
            high_res, target = (each[..., edge:-edge, edge:-edge] for each in (high_res, target))
        wanted = target.float() / 255
        ours, theirs = (luma(high_res), luma(wanted)) if self.color == "y" else (high_res, wanted)
        if self.kind == "l2":
            terms = {"l2": F.mse_loss(ours, theirs)}
        elif self.kind == "l1":
            terms = {"l1": F.l1_loss(ours, theirs)}
        else:
            terms = {"charbonnier": ((ours - theirs).square() + _CHARBONNIER**2).sqrt().mean()}
        if self.perceptual is not None:
            terms["perceptual"] = self.perceptual(high_res, wanted)
        return terms


class PerceptualLoss:
    """Mean squared difference of features (Johnson et al., 2016).

    The backbone is no part of the task: its public weights are fetched when the first loss is computed, are in no
    checkpoint and are not trained.

    Args:
        name: A timm model.
        stride: Stride of its features; VGG has 1, 2, 4, 8, 16 and 32.
        weight: Weight of the term.
        pretrained: Random features where false (for tests).
    """

    def __init__(self, name: str, stride: int, weight: float, pretrained: bool = True) -> None:
        self.name, self.stride, self.weight, self.pretrained = name, stride, weight, pretrained
        self._backbone: Backbone | None = None

    def __call__(self, high_res: Tensor, target: Tensor) -> Tensor:
        """The weighted term of (B, 3, H, W) RGB in [0, 1]."""
        if self._backbone is None:
            made = Backbone(self.name, pretrained=self.pretrained, strides=(self.stride,), use_final=False)
            self._backbone = made.requires_grad_(False).eval()
        backbone = self._backbone.to(high_res.device)
        mean, std = (high_res.new_tensor(v).view(1, 3, 1, 1) for v in (backbone.mean, backbone.std))
        with torch.no_grad():
            theirs = backbone((target - mean) / std).pyramid[self.stride]
        ours = backbone((high_res.clamp(0, 1) - mean) / std).pyramid[self.stride]
        return self.weight * F.mse_loss(ours.float(), theirs.float())

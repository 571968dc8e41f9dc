"""What is minimized: differences of pixels, and optionally of what a VGG sees in them."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from visionkit.errors import UsageError
from visionkit.families.restoration.color import luma
from visionkit.families.restoration.perceptual import PerceptualLoss
from visionkit.families.restoration.pixel_losses import PixelLoss, check_pixel_loss, pixel_loss


class SuperResolutionLoss(nn.Module):
    """Difference of pixels in [0, 1], of luma where the network works on that alone.

    Args:
        kind: `l1`, `l2` or `charbonnier`, see `pixel_loss`.
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
        check_pixel_loss(kind)
        if perceptual < 0:
            raise UsageError(f"model.perceptual {perceptual}: is 0 (off) or a weight above it")
        self.kind: PixelLoss = kind
        self.color, self.border = color, border
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
        terms: dict[str, Tensor] = {self.kind: pixel_loss(self.kind, ours, theirs)}
        if self.perceptual is not None:
            terms["perceptual"] = self.perceptual(high_res, wanted)
        return terms

"""What is the same for all networks: the condition beside the image, and what was known of it."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from tasks.restoration.body import Body


class RestorationOutputs(NamedTuple):
    """Raw outputs.

    Attributes:
        restored: (B, C, h, w) float, about [0, 1], not clipped.
        coarser: For the loss alone: the same at lower resolutions.
        composed_of: For the loss alone: the image that was given, (B, C, h, w) float in [0, 1], and the mask of its
            missing pixels, (B, 1, h, w) float, of a network that has one.
    """

    restored: Tensor
    coarser: tuple[Tensor, ...] = ()
    composed_of: tuple[Tensor, Tensor] | None = None


class RestorationNetwork(nn.Module):
    """A body with what belongs to no one architecture.

    The result of a network with a mask is composed: known pixels stay as they are. In training it is what the body
    gives everywhere, since the loss compares known pixels too.

    Args:
        body: What is trained.
    """

    def __init__(self, body: Body) -> None:
        super().__init__()
        self.body = body

    def forward(self, image: Tensor, condition: Tensor | None = None) -> RestorationOutputs:
        """Restores images.

        Args:
            image: (B, C, h, w) float, about [0, 1].
            condition: (B, C, h, w) float in [0, 1], a gray image: a mask is white where pixels are missing, a noise
                level has the deviation of the noise.
        """
        body = self.body
        if condition is None or body.condition is None:
            restored, coarser = body.scales(image)
            return RestorationOutputs(restored.float(), coarser)
        condition = condition[:, :1]
        if body.condition == "noise_level":
            restored, coarser = body.scales(image, condition)
            return RestorationOutputs(restored.float(), coarser)
        mask = (condition > 0.5).to(image.dtype)
        image = image * (1 - mask)  # nothing of what lies in a hole is seen
        restored, coarser = body.scales(image, mask)
        restored = restored.float()
        if not self.training:
            restored = image + mask * restored
        return RestorationOutputs(restored, coarser, (image, mask))

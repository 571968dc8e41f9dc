"""A backbone that is not trained, as it sees frames of videos."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from visionkit.backbones.backbone import Backbone
from visionkit.engines import find_device
from visionkit.nn.normalize import Normalize


class FrozenBackbone:
    """Runs a backbone on RGB pixels, without gradients to its weights.

    Args:
        body: The backbone.
        device: Where it runs.

    Attributes:
        body: The backbone, on its device.
        device: The device.
    """

    def __init__(self, body: Backbone, device: str | torch.device = "cpu") -> None:
        self.device = find_device(device)
        self.body = body.eval().requires_grad_(False).to(self.device)
        self._normalize = Normalize(body.mean, body.std).to(self.device)

    def normalized(self, pixels: Tensor) -> Tensor:
        """What the network takes: (B, 3, h, w) float, or (B, 1, h, w) of a network of gray images.

        Args:
            pixels: (B, 3, h, w) float from 0 to 255, on the device.
        """
        if len(self.body.mean) == 1:
            pixels = pixels.mean(dim=1, keepdim=True)
        out: Tensor = self._normalize(pixels)
        return out

    def __call__(self, pixels: Tensor) -> Any:
        """Its features, see `Backbone.forward`.

        Args:
            pixels: See `normalized`.
        """
        return self.body(self.normalized(pixels))

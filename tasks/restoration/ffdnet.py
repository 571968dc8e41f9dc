"""FFDNet: denoising at half the resolution, with a map of the noise level (Zhang et al., 2018)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.restoration.body import Body


class FFDNet(Body):
    """Convolutions on the four half-resolution parts of an image, beside the noise level of every pixel.

    Zhang et al., FFDNet: Toward a Fast and Flexible Solution for CNN-based Image Denoising, 2018. The paper describes
    batch norms between the convolutions; the weights that its authors released have none, which is the default.

    Args:
        channels: Channels of the image; 1 or 3.
        width: Channels of every convolution; 64 for gray images (485,316 parameters), 96 for color (852,108).
        depth: Number of convolutions; 15 for gray images, 12 for color.
        batch_norm: Normalize after every convolution but the first and the last, which then has no bias: 486,148
            parameters for gray images.
    """

    condition = "noise_level"
    divisor = 2

    def __init__(self, channels: int = 1, width: int = 64, depth: int = 15, batch_norm: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(4 * channels + 1, width, 3, padding=1), nn.ReLU()]
        for _ in range(depth - 2):
            layers.append(nn.Conv2d(width, width, 3, padding=1, bias=not batch_norm))
            layers += [nn.BatchNorm2d(width)] if batch_norm else []
            layers.append(nn.ReLU())
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, 4 * channels, 3, padding=1))
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):  # without norms, torch's own weights would let the signal fade
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        condition = self.given(image, condition)
        x = torch.cat([F.pixel_unshuffle(image, 2), F.avg_pool2d(condition, 2)], 1)
        return F.pixel_shuffle(self.layers(x), 2)

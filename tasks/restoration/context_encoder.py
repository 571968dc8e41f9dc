"""Context encoder: an image squeezed through a bottleneck that relates all of its places (Pathak et al., 2016)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.restoration.body import Body

_STRIDE = 32


class _ChannelwiseLinear(nn.Module):
    """A fully connected layer within each channel, from all places to all places."""

    def __init__(self, channels: int, places: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, places, places))
        self.bias = nn.Parameter(torch.zeros(channels, 1, places))
        nn.init.normal_(self.weight, std=places**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        flat = x.reshape(batch, channels, height * width).transpose(0, 1)
        return (flat @ self.weight + self.bias).transpose(0, 1).reshape(batch, channels, height, width)


class ContextEncoder(Body):
    """AlexNet's convolutions, a layer that is fully connected within each channel, and five up-convolutions.

    Pathak et al., Context Encoders: Feature Learning by Inpainting, 2016. It is trained by its reconstruction loss; the
    paper's adversarial loss is not part of it. The layers in between have batch norms, without which it does not train
    from random weights. Since its bottleneck belongs to one size, images of another size are resized to it and the
    result is resized back, which suits what it makes: the coarse content of a hole.

    Args:
        channels: Channels of the image; 1 or 3.
        size: Side of the images that it processes, a multiple of 32; best the side of the training patches.
        width: Channels of the first convolution; 64 of the paper.
    """

    condition = "mask"

    def __init__(self, channels: int = 3, size: int = 128, width: int = 64) -> None:
        super().__init__()
        if size < _STRIDE or size % _STRIDE:
            raise ValueError(f"size {size}: give a multiple of {_STRIDE}")
        self.size = size

        def conv(before: int, after: int, kernel: int, stride: int = 1) -> list[nn.Module]:
            layer = nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False)
            return [layer, nn.BatchNorm2d(after), nn.ReLU()]

        def enlarge(before: int, after: int) -> list[nn.Module]:
            layer = nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False)
            return [layer, nn.BatchNorm2d(after), nn.ReLU()]

        def halve() -> nn.Module:
            return nn.MaxPool2d(3, 2, 1)

        self.encoder = nn.Sequential(
            *[*conv(channels + 1, width, 11, 4), halve()],
            *[*conv(width, 3 * width, 5), halve()],
            *conv(3 * width, 6 * width, 3),
            *conv(6 * width, 4 * width, 3),
            *[*conv(4 * width, 4 * width, 3), halve()],
        )
        self.bottleneck = nn.Sequential(
            _ChannelwiseLinear(4 * width, (size // _STRIDE) ** 2), nn.Conv2d(4 * width, 4 * width, 1), nn.ReLU()
        )
        self.decoder = nn.Sequential(
            *enlarge(4 * width, 2 * width),
            *enlarge(2 * width, width),
            *enlarge(width, width),
            *enlarge(width, width // 2),
            nn.ConvTranspose2d(width // 2, channels, 4, 2, 1),
        )

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        condition = self.given(image, condition)
        known = 1 - condition
        x = torch.cat([(image - 0.5) * known, condition], 1)
        whole = (self.size, self.size)
        x = F.interpolate(x, size=whole, mode="bilinear", antialias=True)
        x = self.decoder(self.bottleneck(self.encoder(x))).float()  # resizing on CPUs knows no bfloat16
        return F.interpolate(x, size=image.shape[-2:], mode="bilinear", antialias=True) + 0.5

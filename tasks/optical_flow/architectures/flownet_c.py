"""FlowNetCorr (Dosovitskiy et al., 2015): features of each image by itself, compared at displacements of a window."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.optical_flow.architectures.flownet_s import FlowDecoder, FlowNetS, convolution, scaled
from tasks.optical_flow.network import FlowOutputs
from visionkit.errors import UsageError
from visionkit.families.matching.correlation import local_correlation


@dataclass(frozen=True)
class FlowNetC(FlowNetS):
    """FlowNetCorr.

    Attributes:
        width: Factor on the channels of every layer; 1 is the paper's network.
        batch_norm: Batch norms after the convolutions of the encoder; the paper has none.
        max_displacement: Largest displacement that is compared, in pixels at an eighth of the resolution.
        stride: Pixels from one displacement to the next.
    """

    max_displacement: int = 20
    stride: int = 2

    def build(self, backbone: None, channels: int) -> nn.Module:
        self.check_width()
        if not 1 <= self.stride <= self.max_displacement <= 64:
            raise UsageError(
                f"model max_displacement {self.max_displacement} and stride {self.stride}: allowed are a stride from 1 "
                "to the displacement, and a displacement of at most 64"
            )
        return FlowNetCNetwork(channels, self.width, self.batch_norm, self.max_displacement, self.stride)


class FlowNetCNetwork(nn.Module):
    """FlowNetCorr, 39.2 million parameters at width 1.

    Args:
        channels: Channels of an image.
        width: See `FlowNetC`.
        batch_norm: See `FlowNetC`.
        max_displacement: See `FlowNetC`.
        stride: See `FlowNetC`.
    """

    def __init__(self, channels: int, width: float, batch_norm: bool, max_displacement: int, stride: int) -> None:
        super().__init__()
        self.window = (max_displacement, stride)
        c1, c2, c3, redirected, c4, c5, c6 = scaled(width, 64, 128, 256, 32, 512, 512, 1024)
        compared = (2 * (max_displacement // stride) + 1) ** 2
        self.conv1 = convolution(channels, c1, 7, 2, batch_norm)
        self.conv2 = convolution(c1, c2, 5, 2, batch_norm)
        self.conv3 = convolution(c2, c3, 5, 2, batch_norm)
        self.redirect = convolution(c3, redirected, 1, 1, batch_norm)
        self.conv3_1 = convolution(compared + redirected, c3, batch_norm=batch_norm)
        self.conv4 = convolution(c3, c4, stride=2, batch_norm=batch_norm)
        self.conv4_1 = convolution(c4, c4, batch_norm=batch_norm)
        self.conv5 = convolution(c4, c5, stride=2, batch_norm=batch_norm)
        self.conv5_1 = convolution(c5, c5, batch_norm=batch_norm)
        self.conv6 = convolution(c5, c6, stride=2, batch_norm=batch_norm)
        self.conv6_1 = convolution(c6, c6, batch_norm=batch_norm)
        self.decoder = FlowDecoder((c2, c3, c4, c5, c6), scaled(width, 64, 128, 256, 512), bias=True)

    def forward(self, first: Tensor, second: Tensor) -> FlowOutputs:
        """Two images (B, C, h, w) to the flow from the first to the second."""
        at_4 = self.conv2(self.conv1(torch.cat([first, second])))
        maps, batch = self.conv3(at_4), first.shape[0]
        ours, theirs = maps[:batch], maps[batch:]
        costs = F.leaky_relu(local_correlation(ours, theirs, *self.window), 0.1)
        at_8 = self.conv3_1(torch.cat([self.redirect(ours), costs], dim=1))
        at_16 = self.conv4_1(self.conv4(at_8))
        at_32 = self.conv5_1(self.conv5(at_16))
        at_64 = self.conv6_1(self.conv6(at_32))
        skips = [at_4[:batch], at_8, at_16, at_32, at_64]
        out: FlowOutputs = self.decoder(skips, (first.shape[-2], first.shape[-1]))
        return out

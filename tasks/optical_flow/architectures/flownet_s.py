"""FlowNetSimple (Dosovitskiy et al., 2015): both images as one input of an encoder and decoder of convolutions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.optical_flow.architectures.base import FlowArchitecture
from tasks.optical_flow.loss import multi_scale_loss
from tasks.optical_flow.network import FlowOutputs
from visionkit.errors import UsageError

FLOW_SCALE = 20.0
"""Pixels that stand for 1 in what the layers give."""


@dataclass(frozen=True)
class FlowNetS(FlowArchitecture):
    """FlowNetSimple.

    Attributes:
        width: Factor on the channels of every layer; 1 is the paper's network.
        batch_norm: Batch norms after the convolutions of the encoder; the paper has none.
    """

    width: float = 1.0
    batch_norm: bool = False

    def build(self, backbone: None, channels: int) -> nn.Module:
        self.check_width()
        return FlowNetSNetwork(channels, self.width, self.batch_norm)

    def check_width(self) -> None:
        """Refuses a factor that no network has.

        Raises:
            UsageError: Not above 0, or very large.
        """
        if not 0 < self.width <= 4:
            raise UsageError(f"model width {self.width}: allowed is above 0 and at most 4")

    def losses(self, network: nn.Module, outputs: FlowOutputs, truth: Tensor, known: Tensor) -> dict[str, Tensor]:
        return multi_scale_loss(outputs.estimates, truth, known)


def convolution(channels: int, out: int, kernel: int = 3, stride: int = 1, batch_norm: bool = False) -> nn.Sequential:
    """A convolution that keeps the size but for its stride, a batch norm where it has one, and a leaky ReLU."""
    norm = [nn.BatchNorm2d(out)] if batch_norm else []
    layer = nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=not batch_norm)
    return nn.Sequential(layer, *norm, nn.LeakyReLU(0.1))


class FlowDecoder(nn.Module):
    """From the coarsest features to the flow at a quarter of the resolution; every scale refines the one before.

    Args:
        skips: Channels of the features at strides 4, 8, 16, 32 and 64.
        widths: Channels of the deconvolutions at strides 4, 8, 16 and 32.
        bias: The layers that enlarge the flow have a bias.
    """

    def __init__(self, skips: tuple[int, ...], widths: tuple[int, ...], bias: bool) -> None:
        super().__init__()
        coarse = skips[-1]
        self.flows, self.enlarge, self.deconvolutions = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for skip, width in zip(reversed(skips[:-1]), reversed(widths), strict=True):
            self.flows.append(nn.Conv2d(coarse, 2, 3, padding=1))
            self.enlarge.append(nn.ConvTranspose2d(2, 2, 4, 2, 1, bias=bias))
            layer = nn.ConvTranspose2d(coarse, width, 4, 2, 1)
            self.deconvolutions.append(nn.Sequential(layer, nn.LeakyReLU(0.1)))
            coarse = skip + width + 2
        self.flows.append(nn.Conv2d(coarse, 2, 3, padding=1))

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> FlowOutputs:
        """Features at strides 4 to 64 to the flow at the size of the input."""
        *skips, x = features
        flows: list[Tensor] = []
        for number, predict in enumerate(self.flows):
            flow = predict(x)
            flows.insert(0, flow * FLOW_SCALE)
            if number < len(self.deconvolutions):
                x = torch.cat([skips[-1 - number], self.deconvolutions[number](x), self.enlarge[number](flow)], dim=1)
        whole = F.interpolate(flows[0], size=size, mode="bilinear", align_corners=False)
        return FlowOutputs(whole.float(), tuple(flows))


def scaled(width: float, *channels: int) -> tuple[int, ...]:
    """Numbers of channels times a factor, at least 4 each."""
    return tuple(max(4, round(width * each)) for each in channels)


class FlowNetSNetwork(nn.Module):
    """FlowNetSimple, 38.7 million parameters at width 1.

    Args:
        channels: Channels of an image.
        width: See `FlowNetS`.
        batch_norm: See `FlowNetS`.
    """

    def __init__(self, channels: int, width: float, batch_norm: bool) -> None:
        super().__init__()
        c1, c2, c3, c4, c5, c6 = scaled(width, 64, 128, 256, 512, 512, 1024)
        self.conv1 = convolution(2 * channels, c1, 7, 2, batch_norm)
        self.conv2 = convolution(c1, c2, 5, 2, batch_norm)
        self.conv3 = convolution(c2, c3, 5, 2, batch_norm)
        self.conv3_1 = convolution(c3, c3, batch_norm=batch_norm)
        self.conv4 = convolution(c3, c4, stride=2, batch_norm=batch_norm)
        self.conv4_1 = convolution(c4, c4, batch_norm=batch_norm)
        self.conv5 = convolution(c4, c5, stride=2, batch_norm=batch_norm)
        self.conv5_1 = convolution(c5, c5, batch_norm=batch_norm)
        self.conv6 = convolution(c5, c6, stride=2, batch_norm=batch_norm)
        self.conv6_1 = convolution(c6, c6, batch_norm=batch_norm)
        self.decoder = FlowDecoder((c2, c3, c4, c5, c6), scaled(width, 64, 128, 256, 512), bias=False)

    def forward(self, first: Tensor, second: Tensor) -> FlowOutputs:
        """Two images (B, C, h, w) to the flow from the first to the second."""
        at_4 = self.conv2(self.conv1(torch.cat([first, second], dim=1)))
        at_8 = self.conv3_1(self.conv3(at_4))
        at_16 = self.conv4_1(self.conv4(at_8))
        at_32 = self.conv5_1(self.conv5(at_16))
        at_64 = self.conv6_1(self.conv6(at_32))
        out: FlowOutputs = self.decoder([at_4, at_8, at_16, at_32, at_64], (first.shape[-2], first.shape[-1]))
        return out

"""A U-Net of partial convolutions, which see known pixels alone, for inpainting (Liu et al., 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tasks.restoration.body import Body


class PartialConvolution(nn.Module):
    """A convolution over the known part of its window, scaled up by how much of the window is known.

    A place is known afterwards where anything in its window was. Pixels beyond the border are unknown, as in the
    authors' code. All channels of an input have one mask.

    Args:
        before: Channels of each input; they are joined.
        after: Channels of the output.
        kernel: Side of the kernel; odd.
        stride: Stride.
        bias: Add a bias where anything is known.
    """

    def __init__(self, before: Sequence[int], after: int, kernel: int, stride: int = 1, bias: bool = False) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.parts = [channels / sum(before) for channels in before]
        self.conv = nn.Conv2d(sum(before), after, kernel, stride, kernel // 2, bias=False)
        self.bias = nn.Parameter(torch.zeros(1, after, 1, 1)) if bias else None

    def forward(self, inputs: Sequence[Tensor], masks: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Features and what of them is known.

        Args:
            inputs: (B, channels, h, w) each, in the order of `before`.
            masks: (B, 1, h, w) float each, 1 where known.

        Returns:
            (B, after, h', w'), 0 where nothing in the window was known, and (B, 1, h', w') float.
        """
        x = self.conv(torch.cat([each * mask for each, mask in zip(inputs, masks, strict=True)], 1))
        mask = torch.stack([part * each for part, each in zip(self.parts, masks, strict=True)]).sum(0)
        ratio = F.avg_pool2d(mask, self.kernel, self.stride, self.kernel // 2)  # 0 beyond the border counts too
        known = (ratio > 0).to(x.dtype)
        x = x / (ratio.to(x.dtype) * known + (1 - known))
        if self.bias is not None:
            x = x + self.bias
        return x * known, known


class _Layer(nn.Module):
    """A partial convolution, batch normalization and an activation."""

    def __init__(
        self, before: Sequence[int], after: int, kernel: int, stride: int, norm: bool, activation: nn.Module
    ) -> None:
        super().__init__()
        self.conv = PartialConvolution(before, after, kernel, stride, bias=not norm)
        self.norm = nn.BatchNorm2d(after) if norm else nn.Identity()
        self.activation = activation

    def forward(self, inputs: Sequence[Tensor], masks: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        x, known = self.conv(inputs, masks)
        return self.activation(self.norm(x)), known


class PartialConvolutionUNet(Body):
    """Fills in what a mask hides, of any shape; what lies under the mask is never seen.

    Liu et al., Image Inpainting for Irregular Holes Using Partial Convolutions, 2018: 32,859,796 parameters.

    Args:
        channels: Channels of the image; 1 or 3.
        width: Channels of the first layer; they double until they are eight times as many.
        levels: Number of halvings.
        freeze_encoder_norm: Keep statistics, scales and shifts of the encoder's batch norms, as the paper does in
            fine-tuning.
    """

    condition = "mask"

    def __init__(self, channels: int = 3, width: int = 64, levels: int = 8, freeze_encoder_norm: bool = False) -> None:
        super().__init__()
        self.divisor = 2**levels
        widths = [channels, *(width * min(2**level, 8) for level in range(levels))]
        kernels = [(7, 5, 5)[level] if level < 3 else 3 for level in range(levels)]
        self.encoder = nn.ModuleList(
            _Layer([widths[level]], widths[level + 1], kernels[level], 2, level > 0, nn.ReLU())
            for level in range(levels)
        )
        decoder: list[nn.Module] = []
        x = widths[-1]
        for beside in reversed(widths[1:-1]):
            decoder.append(_Layer([x, beside], beside, 3, 1, True, nn.LeakyReLU(0.2)))
            x = beside
        self.decoder = nn.ModuleList([*decoder, _Layer([x, channels], channels, 3, 1, False, nn.Identity())])
        self.freeze_encoder_norm = freeze_encoder_norm
        if freeze_encoder_norm:
            for norm in self._encoder_norms():
                norm.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Sets the mode; frozen norms keep their statistics."""
        super().train(mode)
        if self.freeze_encoder_norm:
            for norm in self._encoder_norms():
                norm.eval()
        return self

    def _encoder_norms(self) -> list[nn.BatchNorm2d]:
        return [each for each in self.encoder.modules() if isinstance(each, nn.BatchNorm2d)]

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        condition = self.given(image, condition)
        mask = 1 - condition
        x, known = image * mask, mask
        maps = [(x, known)]
        for layer in self.encoder:
            x, known = layer([x], [known])
            maps.append((x, known))
        maps.pop()
        for layer in self.decoder:
            beside, beside_known = maps.pop()
            x, known = (F.interpolate(each, scale_factor=2.0, mode="nearest") for each in (x, known))
            x, known = layer([x, beside], [known, beside_known])
        out: Tensor = x
        return out

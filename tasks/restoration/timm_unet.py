"""Any backbone as the encoder of a U-Net that restores images (Ronneberger et al., 2015)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tasks.restoration.body import Body, Condition
from visionkit.backbones import Backbone, Features, backbone_facts
from visionkit.families.dense.architectures.unet import UNet
from visionkit.nn.normalize import Standardizing


class TimmUNet(Standardizing, Body):
    """A backbone, the U-Net decoder and the image itself beside its last map; what it gives is added to the image.

    A backbone that is built for one size of image (plain transformers, Swin) sees an image in windows of that size,
    whose maps are put together before the decoder.

    Args:
        channels: Channels of the image; 1 or 3.
        backbone: Any timm backbone by name.
        decoder: Channels of the decoder's maps, the coarsest first; the last five, or as many as there are doublings.
        window: Side of those windows in pixels.
        condition: A further input beside the image, `mask` or `noise_level`.
        pretrained: Begin with the public weights of the backbone.
        drop_path: Rate of stochastic depth of the backbone, where its family has it.
    """

    def __init__(
        self,
        channels: int = 3,
        backbone: str = "resnet18",
        decoder: Sequence[int] = (256, 128, 64, 32, 16),
        window: int = 128,
        condition: Condition | None = None,
        pretrained: bool = False,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.condition = condition
        seen = channels + (condition is not None)
        architecture = UNet(channels=decoder)
        strides = architecture.needs(backbone).strides
        self.window = window if backbone_facts(backbone).fixed_input_size else None
        self.divisor = max(strides) if self.window is None else self.window
        size = None if self.window is None else (self.window, self.window)
        self.backbone = Backbone(
            backbone,
            strides=strides,
            in_chans=seen,
            image_size=size,
            use_final=False,
            pretrained=pretrained,
            drop_path_rate=drop_path,
        )
        self.decoder = architecture.build(self.backbone, channels)
        self.expect(self.backbone.mean, self.backbone.std)
        width = self.decoder.channels
        self.tail = nn.Sequential(
            nn.Conv2d(width + seen, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, channels, 3, padding=1)
        )
        last = self.tail[-1]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        nn.init.normal_(last.weight, std=1e-3)  # begins by giving the image as it is
        nn.init.zeros_(last.bias)

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        x = image if self.condition is None else torch.cat([image, self.given(image, condition)], 1)
        x = self.standardized(x)
        features = self.backbone(x) if self.window is None else self._windowed(x, self.window)
        maps = self.decoder(features, (image.shape[-2], image.shape[-1]))
        out: Tensor = image + self.tail(torch.cat([maps, x], 1))
        return out

    def _windowed(self, x: Tensor, side: int) -> Features:
        batch, channels, height, width = x.shape
        rows, columns = height // side, width // side
        x = x.reshape(batch, channels, rows, side, columns, side).permute(0, 2, 4, 1, 3, 5)
        features = self.backbone(x.reshape(batch * rows * columns, channels, side, side))
        pyramid = {}
        for stride, map_ in features.pyramid.items():
            small, depth = side // stride, map_.shape[1]
            map_ = map_.reshape(batch, rows, columns, depth, small, small).permute(0, 3, 1, 4, 2, 5)
            pyramid[stride] = map_.reshape(batch, depth, rows * small, columns * small)
        return Features(None, pyramid)

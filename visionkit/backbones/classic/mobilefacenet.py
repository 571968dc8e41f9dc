"""MobileFaceNet (Chen et al. 2018, "MobileFaceNets: Efficient CNNs for Accurate Real-Time Face Verification")."""

from __future__ import annotations

from typing import Any

from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn

from visionkit.backbones.classic.contract import ClassicNet, build, declaration

__all__ = ["MobileFaceNet"]

# Table 1 of the paper: expansion, channels, repeats, stride.
_BOTTLENECKS = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))


class MobileFaceNet(ClassicNet):
    """Inverted residuals with PReLU, and a global depthwise convolution in place of average pooling.

    The middle of a face matters more than a corner, and the depthwise convolution learns how much. It
    makes the network one for images of one size.

    Args:
        num_classes: Outputs; 0 gives the embedding.
        in_chans: Channels of the input.
        img_size: Height and width, multiples of 16; 112x112 in the paper.
        embedding: Width of the embedding.
        drop_rate: Before the classifier.
        global_pool: Not used; the depthwise convolution reads the map.
    """

    def __init__(
        self,
        num_classes: int = 0,
        in_chans: int = 3,
        img_size: int | tuple[int, int] = (112, 112),
        embedding: int = 128,
        drop_rate: float = 0.0,
        global_pool: str = "",
    ) -> None:
        super().__init__()
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        if height % 16 or width % 16:
            raise ValueError(f"img_size {height}x{width}: multiples of 16 are required")
        self.conv1 = _unit(in_chans, 64, 3, stride=2)
        self.conv2 = _unit(64, 64, 3, groups=64)
        previous = 64
        for index, (expansion, channels, repeats, stride) in enumerate(_BOTTLENECKS):
            units = [_Bottleneck(previous, channels, expansion, stride)]
            units += [_Bottleneck(channels, channels, expansion, 1) for _ in range(repeats - 1)]
            setattr(self, f"stage{index + 1}", nn.Sequential(*units))
            previous = channels
        self.conv3 = _unit(128, 512, 1)
        self.gdconv = nn.Sequential(
            nn.Conv2d(512, 512, (height // 16, width // 16), groups=512, bias=False), nn.BatchNorm2d(512)
        )
        self.linear = nn.Sequential(nn.Conv2d(512, embedding, 1, bias=False), nn.BatchNorm2d(embedding))
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(embedding, num_classes) if num_classes else nn.Identity()
        self.finish(
            num_classes=num_classes,
            in_chans=in_chans,
            body=("conv1", "conv2", *(f"stage{index + 1}" for index in range(5)), "conv3"),
            taps=(("conv2.2", 64, 2), ("stage1.4", 64, 4), ("stage3.5", 128, 8), ("stage5.1", 128, 16)),
            classifier="fc",
            hidden=("gdconv", "linear", "flatten"),
            num_features=512,
            hidden_size=embedding,
            pool=None,
            drop_rate=drop_rate,
        )


class _Bottleneck(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, expansion: int, stride: int) -> None:
        super().__init__()
        inner = in_channels * expansion
        self.residual = stride == 1 and in_channels == out_channels
        self.expand = _unit(in_channels, inner, 1)
        self.depthwise = _unit(inner, inner, 3, stride=stride, groups=inner)
        self.project = nn.Sequential(nn.Conv2d(inner, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


def _unit(in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.PReLU(out_channels),
    )


default_cfgs = generate_default_cfgs(
    {
        "mobilefacenet": declaration(
            (3, 112, 112),
            classifier="fc",
            first_conv="conv1.0",
            num_classes=0,
            fixed_input_size=True,
            crop_pct=1.0,
            # The paper's (pixel - 127.5) / 128.
            mean=(0.5, 0.5, 0.5),
            std=(128 / 255, 128 / 255, 128 / 255),
        )
    }
)


@register_model
def mobilefacenet(pretrained: bool = False, **kwargs: Any) -> ClassicNet:
    """The paper's primary network."""
    return build(MobileFaceNet, "mobilefacenet", pretrained, **kwargs)

"""Feature pyramid network: a pyramid of many widths to one of a single width, coarse meaning added to fine places."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool, LastLevelP6P7

from visionkit.errors import UsageError, suggest
from visionkit.nn.norms import HeadNorm, head_norm

Extra = Literal["none", "pool", "conv"]


class FPNNeck(nn.Module):
    """Feature pyramid network (Lin et al., 2017), torchvision's, between pyramids keyed by stride.

    A coarser map is enlarged to the size of the finer one that it joins, not by a factor, so maps whose sizes do not
    divide are no trouble.

    Args:
        channels: Channels of each map of the backbone, by stride.
        width: Channels of every map that comes out.
        extra: Coarser levels on top: `pool` one more, by subsampling (Faster R-CNN's); `conv` two more, by
            convolutions of stride 2 (RetinaNet's and FCOS's); `none`.
        norm: Normalization layers of its convolutions, see `visionkit.nn.norms.head_norm`.

    Attributes:
        strides: Strides of the maps that come out, finest first.
        width: Their channels.

    Example:
        >>> neck = FPNNeck({8: 128, 16: 256, 32: 512}, width=64, extra="conv")
        >>> neck.strides
        (8, 16, 32, 64, 128)
    """

    def __init__(
        self, channels: Mapping[int, int], width: int = 256, extra: Extra = "none", norm: HeadNorm = "none"
    ) -> None:
        super().__init__()
        if extra not in get_args(Extra):
            raise UsageError(
                f"extra {extra!r}: allowed are {', '.join(get_args(Extra))}{suggest(extra, get_args(Extra))}"
            )
        own = tuple(sorted(channels))
        block: ExtraFPNBlock | None = None
        added: tuple[int, ...] = ()
        if extra == "pool":
            block, added = LastLevelMaxPool(), (own[-1] * 2,)
        elif extra == "conv":
            block, added = LastLevelP6P7(width, width), (own[-1] * 2, own[-1] * 4)
        self.fpn = FeaturePyramidNetwork([channels[stride] for stride in own], width, block, head_norm(norm))
        self.own, self.strides, self.width = own, own + added, width

    def forward(self, pyramid: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """Maps (B, C, h, w) by stride to maps (B, width, h, w) by stride."""
        maps = self.fpn({str(stride): pyramid[stride] for stride in self.own})
        return dict(zip(self.strides, maps.values(), strict=True))

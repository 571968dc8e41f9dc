"""Networks that give the motion of the camera between the frames of a clip."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from visionkit.backbones import Backbone
from visionkit.families.matching.reprojection import inverse_motion, motion_matrix

PoseNetworkName = Literal["pairs", "posenet"]

_SMALL = 0.01
"""Factor of what the networks give, so that a training begins with hardly any motion (Zhou et al., 2017)."""


class PairedPoses(nn.Module):
    """Any backbone over two consecutive frames at a time (Godard et al., 2019).

    Args:
        backbone: Any timm backbone by name.
        channels: Channels of a frame.
        width: Channels of the layers behind it.
        **options: See `Backbone`: `pretrained`, `drop_path_rate`.
    """

    def __init__(self, backbone: str, channels: int = 3, width: int = 256, **options: Any) -> None:
        super().__init__()
        self.body = Backbone(backbone, in_chans=2 * channels, **options)
        self.head = nn.Sequential(nn.Linear(self.body.num_features, width), nn.ReLU(inplace=True), nn.Linear(width, 6))

    def forward(self, frames: Tensor) -> Tensor:
        """Motions between consecutive frames.

        Args:
            frames: (B, T, C, h, w) normalized.

        Returns:
            (B, T - 1, 4, 4): the pose of each frame's camera as the camera of the frame before it sees it.
        """
        pairs = torch.cat([frames[:, :-1], frames[:, 1:]], dim=2)
        found = self.head(self.body.pool(self.body(pairs.flatten(0, 1)).final)).float()
        return motion_matrix(_SMALL * found.unflatten(0, pairs.shape[:2]))


class PoseNet(nn.Module):
    """The network of SfMLearner (Zhou et al., 2017): all frames at once, seen from the one in the middle.

    For three frames it has 1,590,668 parameters.

    Args:
        frames: Frames of a clip, odd.
        channels: Channels of a frame.
        width: Channels of the first layer; the paper has 16.
    """

    def __init__(self, frames: int = 3, channels: int = 3, width: int = 16) -> None:
        super().__init__()
        widths = [width * factor for factor in (1, 2, 4, 8, 16, 16, 16)]
        layers: list[nn.Module] = []
        before = frames * channels
        for each, kernel in zip(widths, (7, 5, 3, 3, 3, 3, 3), strict=True):
            layers += [nn.Conv2d(before, each, kernel, stride=2, padding=kernel // 2), nn.ReLU(inplace=True)]
            before = each
        self.layers = nn.Sequential(*layers, nn.Conv2d(before, 6 * (frames - 1), 1))
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                # The default of torch weakens what passes by half and more in each layer, so that seven of them would
                # give every clip the same motion and hear of no difference for long.
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)
        self.middle = frames // 2

    def forward(self, frames: Tensor) -> Tensor:
        """See `PairedPoses.forward`."""
        order = [self.middle, *(k for k in range(frames.shape[1]) if k != self.middle)]
        found = self.layers(frames[:, order].flatten(1, 2)).float().mean((2, 3))
        others = motion_matrix(_SMALL * found.unflatten(1, (-1, 6)))
        middle = torch.eye(4, dtype=others.dtype, device=others.device).expand(len(others), 1, 4, 4)
        # From the camera in the middle to each frame's, so the inverse is the pose that it sees.
        to_each = torch.cat([others[:, : self.middle], middle, others[:, self.middle :]], dim=1)
        return to_each[:, :-1] @ inverse_motion(to_each[:, 1:])

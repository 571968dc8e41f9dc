"""Where boxes are looked for: anchors on the places of every map, the same as torchvision's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator


class AnchorGrid(nn.Module):
    """Anchors of Faster R-CNN, RetinaNet and FCOS: a few shapes centered on every position of a map.

    Args:
        sizes: For each map, the sides of the square of the same area, in input pixels.
        ratios: Height over width.

    Attributes:
        per_place: Anchors at one place, the same on every map.
    """

    def __init__(self, sizes: Sequence[Sequence[float]], ratios: Sequence[float] = (1.0,)) -> None:
        super().__init__()
        generator = AnchorGenerator(tuple(tuple(each) for each in sizes), (tuple(ratios),) * len(sizes))
        for level, cells in enumerate(generator.cell_anchors):
            self.register_buffer(f"cells{level}", cells, persistent=False)
        self.per_place = len(sizes[0]) * len(ratios)

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> tuple[Tensor, list[int]]:
        """Anchors of one image.

        Args:
            maps: (B, C, h, w) each; the anchors of a place follow each other, places row by row.
            size: Height and width of the image.

        Returns:
            (A, 4) float32 and how many of them belong to each map.
        """
        parts = []
        for level, map_ in enumerate(maps):
            cells = cast(Tensor, getattr(self, f"cells{level}"))
            height, width = map_.shape[-2:]
            x = torch.arange(width, device=map_.device, dtype=torch.float32) * (size[1] // width)
            y = torch.arange(height, device=map_.device, dtype=torch.float32) * (size[0] // height)
            shift_y, shift_x = torch.meshgrid(y, x, indexing="ij")
            shift = torch.stack([shift_x, shift_y, shift_x, shift_y], dim=-1).reshape(-1, 1, 4)
            parts.append((shift + cells).reshape(-1, 4))
        return torch.cat(parts), [part.shape[0] for part in parts]


class DefaultBoxes(nn.Module):
    """The default boxes of SSD (Liu et al., 2016): shapes as fractions of the image, two squares and pairs of ratios.

    Args:
        ratios: For each map, ratios besides 1; each gives a wide and a high box.
        scales: Sides of the square boxes as fractions of the image, one per map and one more.
        steps: Distance of places in input pixels, for each map; worked out from its size by default.
    """

    def __init__(
        self, ratios: Sequence[Sequence[float]], scales: Sequence[float], steps: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        generator = DefaultBoxGenerator([list(each) for each in ratios], scales=list(scales), steps=None)
        for level, pairs in enumerate(generator._wh_pairs):
            self.register_buffer(f"sides{level}", pairs.clamp(0, 1), persistent=False)
        self.per_place = [2 + 2 * len(each) for each in ratios]
        self.steps = None if steps is None else tuple(steps)

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> tuple[Tensor, list[int]]:
        """As `AnchorGrid.forward`."""
        parts = []
        for level, map_ in enumerate(maps):
            sides = cast(Tensor, getattr(self, f"sides{level}"))
            height, width = map_.shape[-2:]
            step = (self.steps[level],) * 2 if self.steps else (size[0] / height, size[1] / width)
            x = (torch.arange(width, device=map_.device, dtype=torch.float32) + 0.5) * step[1]
            y = (torch.arange(height, device=map_.device, dtype=torch.float32) + 0.5) * step[0]
            center_y, center_x = torch.meshgrid(y, x, indexing="ij")
            center = torch.stack([center_x, center_y], dim=-1).reshape(-1, 1, 2)
            half = torch.stack([sides[:, 0] * size[1], sides[:, 1] * size[0]], dim=-1) / 2
            parts.append(torch.cat([center - half, center + half], dim=-1).reshape(-1, 4))
        return torch.cat(parts), [part.shape[0] for part in parts]

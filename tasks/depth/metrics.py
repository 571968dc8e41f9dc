"""Which pixels of an image its measures of depth process, and the metrics of one split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torchmetrics import MetricCollection

from visionkit.families.dense.depth_alignment import Alignment
from visionkit.families.dense.depth_measures import DepthMeasures
from visionkit.geometry import Geometry

Crop = Literal["none", "eigen", "eigen_kitti", "garg"]

CROPS: dict[str, tuple[float, float, float, float]] = {
    "none": (0.0, 0.0, 1.0, 1.0),
    # NYU Depth v2: rows 45 to 471 and columns 41 to 601 of 480 x 640 (Eigen et al., 2014).
    "eigen": (45 / 480, 41 / 640, 471 / 480, 601 / 640),
    "eigen_kitti": (0.3324324, 0.0359477, 0.91351351, 0.96405229),
    "garg": (0.40810811, 0.03594771, 0.99189189, 0.96405229),
}
"""Top, left, bottom, right as fractions of the file's height and width.

Cut to whole pixels as the papers' code does.
"""


def crop_mask(geometry: Sequence[Geometry], size: tuple[int, int], crop: str) -> Tensor:
    """Which pixels of the network's input count.

    Args:
        geometry: Geometry of each image.
        size: Height and width of the batch.
        crop: One of `CROPS`, as fractions of the file.

    Returns:
        (B, h, w) bool: the pixels whose center lies inside the crop of the file.
    """
    masks = []
    y, x = torch.meshgrid(torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5, indexing="ij")
    places = torch.stack([x, y], dim=-1).double()
    top, left, bottom, right = CROPS[crop]
    for each in geometry:
        height, width = each.source
        points = each.invert_points(places)
        low = torch.tensor([int(left * width), int(top * height)])
        high = torch.tensor([int(right * width), int(bottom * height)])
        masks.append(((points >= low) & (points < high)).all(dim=-1))
    return torch.stack(masks)


def build_metrics(cap: float, alignment: Alignment, relative: bool) -> MetricCollection:
    """The metrics of one split."""
    return MetricCollection({"measures": DepthMeasures(cap, alignment, relative)})

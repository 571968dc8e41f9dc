"""Depth in input pixels to depth maps in file pixels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from visionkit.geometry import Geometry
from visionkit.predictions import DepthMap


def to_predictions(
    values: Tensor, geometry: Sequence[Geometry], metric: bool, bounds: tuple[float, float]
) -> list[DepthMap]:
    """One depth map per image, of exactly its size; 0 where the network never saw the file.

    Meters stay meters whatever the image was resized by: that changes the focal length alone.

    Args:
        values: (B, h, w) float32 in input pixels.
        geometry: Geometry of each image.
        metric: Values are meters, else inverse depth.
        bounds: Bounds of metric depth, meters.
    """
    out = []
    for each, way in zip(values, geometry, strict=True):
        restored = way.invert_map(each[None].float(), fill=0.0, mode="bilinear")[0]
        out.append(DepthMap(restored.cpu().numpy(), metric=metric, bounds=bounds if metric else None))
    return out

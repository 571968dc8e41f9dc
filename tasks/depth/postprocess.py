"""Depth in input pixels to depth maps in file pixels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from visionkit.geometry import Geometry
from visionkit.predictions import DepthMap


def to_predictions(
    values: Tensor, geometry: Sequence[Geometry], metric: bool, bounds: tuple[float, float]
) -> list[DepthMap]:
    """One depth map a picture, of exactly its size; 0 where the network never saw the file.

    Metres stay metres whatever the picture was resized by: that changes the focal length alone.

    Args:
        values: (B, h, w) float32 in input pixels.
        geometry: Of each picture.
        metric: Values are metres, else inverse depth.
        bounds: Of metric depth, metres.
    """
    out = []
    for each, way in zip(values, geometry, strict=True):
        restored = way.invert_map(each[None].float(), fill=0.0, mode="bilinear")[0]
        out.append(DepthMap(restored.cpu().numpy(), metric=metric, bounds=bounds if metric else None))
    return out

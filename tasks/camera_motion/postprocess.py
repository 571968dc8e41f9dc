"""Depth and motion in input pixels to predictions in file pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from visionkit.geometry import Geometry
from visionkit.predictions import CameraMotion, DepthMap


class MotionAndDepth(NamedTuple):
    """Predictions in input pixels.

    Attributes:
        depth: (B, h, w) float32, in the model's own unit.
        motion: (B, 4, 4) float32, the pose of the last frame's camera as that of the frame before sees it.
    """

    depth: Tensor
    motion: Tensor


def to_predictions(decoded: MotionAndDepth, geometry: Sequence[Geometry]) -> list[CameraMotion]:
    """One prediction per frame, its depth relative and of exactly the size of the file."""
    found = []
    for depth, motion, way in zip(decoded.depth, decoded.motion, geometry, strict=True):
        inverse = way.invert_map(1 / depth[None], fill=0.0, mode="bilinear")[0]
        found.append(CameraMotion(motion.double().cpu().numpy(), DepthMap(inverse.cpu().numpy(), metric=False)))
    return found

"""A depth network for one frame and a pose network for the clip."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from visionkit.families.dense.architectures import DenseArchitecture
from visionkit.families.dense.network import DenseNetwork
from visionkit.families.matching.reprojection import inverse_motion


class MotionOutputs(NamedTuple):
    """Raw outputs.

    Attributes:
        depth: (B, h, w) float32, in the model's own unit, of the frame `shown`.
        motions: (B, T - 1, 4, 4) float32, the pose of each frame's camera as the camera of the frame before it sees it;
            translations are in the unit of the depth.
        frames: (B, T, C, h, w) normalized, which the loss compares.
        shown: Number of the frame that the depth is of: the last one, in training the one in the middle.
    """

    depth: Tensor
    motions: Tensor
    frames: Tensor | None = None
    shown: int = -1


class MotionNetwork(DenseNetwork):
    """A dense network of one channel for the depth, and beside it one for the motions."""

    pose: nn.Module
    low: float
    high: float

    @classmethod
    def with_poses(
        cls,
        backbone: str,
        architecture: DenseArchitecture,
        pose: nn.Module,
        bounds: tuple[float, float],
        **options: Any,
    ) -> MotionNetwork:
        """Builds the network.

        Args:
            backbone: Name of any backbone.
            architecture: The decoder with its arguments.
            pose: See `tasks.camera_motion.pose_network`.
            bounds: Smallest and largest depth that can be stated, in the model's own unit.
            **options: See `DenseNetwork.build`.
        """
        network = cls.build(backbone, architecture, 1, **options)
        network.pose, network.low, network.high = pose, 1 / bounds[1], 1 / bounds[0]
        return network

    def forward(self, frames: Tensor) -> MotionOutputs:
        """(B, T, C, h, w) normalized frames in order of time."""
        shown = frames.shape[1] // 2 if self.training else frames.shape[1] - 1
        inverse = self.low + (self.high - self.low) * super().forward(frames[:, shown])[:, 0].float().sigmoid()
        motions = self.pose(frames)
        assert isinstance(motions, Tensor)
        return MotionOutputs(1 / inverse, motions, frames, shown)


def to_others(motions: Tensor, shown: int) -> list[Tensor]:
    """The motions from the camera of one frame to that of every other frame, in order of time.

    Args:
        motions: (B, T - 1, 4, 4), see `MotionOutputs`.
        shown: Number of the frame.

    Returns:
        T - 1 of (B, 4, 4), which take points from one camera to the other.
    """
    identity = torch.eye(4, dtype=motions.dtype, device=motions.device).expand(len(motions), 4, 4)
    before, after = [], []
    pose = identity
    for k in range(shown - 1, -1, -1):  # backwards in time: the motion itself takes points to the frame before
        pose = motions[:, k] @ pose
        before.append(pose)
    pose = identity
    for k in range(shown, motions.shape[1]):
        pose = inverse_motion(motions[:, k]) @ pose
        after.append(pose)
    return [*reversed(before), *after]

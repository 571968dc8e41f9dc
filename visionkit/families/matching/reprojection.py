"""From the pixels of one frame to those of another, by depth and the motion of the camera; differentiable."""

from __future__ import annotations

import torch
from torch import Tensor

_NEAREST = 1e-3
"""Depth below which a point counts as being beside the camera."""


def motion_matrix(vector: Tensor) -> Tensor:
    """Rotation and translation as a matrix.

    Args:
        vector: (..., 6), axis times angle in radians, then the translation.

    Returns:
        (..., 4, 4).
    """
    axis, shift = vector[..., :3], vector[..., 3:]
    square = axis.square().sum(-1, keepdim=True)[..., None]
    # Series near 0, where the quotients have no value; both branches are finite, so is the gradient of their choice.
    is_small = square < 1e-6
    safe = torch.where(is_small, torch.ones_like(square), square)
    angle = safe.sqrt()
    first = torch.where(is_small, 1 - square / 6, angle.sin() / angle)
    second = torch.where(is_small, 0.5 - square / 24, (1 - angle.cos()) / safe)
    x, y, z = axis.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    rotation = torch.eye(3, dtype=vector.dtype, device=vector.device) + first * cross + second * (cross @ cross)
    last = torch.zeros_like(vector[..., None, :4])
    last[..., 3] = 1
    return torch.cat([torch.cat([rotation, shift[..., None]], -1), last], -2)


def inverse_motion(motion: Tensor) -> Tensor:
    """(..., 4, 4) the motion back."""
    turned = motion[..., :3, :3].transpose(-1, -2)
    shift = -(turned @ motion[..., :3, 3:])
    return torch.cat([torch.cat([turned, shift], -1), motion[..., 3:, :]], -2)


def reprojected(depth: Tensor, motion: Tensor, intrinsics: Tensor) -> tuple[Tensor, Tensor]:
    """Where the points of one frame are in another.

    Args:
        depth: (B, h, w) of the frame, above 0.
        motion: (B, 4, 4), from the camera of the frame to that of the other.
        intrinsics: (B, 4) fx, fy, cx, cy in pixels, of both.

    Returns:
        (B, h, w, 2) x and y in pixels of the other frame, and (B, h, w) bool, whether they are in front of its camera
        and inside of it.
    """
    height, width = depth.shape[-2:]
    fx, fy, cx, cy = (each[:, None, None] for each in intrinsics.to(depth).unbind(1))
    x = torch.arange(width, dtype=depth.dtype, device=depth.device) + 0.5
    y = (torch.arange(height, dtype=depth.dtype, device=depth.device) + 0.5)[:, None]
    points = torch.stack([(x - cx) / fx * depth, (y - cy) / fy * depth, depth], 1).flatten(2)
    motion = motion.to(depth)
    u, v, far = (motion[:, :3, :3] @ points + motion[:, :3, 3:]).unflatten(2, (height, width)).unbind(1)
    is_before = far > _NEAREST
    far = far.clamp(min=_NEAREST)
    x, y = fx * u / far + cx, fy * v / far + cy
    return torch.stack([x, y], -1), is_before & (x > 0) & (x < width) & (y > 0) & (y < height)

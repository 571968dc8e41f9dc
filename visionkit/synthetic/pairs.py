"""Drawn pairs of images with the exact place of every point in the other one: stereo, optical flow, scene flow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from visionkit.camera import CameraIntrinsics
from visionkit.synthetic.clip_world import ClipSettings
from visionkit.synthetic.clips import DrawnClip, make_clip


@dataclass(frozen=True)
class StereoPair:
    """What two parallel cameras see.

    Attributes:
        left: (h, w, 3) uint8 RGB.
        right: The same of the right camera.
        disparity: (h, w) float32 pixels of the left image; the right one shows the point at x - disparity.
        right_disparity: (h, w) float32 pixels of the right image; the left one shows the point at x + disparity.
        occluded: (h, w) bool, points of the left image that the right one does not show.
        camera: Intrinsics of both cameras.
        baseline: Meters between them; depth is camera.fx * baseline / disparity.
    """

    left: np.ndarray
    right: np.ndarray
    disparity: np.ndarray
    right_disparity: np.ndarray
    occluded: np.ndarray
    camera: CameraIntrinsics
    baseline: float

    def target(self) -> Any:
        """The target of stereo, in the words of `visionkit.types.Target`."""
        return {
            "disparity": self.disparity,
            "right_disparity": self.right_disparity,
            "valid": np.ones(self.disparity.shape, bool),
            "occluded": self.occluded,
        }


@dataclass(frozen=True)
class FlowPair:
    """Two frames of a clip.

    Attributes:
        first: (h, w, 3) uint8 RGB.
        second: The next frame.
        flow: (2, h, w) float32 pixels to the right and downwards.
        occluded: (h, w) bool, points of the first frame that the second does not show.
    """

    first: np.ndarray
    second: np.ndarray
    flow: np.ndarray
    occluded: np.ndarray

    def target(self) -> Any:
        """The target of optical flow, in the words of `visionkit.types.Target`."""
        return {"flow": self.flow, "valid": np.ones(self.occluded.shape, bool), "occluded": self.occluded}


@dataclass(frozen=True)
class SceneFlowPair:
    """Two stereo pairs of one rig, one frame apart, with the motion of every point in space.

    Attributes:
        before: The first pair.
        after: The second pair.
        flow: (2, h, w) float32 pixels, from the left image of the first pair to that of the second.
        disparity_after: (h, w) float32 pixels that the points of the first left image have in the second pair.
        occluded: (h, w) bool, points of the first left image that the second one does not show.
        motion: (3, h, w) float32 meters to the right, down and forward, in the camera's own axes.
    """

    before: StereoPair
    after: StereoPair
    flow: np.ndarray
    disparity_after: np.ndarray
    occluded: np.ndarray
    motion: np.ndarray


def draw_stereo_pair(seed: int, index: int, settings: ClipSettings, baseline: tuple[float, float]) -> StereoPair:
    """Draws a rectified pair, always the same one.

    Args:
        seed: Random seed of the set.
        index: Number of the pair, 0 or more.
        settings: How it is drawn.
        baseline: Smallest and largest distance of the cameras in meters.

    Example:
        >>> pair = draw_stereo_pair(0, 3, ClipSettings(), (0.1, 0.2))
        >>> depth = pair.camera.fx * pair.baseline / pair.disparity
    """
    return _stereo(make_clip(seed, index, settings), 0, _baseline(seed, index, baseline))


def draw_flow_pair(seed: int, index: int, settings: ClipSettings, gap: tuple[int, int] = (1, 1)) -> FlowPair:
    """Draws two frames, always the same ones.

    Args:
        seed: Random seed of the set.
        index: Number of the pair, 0 or more.
        settings: How they are drawn; its length exceeds the largest gap.
        gap: Smallest and largest number of frames from the first to the second, which makes motion larger.
    """
    clip, second = make_clip(seed, index, settings), int(_draws(seed, index).integers(gap[0], gap[1] + 1))
    moved = clip.motion(0, second)
    return FlowPair(clip.frame(0).image, clip.frame(second).image, moved.flow, ~moved.visible)


def draw_scene_flow(seed: int, index: int, settings: ClipSettings, baseline: tuple[float, float]) -> SceneFlowPair:
    """Draws two stereo pairs of one rig, always the same ones.

    Args:
        seed: Random seed of the set.
        index: Number of the scene, 0 or more.
        settings: How they are drawn; its length is at least 2.
        baseline: Smallest and largest distance of the cameras in meters.
    """
    clip, apart = make_clip(seed, index, settings), _baseline(seed, index, baseline)
    before, after = (_stereo(clip, number, apart) for number in (0, 1))
    moved = clip.motion(0, 1)
    reach = clip.camera.fx * apart
    depths = np.stack([reach / before.disparity, moved.depth])
    height, width = before.disparity.shape
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    places = [(x, y), (x + moved.flow[0], y + moved.flow[1])]
    fx, fy, cx, cy = clip.camera
    points = [
        np.stack([(u - cx) * depth / fx, (v - cy) * depth / fy, depth])
        for (u, v), depth in zip(places, depths, strict=True)
    ]
    motion = (points[1] - points[0]).astype(np.float32)
    return SceneFlowPair(before, after, moved.flow, reach / moved.depth, ~moved.visible, motion)


def _draws(seed: int, index: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed & 0xFFFFFFFFFFFFFFFF, counter=[0, 0, index, 4]))


def _baseline(seed: int, index: int, limits: tuple[float, float]) -> float:
    return float(_draws(seed, index).uniform(*limits))


def _stereo(clip: DrawnClip, number: int, baseline: float) -> StereoPair:
    right = (baseline, 0.0, 0.0)
    there, back = clip.motion(number, number, other_offset=right), clip.motion(number, number, right)
    return StereoPair(
        clip.frame(number).image,
        clip.frame(number, right).image,
        -there.flow[0],
        back.flow[0],
        ~there.visible,
        clip.camera,
        baseline,
    )

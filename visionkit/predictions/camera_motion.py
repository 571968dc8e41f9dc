"""How the camera moved to a frame of a video, and how far every pixel of it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from visionkit.predictions.base import Difference, Prediction
from visionkit.predictions.depth_map import DepthMap

if TYPE_CHECKING:
    from visionkit.images import ImageLike


@dataclass(frozen=True, eq=False)
class CameraMotion(Prediction):
    """Motion and depth, both in the model's own unit: one camera alone does not know meters.

    Axes run to the right, down and forward.

    Attributes:
        motion: (4, 4) float64, the pose of this frame's camera as that of the frame before sees it; the identity at the
            first frame of a video.
        depth: Relative depth of the frame.
        pose: (4, 4) float64, camera to world, where the world is the camera of the video's first frame; None for a
            frame without a video.
    """

    kind: ClassVar[str] = "camera_motion"

    motion: np.ndarray
    depth: DepthMap
    pose: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name in ("motion", "pose"):
            given = getattr(self, name)
            if given is None:
                continue
            values = np.array(given, dtype=np.float64)
            if values.shape != (4, 4) or not np.isfinite(values).all():
                raise ValueError(f"{name}: a motion of finite numbers is (4, 4), not {values.shape}")
            values.setflags(write=False)
            object.__setattr__(self, name, values)

    @property
    def angle(self) -> float:
        """Degrees that the camera turned since the frame before."""
        return float(np.degrees(np.arccos(np.clip((np.trace(self.motion[:3, :3]) - 1) / 2, -1, 1))))

    def text(self, top: int = 3) -> str:
        right, down, forward = self.motion[:3, 3]
        return f"moved {right:+.3g} right, {down:+.3g} down, {forward:+.3g} forward, turned {self.angle:.2g} degrees"

    def difference(self, other: Prediction) -> Difference:
        """That of the depth, and of the motion as a part of its length."""
        assert isinstance(other, CameraMotion)
        depth = self.depth.difference(other.depth)
        apart = float(np.abs(self.motion - other.motion).max())
        return Difference(max(depth.largest, apart), depth.same and apart < 0.01)

    def draw(self, image: ImageLike) -> np.ndarray:
        return self.depth.draw(image)

    def files(self, stem: Path) -> Iterator[tuple[Path, bytes]]:
        """Those of the depth; trajectories are written by `visionkit trajectory`."""
        yield from self.depth.files(stem)

    def truth(self, target: Mapping[str, Any]) -> DepthMap | None:
        """The measured depth."""
        return self.depth.truth(target)

    def row(self, truth: Prediction | None = None) -> dict[str, str | float | bool]:
        return {"moved": float(np.linalg.norm(self.motion[:3, 3])), "turned": self.angle}

    def summary(self) -> dict[str, Any]:
        return self._record(self.depth.summary())

    def to_json(self) -> dict[str, Any]:
        """`motion` and `pose` are the 12 numbers of a 3x4 matrix row by row, as KITTI has them; `depth` see there."""
        return self._record(self.depth.to_json())

    def _record(self, depth: dict[str, Any]) -> dict[str, Any]:
        pose = None if self.pose is None else self.pose[:3].ravel().tolist()
        return {"kind": self.kind, "motion": self.motion[:3].ravel().tolist(), "pose": pose, "depth": depth}

    @classmethod
    def _from_json(cls, record: Mapping[str, Any]) -> CameraMotion:
        pose = record["pose"]
        depth = Prediction.from_json(record["depth"])
        assert isinstance(depth, DepthMap)
        return cls(_matrix(record["motion"]), depth, None if pose is None else _matrix(pose))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CameraMotion):
            return NotImplemented
        ours, theirs = (np.zeros(0) if each.pose is None else each.pose for each in (self, other))
        same = np.array_equal(ours, theirs) and np.array_equal(self.motion, other.motion)
        return same and self.depth == other.depth

    __hash__ = None  # type: ignore[assignment]


def _matrix(numbers: list[float]) -> np.ndarray:
    return np.vstack([np.reshape(numbers, (3, 4)), [0, 0, 0, 1]])

"""Drawn clips: objects with ids that pass before and behind each other, under a camera that moves.

Everything in a clip is a plane (`visionkit.synthetic.planes`), so masks, visibility, depth, optical flow, disparity and
camera poses are exact. A clip draws a frame when it is asked for; (seed, index) gives a clip, always the same one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from visionkit.camera import CameraIntrinsics
from visionkit.synthetic.clip_world import ClipSettings, ClipWorld
from visionkit.synthetic.planes import Motion, Seen, Viewpoint, depth_map, motion, render

_MOST_EXPOSURES = 12


@dataclass(frozen=True)
class ClipObject:
    """An object of one frame, as far as it is seen.

    Attributes:
        id: Number of the object in the clip, from 1; its value in `ClipFrame.ids`.
        label: Index into `OBJECT_CLASSES`.
        box: (4,) float32 x1, y1, x2, y2 of the visible part in pixels, x2 and y2 exclusive.
        whole: (4,) float32 box of all of it, hidden parts included; it may leave the image.
        area: Visible pixels.
        visibility: Fraction of it that is seen; what is outside the image is not.
        distance: Meters.
    """

    id: int
    label: int
    box: np.ndarray
    whole: np.ndarray
    area: int
    visibility: float
    distance: float


@dataclass(frozen=True)
class ClipFrame:
    """A frame with everything that is known of it.

    Attributes:
        image: (h, w, 3) uint8 RGB.
        ids: (h, w) uint8, the id of the object that is seen; 0 where there is none.
        depth: (h, w) float32 meters along the optical axis.
        objects: Those that are seen, by id.
        pose: (4, 4) camera to world, meters.
        exposure: Frames that its exposure takes.
        camera: Intrinsics of the camera.
    """

    image: np.ndarray
    ids: np.ndarray
    depth: np.ndarray
    objects: tuple[ClipObject, ...]
    pose: np.ndarray
    exposure: float
    camera: CameraIntrinsics


class DrawnClip:
    """A clip whose frames are drawn when they are asked for, and kept.

    Attributes:
        settings: How it is drawn.
        camera: Intrinsics of the camera.
        labels: Index into `OBJECT_CLASSES` of each object, by id from 1.
    """

    def __init__(self, seed: int, index: int, settings: ClipSettings) -> None:
        self.seed, self.index, self.settings = seed, index, settings
        self.world = ClipWorld(seed, index, settings)
        self.camera, self.labels = self.world.camera, self.world.labels
        self._planes = [*self.world.background, *self.world.objects]
        self._seen: dict[tuple[int, tuple[float, ...]], tuple[Viewpoint, Seen]] = {}

    def __len__(self) -> int:
        return self.settings.length

    def frame(self, number: int, offset: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> ClipFrame:
        """Draws a frame.

        Args:
            number: Its position in the clip, from 0.
            offset: Where the camera is beside its place, in meters to its right, down and forward: the right image of
                a stereo pair has the baseline here.
        """
        view, seen = self._seen_by(number, offset)
        exposure = self.world.exposure(number)
        image = seen.color
        times = self._during(number, exposure)
        if len(times) > 1:
            shots = (
                render(self.world.background, self.world.objects, self._view(time, offset)).color for time in times
            )
            image = np.add.reduce(list(shots)) / np.float32(len(times))
        image = image * self.world.tint
        if self.settings.noise:
            rng = np.random.Generator(np.random.Philox(key=self.seed & 0xFFFFFFFF, counter=[0, number, self.index, 3]))
            noise = rng.standard_normal(image.shape[:2], dtype=np.float32)
            image += np.float32(self.settings.noise) * noise[..., None]
        first = len(self.world.background)
        ids = np.where(seen.owner >= first, seen.owner - (first - 1), 0).astype(np.uint8)
        depth = depth_map(self._planes, seen.owner, view)
        objects = tuple(self._measured(number, ids, seen, view) for number in np.unique(ids[ids > 0]).tolist())
        return ClipFrame(
            cv2.convertScaleAbs(np.maximum(image, 0)), ids, depth, objects, view.pose, exposure, self.camera
        )

    def motion(
        self,
        number: int,
        other: int,
        offset: tuple[float, float, float] = (0.0, 0.0, 0.0),
        other_offset: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> Motion:
        """Where every pixel of one frame is in another: optical flow, the disparity of two cameras, or scene flow.

        Args:
            number: The frame.
            other: The other frame; the same one for two cameras of one time.
            offset: See `frame`.
            other_offset: That of the other frame.
        """
        (view, seen), (there, shown) = self._seen_by(number, offset), self._seen_by(other, other_offset)
        return motion(self._planes, seen.owner, view, shown.owner, there)

    # ------------------------------------------------------------------ views

    def _view(self, time: float, offset: tuple[float, ...]) -> Viewpoint:
        pose = np.eye(4)
        pose[:3, 3] = self.world.position(time) + offset
        return Viewpoint(self.camera, pose, time, self.settings.size)

    def _seen_by(self, number: int, offset: tuple[float, ...]) -> tuple[Viewpoint, Seen]:
        if not 0 <= number < len(self):
            raise IndexError(number)
        key = (number, tuple(offset))
        if key not in self._seen:
            view = self._view(float(number), offset)
            seen = render(self.world.background, self.world.objects, view)
            self._seen[key] = view, seen
        return self._seen[key]

    def _during(self, number: int, exposure: float) -> np.ndarray:
        """Times of one exposure, close enough together that nothing jumps."""
        moved = exposure * self.settings.size[0] * (2 * self.settings.speed + self.settings.camera_speed / 3)
        count = min(_MOST_EXPOSURES, math.ceil(moved)) if moved > 0.5 else 1
        return number + exposure * ((np.arange(count) + 0.5) / count - 0.5)

    def _measured(self, number: int, ids: np.ndarray, seen: Seen, view: Viewpoint) -> ClipObject:
        mask = ids == number
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.float32)
        outline, area = seen.silhouettes[number - 1], int(mask.sum())
        distance = float(view.homography(self.world.objects[number - 1])[2, 2])
        return ClipObject(number, self.labels[number - 1], box, outline.box, area, area / outline.area, distance)


def make_clip(seed: int, index: int, settings: ClipSettings | None = None) -> DrawnClip:
    """A drawn clip, always the same one.

    Args:
        seed: Random seed of the set.
        index: Number of the clip, 0 or more.
        settings: How it is drawn.

    Example:
        >>> clip = make_clip(seed=0, index=3)
        >>> clip.frame(0).image.shape, clip.motion(0, 1).flow.shape
        ((128, 128, 3), (2, 128, 128))
    """
    return DrawnClip(seed, index, settings or ClipSettings())

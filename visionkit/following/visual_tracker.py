"""The base of every visual tracker, and the registry of them.

A visual tracker is a dataclass whose fields are its arguments. A package brings one with an entry point of the group
`visionkit.visual_trackers`; a notebook or a test calls `register`.

>>> tracker = make_visual_tracker("kcf")
>>> tracker.begin(first_frame, (40, 30, 80, 70))
>>> box, score = tracker.update(next_frame)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from visionkit.errors import DataError, UsageError
from visionkit.plugins import Plugins
from visionkit.tracking.tracker import checked_arguments

if TYPE_CHECKING:
    import torch


class Followed(NamedTuple):
    """Where the object is in a frame.

    Attributes:
        box: (4,) float64 x1, y1, x2, y2 in file pixels; may reach outside the frame.
        score: How well the place matches what was seen so far, from 0 to 1; low where the object is hidden or lost.
    """

    box: np.ndarray
    score: float


class VisualTracker(ABC):
    """Follows one object through a video: `begin` with its box in the first frame, then `update` with each frame.

    The same frames give the same boxes, and `begin` forgets what was followed before. A subclass is a dataclass and
    writes `start` and `step`.

    Attributes:
        needs_model: The tracker sees by the features of a network, its field `model`.
        ranges: Smallest and greatest value of arguments, by name.
        center: Center of the object, x and y in file pixels.
        sides: Width and height of the object.
        frame_size: Height and width of the frames.
    """

    needs_model: ClassVar[bool] = False
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {}
    center: tuple[float, float]
    sides: tuple[float, float]
    frame_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for name, (low, high) in self.ranges.items():
            if not low <= getattr(self, name) <= high:
                raise UsageError(f"{name} {getattr(self, name):g}: allowed is {low:g} to {high:g}")

    @abstractmethod
    def start(self, frame: np.ndarray) -> None:
        """Takes the object in; `center`, `sides` and `frame_size` are set.

        Args:
            frame: (h, w, 3) uint8 RGB.
        """

    @abstractmethod
    def step(self, frame: np.ndarray) -> float:
        """Finds the object: sets `center` and, where the tracker sees changes of size, `sides`; returns the score.

        Args:
            frame: (h, w, 3) uint8 RGB.
        """

    def begin(self, frame: np.ndarray, box: Sequence[float] | np.ndarray) -> None:
        """Begins with an object.

        Args:
            frame: (h, w, 3) uint8 RGB; (h, w) where it is gray.
            box: x1, y1, x2, y2 in file pixels; may reach outside the frame. A side that is longer than the frame's is
                cut off at the frame.

        Raises:
            UsageError: Not such a frame, or a box of zero size or outside of the frame.
        """
        pixels = _pixels(frame)
        size = pixels.shape[:2]
        x1, y1, x2, y2 = _box(box, size)
        (x1, x2), (y1, y2) = _shortened(x1, x2, size[1]), _shortened(y1, y2, size[0])
        self.center, self.sides = ((x1 + x2) / 2, (y1 + y2) / 2), (x2 - x1, y2 - y1)
        self.frame_size = (size[0], size[1])
        self.start(pixels)

    def update(self, frame: np.ndarray) -> Followed:
        """Finds the object in the next frame.

        Args:
            frame: As in `begin`, and of the same size.

        Raises:
            DataError: The frame has another size.
            UsageError: Not such a frame, or nothing was begun.
        """
        if self.frame_size is None:
            raise UsageError("a visual tracker begins with a box: call begin(frame, box) before update(frame)")
        pixels = _pixels(frame)
        if pixels.shape[:2] != self.frame_size:
            (height, width), (first_height, first_width) = pixels.shape[:2], self.frame_size
            raise DataError(
                f"a frame of {width} x {height} pixels in a video of {first_width} x {first_height}; an object is "
                "followed through frames of one size"
            )
        score = self.step(pixels)
        self._keep_in_sight()
        return Followed(self.box, float(min(max(score, 0.0), 1.0)))

    @property
    def box(self) -> np.ndarray:
        """(4,) where the object was last: x1, y1, x2, y2."""
        (x, y), (width, height) = self.center, self.sides
        return np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])

    def _keep_in_sight(self) -> None:
        """A pixel of the box stays in the frame, so an object that comes back can be found at the border."""
        assert self.frame_size is not None
        height, width = self.frame_size
        x, y = (
            min(max(place, 1 - side / 2), length - 1 + side / 2)
            for place, side, length in zip(self.center, self.sides, (width, height), strict=True)
        )
        self.center = (x, y)


def _pixels(frame: np.ndarray) -> np.ndarray:
    pixels = np.ascontiguousarray(frame)  # a frame of another library's order may be a view backwards
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise UsageError(f"a frame of shape {pixels.shape} and type {pixels.dtype}: (h, w, 3) uint8 RGB is needed")
    return pixels


def _box(box: Sequence[float] | np.ndarray, size: tuple[int, ...]) -> list[float]:
    values = np.asarray(box, np.float64).reshape(-1)
    if values.shape != (4,) or not np.isfinite(values).all():
        raise UsageError(f"box {box}: four finite numbers are needed, x1, y1, x2, y2")
    x1, y1, x2, y2 = values.tolist()
    place = ", ".join(f"{value:g}" for value in values)
    if x2 - x1 < 1 or y2 - y1 < 1:
        raise UsageError(f"box {place}: it is {x2 - x1:g} wide and {y2 - y1:g} high; at least 1 pixel each is needed")
    if x1 >= size[1] or y1 >= size[0] or x2 <= 0 or y2 <= 0:
        raise UsageError(f"box {place}: lies outside of the frame of {size[1]} x {size[0]} pixels")
    return [x1, y1, x2, y2]


def _shortened(first: float, end: float, length: int) -> tuple[float, float]:
    """A side of a box, cut off where it is longer than the frame: a window about it would fill the memory."""
    if end - first <= length:
        return first, end
    return min(max(first, 0.0), length - 1.0), max(min(end, float(length)), 1.0)


# ---------------------------------------------------------------------- visual trackers by name


VISUAL_TRACKERS: Plugins[VisualTracker] = Plugins("visionkit.visual_trackers", "visual tracker")
register, visual_tracker_names, visual_tracker_class = (
    VISUAL_TRACKERS.register,
    VISUAL_TRACKERS.names,
    VISUAL_TRACKERS.load,
)


def make_visual_tracker(
    name: str,
    arguments: Mapping[str, Any] | None = None,
    model: str | None = None,
    device: str | torch.device = "cpu",
) -> VisualTracker:
    """A new visual tracker.

    Args:
        name: One of `visual_tracker_names()`.
        arguments: Its arguments; defaults otherwise.
        model: A backbone (`timm:resnet18`), a checkpoint or a bundle by whose features it sees, for those that need
            one; the tracker's own default otherwise.
        device: Where its network runs, for those that have one.

    Raises:
        UsageError: An unknown name or argument, or a model for a tracker without one.
        CheckpointError: The model cannot be used.
    """
    kind = visual_tracker_class(name)
    values = checked_arguments(f"visual tracker {name}", kind, arguments or {})
    if kind.needs_model:
        values |= {"device": device, **({} if model is None else {"model": model})}
    elif model is not None:
        raise UsageError(f"visual tracker {name}: works on pixels and takes no model, so leave {model} out")
    return kind(**values)

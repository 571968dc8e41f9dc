"""The base of every method that propagates a mask through a video, and the registry of them.

A method is a dataclass whose fields are its arguments. A package brings one with an entry point of the group
`visionkit.propagators`; a notebook or a test calls `register`.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from visionkit.argument_types import check_arguments
from visionkit.errors import DataError, UsageError, suggest
from visionkit.families.dense.label_maps import labels_in_file
from visionkit.families.propagation.features import Size
from visionkit.families.propagation.first_mask import checked_mask
from visionkit.input_spec import MAX_INPUT_PIXELS, InputSpec
from visionkit.plugins import Plugins
from visionkit.preprocess import Preprocessor
from visionkit.results import Progress
from visionkit.types import IGNORE

DEFAULT_BACKBONE = "tf_efficientnet_lite0"
"""Its weights come with an installed package, so they are at hand everywhere."""

_OWN = ("model", "device")


@dataclasses.dataclass
class Propagator(ABC):
    """Follows the objects of the first frame to the pixel.

    A subclass is a dataclass and writes `open`, `start` and `step`. Everything between file pixels and those of the
    network is done here.

        >>> propagator = make_propagator("label_propagation")
        >>> propagator.begin(frames[0], mask)
        >>> maps = [propagator.update(frame) for frame in frames[1:]]

    Attributes:
        model: Name of a backbone whose public weights are taken, or a run, a checkpoint or a bundle.
        device: Where the network runs.
        short_side: Short side that frames are processed with, in pixels, about.
    """

    model: str = DEFAULT_BACKBONE
    device: str = "cpu"
    short_side: int = 480

    def __post_init__(self) -> None:
        self._size: Size | None = None
        self._check("short_side", self.short_side, 16)

    @staticmethod
    def _check(name: str, value: float, least: float, most: float = float("inf")) -> None:
        """Refuses an argument out of its range."""
        if not least <= value <= most:
            upper = f" to {most:g}" if most < float("inf") else ""
            raise UsageError(f"{name} {value:g}: allowed are numbers from {least:g}{upper or ' on'}")

    @abstractmethod
    def open(self, size: Size) -> Size:
        """Opens the network.

        Args:
            size: Height and width of the frames as they are to be processed.

        Returns:
            The same, rounded to what the network takes; `start` and `step` get images of that size.
        """

    @abstractmethod
    def start(self, frame: np.ndarray, image: Tensor, masks: np.ndarray, progress: Progress | None) -> None:
        """Takes the first frame in.

        Args:
            frame: (h, w, 3) uint8 RGB, in file pixels.
            image: (3, H, W) uint8, the frame as the network takes it.
            masks: (h, w) uint8 in file pixels: 0 background, objects 1 to N without gaps, 255 where nothing is known.
            progress: Called with the steps done and all of them, where it takes long.
        """

    @abstractmethod
    def step(self, image: Tensor) -> Tensor:
        """Goes on to the next frame.

        Args:
            image: (3, H, W) uint8, the frame as the network takes it.

        Returns:
            (N + 1, h, w) scores of the background and of each object on any grid that covers the image.
        """

    def begin(self, frame: np.ndarray, mask: np.ndarray, progress: Progress | None = None) -> np.ndarray:
        """Begins with a first frame; a propagator can begin again at any time.

        Args:
            frame: (h, w, 3) uint8 RGB, or (h, w) gray.
            mask: (h, w) which object each pixel belongs to, see `first_mask.checked_mask`.
            progress: Called with the steps done and all of them, by methods that train on the first frame.

        Returns:
            (h, w) uint8, the label map of the first frame: 0 background, objects with the numbers of the mask.

        Raises:
            DataError: The mask does not fit the frame, or has no object.
        """
        frame = _checked_frame(frame)
        size = (frame.shape[0], frame.shape[1])
        labels = checked_mask(mask, size)
        known = labels != IGNORE
        objects = np.unique(labels[known & (labels > 0)])
        numbers = np.zeros(256, np.uint8)
        numbers[objects] = np.arange(1, len(objects) + 1)
        numbers[IGNORE] = IGNORE
        scale = self.short_side / min(size)
        height, width = (max(1, round(side * scale)) for side in size)
        if height * width > MAX_INPUT_PIXELS:
            fits = math.floor(self.short_side * math.sqrt(MAX_INPUT_PIXELS / (height * width)))
            raise UsageError(
                f"short_side {self.short_side}: frames of {size[1]}x{size[0]} pixels would be processed at "
                f"{width}x{height}; at most {fits} fits them"
            )
        spec = InputSpec(size=self.open((height, width)), resize_mode="stretch")
        self._preprocessor, self._size = Preprocessor(spec), size
        self._labels = np.array([0, *objects], np.uint8)
        image, _ = self._preprocessor.prepare(frame)
        self.start(frame, image, numbers[labels], progress)
        return np.where(known, labels, 0).astype(np.uint8)

    def update(self, frame: np.ndarray) -> np.ndarray:
        """Follows the objects into the next frame.

        Args:
            frame: (h, w, 3) uint8 RGB of the first frame's size, or (h, w) gray.

        Returns:
            (h, w) uint8 label map: 0 background, objects with the numbers of the mask.

        Raises:
            DataError: A frame of another size; the next one can be given.
            UsageError: Nothing has begun.
        """
        if self._size is None:
            raise UsageError("update: call begin with the first frame and its mask before")
        frame = _checked_frame(frame)
        if frame.shape[:2] != self._size:
            raise DataError(
                f"a frame of {frame.shape[1]}x{frame.shape[0]} pixels; the first one has "
                f"{self._size[1]}x{self._size[0]}, and all frames need one size"
            )
        image, geometry = self._preprocessor.prepare(frame)
        scores = self.step(image)
        found: np.ndarray = self._labels[labels_in_file(scores, geometry, geometry.size)]
        return found


def _checked_frame(frame: np.ndarray) -> np.ndarray:
    frame = np.asarray(frame)
    if frame.ndim == 2:
        frame = np.repeat(frame[..., None], 3, axis=2)
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or not frame.size:
        raise DataError(f"a frame is (height, width, 3) uint8, not {frame.shape} {frame.dtype}")
    return np.ascontiguousarray(frame)


PROPAGATORS: Plugins[Propagator] = Plugins("visionkit.propagators", "method")
register, propagator_names = PROPAGATORS.register, PROPAGATORS.names


def make_propagator(
    name: str, model: str = DEFAULT_BACKBONE, arguments: Mapping[str, Any] | None = None, device: str = "cpu"
) -> Propagator:
    """A new propagator; its network is opened when it begins.

    Args:
        name: One of `propagator_names()`.
        model: Name of a backbone, or a run, a checkpoint or a bundle.
        arguments: Its arguments; defaults otherwise.
        device: Where the network runs.

    Raises:
        UsageError: An unknown name or argument, or a value that is not allowed.
    """
    kind: Any = PROPAGATORS.load(name)
    fields = [each.name for each in dataclasses.fields(kind) if each.name not in _OWN]
    values = dict(arguments or {})
    for key in values:
        if key not in fields:
            raise UsageError(
                f"{key}: method {name} has no such argument; it has {', '.join(fields)}{suggest(key, fields)}"
            )
    check_arguments(kind, values, "")
    made: Propagator = kind(model=model, device=device, **values)
    return made

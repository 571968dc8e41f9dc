"""What a sample is made of: images and clips under the names that its task gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from visionkit.errors import DataError, UsageError, suggest
from visionkit.images import ImageLike, ImageSource

if TYPE_CHECKING:
    from torch import Tensor

    from visionkit.task import VisionTask
    from visionkit.types import Example


@dataclass(frozen=True)
class Clip:
    """Frames of one video, decoded when they are needed.

    Attributes:
        frames: Frames in order of time, all of one size.
        times: Seconds from the start of the video, one per frame; empty where they are not known.
    """

    frames: Sequence[ImageSource]
    times: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.frames:
            raise DataError("a clip without frames: give at least one image")
        if self.times and len(self.times) != len(self.frames):
            raise DataError(f"a clip of {len(self.frames)} frames has {len(self.times)} times: give one per frame")


Given = ImageLike | Clip | Mapping[str, ImageLike | Clip | Sequence[ImageLike]]
"""What a predictor is called with: an image (path, bytes, PIL image or array), a `Clip`, or a mapping of a task's
inputs by name, each of them an image, a `Clip` or a list of images."""


def complete_inputs(
    task: VisionTask, given: Given, source: Callable[[ImageLike], ImageSource], options: Mapping[str, Any]
) -> dict[str, ImageSource | Clip]:
    """The inputs of one call by name, in the order of the task.

    Args:
        task: Task of the model; some of its options stand for an input, see `VisionTask.completed`.
        given: What a predictor was called with.
        source: Opens one image.
        options: Options of the call.

    Raises:
        UsageError: Inputs that the task does not have, or too few of them.
    """

    def opened(each: Any) -> ImageSource | Clip:
        if isinstance(each, Clip):
            return Clip([source(frame) for frame in each.frames], each.times)
        if isinstance(each, (list, tuple)):
            return Clip([source(frame) for frame in each])
        return source(each)

    named = given if isinstance(given, Mapping) else {task.inputs[0]: given}
    inputs = task.completed({name: opened(each) for name, each in named.items()}, **options)
    if len(inputs) < len(task.inputs) and not isinstance(given, Mapping):
        raise UsageError(f"{task.name} needs several images; give them by name: {', '.join(task.inputs)}")
    check_names(list(inputs), task.inputs, task.name)
    return {name: inputs[name] for name in task.inputs}


def last_frame(given: ImageSource | Clip) -> ImageSource:
    """The image itself, or the last frame of a clip, which is the one that predictions are about."""
    return given.frames[-1] if isinstance(given, Clip) else given


def reference_images(inputs: Mapping[str, Tensor]) -> Tensor:
    """The reference input of a batch, which is the first one, as images.

    Args:
        inputs: Inputs of a `Batch`: (B, C, H, W), or clips (B, T, C, H, W).

    Returns:
        (B, C, H, W); the last frame of each clip.
    """
    first = next(iter(inputs.values()))
    return first if first.dim() == 4 else first[:, -1]


def batch_of_one(example: Example) -> tuple[Tensor, ...]:
    """The inputs of an example as a network takes them, without a copy: (1, C, H, W) each, or (1, T, C, H, W)."""
    return tuple(each[None] for each in example["inputs"].values())


def check_names(given: Sequence[str], needed: Sequence[str], task: str) -> None:
    """Refuses inputs under other names than a task has.

    Raises:
        UsageError: With the names that the task has.
    """
    for name in given:
        if name not in needed:
            raise UsageError(f"{name}: no input of {task}; its inputs are {', '.join(needed)}{suggest(name, needed)}")
    missing = [name for name in needed if name not in given]
    if missing:
        raise UsageError(f"{task} needs the input{'s' if len(missing) > 1 else ''} {', '.join(missing)}")

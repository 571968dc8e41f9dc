"""Frames of one video in their order: where a task may keep state from one frame to the next."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from visionkit.errors import DataError
from visionkit.inputs import Given

if TYPE_CHECKING:
    from visionkit.predictions import Prediction
    from visionkit.predictor import Predictor
    from visionkit.results import Progress, Result


class Session:
    """Predicts on one frame after the other, each by itself. A task with state returns a subclass of its own.

    A task that takes clips gets each frame with those before it, as in training; the first frame is repeated where the
    video has not begun so long ago.

    Args:
        predictor: Runs the network.
        **options: Options of every call.

    Example:
        >>> session = load("model.ckpt").session()
        >>> for frame in reader.each():
        ...     prediction = session.step(frame.pixels, frame.seconds)
    """

    def __init__(self, predictor: Predictor, **options: Any) -> None:
        self.predictor, self.options = predictor, options
        spec = predictor.task.input
        self._frames: deque[Given] = deque(maxlen=(spec.frames - 1) * spec.frame_stride + 1)

    def examine(self, image: Given, time: float | None = None, progress: Progress | None = None) -> Result:
        """The prediction on the next frame with what else is known of it, see `Predictor.examine`.

        Args:
            image: The frame.
            time: Seconds since the video began, where they are known.
            progress: See `Predictor`.

        Raises:
            DataError: The frame cannot be read; the session goes on without it.
        """
        before = self._frames.copy()
        try:
            return self.predictor.examine(self.with_those_before(image), progress, **self.options)
        except DataError:
            self._frames = before  # the frames to come shall not fail with this one
            raise

    def with_those_before(self, image: Given) -> Given:
        """The frame, for a task of clips with those before it."""
        task = self.predictor.task
        if task.input.frames == 1:
            return image
        self._frames.extend([image] * (1 if self._frames else self._frames.maxlen or 1))
        shown: list[Any] = list(self._frames)[:: task.input.frame_stride]
        if isinstance(image, Mapping):
            return {name: [each[name] for each in shown] for name in image}
        return {task.inputs[0]: shown}

    def step(self, image: Given, time: float | None = None) -> Prediction:
        """The prediction on the next frame.

        Args:
            image: The frame.
            time: Seconds since the video began, where they are known.

        Raises:
            DataError: The frame cannot be read.
        """
        found = self.examine(image, time).prediction
        assert found is not None
        return found

"""Frames of one video in their order: where a task may keep state from one frame to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from visionkit.images import ImageLike

if TYPE_CHECKING:
    from visionkit.predictions import Prediction
    from visionkit.predictor import Predictor
    from visionkit.results import Progress, Result


class Session:
    """Predicts on one frame after the other, each by itself. A task with state returns a subclass of its own.

    Args:
        predictor: Runs the network.
        **options: Of every call.

    Example:
        >>> session = load("model.ckpt").session()
        >>> for frame in reader.each():
        ...     prediction = session.step(frame.pixels, frame.seconds)
    """

    def __init__(self, predictor: Predictor, **options: Any) -> None:
        self.predictor, self.options = predictor, options

    def examine(self, image: ImageLike, time: float | None = None, progress: Progress | None = None) -> Result:
        """The prediction on the next frame with what else is known of it, see `Predictor.examine`.

        Args:
            image: The frame.
            time: Seconds since the video began, where they are known.
            progress: See `Predictor`.
        """
        return self.predictor.examine(image, progress, **self.options)

    def step(self, image: ImageLike, time: float | None = None) -> Prediction:
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

"""From a chosen model and a picture to an answer with its times: what the page and its interface both call."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from visionkit.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from ui.catalogue import Catalogue
    from visionkit.predictions import Prediction


@dataclass(frozen=True)
class Upload:
    """A picture that somebody sent.

    Attributes:
        path: Where the server keeps it.
        name: What the sender calls it; shown, never opened.
    """

    path: str
    name: str


@dataclass(frozen=True)
class Answered:
    """An answer and how it came about.

    Attributes:
        prediction: In pixels of the picture.
        picture: (h, w, 3) uint8 RGB.
        decode: Seconds to decode the picture.
        network: Seconds in the network alone.
        total: Seconds from the file to the prediction, without loading the model.
    """

    prediction: Prediction
    picture: np.ndarray
    decode: float
    network: float
    total: float


def answer(
    catalogue: Catalogue,
    model: str | None,
    upload: Upload | None,
    detector: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Answered:
    """Answers one picture.

    Args:
        catalogue: Of the models.
        model: Name of the one that answers.
        upload: The picture.
        detector: Name of the one that finds boxes for it, where it looks at crops; none takes the picture as one crop.
        progress: Called with the parts done and all of them, by a task that answers in parts.

    Raises:
        VisionKitError: No model or picture, or one that cannot be used.
    """
    if not model or not model.strip():
        raise UsageError("choose a model first")
    if upload is None:
        raise UsageError("give a picture first")
    from visionkit.images import ImageSource

    source = ImageSource(upload.path, name=upload.name)
    _ = source.size  # the header: what is no picture, or too large a one, ends here, before a model is loaded for it
    loaded = catalogue.get(model.strip())
    if detector and detector.strip():
        return _chained(loaded, catalogue.get(detector.strip()), source)
    from visionkit.predictor import Predictor

    with loaded.lock:
        predictor = loaded.predictor()
        watch = _Stopwatch(predictor.engine)
        start = time.perf_counter()
        pixels = predictor.decoded(source)
        decoded = time.perf_counter()
        options: dict[str, Any] = (
            {"progress": progress} if progress is not None and "progress" in predictor.options else {}
        )
        prediction = Predictor(predictor.task, watch)(pixels, **options)
        end = time.perf_counter()
    picture = pixels.read()
    return Answered(prediction, picture, decoded - start, watch.seconds, end - start)


def _chained(loaded: Any, finds: Any, source: Any) -> Answered:
    """A detector before the model; the time in the network is that of the model alone."""
    from visionkit.pipeline import FindThenEstimate
    from visionkit.predictor import Predictor

    start = time.perf_counter()
    pixels = source.read()
    decoded = time.perf_counter()
    with finds.lock, loaded.lock:
        predictor = loaded.predictor()
        watch = _Stopwatch(predictor.engine)
        prediction = FindThenEstimate(Predictor(predictor.task, watch), finds.predictor())(pixels)
    end = time.perf_counter()
    return Answered(prediction, pixels, decoded - start, watch.seconds, end - start)


class _Stopwatch:
    """An engine that measures how long it runs."""

    def __init__(self, engine: Any) -> None:
        self._engine, self.seconds = engine, 0.0

    def __call__(self, image: Any) -> Any:
        start = time.perf_counter()
        outputs = self._engine(image)
        self.seconds += time.perf_counter() - start
        return outputs

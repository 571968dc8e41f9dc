"""From a chosen model and a picture to an answer with its times: what the page and its interface both call."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ui.serving.limits import MB, Limits
from visionkit.errors import DataError, UsageError

if TYPE_CHECKING:
    import numpy as np

    from ui.catalogue import Catalogue
    from visionkit.images import ImageSource
    from visionkit.novelty import Novelty
    from visionkit.predictions import Prediction
    from visionkit.predictor import Predictor, Result


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
        total: Seconds from the file to the prediction, without loading the model or waiting for others who use it.
        novelty: How far the image is from those of the model's own data, where the model knows.
    """

    prediction: Prediction
    picture: np.ndarray
    decode: float
    network: float
    total: float
    novelty: Novelty | None = None


def answer(
    catalogue: Catalogue,
    model: str | None,
    upload: Upload | ImageSource | None,
    detector: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    limits: Limits | None = None,
    options: Mapping[str, Any] | None = None,
    strict: bool = False,
) -> Answered:
    """Answers one picture.

    Args:
        catalogue: Of the models.
        model: Name of the one that answers.
        upload: The picture; one in memory has no file that could be too large.
        detector: Name of the one that finds boxes for it, where it looks at crops; none takes the picture as one crop.
        progress: Called with the parts done and all of them, by a task that answers in parts.
        limits: What a picture may be.
        options: Of the call.
        strict: Whether an option that the model does not know is refused; otherwise it is left out.

    Raises:
        VisionKitError: No model or picture, or one that cannot be used.
    """
    if not model or not model.strip():
        raise UsageError("choose a model first")
    if upload is None:
        raise UsageError("give a picture first")
    source = opened(upload, limits)
    loaded = catalogue.get(model.strip())
    if detector and detector.strip():
        return _chained(loaded, catalogue.get(detector.strip()), source, options if strict else None)
    from visionkit.predictor import Predictor

    with loaded.lock:
        predictor = loaded.predictor()
    watch = _Stopwatch(predictor.engine)
    start = time.perf_counter()
    pixels = predictor.decoded(source)
    decoded = time.perf_counter()
    if strict and options and predictor.answers_whole:  # their options are those of memory, not of answers
        raise UsageError(f"{', '.join(options)}: {predictor.task.name} takes no options by request")
    known = {name: value for name, value in (options or {}).items() if strict or name in predictor.options}
    if progress is not None and "progress" in predictor.options:
        known["progress"] = progress
    with loaded.lock:
        begin = time.perf_counter()
        found = examined(Predictor(predictor.task, watch), pixels, known)
        end = time.perf_counter()
    picture = pixels.read()
    assert found.prediction is not None
    total = decoded - start + end - begin
    return Answered(found.prediction, picture, decoded - start, watch.seconds, total, found.novelty)


def examined(predictor: Predictor, pixels: ImageSource, options: dict[str, Any]) -> Result:
    """The prediction on an image; a face model first searches its faces, as `visionkit gallery` does.

    Where none is found, or with the option `crop`, the whole image is taken as one face, and the prediction says so.
    """
    if predictor.task.name != "face_recognition":
        return predictor.examine(pixels, **options)
    from dataclasses import replace

    from tasks.face_recognition.pipeline import FacePipeline
    from visionkit.predictions import Faces
    from visionkit.predictor import Result

    crop = options.pop("crop", False)
    if crop not in (True, False):
        raise UsageError(f"crop {crop!r}: allowed are 0, search for faces, and 1, the image is one face already")
    if options:
        raise UsageError(f"{', '.join(options)}: no option of face_recognition; allowed is crop")
    if crop:
        return predictor.examine(pixels)
    faces = FacePipeline(predictor)(pixels)
    if len(faces):
        return Result(pixels, faces, None)
    found = predictor.examine(pixels)
    assert isinstance(found.prediction, Faces)
    return found._replace(prediction=replace(found.prediction, faces_found=0))


def explained(
    catalogue: Catalogue, model: str | None, upload: Upload | None, name: str | None, limits: Limits | None = None
) -> np.ndarray:
    """Why a class was answered: the picture under the colours of the evidence, see `visionkit.explain`.

    Args:
        catalogue: Of the models.
        model: Name of the one that answered.
        upload: The picture.
        name: The class; the surest where left out.
        limits: What a picture may be.

    Returns:
        (h, w, 3) uint8 RGB.

    Raises:
        VisionKitError: No model or picture, or one that cannot be used or explained.
    """
    if not model or not model.strip():
        raise UsageError("choose a model first")
    if upload is None:
        raise UsageError("give a picture first")
    source = opened(upload, limits)
    loaded = catalogue.get(model.strip())
    from visionkit.drawing.activation import heat
    from visionkit.explain import explain

    with loaded.lock:
        predictor = loaded.predictor()
        found = explain(predictor, source, name or None)
    return heat(found, source.read())


def opened(upload: Upload | ImageSource, limits: Limits | None = None) -> ImageSource:
    """The picture with its header read: what is no picture, or too large a one, ends here, before a model is loaded.

    Args:
        upload: The picture.
        limits: What a picture may be.

    Raises:
        DataError: Not a picture, or too large.
    """
    from visionkit.images import ImageSource

    if not isinstance(upload, Upload):
        return upload
    limits = limits or Limits()
    megabytes = Path(upload.path).stat().st_size / MB
    if megabytes > limits.picture_mb:
        raise DataError(f"{upload.name}: {megabytes:.0f} MB; a picture may have {limits.picture_mb} MB")
    source = ImageSource(upload.path, name=upload.name)
    height, width = source.size
    if height * width > limits.megapixels * 1e6:
        raise DataError(
            f"{upload.name}: {width} x {height} is {height * width / 1e6:.0f} megapixels; a picture may have "
            f"{limits.megapixels}"
        )
    return source


def _chained(loaded: Any, finds: Any, source: Any, options: Mapping[str, Any] | None = None) -> Answered:
    """A detector before the model, which gets the options; the time in the network is that of the model alone."""
    from visionkit.pipeline import FindThenEstimate
    from visionkit.predictor import Predictor

    if finds is loaded:
        raise UsageError("a model cannot find the boxes that it then looks at; choose another detector")
    start = time.perf_counter()
    pixels = source.read()
    decoded = time.perf_counter()
    with finds.lock, loaded.lock:
        predictor = loaded.predictor()
        watch = _Stopwatch(predictor.engine)
        prediction = FindThenEstimate(Predictor(predictor.task, watch), finds.predictor())(pixels, **(options or {}))
    end = time.perf_counter()
    return Answered(prediction, pixels, decoded - start, watch.seconds, end - start)


class _Stopwatch:
    """An engine that measures how long it runs."""

    def __init__(self, engine: Any) -> None:
        self._engine, self.seconds = engine, 0.0

    def __call__(self, *inputs: Any) -> Any:
        start = time.perf_counter()
        outputs = self._engine(*inputs)
        self.seconds += time.perf_counter() - start
        return outputs

"""From a chosen model and an image to a prediction and its times: what the page and its interface both call."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ui.joined_requests import LARGEST
from ui.server.limits import MB, Limits
from visionkit.errors import DataError, UsageError

if TYPE_CHECKING:
    import numpy as np

    from ui.model_registry import Loaded, ModelRegistry
    from visionkit.images import ImageSource
    from visionkit.novelty import Novelty
    from visionkit.predictions import Prediction
    from visionkit.predictor import Predictor
    from visionkit.session import Session


FACES = "face_recognition"
"""Name of the task whose models first search the faces of an image."""


@dataclass(frozen=True)
class Upload:
    """An image that somebody sent.

    Attributes:
        path: Where the server keeps it.
        name: What the sender calls it; shown, never opened.
    """

    path: str
    name: str


@dataclass(frozen=True)
class InferenceResult:
    """A prediction and how it came about.

    Attributes:
        prediction: Prediction in pixels of the image.
        image: (h, w, 3) uint8 RGB.
        decode: Seconds to decode the image.
        network: Seconds in the network alone.
        total: Seconds from the file to the prediction, without loading the model or waiting for others who use it.
        novelty: How far the image is from those of the model's own data, where the model knows.
        cautions: Sentences about options that the model was not made for.
        together: Requests that went through the network together; the seconds are this one's part.
    """

    prediction: Prediction
    image: np.ndarray
    decode: float
    network: float
    total: float
    novelty: Novelty | None = None
    cautions: tuple[str, ...] = ()
    together: int = 1


def predict(
    model_registry: ModelRegistry,
    model: str | None,
    upload: Upload | ImageSource | None,
    detector: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    limits: Limits | None = None,
    options: Mapping[str, Any] | None = None,
    strict: bool = False,
    frames: FrameSession | None = None,
    seconds: float | None = None,
    others: Mapping[str, Upload | ImageSource] | None = None,
) -> InferenceResult:
    """Runs a model on one image.

    Args:
        model_registry: Model registry of the models.
        model: Name of the one that predicts.
        upload: The image; one in memory has no file that could be too large.
        detector: Name of the one that finds boxes for it, where it processes crops; none takes the image as one crop.
        progress: Called with the parts done and all of them, by a task that predicts in parts.
        limits: What an image may be.
        options: Options of the call.
        strict: Whether an option that the model does not know is refused; otherwise it is left out.
        frames: Frames of the video that the image is the next frame of.
        seconds: Its place in the video.
        others: The further inputs of a model that has several, by name.

    Raises:
        VisionKitError: No model or image, or one that cannot be used.
    """
    source, loaded = _asked(model_registry, model, upload, limits)
    finds = model_registry.get(detector.strip()) if detector and detector.strip() else None
    if finds is loaded:
        raise UsageError("a model cannot find the boxes that it then runs on; choose another detector")
    locks = (finds.lock if finds is not None else nullcontext(), loaded.lock)
    predictor, detects = loaded.ready(), finds.ready() if finds is not None else None
    known = _known(predictor, options or {}, strict)
    runs = runner(predictor, detects, known)
    beside = {name: opened(each, limits) for name, each in (others or {}).items()}
    start = time.perf_counter()
    pixels = runs.decoded(source)
    given: Any = pixels
    task, still = predictor.task, predictor.task.input.frames if frames is None else 1
    if beside or len(task.inputs) > 1 or still > 1:
        given = {task.inputs[0]: pixels, **{name: runs.decoded(each) for name, each in beside.items()}}
    if still > 1:
        given = {name: [each] * still for name, each in given.items()}
    decoded = time.perf_counter()
    height, width = pixels.size
    if frames is None and runs is predictor and height * width <= LARGEST:
        found, network, taken, together = loaded.joined.examine(predictor, given, known, loaded.lock, progress)
        total = decoded - start + taken
    else:
        with locks[0], locks[1]:
            begin = time.perf_counter()
            if frames is not None:
                found = frames.session(runs, known).examine(given, seconds, progress)
            else:
                found = runs.examine(given, progress, **known)
            total = decoded - start + time.perf_counter() - begin
        assert found.times is not None
        network, together = found.times.network, 1
    assert found.prediction is not None
    cautions = task.cautions(**known)
    return InferenceResult(
        found.prediction, pixels.read(), decoded - start, network, total, found.novelty, cautions, together
    )


def _known(predictor: Predictor, options: Mapping[str, Any], strict: bool) -> dict[str, Any]:
    """The options that a request may choose: how the network is run is a matter of the server's memory and time."""
    chosen = (
        *predictor.decode_options,
        *predictor.task.input_options,
        *(("crop",) if predictor.task.name == FACES else ()),
    )
    for name in options if strict else ():
        if name in predictor.options and name not in chosen:
            allowed = f"only {', '.join(chosen)}" if chosen else "no options"
            raise UsageError(f"{name}: {predictor.task.name} takes {allowed} by request")
    return {name: value for name, value in options.items() if strict or name in chosen}


class FrameSession:
    """The frames of one video, which go through one session of its model."""

    def __init__(self) -> None:
        self._session: Session | None = None

    def session(self, predictor: Predictor, options: dict[str, Any]) -> Session:
        """The session, opened with the first frame."""
        self._session = self._session or predictor.session(**options)
        return self._session


def runner(predictor: Predictor, detector: Predictor | None, options: dict[str, Any]) -> Predictor:
    """What runs on an image: the model, behind a detector, or a face model behind the search of `visionkit gallery`.

    Args:
        predictor: Predictor of the model.
        detector: Finds the boxes; of faces None is the built-in finder.
        options: Options of the call; `crop`, by which an image is one face already, is taken out.
    """
    if predictor.task.name != FACES:
        if detector is None:
            return predictor
        from visionkit.chain import Chain

        return Chain(detector, predictor)
    from tasks.face_recognition.chain import FaceChain
    from tasks.face_recognition.finding import DetectionFinder

    crop = options.pop("crop", False)
    if crop not in (True, False):
        raise UsageError(f"crop {crop!r}: allowed are 0, search for faces, and 1, the image is one face already")
    if options:
        raise UsageError(f"{', '.join(options)}: no option of face_recognition; allowed is crop")
    if crop:
        return predictor
    return FaceChain(predictor, None if detector is None else DetectionFinder(detector), whole=True)


def explained(
    model_registry: ModelRegistry,
    model: str | None,
    upload: Upload | None,
    name: str | None,
    limits: Limits | None = None,
) -> np.ndarray:
    """Why a class was predicted: the image under the colors of the evidence, see `visionkit.explain`.

    Args:
        model_registry: Model registry of the models.
        model: Name of the one that predicted.
        upload: The image.
        name: The class; the highest-scoring by default.
        limits: What an image may be.

    Returns:
        (h, w, 3) uint8 RGB.

    Raises:
        VisionKitError: No model or image, or one that cannot be used or explained.
    """
    source, loaded = _asked(model_registry, model, upload, limits)
    from visionkit.drawing.activation import heat
    from visionkit.explain import explain

    with loaded.lock:
        predictor = loaded.predictor()
        found = explain(predictor, source, name or None)
    return heat(found, source.read())


def _asked(
    model_registry: ModelRegistry, model: str | None, upload: Upload | ImageSource | None, limits: Limits | None
) -> tuple[ImageSource, Loaded]:
    """The image and the model that are asked for."""
    if not model or not model.strip():
        raise UsageError("choose a model first")
    if upload is None:
        raise UsageError("give an image first")
    return opened(upload, limits), model_registry.get(model.strip())


def opened(upload: Upload | ImageSource, limits: Limits | None = None) -> ImageSource:
    """The image with its header read: what is no image, or too large a one, ends here, before a model is loaded.

    Args:
        upload: The image.
        limits: What an image may be.

    Raises:
        DataError: Not an image, or too large.
    """
    from visionkit.images import ImageSource

    if not isinstance(upload, Upload):
        return upload
    limits = limits or Limits()
    megabytes = Path(upload.path).stat().st_size / MB
    if megabytes > limits.image_mb:
        raise DataError(f"{upload.name}: {megabytes:.0f} MB; an image may have {limits.image_mb} MB")
    source = ImageSource(upload.path, name=upload.name)
    height, width = source.size
    if height * width > limits.megapixels * 1e6:
        raise DataError(
            f"{upload.name}: {width} x {height} is {height * width / 1e6:.0f} megapixels; an image may have "
            f"{limits.megapixels}"
        )
    return source

"""What a detector finds in the frames of a video: decoding runs ahead of the network, which runs ahead of nothing."""

from __future__ import annotations

import argparse
import contextlib
from collections import deque
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ui.prediction_report import show_progress
from ui.video_results import RATES, SkippedFrames, read_ahead
from visionkit.errors import DataError, UsageError

if TYPE_CHECKING:
    from visionkit.frame_sources import FrameSource
    from visionkit.images import ImageSource
    from visionkit.predictions import Detections, Prediction
    from visionkit.predictor import Predictor
    from visionkit.video import Frame

NOT_FOR_VIDEOS = ("detector", "boxes", "pairs", "inputs", "coco_results", "camera", "top", "flip_tta", "tta_scales",
                  "coco_labels")  # fmt: skip


def check_video(args: argparse.Namespace, option: str) -> None:
    """Checks the arguments of an option that goes through videos, before anything heavy is imported.

    Args:
        args: The parsed command line.
        option: The option, such as `--track`.

    Raises:
        UsageError: They contradict each other.
    """
    for name in NOT_FOR_VIDEOS:
        if getattr(args, name):
            raise UsageError(f"--{'input' if name == 'inputs' else name.replace('_', '-')}: is not for {option}")
    if not args.sources:
        raise UsageError(f"{option}: give a SOURCE: a video file, a folder of frames, camera:0 or rtsp://...")
    if args.rate is not None and not RATES[0] <= args.rate <= RATES[1]:
        raise UsageError(f"--rate {args.rate:g}: allowed are numbers from {RATES[0]:g} to {RATES[1]:g}")


def check_detector(predictor: Predictor, option: str, args: argparse.Namespace, options: dict[str, Any]) -> None:
    """Checks that a model finds objects, and adds what the command line states of tiles to the options of a call.

    Args:
        predictor: The model.
        option: The option that needs it, such as `--track`.
        args: The parsed command line.
        options: Options of the prediction.

    Raises:
        UsageError: The model is of another task.
    """
    from visionkit.families.detection.task import DetectorTask
    from visionkit.families.detection.views import checked_tile

    if not isinstance(predictor.task, DetectorTask):
        raise UsageError(f"{option}: is for models of objects, and this one is of {predictor.task.name}")
    if args.tile is not None:
        options["tile"] = checked_tile(args.tile)


def detected_frames(
    frames: FrameSource,
    predictor: Predictor,
    args: argparse.Namespace,
    options: Mapping[str, Any],
    skipped: SkippedFrames,
) -> Iterator[tuple[Frame, Detections]]:
    """Frames and what was found in them; a model that keeps state over the frames does so here.

    Args:
        frames: The video.
        predictor: The model.
        args: The parsed command line.
        options: Options of the prediction.
        skipped: Takes the frames that are passed over.
    """
    from visionkit.images import ImageSource
    from visionkit.predictions import Detections

    waiting: deque[Frame] = deque()
    source = read_ahead(frames, args.rate, skipped.fault)

    def images() -> Iterator[ImageSource]:
        for frame in source:
            waiting.append(frame)
            yield ImageSource(frame.pixels, f"{frames.name}, frame {frame.number}")

    def one_by_one() -> Iterator[tuple[Prediction | None, Any]]:
        session = predictor.session(**options)
        for image in images():
            try:
                yield session.examine(image, waiting[0].seconds).prediction, None
            except DataError as error:
                yield None, error

    def streamed() -> Iterator[tuple[Prediction | None, Any]]:
        size = args.batch_size if predictor.task.device.type == "cuda" and not frames.is_live else 1
        for result in predictor.stream(images(), size, 0 if frames.is_live else 1, **options):
            yield result.prediction, result.error

    total = 0 if args.rate else frames.frames
    with contextlib.closing(source), show_progress(total) as (advance, _):
        for prediction, error in one_by_one() if predictor.task.has_state else streamed():
            frame = waiting.popleft()
            advance()
            if prediction is None:
                skipped.fault(str(error))
                continue
            assert isinstance(prediction, Detections)  # see `check_detector`
            yield frame, prediction

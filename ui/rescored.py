"""`visionkit predict --rescore`: detections of whole videos, rescored by the frames around each."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ui.detected_frames import check_detector, check_video, detected_frames
from ui.prediction_devices import open_predictors
from ui.prediction_records import RECORDS, records_of
from ui.prediction_report import DRAWN
from ui.stopping import stopped_by_signal
from ui.video_results import DrawnVideo, SkippedFrames, VideoRecords, check_free, read_ahead, video_stems
from visionkit.errors import UsageError, suggest
from visionkit.wording import counted

if TYPE_CHECKING:
    from visionkit.frame_sources import FrameSource
    from visionkit.predictions import Detections
    from visionkit.video import Frame

NAMES = ("seq-nms", "tubelets")  # visionkit.tracking.rescoring would import scipy for its names


def add_rescore_arguments(parser: argparse._ArgumentGroup) -> None:
    """Adds what rescoring takes."""
    parser.add_argument(
        "--rescore",
        metavar="HOW",
        help="rescore the detections of a video or a folder of frames by the frames around each, without training: "
        f"seq-nms (Han et al., 2016) or tubelets; --out gets {RECORDS}, with --draw also the drawn video",
    )


def check_rescore(args: argparse.Namespace) -> None:
    """Checks the arguments before anything heavy is imported.

    Raises:
        UsageError: They contradict each other.
    """
    if args.rescore is None:
        return
    if args.rescore not in NAMES:
        raise UsageError(f"--rescore {args.rescore}: allowed are {', '.join(NAMES)}{suggest(args.rescore, NAMES)}")
    if args.track is not None:
        raise UsageError("--rescore: is not for --track; trackers follow detections as they come")
    check_video(args, "--rescore")


def rescore(args: argparse.Namespace, options: dict[str, Any], out: Path | None) -> int:
    """Detects and rescores the objects of each source; returns the exit status.

    Args:
        args: The parsed command line.
        options: Options of the prediction.
        out: Folder of the results.
    """
    import numpy as np

    from visionkit.frame_sources import is_live, open_frames
    from visionkit.tracking.rescoring import RESCORINGS

    for source in filter(is_live, args.sources):
        raise UsageError(f"{source}: --rescore needs the whole video, and this one has no end; record it first")
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(stopped_by_signal())
        first = stack.enter_context(open_frames(args.sources[0]))
        predictor = open_predictors(args.model, args.devices, args.engine)[0]
        check_detector(predictor, "--rescore", args, options)
        stems = video_stems(args.sources)
        if out is not None and args.draw:
            check_free((out / DRAWN / f"{stem}.mp4" for stem in stems), args.overwrite)
        file, skipped = stack.enter_context(records_of(out)), SkippedFrames()
        for number, source in enumerate(args.sources):
            frames = first if number == 0 else stack.enter_context(open_frames(source))
            places: list[Frame] = []
            found: list[Detections] = []
            with VideoRecords(file, frames, skipped, stop) as records:
                for frame, prediction in detected_frames(frames, predictor, args, options, skipped):
                    stop()  # what a signal raised may have been taken for a fault of what it hit
                    # Boxes of a whole video fit into memory, its pixels do not.
                    places.append(frame._replace(pixels=np.broadcast_to(np.uint8(0), frame.pixels.shape)))
                    found.append(prediction)
                rescored = [each.with_options(options) for each in RESCORINGS[args.rescore](found)]
                for frame, each in zip(places, rescored, strict=True):
                    records.write(frame, each.to_json())
            if out is not None and args.draw:
                by_number = {frame.number: each for frame, each in zip(places, rescored, strict=True)}
                with open_frames(source) as again:
                    _draw(out / DRAWN / f"{stems[number]}.mp4", again, args.rate, by_number)
            boxes = sum(len(each.above()) for each in rescored)
            print(f"{frames.name}: {counted(len(found), 'frame')}, {counted(boxes, 'object')}", file=sys.stderr)
    if out is not None:
        print(f"results: {out}", file=sys.stderr)
    return skipped.status


def _draw(path: Path, frames: FrameSource, rate: float | None, found: Mapping[int, Detections]) -> None:
    with DrawnVideo(path, frames, rate) as video, contextlib.closing(read_ahead(frames, rate, lambda _: None)) as each:
        for frame in each:
            if (prediction := found.get(frame.number)) is not None:
                video.write(frame, lambda shown=prediction, frame=frame: shown.draw(frame.pixels))  # type: ignore[misc]

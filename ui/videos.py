"""A model on a video: the drawn frames as mp4, one record per frame, and what is seen on the way."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ui.inference import Frames, Upload
from ui.server.job_queue import JobQueue
from ui.views.base import SIDE, drawing
from visionkit.errors import DataError, UsageError
from visionkit.images import ImageSource
from visionkit.video import VideoReader, VideoWriter


class VideoProgress(NamedTuple):
    """One frame that was predicted.

    Attributes:
        drawn: (h, w, 3) uint8 RGB.
        message: The prediction in a line.
        done: Frames so far.
        total: Frames in all, or 0 where the file does not state.
        seconds: Place in the video.
        fault: What is wrong with the file, or empty; known at its end.
    """

    drawn: np.ndarray
    message: str
    done: int
    total: int
    seconds: float
    fault: str = ""


def watch(
    job_queue: JobQueue, model: str | None, upload: Upload | None, rate: float, folder: Path
) -> Iterator[VideoProgress]:
    """Runs a model on a video frame by frame; `video.mp4` and `frames.jsonl` in the folder are whole once this ends.

    Args:
        job_queue: Where frames are processed, each in its turn with what others ask.
        model: Model that predicts.
        upload: The video.
        rate: Frames per second that are processed.
        folder: For the files.

    Raises:
        VisionKitError: No video, or no model, or one of them cannot be used.
    """
    if upload is None:
        raise UsageError("give a video first")
    limits = job_queue.limits
    most = int(limits.megapixels * 1e6)
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(VideoReader(upload.path, upload.name, most))
        rate = min(rate, reader.rate)
        file = stack.enter_context((folder / "frames.jsonl").open("w", encoding="utf-8"))
        writer = stack.enter_context(VideoWriter(folder / "video.mp4", rate, SIDE))
        done, last, look, frames = 0, None, None, Frames()
        total = round(min(reader.seconds, limits.seconds) * rate)
        for frame in reader.each(rate, limits.seconds):
            source = ImageSource(frame.pixels, f"{upload.name}, second {frame.seconds:.2f}")
            result = job_queue.patiently(model, source, "video", frames, frame.seconds)
            prediction = result.prediction
            drawn = drawing(prediction, result.image)
            while last is not None and writer.count < round(frame.seconds * rate):
                writer.write(last)  # a frame that lasts longer than others does so in what is written
            writer.write(drawn)
            done, last = done + 1, drawn
            record = {
                "frame": frame.number,
                "seconds": round(frame.seconds, 4),
                "size": list(frame.pixels.shape[:2]),
                "prediction": prediction.summary(),
            }
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            look = VideoProgress(drawn, prediction.text(), done, max(total, done), frame.seconds)
            yield look
        if look is None:
            raise DataError(f"{upload.name}: the video has no frame that can be read")
        if reader.is_cut_off:
            yield look._replace(
                fault=f"{upload.name}: cut off: its header states {reader.seconds:.1f} seconds, and its frames end "
                f"after {look.seconds:.1f}; what there is was processed"
            )

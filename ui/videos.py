"""A model on a video: the drawn frames as mp4, one record per frame, and what is seen on the way."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ui.inference import Frames, InferenceResult, Upload
from ui.server.job_queue import JobQueue
from ui.track_results import drawn_tracks, frame_record, mot_text
from ui.views.base import SIDE, as_sent, drawing
from visionkit.errors import DataError, UsageError
from visionkit.images import ImageSource
from visionkit.video import VideoReader, VideoWriter

if TYPE_CHECKING:
    from visionkit.predictions import Tracks
    from visionkit.tracking.counts import TrackCounts
    from visionkit.tracking.timeline import Timeline
    from visionkit.tracking.tracker import Tracker
    from visionkit.video import Frame

VIDEO, RECORDS, TEXT, SUMMARY = "video.mp4", "frames.jsonl", "tracks.txt", "summary.json"
"""Files of a video; the last two where it is tracked."""

MOST_LINES = 8
"""Lines that one video is counted at."""


@dataclass(frozen=True)
class VideoRequest:
    """What is asked of a video.

    Attributes:
        model: Model that predicts.
        upload: The video.
        rate: Frames per second that are processed.
        tracker: Name of the tracker that follows the objects; none predicts on each frame by itself.
        lines: Lines whose crossings are counted, x1, y1, x2, y2 in pixels of the video.
    """

    model: str | None
    upload: Upload | None
    rate: float = 5.0
    tracker: str | None = None
    lines: Sequence[Sequence[float]] = ()


@dataclass
class Followed:
    """The objects of a video that were followed so far.

    Attributes:
        tracker: Follows them.
        counts: Their numbers by class, and crossings of lines.
        timeline: When each is visible.
    """

    tracker: Tracker
    counts: TrackCounts
    timeline: Timeline

    def to_json(self) -> dict[str, Any]:
        """Counts and timeline."""
        return {**self.counts.to_json(), "timeline": self.timeline.to_json(), "unlisted": self.timeline.unlisted}


class VideoProgress(NamedTuple):
    """One frame that was predicted.

    Attributes:
        drawn: (h, w, 3) uint8 RGB.
        message: The prediction in a line.
        done: Frames so far.
        total: Frames in all, or 0 where the file does not state.
        seconds: Place in the video.
        record: Record of the frame, as it is written.
        followed: What was followed so far, where a tracker does.
        fault: What is wrong with the file, or empty; known at its end.
    """

    drawn: np.ndarray
    message: str
    done: int
    total: int
    seconds: float
    record: dict[str, Any]
    followed: Followed | None = None
    fault: str = ""


def first_frame(upload: Upload, megapixels: float) -> np.ndarray:
    """The first frame of a video, (h, w, 3) uint8 RGB.

    Args:
        upload: The video.
        megapixels: Pixels that a frame may have.

    Raises:
        DataError: No video, or too large.
    """
    with VideoReader(upload.path, upload.name, int(megapixels * 1e6)) as reader:
        for frame in reader.each():
            return frame.pixels
    raise DataError(f"{upload.name}: the video has no frame that can be read")


def read_lines(text: str | None) -> list[tuple[float, ...]]:
    """Lines of a field or a request: x1,y1,x2,y2 in pixels, one after the other.

    Args:
        text: Lines separated by line breaks or semicolons.

    Raises:
        UsageError: One that is none, or too many.
    """
    from visionkit.text_files import is_number

    found: list[tuple[float, ...]] = []
    for line in (text or "").replace(";", "\n").splitlines():
        cells = line.replace(",", " ").split()
        if not cells:
            continue
        values = tuple(float(cell) if is_number(cell) else math.nan for cell in cells)
        if len(values) != 4 or not all(map(math.isfinite, values)) or values[:2] == values[2:]:
            raise UsageError(
                f"line {line.strip()[:60]!r}: give x1,y1,x2,y2 of two points in pixels, such as 0,200,640,200"
            )
        found.append(values)
    if len(found) > MOST_LINES:
        raise UsageError(f"{len(found)} lines; allowed are {MOST_LINES}")
    return found


@dataclass
class VideoFiles:
    """The files of one video, whole wherever it ends; to be used in a `with` block.

    Args:
        folder: Folder for them.
        rate: Frames per second of the drawn video.
        tracked: Whether there are tracks.
    """

    folder: Path
    rate: float
    tracked: bool
    _open: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> VideoFiles:
        with contextlib.ExitStack() as stack:
            self.records = stack.enter_context((self.folder / RECORDS).open("w", encoding="utf-8"))
            self.video = stack.enter_context(VideoWriter(self.folder / VIDEO, self.rate, SIDE))
            self.text = stack.enter_context((self.folder / TEXT).open("w", encoding="utf-8")) if self.tracked else None
            self._open = stack.pop_all()
        return self

    def write(self, frame: Frame, drawn: np.ndarray, record: dict[str, Any], tracks: Tracks | None) -> None:
        """Appends a frame."""
        self.video.show(drawn, frame.seconds)
        self.records.write(json.dumps(record, ensure_ascii=False) + "\n")
        if self.text is not None and tracks is not None:
            self.text.write(mot_text(frame, tracks))

    def __exit__(self, *_: object) -> None:
        self._open.close()


def watch(
    job_queue: JobQueue, asked: VideoRequest, folder: Path, is_stopped: Callable[[], bool] = lambda: False
) -> Generator[VideoProgress, None, None]:
    """Runs a model on a video frame by frame; the files in the folder are whole once this ends, or is closed.

    One frame is in memory at a time.

    Args:
        job_queue: Where frames are processed, each in its turn with what others ask.
        asked: What is asked.
        folder: For the files.
        is_stopped: Asked before each frame; where it is so, the video ends there.

    Raises:
        VisionKitError: No video, or no model, or one of them cannot be used.
    """
    upload = asked.upload
    if upload is None:
        raise UsageError("give a video first")
    limits = job_queue.limits
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(VideoReader(upload.path, upload.name, int(limits.megapixels * 1e6)))
        rate = min(asked.rate, reader.rate)
        followed = _followed(asked, rate)
        files = stack.enter_context(VideoFiles(folder, rate, followed is not None))
        look, frames = None, Frames()
        total = round(min(reader.seconds, limits.seconds) * rate)
        for done, frame in enumerate(reader.each(rate, limits.seconds), 1):
            if is_stopped():
                break
            source = ImageSource(frame.pixels, f"{upload.name}, second {frame.seconds:.2f}")
            result = job_queue.patiently(asked.model, source, "video", frames, frame.seconds)
            tracks = None if followed is None else _follow(followed, result, frame)
            shown = result.prediction if tracks is None else tracks
            if tracks is None or followed is None:
                drawn = drawing(shown, result.image)
            else:
                drawn = as_sent(drawn_tracks(result.image, tracks, followed.counts))
            record = frame_record(frame, shown.summary())
            files.write(frame, drawn, record, tracks)
            look = VideoProgress(drawn, shown.text(), done, max(total, done), frame.seconds, record, followed)
            yield look
        if look is None:
            raise DataError(f"{upload.name}: {'stopped before its first frame' if is_stopped() else _NO_FRAME}")
        if followed is not None:
            (folder / SUMMARY).write_text(json.dumps(followed.to_json(), indent=1, ensure_ascii=False), "utf-8")
        if fault := _fault(reader, files.video, look, is_stopped()):
            yield look._replace(fault=f"{upload.name}: {fault}")


_NO_FRAME = "the video has no frame that can be read"


def _fault(reader: VideoReader, video: VideoWriter, look: VideoProgress, is_stopped: bool) -> str:
    """What is wrong with a file that was read to its end."""
    if reader.is_cut_off and not is_stopped:
        return (
            f"cut off: its header states {reader.seconds:.1f} seconds, and its frames end after {look.seconds:.1f}; "
            "what there is was processed"
        )
    return f"its time stamps jump; the drawn video is shorter by {video.left_out:.0f} seconds" if video.left_out else ""


def _followed(asked: VideoRequest, rate: float) -> Followed | None:
    if not asked.tracker:
        if asked.lines:
            raise UsageError("lines are crossed by objects that are tracked: choose a tracker")
        return None
    from visionkit.tracking.counts import TrackCounts
    from visionkit.tracking.timeline import Timeline
    from visionkit.tracking.tracker import make_tracker

    return Followed(make_tracker(asked.tracker), TrackCounts(asked.lines), Timeline(1 / rate))


def _follow(followed: Followed, result: InferenceResult, frame: Frame) -> Tracks:
    from visionkit.predictions import Detections

    found = result.prediction
    if not isinstance(found, Detections):
        raise UsageError(
            f"tracking is for models that find objects, and this one predicts {found.kind.replace('_', ' ')}"
        )
    tracks = followed.tracker.update(found, frame.pixels)
    followed.counts.update(tracks)
    followed.timeline.update(tracks, frame.seconds)
    return tracks

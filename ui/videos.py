"""A model on a video: the drawn frames as mp4, one record per frame, and what is seen on the way."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from ui.drawings import as_sent, drawing
from ui.inference import FrameSession, InferenceResult, Upload
from ui.server.job_queue import JobQueue
from ui.track_results import drawn_tracks, frame_record
from ui.video_files import SUMMARY, TEXT, ShownFrame, VideoFiles
from visionkit.errors import DataError, UsageError
from visionkit.images import ImageSource
from visionkit.video import VideoReader, VideoWriter
from visionkit.wording import counted

if TYPE_CHECKING:
    from visionkit.predictions import Tracks
    from visionkit.tracking.counts import TrackCounts
    from visionkit.tracking.timeline import Timeline
    from visionkit.tracking.tracker import Tracker
    from visionkit.video import Frame

MAX_LINES = 8
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
class VideoTracks:
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
        """Counts and timeline, and why nothing was followed where that is so."""
        hint = self.tracker.hint()
        found = {**self.counts.to_json(), "timeline": self.timeline.to_json(), "unlisted": self.timeline.unlisted}
        return {**found, **({"hint": hint} if hint else {})}


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
        fault: What is missing of the result and why, or empty; known at its end.
    """

    drawn: np.ndarray
    message: str
    done: int
    total: int
    seconds: float
    record: dict[str, Any]
    followed: VideoTracks | None = None
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
    from visionkit.text_files import finite_numbers

    found: list[tuple[float, ...]] = []
    for line in (text or "").replace(";", "\n").splitlines():
        if not line.replace(",", "").strip():
            continue
        values = finite_numbers(line)
        if len(values) != 4 or values[:2] == values[2:]:
            raise UsageError(
                f"line {line.strip()[:60]!r}: give x1,y1,x2,y2 of two points in pixels, such as 0,200,640,200"
            )
        found.append(values)
    if len(found) > MAX_LINES:
        raise UsageError(f"{len(found)} lines; allowed are {MAX_LINES}")
    return found


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
    if asked.upload is None:
        raise UsageError("give a video first")

    def begin(rate: float) -> _Predicted:
        return _Predicted(job_queue, asked, _followed(asked, rate))

    yield from go_through(job_queue, asked.upload, asked.rate, folder, is_stopped, begin)


class FrameWork(Protocol):
    """What is done with the frames of one video.

    Attributes:
        parts: See `VideoFiles`.
        followed: What was followed so far, where a tracker does.
    """

    parts: Collection[str]

    @property
    def followed(self) -> VideoTracks | None: ...

    def step(self, frame: Frame) -> ShownFrame:
        """Takes the next frame."""


def go_through(
    job_queue: JobQueue,
    upload: Upload,
    rate: float,
    folder: Path,
    is_stopped: Callable[[], bool],
    begin: Callable[[float], FrameWork],
) -> Generator[VideoProgress, None, None]:
    """Goes through the frames of a video and writes what becomes of them; one frame is in memory at a time.

    Args:
        job_queue: Whose limits hold.
        upload: The video.
        rate: Frames per second, at most.
        folder: For the files.
        is_stopped: Asked before each frame.
        begin: Is given the frames per second that come, and begins the work.

    Raises:
        VisionKitError: No video, or the work fails.
    """
    limits = job_queue.limits
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(VideoReader(upload.path, upload.name, int(limits.megapixels * 1e6)))
        rate = min(rate, reader.rate)
        work = begin(rate)
        files = stack.enter_context(VideoFiles(folder, rate, work.parts))
        look, faults, done = None, list[str](), 0
        total = round(min(reader.seconds, limits.seconds) * rate)
        for frame in reader.each(rate, limits.seconds, faults.append):
            if is_stopped():
                break
            try:
                shown = work.step(frame)
            except DataError as error:  # of this frame alone, such as another size than the first one's
                if look is None:
                    raise
                faults.append(f"frame {frame.number}: {error}")
                continue
            record, done = frame_record(frame, shown.prediction), done + 1
            files.write(frame, shown, record)
            look = VideoProgress(
                shown.drawn, shown.message, done, max(total, done), frame.seconds, record, work.followed
            )
            yield look
        if look is None:
            raise DataError(f"{upload.name}: {'stopped before its first frame' if is_stopped() else _NO_FRAME}")
        if work.followed is not None:
            (folder / SUMMARY).write_text(json.dumps(work.followed.to_json(), indent=1, ensure_ascii=False), "utf-8")
        if parts := list(_missing(reader, files.video, look, is_stopped(), faults, limits.seconds)):
            yield look._replace(fault=f"{upload.name}: {'; '.join(parts)}")


_NO_FRAME = "the video has no frame that can be read"


def _missing(
    reader: VideoReader, video: VideoWriter, look: VideoProgress, is_stopped: bool, faults: Sequence[str], most: float
) -> Iterator[str]:
    """What is missing of the result, and why."""
    if faults:
        first = faults[0].removeprefix(f"{reader.name}: ")
        are = "is" if len(faults) == 1 else "are"
        yield f"{counted(len(faults), 'frame')} could not be used and {are} missing ({first})"
    if reader.is_shortened:
        yield f"longer than the {most:g} s of a video that this server processes"
    if reader.is_cut_off and not is_stopped:
        yield (
            f"cut off: its header states {reader.seconds:.1f} seconds, and its frames end after {look.seconds:.1f}; "
            "what there is was processed"
        )
    if video.left_out:
        yield f"its time stamps jump; the drawn video is shorter by {video.left_out:.0f} seconds"


def _followed(asked: VideoRequest, rate: float) -> VideoTracks | None:
    if not asked.tracker:
        if asked.lines:
            raise UsageError("lines are crossed by objects that are tracked: choose a tracker")
        return None
    from visionkit.tracking.counts import TrackCounts
    from visionkit.tracking.timeline import Timeline
    from visionkit.tracking.tracker import make_tracker

    return VideoTracks(make_tracker(asked.tracker), TrackCounts(asked.lines), Timeline(1 / rate))


class _Predicted:
    """A model on each frame, and a tracker behind it where one is asked for."""

    def __init__(self, job_queue: JobQueue, asked: VideoRequest, followed: VideoTracks | None) -> None:
        self.job_queue, self.asked, self.followed = job_queue, asked, followed
        self.parts: Collection[str] = () if followed is None else (TEXT,)
        self._frames = FrameSession()

    def step(self, frame: Frame) -> ShownFrame:
        name = self.asked.upload.name if self.asked.upload else "video"
        source = ImageSource(frame.pixels, f"{name}, second {frame.seconds:.2f}")
        result = self.job_queue.patiently(self.asked.model, source, "video", self._frames, frame.seconds)
        found = result.prediction
        if self.followed is None:
            return ShownFrame(drawing(found, result.image), found.text(), found.summary())
        tracks = _follow(self.followed, result, frame)
        drawn = as_sent(drawn_tracks(result.image, tracks, self.followed.counts))
        return ShownFrame(drawn, tracks.text(), tracks.summary(), tracks)


def _follow(followed: VideoTracks, result: InferenceResult, frame: Frame) -> Tracks:
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

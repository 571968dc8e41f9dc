"""What the commands that go through a video share: frames read ahead, records, the drawn video, what was skipped."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ui.prediction_records import cannot_write, close_whole
from ui.stopping import Stop, ended_after
from ui.track_results import frame_record
from visionkit.errors import DataError, Interrupted, Terminated, UsageError

if TYPE_CHECKING:
    import numpy as np

    from visionkit.frame_sources import FrameSource
    from visionkit.video import Frame, VideoWriter

SIDE = 1920
"""Longer side of a drawn video, at most."""

RATES = (0.01, 1000.0)
"""Frames per second that can be asked for."""

RATE = 60.0
"""Frames per second of a drawn video, at most: headers of recordings from browsers state 1000."""

_AHEAD = 8


class SkippedFrames:
    """Reports what is wrong with frames that are passed over, and counts them."""

    def __init__(self) -> None:
        self.count = 0

    def fault(self, message: str) -> None:
        """Reports one."""
        self.count += 1
        print(f"visionkit: skipped: {message}", file=sys.stderr)

    def check_end(self, frames: FrameSource, done: int) -> None:
        """Checks how a video ended.

        Args:
            frames: The video, once its frames have come to their end.
            done: Frames that could be used.

        Raises:
            DataError: None could.
        """
        if frames.is_cut_off:
            self.fault(f"{frames.name}: cut off: its frames end before its header states; what is there was used")
        if not done:
            raise DataError(f"{frames.name}: the video has no frame that can be read")

    @property
    def status(self) -> int:
        """The exit status."""
        return DataError.status if self.count else 0


class VideoRecords:
    """Writes a record per frame of one video and reports how the video ended, to be used in a `with` block.

    Args:
        file: File of the records.
        frames: The video.
        skipped: Takes what is wrong with its end.
        stop: Holds a signal back until all files have a frame.

    Attributes:
        done: Number of frames so far.

    Raises:
        Interrupted: Ctrl-C; what was done is kept.
        Terminated: SIGTERM, likewise.
        DataError: No frame could be used.
    """

    def __init__(self, file: IO[str], frames: FrameSource, skipped: SkippedFrames, stop: Stop) -> None:
        self.file, self.frames, self.skipped, self.stop = file, frames, skipped, stop
        self.done, self._flushes = 0, frames.is_live or file is sys.stdout

    def write(self, frame: Frame, prediction: dict[str, Any], **more: Any) -> None:
        """Appends the record of a frame.

        Args:
            frame: The frame.
            prediction: What was predicted on it, as json has it.
            **more: What else the record has.
        """
        record = {"source": self.frames.name, **frame_record(frame, prediction), **more}
        self.file.write(json.dumps(record, ensure_ascii=False) + "\n")
        if self._flushes:
            self.file.flush()
        self.done += 1

    @contextlib.contextmanager
    def frame(self, frame: Frame, prediction: dict[str, Any], **more: Any) -> Iterator[None]:
        """Writes the record behind what it surrounds, the other files of the frame; all end with the same one.

        Args:
            frame: See `write`.
            prediction: See `write`.
            **more: See `write`.
        """
        with self.stop.held():
            yield
            self.write(frame, prediction, **more)

    def __enter__(self) -> VideoRecords:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, KeyboardInterrupt | Interrupted | Terminated):
            raise ended_after(error, self.done, self.frames.name) from None
        if error is None:
            self.skipped.check_end(self.frames, self.done)


def read_ahead(
    frames: FrameSource, rate: float | None, on_fault: Callable[[str], None]
) -> Generator[Frame, None, None]:
    """The frames, decoded in the background; of a live source the newest. To be closed where not all are taken.

    Args:
        frames: The video.
        rate: Frames per second, at most; all by default.
        on_fault: Called with what is wrong with a frame that is passed over.
    """
    from visionkit.streams import in_background

    depth = 1 if frames.is_live else _AHEAD
    return in_background(frames.each(rate, on_fault=on_fault), depth, newest=frames.is_live)


class DrawnVideo:
    """Writes drawn frames as a video that can be played wherever it ends; to be used in a `with` block.

    Args:
        path: Ending in `.mp4`; None writes nothing.
        frames: The video that they are drawn on.
        rate: Frames per second that are taken of it, at most.
    """

    def __init__(self, path: Path | None, frames: FrameSource, rate: float | None = None) -> None:
        from visionkit.video import VideoWriter

        self.name, self.is_live = frames.name, frames.is_live
        self.rate = min(rate or frames.rate, frames.rate, RATE)
        self.video: VideoWriter | None = None
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(path, error) from error
        self.video = VideoWriter(path, self.rate, SIDE)

    def write(self, frame: Frame, draw: Callable[[], np.ndarray]) -> None:
        """Appends a frame; one that lasts longer than others does so in what is written.

        Args:
            frame: The frame, whose time counts.
            draw: Gives the pixels; not called where nothing is written.
        """
        if self.video is None:
            return
        if self.is_live:
            self.video.write(draw())
        else:
            self.video.show(draw(), frame.seconds)

    def __enter__(self) -> DrawnVideo:
        return self

    def __exit__(self, *_: object) -> None:
        if self.video is not None:
            self.video.__exit__(None, None, None)
            if self.video.left_out:
                missing = f"the drawn video is shorter by {self.video.left_out:.0f} seconds"
                print(f"visionkit: {self.name}: its time stamps jump; {missing}", file=sys.stderr)


class ObjectFiles:
    """The text and the drawn video of one video, to be used in a `with` block.

    Both begin with the first frame that is written, so what an earlier run left stays until then, and each is whole
    wherever the video ends.

    Args:
        text: File of the text; None writes none.
        drawn: See `DrawnVideo`.
        frames: The video.
        rate: See `DrawnVideo`.
    """

    def __init__(self, text: Path | None, drawn: Path | None, frames: FrameSource, rate: float | None = None) -> None:
        self._path, self._is_live = text, frames.is_live
        self._text: IO[str] | None = None
        self._open = contextlib.ExitStack()
        self._video = self._open.enter_context(DrawnVideo(drawn, frames, rate))

    def write(self, frame: Frame, lines: str, draw: Callable[[], np.ndarray]) -> None:
        """Appends a frame.

        Args:
            frame: The frame, whose time counts.
            lines: Its lines of the text, each with its end.
            draw: Gives the pixels; not called where nothing is drawn.
        """
        self.write_text(lines)
        self._video.write(frame, draw)

    def write_text(self, lines: str) -> None:
        """Appends to the text alone.

        Args:
            lines: See `write`.
        """
        if self._path is not None:
            if self._text is None:
                self._text = self._opened(self._path)
            self._text.write(lines)
            if self._is_live:
                self._text.flush()

    def _opened(self, path: Path) -> IO[str]:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("w", encoding="utf-8")
        except OSError as error:
            raise cannot_write(path, error) from error
        self._open.callback(close_whole, file, path)
        return file

    def __enter__(self) -> ObjectFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()


def check_free(paths: Iterable[Path], overwrite: bool) -> None:
    """Checks that the files of a video replace nothing without being asked to.

    Args:
        paths: Files, and folders that get files.
        overwrite: They may be replaced.

    Raises:
        UsageError: There is such a file, or such a folder has files.
    """
    for path in paths:
        if not overwrite and path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UsageError(f"{path}: already exists; name another folder, or replace it with --overwrite")


def video_stems(sources: Sequence[str]) -> list[str]:
    """Names of files without a suffix, one per source."""
    stems: list[str] = []
    for source in sources:
        path = Path(source)
        name = path.absolute().name if path.is_dir() else path.stem if path.exists() else source.split("@")[-1]
        stem = first = re.sub(r"[^\w.-]+", "-", name).strip("-.")[:80] or "video"
        number = 1
        while stem in stems:
            number += 1
            stem = f"{first}-{number}"
        stems.append(stem)
    return stems

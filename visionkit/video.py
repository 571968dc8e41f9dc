"""Videos, frame by frame: one frame is in memory at a time, whatever the length.

Decoding and encoding are FFmpeg's, as OpenCV brings it; drawings are written as VP9 in mp4, which browsers play and
which is free to use.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from visionkit.errors import DataError, EnvironmentFault

SUFFIXES = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi")
"""Endings of the files that can be read."""

CODEC = "vp09"

HELD = 10.0
"""Seconds that a written frame is shown at most: the time stamps of some files jump by hours."""

_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
_OPENING = threading.Lock()
_RATES = (0.1, 1000.0)  # frames per second that a header may state


class Frame(NamedTuple):
    """One frame.

    Attributes:
        number: Index in the file, from 0.
        seconds: Seconds from its beginning, as the file states it for this frame: frames need not last equally long.
        pixels: (h, w, 3) uint8 RGB, turned upright.
    """

    number: int
    seconds: float
    pixels: np.ndarray


def _silence_ffmpeg() -> None:
    """FFmpeg reads once, when it is first used, whether it writes to the standard error; faults are reported here."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


def open_capture(source: str, protocols: str) -> Any:
    """OpenCV's reader of a file or an address, by FFmpeg, which may open nothing else in turn.

    Args:
        source: Path or address.
        protocols: The protocols that FFmpeg may use, with commas; what the environment states itself goes first.
    """
    import cv2

    _silence_ffmpeg()
    with _OPENING:  # OpenCV takes the options from the environment whenever it opens something
        stated = os.environ.get(_OPTIONS)
        own = () if stated and "protocol_whitelist" in stated else (f"protocol_whitelist;{protocols}",)
        os.environ[_OPTIONS] = "|".join([*([stated] if stated else []), *own])
        level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # whoever asks reports a damaged file
        try:
            return cv2.VideoCapture(source, cv2.CAP_FFMPEG)
        finally:
            cv2.utils.logging.setLogLevel(level)
            if stated is None:
                del os.environ[_OPTIONS]
            else:
                os.environ[_OPTIONS] = stated


class VideoReader:
    """Reads the frames of a file in order; to be used in a `with` block.

    Only files that begin as mp4, QuickTime, Matroska, WebM or AVI do are handed to the decoder: a playlist could name
    other files of this machine, or addresses.

    Args:
        path: Path of the file.
        name: For messages; the file's own by default.
        max_pixels: Maximum number of pixels of a frame.

    Attributes:
        rate: Frames per second.
        size: (height, width) as the header states it.
        frames: Number of frames as the header states it, or 0 where it does not.
        is_shortened: `each` has ended at its `seconds`, and the video goes on.
        is_cut_off: The frames ended long before the header states they do; known once `each` has come to its end.
        is_live: Frames come when they come, from a camera or a stream.

    Raises:
        DataError: Not such a video, or too large.
    """

    is_live = False

    def __init__(self, path: str | Path, name: str | None = None, max_pixels: int = 50_000_000) -> None:
        self.name = name or Path(path).name
        if not _is_video(Path(path), self.name):
            raise DataError(f"{self.name}: not a video that can be read (mp4, mov, webm, mkv and avi can be)")
        capture = open_capture(str(path), "file")
        self._begin(capture, "the video is damaged, or of a codec that this machine cannot read", max_pixels)

    def _begin(self, capture: Any, fault: str, max_pixels: int) -> None:
        """Reads what the header states.

        Args:
            capture: OpenCV's reader.
            fault: What is wrong where it could not be opened.
            max_pixels: Maximum number of pixels of a frame.
        """
        import cv2

        self._capture, self._using, self._closed = capture, threading.Lock(), False
        if not self._capture.isOpened():
            raise DataError(f"{self.name}: {fault}")
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.rate = rate if _RATES[0] <= rate <= _RATES[1] else 25.0
        self.size = (self._whole(cv2.CAP_PROP_FRAME_HEIGHT), self._whole(cv2.CAP_PROP_FRAME_WIDTH))
        self.frames = self._whole(cv2.CAP_PROP_FRAME_COUNT)
        self.is_cut_off = self.is_shortened = False
        if math.prod(self.size) > max_pixels:
            self._capture.release()
            height, width = self.size
            raise DataError(f"{self.name}: frames of {width} x {height} pixels are over the limit of {max_pixels:,}")

    def _whole(self, what: int) -> int:
        value = self._capture.get(what)
        return int(value) if math.isfinite(value) and 0 < value < 2**31 else 0

    @property
    def seconds(self) -> float:
        """Length as the header states it; 0 where it does not."""
        return self.frames / self.rate

    def each(
        self,
        rate: float | None = None,
        seconds: float | None = None,
        on_fault: Callable[[str], None] | None = None,
    ) -> Iterator[Frame]:
        """The frames.

        Args:
            rate: Frames per second that are given, at most; those between are passed over without being converted.
            seconds: Where to end.
            on_fault: Called with what is wrong with a frame that is passed over.
        """
        import cv2

        step = max(1.0, self.rate / rate) if rate else 1.0
        number, wanted, now = 0, 0.0, 0.0
        while True:
            pixels, wrong = None, False
            with self._using:
                if self._closed:
                    return
                if not self._capture.grab():
                    break
                now = self._time(number, now)
                if seconds is not None and now >= seconds:
                    self.is_shortened = True
                    return
                place = round(now * self.rate, 3)  # in frames of mean length
                if place >= round(wanted) or rate is None:
                    wanted += step * max(0, math.floor((place - wanted) / step))
                    while round(wanted) <= place:
                        wanted += step
                    there, pixels = self._capture.retrieve()
                    wrong = not there
            if wrong and on_fault is not None:
                on_fault(f"{self.name}: frame {number} cannot be decoded")
            elif not wrong and pixels is not None:
                yield Frame(number, now, cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
            number += 1
        if number == 0:
            raise DataError(f"{self.name}: the video has no frame that can be read")
        missing = self.seconds - (now + 1 / self.rate)
        self.is_cut_off = missing > max(3 / self.rate, 0.02 * self.seconds)

    def _time(self, number: int, before: float) -> float:
        """When the frame that was just grabbed is shown; by the mean rate where the file does not state."""
        import cv2

        stated = float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000
        if number and not (math.isfinite(stated) and stated > before):
            return max(before, number / self.rate)
        return stated if math.isfinite(stated) and stated > 0 else 0.0

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # FFmpeg crashes where a reader is released in the middle of its work. A thread that still waits for the next
        # frame, of a stream that has stalled, ends with it; the reader is then freed with the thread.
        self._closed = True
        if self._using.acquire(blocking=False):
            self._capture.release()
            self._using.release()


class VideoWriter:
    """Writes frames as an mp4; to be used in a `with` block. The first frame states how large all are.

    Args:
        path: Ending in `.mp4`.
        rate: Frames per second.
        side: The longer side of what is written, at most.

    Attributes:
        count: Number of frames so far.
        left_out: Seconds by which the video is shorter than its frames state, see `show`.
    """

    def __init__(self, path: Path, rate: float, side: int = 1280) -> None:
        self.path, self.rate, self.side = path, rate, side
        self.count, self.left_out = 0, 0.0
        self._writer: Any = None
        self._size = (0, 0)
        self._last: np.ndarray | None = None

    def write(self, pixels: np.ndarray) -> None:
        """Appends a frame, (h, w, 3) uint8 RGB; one of another shape is resized to that of the first.

        Raises:
            EnvironmentFault: The encoder is missing, or the file cannot be written.
        """
        import cv2

        if self._writer is None:
            scale = min(1.0, self.side / max(pixels.shape[:2]))
            height, width = (max(2, round(length * scale) // 2 * 2) for length in pixels.shape[:2])
            self._size = (width, height)
            _silence_ffmpeg()
            self._writer = cv2.VideoWriter(
                str(self.path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*CODEC), self.rate, self._size
            )
            if not self._writer.isOpened():
                raise EnvironmentFault(f"{self.path.name}: this build of OpenCV cannot write VP9 in mp4")
        if pixels.shape[1::-1] != self._size:
            pixels = cv2.resize(pixels, self._size, interpolation=cv2.INTER_AREA)
        self._last = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        self._writer.write(self._last)
        self.count += 1

    def show(self, pixels: np.ndarray, seconds: float) -> None:
        """Appends a frame that is shown from a time on; the one before it lasts until then, at most `HELD` seconds.

        Args:
            pixels: As `write` takes them.
            seconds: The time in the video that the frame comes from.
        """
        missing = round((seconds - self.left_out) * self.rate) - self.count
        most = round(HELD * self.rate)
        if missing > most:
            self.left_out += (missing - most) / self.rate
        if self._last is not None:
            for _ in range(min(missing, most)):
                self._writer.write(self._last)
                self.count += 1
        self.write(pixels)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.release()


def _is_video(path: Path, name: str) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror})") from None
    return (
        head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
        or head[:4] == b"\x1a\x45\xdf\xa3"
        or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
    )

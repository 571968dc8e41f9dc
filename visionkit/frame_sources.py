"""Where the frames of a video come from: a file, a folder of images, a camera or a stream."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from visionkit.errors import DataError
from visionkit.images import ImageSource
from visionkit.listing import list_images
from visionkit.video import SUFFIXES, Frame, VideoReader, open_capture

_STREAM = re.compile(r"(rtsps?|https?)://\S+", re.I)
_CAMERA = re.compile(r"(?:camera:)?(\d{1,2})")
_FOLDER_RATE = 25.0
_MAX_PIXELS = 50_000_000


class FrameSource(Protocol):
    """The frames of one video, to be used in a `with` block.

    Attributes:
        name: Name for messages.
        rate: Frames per second.
        frames: Number of frames, or 0 where nobody knows.
        is_live: Frames come when they come.
        is_cut_off: See `VideoReader`.
    """

    name: str
    rate: float
    frames: int
    is_live: bool
    is_cut_off: bool

    def each(
        self,
        rate: float | None = None,
        seconds: float | None = None,
        on_fault: Callable[[str], None] | None = None,
    ) -> Iterator[Frame]:
        """The frames, see `VideoReader.each`."""

    def __enter__(self) -> Any: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class ImageFrames:
    """Image files as the frames of a video.

    Args:
        name: Name for messages.
        paths: The images, in order.
        rate: Frames per second; 25 by default.
        numbers: Number of each frame; from 0 on by default.
    """

    is_live = False
    is_cut_off = False

    def __init__(
        self, name: str, paths: Sequence[Path], rate: float | None = None, numbers: Sequence[int] | None = None
    ) -> None:
        self.name, self.paths, self.frames, self.rate = name, list(paths), len(paths), rate or _FOLDER_RATE
        self._numbers = list(range(len(paths)) if numbers is None else numbers)

    def names(self) -> dict[int, str]:
        """Names of the images without their suffix, by number of the frame; none where two have the same."""
        stems = [path.stem for path in self.paths]
        return dict(zip(self._numbers, stems, strict=True)) if len(set(stems)) == len(stems) else {}

    def each(
        self,
        rate: float | None = None,
        seconds: float | None = None,
        on_fault: Callable[[str], None] | None = None,
    ) -> Iterator[Frame]:
        """The frames; an image that cannot be read is passed over."""
        step, wanted = max(1.0, self.rate / rate) if rate else 1.0, 0.0
        for number, path in zip(self._numbers, self.paths, strict=True):
            now = number / self.rate
            if seconds is not None and now >= seconds:
                return
            if number < round(wanted):
                continue
            wanted += step
            try:
                yield Frame(number, now, ImageSource(path).read())
            except DataError as error:
                if on_fault is not None:
                    on_fault(str(error))

    def __enter__(self) -> ImageFrames:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class FolderFrames(ImageFrames):
    """The images of a folder as the frames of a video, in the order of their names.

    Args:
        folder: The folder.
        rate: Frames per second; by default what a `seqinfo.ini` in the folder or above it states, otherwise 25.
    """

    def __init__(self, folder: Path, rate: float | None = None) -> None:
        from visionkit.tracking.seqinfo import INFO, read_info

        stated = [read_info(each) for each in (folder, folder.absolute().parent) if (each / INFO).is_file()]
        images = folder / stated[0].folder if stated and (folder / INFO).is_file() else folder
        paths = list_images(images).files
        if not paths:
            raise DataError(f"{images}: no images in this folder")
        numbers = None
        if stated and all(path.stem.isdecimal() for path in paths):
            # A sequence of MOTChallenge counts frames by their names, from 1 on, also where one is missing.
            numbers = [max(0, int(path.stem) - 1) for path in paths]
        super().__init__(str(folder), paths, rate or (stated[0].rate if stated else None), numbers)


class LiveReader(VideoReader):
    """The frames of a camera or of a stream; times count from the first one.

    Args:
        source: `camera:0`, or an address that begins with rtsp:// or http://.

    Raises:
        DataError: Nothing there that gives images.
    """

    is_live = True

    def __init__(self, source: str, max_pixels: int = _MAX_PIXELS) -> None:
        import cv2

        camera = _CAMERA.fullmatch(source)
        # A password in the address is for no message.
        self.name = f"camera {camera[1]}" if camera else re.sub(r"//[^/@\s]*@", "//", source)
        if camera:
            capture = cv2.VideoCapture(int(camera[1]))
        else:
            capture = open_capture(source, "rtsp,rtp,udp,tcp,tls,http,https")
        what = "there is no such camera, or another program uses it" if camera else "nothing there that gives images"
        self._begin(capture, what, max_pixels)
        self.frames = 0
        self._started: float | None = None

    def _time(self, number: int, before: float) -> float:
        now = time.monotonic()
        self._started = now if self._started is None else self._started
        return now - self._started


def is_live(source: str) -> bool:
    """Whether a source is an address or a camera, not a file of that name."""
    return bool(_STREAM.fullmatch(source) or _CAMERA.fullmatch(source)) and not Path(source).exists()


def is_video(source: str) -> bool:
    """Whether a source is a video file by its name, an address or a camera."""
    return is_live(source) or Path(source).suffix.lower() in SUFFIXES


def open_frames(source: str) -> FrameSource:
    """The frames of a video file, of a folder of images, of a camera (`camera:0`) or of a stream (`rtsp://...`).

    Raises:
        DataError: Nothing there, or not of these.
    """
    if is_live(source):
        return LiveReader(source)
    path = Path(source)
    if path.is_dir():
        return FolderFrames(path)
    if not path.exists():
        raise DataError(f"{source}: no such video file, folder of images, camera (camera:0) or address (rtsp://...)")
    return VideoReader(path, str(source))

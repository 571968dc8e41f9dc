"""Blurred images out of videos: the mean of consecutive frames, and the sharp one in their middle."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.degradations import DegradationChain
from datamodules.degradations.frames import GAMMA, average_frames
from datamodules.degraded_samples import Sources
from datamodules.frame_files import list_videos
from datamodules.image_store import PixelCache
from datamodules.restoration import RestorationData
from datamodules.splitting import last_parts
from visionkit.data import Split
from visionkit.errors import DataError, UsageError
from visionkit.images import ImageSource
from visionkit.video import VideoReader


@dataclass(frozen=True)
class Window:
    """Consecutive frames of one video.

    Attributes:
        sequence: The folder or video file.
        name: Names the frame in the middle: its path, or that of the video and its number.
        frames: Paths of image files, in order; empty for a video file.
        pixels: The blurred and the sharp frame of a video file, (h, w, 3) uint8.
    """

    sequence: str
    name: str
    frames: tuple[Path, ...] = ()
    pixels: tuple[np.ndarray, np.ndarray] | None = None


class FrameBlurData(RestorationData):
    """Images with the blur of moving things and cameras, averaged from sharp videos (Nah et al., 2017).

    A window of consecutive frames is one image: their mean in linear light is the degraded one, and the frame in the
    middle the clean one. Faster videos give smoother blur; the paper's have 240 frames a second. Without `val_root` the
    last windows of every video are held back; no frame is then trained on and evaluated, unless windows overlap.

    Args:
        root: Folder of the training videos, searched deeply: folders of frames in the order of their names, and video
            files. `pattern` chooses among frames that are images.
        frames: Number of frames that are averaged, odd.
        stride: Frames from one window to the next; as many as are averaged by default, so none is in two.
        gamma: Exponent that takes gray levels to light.
        degradations: What is done to the blurred image after that, such as noise.
        **base: See `RestorationData` and `PatchData`. Frames of video files are kept in memory, within `cache_mb`.

    Example:
        >>> data = FrameBlurData("videos", frames=7, input=task.input)
        >>> data.samples("val")[0].target["clean"].shape
        (3, 480, 854)
    """

    partner = "blurred images"

    def __init__(
        self, root: str = "", *, frames: int = 7, stride: int | None = None, gamma: float = GAMMA, **base: Any
    ) -> None:
        super().__init__(root, **base)
        stride = frames if stride is None else stride
        if frames < 3 or frames % 2 == 0 or stride < 1 or not 0 < gamma <= 10:
            raise UsageError(
                f"data: frames {frames} must be an odd number from 3 on, stride {stride} at least 1, gamma {gamma:g} "
                "above 0 and at most 10"
            )
        if any(root is not None for root in self.partner_roots.values()):
            raise UsageError("data.degraded: FrameBlurData makes the blurred images; leave it out")
        self.frames, self.stride, self.gamma = frames, stride, gamma
        self._windows: dict[str, list[Window]] = {}
        self._chosen: dict[Split, list[Window]] = {}

    def made(self) -> str:
        after = "".join(f" and {type(part).__name__}" for part in self.chains["train"].parts)
        return f"mean of {self.frames} frames{after}"

    def divided(
        self, groups: np.ndarray, wanted: dict[Split, float], order: np.ndarray | None
    ) -> dict[Split, np.ndarray]:
        """The last windows of every video are held back."""
        return last_parts(groups, wanted)

    def pairs(self, split: Split) -> tuple[list[Path], None]:
        return [Path(window.name) for window in self.windows(split)], None

    def windows(self, split: Split) -> list[Window]:
        """The windows of one split."""
        if split not in self._chosen:
            self._chosen[split] = self._choose(split)
        return self._chosen[split]

    def _choose(self, split: Split) -> list[Window]:
        root, _ = self._roots(split)
        if root is None and split == "train":
            raise UsageError("data: there are no videos to train on; give their folder with --data.root")
        if root is None:
            raise self.missing(split, f"data.{split}_root is not given")
        if root not in self._windows:
            self._windows[root] = self._find_windows(root)
        windows, absent = self._windows[root], self._split_off()
        if split not in ("train", *absent):
            return windows
        numbers = {name: number for number, name in enumerate(dict.fromkeys(each.sequence for each in windows))}
        groups = np.array([numbers[each.sequence] for each in windows])
        rows = self.split_off([each.name for each in windows], absent, groups)[split]
        if not len(rows):
            raise self.missing(split, root)
        return [windows[int(row)] for row in rows]

    def _find_windows(self, root: str) -> list[Window]:
        folders, videos, _ = list_videos(root, self.pattern)
        windows = [
            Window(str(folder), str(files[start + self.frames // 2]), tuple(files[start : start + self.frames]))
            for folder, files in folders.items()
            for start in range(0, len(files) - self.frames + 1, self.stride)
        ]
        for video in videos:
            windows += self._of_video(video, self.cache_mb * 2**20 - _bytes(windows))
        if not windows:
            longest = max((len(files) for files in folders.values()), default=0)
            there = f"; the longest folder of images has {longest}" if longest else ""
            raise DataError(f"{root}: no video of at least {self.frames} frames (data.frames){there}")
        return windows

    def _of_video(self, video: Path, room: int) -> list[Window]:
        """The windows of a video file, which is read once."""
        kept: deque[np.ndarray] = deque(maxlen=self.frames)
        windows: list[Window] = []
        with VideoReader(video, str(video)) as reader:
            for count, frame in enumerate(reader.each(), 1):
                kept.append(frame.pixels)
                if count < self.frames or (count - self.frames) % self.stride:
                    continue
                middle = kept[self.frames // 2]
                blurred = average_frames(kept, self.gamma, str(video))
                name = f"{video}#{count - 1 - self.frames // 2}"
                windows.append(Window(str(video), name, pixels=(blurred, middle)))
                if _bytes(windows) > room:
                    raise DataError(
                        f"{video}: its frames take more memory than data.cache_mb {self.cache_mb}; raise that, raise "
                        "data.stride, or unpack the video into a folder of images"
                    )
        return windows

    @property
    def reads_degraded(self) -> bool:
        return True

    def chain_of(self, split: Split) -> DegradationChain:
        return self.chains[split]

    def sources(self, split: Split, channels: int) -> Sources:
        windows = self.windows(split)
        sharp, blurred = _Sharp(windows), _Blurred(windows, self.gamma)
        sizes = [sharp.source(number).size for number in range(len(windows))]
        if split == "train" and self.small == "refuse":
            self.check_sizes(zip((window.name for window in windows), sizes, strict=True))
        slot = max(height * width for height, width in sizes) * channels
        if 2 * len(windows) * slot > self.cache_mb * 2**20:
            return Sources(sharp, None, blurred)
        caches = [PixelCache(len(windows), slot, channels) for _ in range(2)]
        return Sources(sharp, caches[0], blurred, caches[1])


class _Sharp:
    """The frames in the middle of windows."""

    def __init__(self, windows: Sequence[Window]) -> None:
        self.windows = windows

    def __len__(self) -> int:
        return len(self.windows)

    def name(self, number: int) -> str:
        return self.windows[number].name

    def source(self, number: int) -> ImageSource:
        window = self.windows[number]
        return ImageSource(window.name if window.pixels is None else window.pixels[1], window.name)


class _Blurred(_Sharp):
    """The means of windows."""

    def __init__(self, windows: Sequence[Window], gamma: float) -> None:
        super().__init__(windows)
        self.gamma = gamma

    def source(self, number: int) -> ImageSource:
        window = self.windows[number]
        if window.pixels is not None:
            return ImageSource(window.pixels[0], window.name)
        frames = (ImageSource(path).read() for path in window.frames)
        return ImageSource(average_frames(frames, self.gamma, window.name), window.name)


def _bytes(windows: Sequence[Window]) -> int:
    return sum(each.nbytes for window in windows if window.pixels is not None for each in window.pixels)

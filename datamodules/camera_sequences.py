"""Sequences of frames as they lie in files, with what is known of the camera: intrinsics, poses and depth."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datamodules.depth_files import DEPTH_SUFFIXES
from datamodules.frame_files import list_videos
from visionkit.camera import CameraIntrinsics
from visionkit.errors import DataError
from visionkit.images import ImageSource
from visionkit.listing import list_files
from visionkit.trajectories.pose_files import read_trajectory
from visionkit.video import VideoReader
from visionkit.wording import counted

log = logging.getLogger(__name__)

INTRINSICS, POSES, DEPTH = "intrinsics.txt", "poses.txt", "depth"
"""Names of the files and of the folder beside the frames."""

_WIDEST = 0.1  # focal length as a fraction of the width: 157 degrees, which no pinhole camera sees


@dataclass(frozen=True)
class CameraSequence:
    """One video.

    Attributes:
        name: Path below the root.
        path: Folder of the frames, or the video file.
        frames: Paths of the frames; those of a video file end in # and their number from 0.
        pixels: (h, w, 3) uint8 each, of a video file; empty for a folder.
        intrinsics: (4,) float32 fx, fy, cx, cy in pixels of the frames.
        poses: (N, 4, 4) float64 camera to world, or None where they are not known.
        depths: Path of the depth of each frame, empty where there is none.
    """

    name: str
    path: Path
    frames: Sequence[str]
    pixels: Sequence[np.ndarray]
    intrinsics: np.ndarray
    poses: np.ndarray | None
    depths: Sequence[str]


class SequenceReader:
    """Reads the sequences below one folder; see `CameraFramesData` for where the files of each lie.

    Args:
        root: Folder of videos, or one video file.
        pattern: Chooses among frames that are images.
        intrinsics: Of sequences without a file of them.
        cache_mb: MiB in which the frames of all video files must fit.

    Attributes:
        passed_over: Number of files that are no frames, by reason.
    """

    def __init__(self, root: str, pattern: str, intrinsics: CameraIntrinsics | None, cache_mb: int) -> None:
        self.root, self.pattern, self.intrinsics, self.cache_mb = root, pattern, intrinsics, cache_mb
        self.top = Path(root).parent if Path(root).is_file() else Path(root)
        self.below: Counter[Path] = Counter()
        self.passed_over: Mapping[str, int] = {}

    def read(self) -> list[CameraSequence]:
        """The sequences: folders of frames, then video files.

        Raises:
            DataError: None there, or one without intrinsics, with frames of different sizes, or with another number of
                poses than frames.
        """
        found = list_videos(self.root, self.pattern)
        self.passed_over = found.passed_over
        folders = {path: each for path, each in found.folders.items() if DEPTH not in path.relative_to(self.top).parts}
        if not folders and not found.files:
            raise DataError(
                f"{self.root}: no frames here whose names match {self.pattern} (data.pattern), and no video file"
            )
        self.below = Counter(parent for path in [*folders, *found.files] for parent in (path, *path.parents))
        sequences = [self._of_folder(path, files) for path, files in folders.items()]
        room = self.cache_mb * 2**20
        for video in found.files:
            sequences.append(self._of_video(video, room))
            room -= sum(each.nbytes for each in sequences[-1].pixels)
        return sequences

    def _of_folder(self, folder: Path, files: Sequence[Path]) -> CameraSequence:
        height, width = ImageSource(files[0]).size
        for file in files:
            if (size := ImageSource(file).size) != (height, width):
                raise DataError(
                    f"{file}: {size[1]} x {size[0]} pixels, and {files[0].name} has {width} x {height}; the frames of "
                    "one sequence are of one camera and one size: put others into a folder of their own"
                )
        _warn_of_order(folder, files)
        depth = next(filter(Path.is_dir, self._beside(folder, DEPTH)), None)
        found = {} if depth is None else {path.stem: str(path) for path in list_files(depth, DEPTH_SUFFIXES).files}
        depths = [found.get(file.stem, "") for file in files]
        if depth is not None and not any(depths):
            log.warning("%s: no file has the name of a frame of %s, so no depth is measured", depth, folder)
        name = folder.relative_to(self.top).as_posix() if folder != self.top else folder.absolute().name
        return self._sequence(name, folder, [str(file) for file in files], (), (height, width), depths)

    def _of_video(self, video: Path, room: int) -> CameraSequence:
        pixels: list[np.ndarray] = []
        with VideoReader(video, str(video)) as reader:
            for frame in reader.each(on_fault=log.warning):
                pixels.append(frame.pixels)
                room -= frame.pixels.nbytes
                if room < 0:
                    raise DataError(
                        f"{video}: its frames take more memory than data.cache_mb {self.cache_mb}; raise that, or "
                        "unpack the video into a folder of images, which are read when they are needed"
                    )
        if not pixels:
            raise DataError(f"{video}: none of its frames can be decoded")
        names = [f"{video}#{number}" for number in range(len(pixels))]
        size, name = pixels[0].shape[:2], video.relative_to(self.top).as_posix()
        return self._sequence(name, video, names, pixels, size, [""] * len(names))

    def _sequence(
        self,
        name: str,
        path: Path,
        frames: Sequence[str],
        pixels: Sequence[np.ndarray],
        size: tuple[int, ...],
        depths: Sequence[str],
    ) -> CameraSequence:
        """Adds what is known of the camera."""
        camera = self._camera(path, size)
        poses = None
        if (file := next(filter(Path.is_file, self._beside(path, POSES)), None)) is not None:
            trajectory = read_trajectory(file)
            if trajectory.times is not None:
                raise DataError(f"{file}: a TUM text; give KITTI's, 12 numbers per line and one line per frame")
            if len(trajectory) != len(frames):
                raise DataError(
                    f"{file}: {counted(len(trajectory), 'pose')} for {counted(len(frames), 'frame')} in {path}; give "
                    "one line per frame, in their order, or take the file away to measure no poses"
                )
            poses = trajectory.poses
        return CameraSequence(name, path, frames, pixels, np.array(camera, dtype=np.float32), poses, depths)

    def _camera(self, path: Path, size: tuple[int, ...]) -> CameraIntrinsics:
        file = next(filter(Path.is_file, self._beside(path, INTRINSICS, shared=True)), None)
        camera = self.intrinsics if file is None else CameraIntrinsics.parse(str(file))
        if camera is None:
            own = path / INTRINSICS if path.is_dir() else path.with_suffix(f".{INTRINSICS}")
            raise DataError(
                f"{path}: the intrinsics of its camera are not known; give --data.intrinsics [fx,fy,cx,cy] in pixels "
                f"of its frames, or a file {own} with these four numbers or a 3x3 matrix"
            )
        (fx, fy, cx, cy), (height, width) = camera, size
        if min(fx, fy) < _WIDEST * width or not (0 < cx < width and 0 < cy < height):
            log.warning(
                "%s: fx %g, fy %g, cx %g, cy %g (%s) are hardly those of frames of %d x %d pixels; give pixels of "
                "these frames, not fractions or those of another size",
                *(path, *camera, file or "data.intrinsics", width, height),
            )
        return camera

    def _beside(self, path: Path, name: str, shared: bool = False) -> list[Path]:
        """Where a file of a sequence may lie, the nearest first.

        Args:
            path: The folder of frames or the video file.
            name: Name of the file.
            shared: It may be of several sequences, so it may lie above all of them.
        """
        own = [] if path.is_dir() else [path.with_suffix(f".{name}")]
        folders = [each for each in (path, *path.parents) if each.is_relative_to(self.top) and each.is_dir()]
        return own + [each / name for each in folders if shared or each == path or self.below[each] == 1]


def _warn_of_order(folder: Path, files: Sequence[Path]) -> None:
    """Warns where numbers in the names of frames would give another order than the names do."""
    names = [[int(part) if part.isdecimal() else part for part in re.split(r"([0-9]+)", file.stem)] for file in files]
    if names != sorted(names):
        log.warning(
            "%s: frames are in the order of their names, and their numbers are in another one; fill the numbers up "
            "with zeros, such as 0002.jpg before 0010.jpg",
            folder,
        )

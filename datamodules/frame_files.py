"""Videos below a folder: folders of frames, in the order of their names, and video files."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from visionkit.listing import list_files, list_images
from visionkit.video import SUFFIXES


class VideoListing(NamedTuple):
    """The videos of a folder.

    Attributes:
        folders: Frames of each folder that holds some, in order.
        files: Video files.
        passed_over: Number of files that are neither, by reason.
    """

    folders: dict[Path, list[Path]]
    files: list[Path]
    passed_over: dict[str, int]


def list_videos(root: str, pattern: str = "*") -> VideoListing:
    """Lists the videos of a folder, searched deeply, or the one video file that is given.

    Args:
        root: The folder or the file.
        pattern: Chooses among frames that are images.

    Raises:
        DataError: No such folder, or one that cannot be read.
    """
    path, folders = Path(root), dict[Path, list[Path]]()
    if path.is_file():
        return VideoListing({}, [path], {})
    images = list_images(path)
    for file in images.files:
        if file.match(pattern):
            folders.setdefault(file.parent, []).append(file)
    videos = list_files(path, SUFFIXES, kind="a video").files
    endings = {f"not an image ({suffix})" for suffix in SUFFIXES}
    return VideoListing(folders, videos, {why: count for why, count in images.counts.items() if why not in endings})

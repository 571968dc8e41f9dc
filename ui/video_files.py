"""The files that a video of the demo is handed out as, each whole wherever the video ends."""

from __future__ import annotations

import contextlib
import json
import zipfile
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ui.drawings import SIDE
from ui.track_results import mot_text
from visionkit.video import VideoWriter

if TYPE_CHECKING:
    from visionkit.predictions import Tracks
    from visionkit.video import Frame

VIDEO, RECORDS, TEXT, SUMMARY, MASKS = "video.mp4", "frames.jsonl", "tracks.txt", "summary.json", "masks.zip"
"""The files; those after the records only where there are tracks or masks."""


class ShownFrame(NamedTuple):
    """What became of a frame.

    Attributes:
        drawn: (h, w, 3) uint8 RGB.
        message: The prediction in a line.
        prediction: The prediction, as json has it.
        tracks: Objects with ids, where they are followed.
        mask: (h, w) bool, the object that is cut out.
    """

    drawn: np.ndarray
    message: str
    prediction: dict[str, Any]
    tracks: Tracks | None = None
    mask: np.ndarray | None = None


@dataclass
class VideoFiles:
    """Writes the files of one video; to be used in a `with` block.

    Args:
        folder: Folder for them.
        rate: Frames per second of the drawn video.
        parts: `TEXT` and `MASKS`, where there are any.
    """

    folder: Path
    rate: float
    parts: Collection[str] = ()
    _open: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> VideoFiles:
        with contextlib.ExitStack() as stack:
            enter, folder = stack.enter_context, self.folder
            self.records = enter((folder / RECORDS).open("w", encoding="utf-8"))
            self.video = enter(VideoWriter(folder / VIDEO, self.rate, SIDE))
            self.text = enter((folder / TEXT).open("w", encoding="utf-8")) if TEXT in self.parts else None
            self.masks = enter(zipfile.ZipFile(folder / MASKS, "w")) if MASKS in self.parts else None
            self._open = stack.pop_all()
        return self

    def write(self, frame: Frame, shown: ShownFrame, record: dict[str, Any]) -> None:
        """Appends a frame."""
        self.video.show(shown.drawn, frame.seconds)
        self.records.write(json.dumps(record, ensure_ascii=False) + "\n")
        if self.text is not None and shown.tracks is not None:
            self.text.write(mot_text(frame, shown.tracks))
        if self.masks is not None and shown.mask is not None:
            self.masks.writestr(f"{frame.number:06}.png", _png(shown.mask))

    def __exit__(self, *_: object) -> None:
        self._open.close()


def _png(mask: np.ndarray) -> bytes:
    """White where the object is."""
    import cv2

    coded: bytes = cv2.imencode(".png", mask.astype(np.uint8) * 255)[1].tobytes()
    return coded

"""Tracks of one sequence as columns: one row per object and frame, as files of tracks have them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from visionkit.errors import DataError


@dataclass(frozen=True)
class TrackRows:
    """Objects of a sequence.

    Attributes:
        frames: (N,) int64, number of the frame, from 1.
        ids: (N,) int64, the object; -1 for a detection that belongs to no track.
        boxes: (N, 4) float64, x1, y1, x2, y2 in file pixels, from 0.
        scores: (N,) float64; in ground truth 0 states that the object is left out of the count.
        classes: (N,) int64; -1 where the file states none.
        visibility: (N,) float64, the fraction of the object that is seen; 1 where the file states none.
        name: Names the file in messages.
    """

    frames: np.ndarray
    ids: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray = field(default_factory=lambda: np.ones(0))
    classes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    visibility: np.ndarray = field(default_factory=lambda: np.ones(0))
    name: str = "tracks"

    def __post_init__(self) -> None:
        count = len(self.frames)
        given = {
            "frames": np.asarray(self.frames, np.int64),
            "ids": np.asarray(self.ids, np.int64),
            "boxes": np.asarray(self.boxes, np.float64).reshape(-1, 4),
            "scores": np.asarray(self.scores if len(self.scores) else np.ones(count), np.float64),
            "classes": np.asarray(self.classes if len(self.classes) else np.full(count, -1), np.int64),
            "visibility": np.asarray(self.visibility if len(self.visibility) else np.ones(count), np.float64),
        }
        for name, values in given.items():
            if len(values) != count:
                raise ValueError(f"{len(values)} {name} for {count} rows")
            object.__setattr__(self, name, values)

    def __len__(self) -> int:
        return len(self.frames)

    def chosen(self, keep: np.ndarray) -> TrackRows:
        """Some of the rows, (N,) bool or (M,) numbers of rows."""
        names = ("frames", "ids", "boxes", "scores", "classes", "visibility")
        return replace(self, **{name: getattr(self, name)[keep] for name in names})

    def each_frame(self, last: int | None = None) -> Iterator[np.ndarray]:
        """The numbers of the rows of each frame, in the order of the file, from frame 1 to the last.

        Args:
            last: Number of frames; by default up to the last one that has a row.
        """
        order = np.argsort(self.frames, kind="stable")
        last = int(self.frames.max(initial=0)) if last is None else last
        bounds = np.searchsorted(self.frames[order], np.arange(1, last + 2))
        for first, end in pairwise(bounds):
            yield order[first:end]

    def check_ids(self) -> None:
        """Checks that no id is in a frame twice.

        Raises:
            DataError: One is; a measure of tracks would depend on the order of the rows.
        """
        order = np.lexsort((self.ids, self.frames))
        frames, ids = self.frames[order], self.ids[order]
        twice = np.flatnonzero((frames[1:] == frames[:-1]) & (ids[1:] == ids[:-1]))
        if len(twice):
            row = twice[0]
            raise DataError(f"{self.name}: duplicate id {ids[row]} in frame {frames[row]}; an id is one object")

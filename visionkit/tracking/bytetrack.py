"""ByteTrack (Zhang et al. 2022): detections of low score go on with tracks that would be lost, and begin none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from visionkit.tracking.assignment import assign_above
from visionkit.tracking.boxes import box_ious
from visionkit.tracking.kalman import HeightFilter
from visionkit.tracking.tracker import Objects, Tracker

_NEW, _TRACKED, _LOST = 0, 1, 2


@dataclass
class ByteTrack(Tracker):
    """Follows objects with every detection: those of high score first, then those of low score.

    Attributes:
        high_score: Score from which a detection is assigned first.
        low_score: Score from which a detection may go on with a track.
        new_score: Score from which a detection begins a track.
        match: Smallest product of overlap and score in the first assignment.
        low_match: Smallest overlap with detections of low score.
        new_match: As `match`, of tracks that began in the last frame.
        max_age: Frames that a lost track is kept.
        duplicate: Overlap from which a tracked and a lost track are one object.
    """

    begins_by: ClassVar[str] = "new_score"
    high_score: float = 0.5
    low_score: float = 0.1
    new_score: float = 0.6
    match: float = 0.2
    low_match: float = 0.5
    new_match: float = 0.3
    max_age: int = 30
    duplicate: float = 0.85

    def __post_init__(self) -> None:
        self.filter = HeightFilter()
        super().__post_init__()

    def least_score(self) -> float:
        return self.low_score

    def compared_score(self) -> float:
        return self.high_score  # what is half hidden does not look like itself

    def advance(self) -> None:
        self.tracks["mean"][self.tracks["state"] != _TRACKED, 7] = 0  # nobody knows how a lost object grows
        super().advance()

    def step(self, found: Objects) -> np.ndarray:
        high = found.take(found["score"] >= self.high_score)
        low = found.take(found["score"] < self.high_score)
        new = np.arange(len(high))
        if len(self.tracks):
            new = self._go_on(high, low)
        begins = new[high["score"][new] >= self.new_score]
        if len(begins):
            # In the first frame there is nothing that could confirm a track.
            self.begin(
                high.take(begins), state=_TRACKED if self.frame == 1 else _NEW, first=self.frame, last=self.frame
            )
        tracks = self.tracks
        if len(tracks):
            self._clean()
        shown: np.ndarray = self.tracks["state"] == _TRACKED if len(tracks) else np.zeros(0, bool)
        return shown

    def _go_on(self, high: Objects, low: Objects) -> np.ndarray:
        """Assigns detections to tracks; the numbers of the high ones that are left."""
        state = self.tracks["state"]
        pool = np.flatnonzero(state != _NEW)
        first = assign_above(self._weighed(pool, high), self.match)
        self._see(pool[first.rows], high.take(first.columns))
        rest = pool[first.free_rows]
        rest = rest[state[rest] == _TRACKED]
        second = assign_above(
            self.fit(rest, low) if self.appearance is None else self._places(rest, low), self.low_match
        )
        self._see(rest[second.rows], low.take(second.columns))
        state[rest[second.free_rows]] = _LOST
        young, left = np.flatnonzero(state == _NEW), first.free_columns
        third = assign_above(self._weighed(young, high.take(left)), self.new_match)
        self._see(young[third.rows], high.take(left[third.columns]))
        gone = np.zeros(len(state), bool)
        gone[young[third.free_rows]] = True
        self.tracks.keep(~gone)
        rest_of_high: np.ndarray = left[third.free_columns]
        return rest_of_high

    def _weighed(self, rows: np.ndarray, found: Objects) -> np.ndarray:
        weighed: np.ndarray = self.fit(rows, found) * found["score"][None]
        return weighed

    def _places(self, rows: np.ndarray, found: Objects) -> np.ndarray:
        """Overlap alone, see `compared_score`."""
        return self.fit(rows, found, self.tracks["box"][rows])

    def _see(self, rows: np.ndarray, found: Objects) -> None:
        self.see(rows, found)
        self.tracks["state"][rows], self.tracks["last"][rows] = _TRACKED, self.frame

    def _clean(self) -> None:
        """Takes out what was lost too long ago, and of two tracks on one object the shorter one."""
        tracks = self.tracks
        gone = (tracks["state"] == _LOST) & (self.frame - tracks["last"] > self.max_age)
        tracked, lost = np.flatnonzero(tracks["state"] == _TRACKED), np.flatnonzero((tracks["state"] == _LOST) & ~gone)
        if len(tracked) and len(lost):
            boxes = self.filter.boxes(tracks["mean"])
            alike = box_ious(boxes[tracked], boxes[lost]) > self.duplicate
            alike &= tracks["label"][tracked][:, None] == tracks["label"][lost][None]
            for a, b in zip(*np.nonzero(alike), strict=True):
                one, other = tracked[a], lost[b]
                length, rest = (tracks["last"][k] - tracks["first"][k] for k in (one, other))
                gone[other if length > rest else one] = True
        tracks.keep(~gone)

"""SORT (Bewley et al. 2016): a Kalman filter per object, assigned to detections by overlap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from visionkit.tracking.assignment import assign
from visionkit.tracking.kalman import AreaFilter
from visionkit.tracking.tracker import Objects, Tracker


@dataclass
class Sort(Tracker):
    """Follows objects by where they are expected next.

    Attributes:
        min_score: Lowest score of a detection.
        min_iou: Smallest overlap of a track and its detection.
        max_age: Frames that a track goes on without a detection.
        min_hits: Detections in a row before a track is shown; the first frames of a video show all.
    """

    begins_by: ClassVar[str] = "min_score"
    min_score: float = 0.5
    min_iou: float = 0.3
    max_age: int = 1
    min_hits: int = 3

    def __post_init__(self) -> None:
        self.filter = AreaFilter()
        super().__post_init__()

    def least_score(self) -> float:
        return self.min_score

    def advance(self) -> None:
        super().advance()
        tracks = self.tracks
        tracks["streak"][tracks["age"] > 0] = 0
        tracks["age"] += 1
        tracks.keep(np.isfinite(tracks["box"]).all(axis=1))

    def step(self, found: Objects) -> np.ndarray:
        new = np.arange(len(found))
        if len(self.tracks) and len(found):
            fit = self.fit(np.arange(len(self.tracks)), found)
            pairs = assign(fit, fit >= self.min_iou)
            self.see(pairs.rows, found.take(pairs.columns))
            self.tracks["age"][pairs.rows] = 0
            self.tracks["streak"][pairs.rows] += 1
            new = pairs.free_columns
        if len(new):
            self.begin(found.take(new), age=0, streak=0)
        tracks = self.tracks
        tracks.keep(tracks["age"] <= self.max_age)
        shown: np.ndarray = (tracks["age"] == 0) & ((tracks["streak"] >= self.min_hits) | (self.frame <= self.min_hits))
        return shown

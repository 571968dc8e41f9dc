"""OC-SORT (Cao et al. 2023): SORT whose errors do not grow while an object is hidden.

Three things hold on to what was observed, instead of what the filter estimates: the direction of the motion decides
between detections; a track without a detection is looked for where it was last seen; and once it is found again, its
filter is run again over the gap on a straight line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from visionkit.tracking.assignment import assign
from visionkit.tracking.kalman import AreaFilter
from visionkit.tracking.tracker import Objects, Tracker


@dataclass
class OcSort(Tracker):
    """Follows objects by what was observed of them.

    Attributes:
        min_score: Lowest score of a detection.
        min_iou: Smallest overlap of a track and its detection.
        max_age: Frames that a track goes on without a detection.
        min_hits: Detections in a row before a track is shown; the first frames of a video show all.
        span: Frames over which the direction of a motion is measured, at least 1.
        inertia: Weight of the direction beside the overlap.
    """

    begins_by: ClassVar[str] = "min_score"
    min_score: float = 0.5
    min_iou: float = 0.3
    max_age: int = 30
    min_hits: int = 3
    span: int = 3
    inertia: float = 0.2

    def __post_init__(self) -> None:
        self.filter = AreaFilter()
        self.span = max(1, self.span)
        super().__post_init__()

    def least_score(self) -> float:
        return self.min_score

    def shown_boxes(self, tracks: Objects) -> np.ndarray:
        return np.asarray(tracks["seen"])

    def advance(self) -> None:
        super().advance()
        tracks = self.tracks
        tracks["streak"][tracks["age"] > 0] = 0
        tracks["age"] += 1

    def step(self, found: Objects) -> np.ndarray:
        new = np.arange(len(found))
        if len(self.tracks) and len(found):
            fit = self.fit(np.arange(len(self.tracks)), found)
            first = assign(fit + self._direction(found), fit >= self.min_iou)
            self._see(first.rows, found.take(first.columns))
            # What is left is compared with where the tracks were last seen.
            rest, new = first.free_rows, first.free_columns
            if len(rest) and len(new):
                near = self.fit(rest, found.take(new), self.tracks["seen"][rest])
                second = assign(near, near >= self.min_iou)
                self._see(rest[second.rows], found.take(new[second.columns]))
                new = new[second.free_columns]
        if len(new):
            some = found.take(new)
            self.begin(some, age=0, streak=0, life=0)
            self._remember(some)
        tracks = self.tracks
        tracks.keep(tracks["age"] <= self.max_age)
        shown: np.ndarray = (tracks["age"] == 0) & ((tracks["streak"] >= self.min_hits) | (self.frame <= self.min_hits))
        return shown

    def begin(self, found: Objects, **columns: object) -> None:
        count, slots = len(found), self.span + 1
        means, covariances = self.filter.begin(found["box"])
        past = np.repeat(found["box"][:, None], slots, axis=1)
        more = Objects(
            **found.columns,
            seen=found["box"].copy(),
            past=past,  # the boxes of the last frames, each at its frame's number modulo their count
            times=np.full((count, slots), -1),
            velocity=np.zeros((count, 2)),
            kept_mean=means.copy(),
            kept_covariance=covariances.copy(),
        )
        super().begin(more, **columns)

    def _remember(self, found: Objects) -> None:
        """Notes the boxes of the tracks that were just begun."""
        rows = np.arange(len(self.tracks) - len(found), len(self.tracks))
        self.tracks["times"][rows, self.frame % (self.span + 1)] = self.frame

    def _see(self, rows: np.ndarray, found: Objects) -> None:
        if not len(rows):
            return
        tracks = self.tracks
        lost = tracks["age"][rows] > 1
        self._bridge(rows[lost], found["box"][lost])
        before = self._before(rows)
        tracks["velocity"][rows] = _directions(before, found["box"])
        self.see(rows, found)
        slot = self.frame % (self.span + 1)
        tracks["past"][rows, slot], tracks["times"][rows, slot] = found["box"], self.frame
        tracks["seen"][rows] = found["box"]
        tracks["kept_mean"][rows], tracks["kept_covariance"][rows] = tracks["mean"][rows], tracks["covariance"][rows]
        tracks["age"][rows] = 0
        tracks["streak"][rows] += 1
        tracks["life"][rows] += 1

    def _bridge(self, rows: np.ndarray, boxes: np.ndarray) -> None:
        """Runs the filter of tracks that were found again over the gap, on a straight line."""
        tracks = self.tracks
        gaps = tracks["age"][rows]
        means, covariances, seen = tracks["kept_mean"][rows], tracks["kept_covariance"][rows], tracks["seen"][rows]
        for frame in range(1, int(gaps.max(initial=0)) + 1):
            on = frame <= gaps
            means[on], covariances[on] = self.filter.predict(means[on], covariances[on])
            between = frame < gaps
            part = (frame / gaps[between])[:, None]
            line = seen[between] + part * (boxes[between] - seen[between])
            means[between], covariances[between] = self.filter.update(means[between], covariances[between], line)
        tracks["mean"][rows], tracks["covariance"][rows] = means, covariances

    def _before(self, rows: np.ndarray) -> np.ndarray:
        """(N, 4) the box of `span` frames ago, or the first one after.

        Where none of these frames has one, it is the box that was seen last.
        """
        tracks = self.tracks
        times = tracks["times"][rows]
        ago = self.frame - times
        valid = (times >= 0) & (ago >= 1) & (ago <= self.span)
        slot = np.where(valid, ago, -1).argmax(axis=1)
        boxes: np.ndarray = np.where(valid.any(axis=1)[:, None], tracks["past"][rows, slot], tracks["seen"][rows])
        return boxes

    def _direction(self, found: Objects) -> np.ndarray:
        """(N, M) how far the direction to each detection agrees with that of the motion so far, weighed."""
        tracks = self.tracks
        before = self._before(np.arange(len(tracks)))
        towards = _directions(before[:, None], found["box"][None])
        cosines = (tracks["velocity"][:, None] * towards).sum(axis=-1).clip(-1, 1)
        agrees = 0.5 - np.arccos(cosines) / np.pi
        moving = (tracks["life"] > 0)[:, None]
        direction: np.ndarray = self.inertia * agrees * moving * found["score"][None]
        return direction


def _directions(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(..., 2) unit vectors from centers to centers."""
    apart = (others[..., :2] + others[..., 2:] - boxes[..., :2] - boxes[..., 2:]) / 2
    lengths = np.sqrt((apart * apart).sum(axis=-1, keepdims=True))
    directions: np.ndarray = apart / (lengths + 1e-6)
    return directions

"""The base of every tracker, and the registry of trackers.

A tracker is a dataclass whose fields are its arguments. A package brings one with an entry point of the group
`visionkit.trackers`; a notebook or a test calls `register`.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from visionkit.errors import UsageError, suggest
from visionkit.plugins import Plugins
from visionkit.predictions import Detections, Tracks
from visionkit.tracking.appearance import Appearance
from visionkit.tracking.boxes import box_ious
from visionkit.tracking.kalman import BoxFilter


class Objects:
    """Columns with one row per object of a frame.

    Args:
        **columns: Arrays of one length.
    """

    def __init__(self, **columns: np.ndarray) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def __getitem__(self, name: str) -> Any:
        return self.columns[name]

    def __setitem__(self, name: str, values: np.ndarray) -> None:
        self.columns[name] = values

    def take(self, rows: np.ndarray) -> Objects:
        """Some of the objects, (N,) bool or (M,) numbers."""
        return Objects(**{name: values[rows] for name, values in self.columns.items()})

    def keep(self, rows: np.ndarray) -> None:
        """Leaves the other objects out."""
        self.columns = self.take(rows).columns

    def append(self, others: Objects) -> None:
        """Adds objects with the same columns at the end."""
        if not len(self):
            self.columns = dict(others.columns)
        elif len(others):
            self.columns = {name: np.concatenate([values, others[name]]) for name, values in self.columns.items()}


class Tracker(ABC):
    """Follows the objects of a video: boxes of each frame in, the same with ids out.

    A subclass is a dataclass, makes its Kalman filter and writes `step`. Objects of different classes are never taken
    for one another.

    Attributes:
        begins_by: Name of the argument that states the score from which a detection begins a track, where there is one.
        appearance: Compares what objects look like too; None compares places alone.
        tracks: Columns of all tracks that may go on; every one has `id`, `label`, `score`, `mean`, `covariance`, `box`.
        frame: Number of frames so far.
        best_score: Highest score of a detection so far.
    """

    begins_by: ClassVar[str] = ""
    appearance: Appearance | None = None
    filter: BoxFilter
    tracks: Objects
    frame: int
    best_score: float

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forgets all objects; ids begin with 1 again."""
        self.tracks, self.frame, self._ids = Objects(id=np.zeros(0, np.int64)), 0, 0
        self.best_score = 0.0

    @abstractmethod
    def step(self, found: Objects) -> np.ndarray:
        """Takes the objects of one frame into the tracks; (N,) bool, which of the tracks are shown in this frame.

        Args:
            found: Columns `box`, `score`, `label` and, with an appearance, `feature`.
        """

    def least_score(self) -> float:
        """Score from which a detection is of use."""
        return 0.0

    def compared_score(self) -> float:
        """Score from which a detection is compared by what it looks like, which costs a pass of a network."""
        return self.least_score()

    def hint(self) -> str:
        """Why nothing was followed although detections were given, in a sentence; empty otherwise."""
        if self._ids or not self.best_score or not self.begins_by:
            return ""
        begins = getattr(self, self.begins_by)
        return (
            f"tracks begin at a score of {begins:g} ({self.begins_by}), and the highest one found was "
            f"{self.best_score:.2f}"
        )

    def update(self, detections: Detections, frame: np.ndarray | None = None) -> Tracks:
        """Follows the objects into the next frame.

        Args:
            detections: What was found in it, low scores included where the tracker uses them.
            frame: (h, w, 3) uint8 RGB; needed with an appearance.

        Raises:
            UsageError: An appearance without a frame.
        """
        self.best_score = max(self.best_score, float(detections.scores.max(initial=0)))
        used = detections.above(self.least_score())
        found = Objects(
            box=used.boxes.astype(np.float64), score=used.scores.astype(np.float64), label=used.labels.copy()
        )
        if self.appearance is not None:
            if frame is None:
                raise UsageError("a tracker with an appearance needs each frame beside its detections")
            found["feature"] = self._features(self.appearance, frame, found)
        self.frame += 1
        if len(self.tracks):
            self.advance()
        shown = self.step(found) if len(self.tracks) or len(found) else np.zeros(0, bool)
        seen = self.tracks.take(shown) if len(self.tracks) else None
        if seen is None or not len(seen):
            empty = np.zeros(0)
            return Tracks(detections.classes, detections.size, empty, empty, empty, 0.0, ids=empty)
        return Tracks(
            detections.classes,
            detections.size,
            self.shown_boxes(seen).astype(np.float32),
            seen["score"],
            seen["label"],
            0.0,  # the tracker has chosen what is shown
            ids=seen["id"],
        )

    def _features(self, appearance: Appearance, frame: np.ndarray, found: Objects) -> np.ndarray:
        """(N, D) what the detections look like, NaN where that is not compared."""
        compared = found["score"] >= self.compared_score()
        some = appearance.features(frame, found["box"][compared])
        width = some.shape[1] or (self.tracks["feature"].shape[1] if len(self.tracks) else 0)
        features = np.full((len(found), width), np.nan)
        if len(some):
            features[compared] = some
        return features

    def shown_boxes(self, tracks: Objects) -> np.ndarray:
        """(N, 4) the boxes that are given out: those of the filter."""
        return self.filter.boxes(tracks["mean"])

    # ------------------------------------------------------------------ what trackers are made of

    def advance(self) -> None:
        """Moves every track to where it is expected now."""
        means, covariances = self.filter.predict(self.tracks["mean"], self.tracks["covariance"])
        self.tracks["mean"], self.tracks["covariance"] = means, covariances
        self.tracks["box"] = self.filter.boxes(means)

    def fit(self, rows: np.ndarray, found: Objects, boxes: np.ndarray | None = None) -> np.ndarray:
        """(N, M) how well tracks and detections fit, 0 between classes: IoU, or the appearance where that fits better.

        Args:
            rows: Numbers of tracks.
            found: Detections.
            boxes: (N, 4) where the tracks are; by default where they are expected.
        """
        tracks = self.tracks
        overlaps = box_ious(tracks["box"][rows] if boxes is None else boxes, found["box"])
        if self.appearance is not None and boxes is None and overlaps.size:
            distances = None
            if self.appearance.gate == "motion":
                distances = self.filter.distances(tracks["mean"][rows], tracks["covariance"][rows], found["box"])
            overlaps = self.appearance.fit(overlaps, tracks["feature"][rows], found["feature"], distances)
        overlaps *= tracks["label"][rows][:, None] == found["label"][None]
        return overlaps

    def see(self, rows: np.ndarray, found: Objects) -> None:
        """Takes a detection of each of some tracks into them."""
        if not len(rows):
            return
        tracks = self.tracks
        tracks["mean"][rows], tracks["covariance"][rows] = self.filter.update(
            tracks["mean"][rows], tracks["covariance"][rows], found["box"]
        )
        tracks["score"][rows] = found["score"]
        if self.appearance is not None:
            known = np.isfinite(found["feature"]).all(axis=1)
            rows, features = rows[known], found["feature"][known]
            tracks["feature"][rows] = self.appearance.mixed(tracks["feature"][rows], features)

    def begin(self, found: Objects, **columns: Any) -> None:
        """Begins a track with each detection.

        Args:
            found: Detections.
            **columns: Values of further columns, one for all.
        """
        count = len(found)
        means, covariances = self.filter.begin(found["box"])
        ids = np.arange(self._ids + 1, self._ids + 1 + count)
        self._ids += count
        rest = {name: np.full(count, value) for name, value in columns.items()}
        self.tracks.append(Objects(**found.columns, id=ids, mean=means, covariance=covariances, **rest))


TRACKERS: Plugins[Tracker] = Plugins("visionkit.trackers", "tracker")
register, tracker_names = TRACKERS.register, TRACKERS.names


def make_tracker(
    name: str, arguments: Mapping[str, Any] | None = None, appearance: Appearance | None = None
) -> Tracker:
    """A new tracker.

    Args:
        name: One of `tracker_names()`.
        arguments: Its arguments; defaults otherwise.
        appearance: Compares what objects look like too.

    Raises:
        UsageError: An unknown name or argument, or a value of the wrong type.
    """
    kind = TRACKERS.load(name)
    tracker: Tracker = kind(**checked_arguments(f"tracker {name}", kind, arguments or {}))
    tracker.appearance = appearance
    return tracker


def checked_arguments(name: str, kind: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a dataclass that are numbers, as people give them.

    Args:
        name: Names the dataclass in messages.
        kind: The dataclass.
        given: The arguments.

    Raises:
        UsageError: An unknown argument, or a value of the wrong type.
    """
    fields = {each.name: each for each in dataclasses.fields(kind) if isinstance(each.default, (int, float))}
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key not in fields:
            raise UsageError(f"{key}: {name} has no such argument; it has {', '.join(fields)}{suggest(key, fields)}")
        whole = isinstance(fields[key].default, int)
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or value < 0:
            what = "a whole number" if whole else "a number"
            raise UsageError(f"{key}: {value!r} is not {what} from 0 on, as {name} needs")
        values[key] = value
    return values

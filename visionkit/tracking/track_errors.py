"""What is wrong with tracks: boxes without an object, objects without a box, and identities that change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from visionkit.analysis.base import LISTED, Analysis, Tables
from visionkit.run_report.charts import Bars, Chart
from visionkit.tracking.metrics.clear import matches
from visionkit.tracking.metrics.pair import Convention, TrackPair

KINDS = ("false positive", "false negative", "switch", "merge")

MEANINGS = {
    "false positive": "a predicted box without an object",
    "false negative": "an object without a predicted box",
    "switch": "an object goes on under another track",
    "merge": "a track goes on on another object",
}


class TrackEvent(NamedTuple):
    """A change of identity.

    Attributes:
        frame: Frame, counted from 1.
        kind: `switch` or `merge`; where two objects exchange their tracks, both are.
        object: Id of the true object.
        track: Id of the track that it has now.
        before: Of a switch the track that the object had, of a merge the object that the track had.
    """

    frame: int
    kind: str
    object: int
    track: int
    before: int


class TrackErrors(NamedTuple):
    """The errors of one sequence.

    Attributes:
        counts: Number of errors of each kind.
        objects: Number of true boxes.
        events: Switches and merges in the order of their frames.
        per_frame: For each frame its false positives, false negatives, switches and merges.
    """

    counts: dict[str, int]
    objects: int
    events: list[TrackEvent]
    per_frame: list[dict[str, int]]


def track_errors(pair: TrackPair, convention: Convention = "trackeval") -> TrackErrors:
    """The errors of one sequence, by the matches that CLEAR MOT counts.

    Switches are those of MOTA; merges are not among its terms.

    Args:
        pair: True and predicted tracks.
        convention: See `Convention`.
    """
    owner = np.full(pair.predicted_tracks, -1)  # the true track that a predicted one had last
    events, frames = [], []
    for number, (true, predicted, owners, found, before) in enumerate(matches(pair, convention), 1):
        switched = (before >= 0) & (before != found)
        merged = (owner[found] >= 0) & (owner[found] != owners)
        for kind, here, earlier in (
            ("switch", switched, pair.predicted_ids[before]),
            ("merge", merged, pair.true_ids[owner[found]]),
        ):
            ids = pair.true_ids[owners], pair.predicted_ids[found], earlier
            events += [TrackEvent(number, kind, *(int(each[k]) for each in ids)) for k in np.flatnonzero(here)]
        owner[found] = owners
        counts = (len(predicted) - len(found), len(true) - len(owners), int(switched.sum()), int(merged.sum()))
        frames.append(dict(zip(KINDS, counts, strict=True)))
    total: Counter[str] = Counter()
    for frame in frames:
        total.update(frame)
    return TrackErrors({kind: total[kind] for kind in KINDS}, pair.true_boxes, events, frames)


class TrackAnalysis(Analysis):
    """Errors of tracks over several sequences; every frame with an error has a row."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: dict[str, TrackErrors] = {}

    def add_sequence(self, name: str, errors: TrackErrors) -> None:
        """Takes a sequence.

        Args:
            name: Name of the sequence.
            errors: Its errors.
        """
        self._parts[name] = errors
        self.rows += [
            {"image": f"{name} {number}", **frame}
            for number, frame in enumerate(errors.per_frame, 1)
            if any(frame.values())
        ]

    def badness(self, row: Any) -> float | None:
        return float(sum(row[kind] for kind in KINDS))

    def tables(self) -> Tables:
        objects = max(1, sum(part.objects for part in self._parts.values()))
        rows: list[dict[str, Any]] = []
        for kind in KINDS:
            count = sum(part.counts[kind] for part in self._parts.values())
            rows.append({"error": kind, "count": count, "dMOTA": -1.0 if kind == "merge" else count / objects})
        sequences: list[dict[str, Any]] = [
            {"sequence": name, **part.counts, "true boxes": part.objects} for name, part in self._parts.items()
        ]
        events: list[dict[str, Any]] = [
            {"sequence": name, **event._asdict()} for name, part in self._parts.items() for event in part.events
        ]
        return {
            "error breakdown": rows,
            "error breakdown by sequence": sequences if len(sequences) > 1 else [],
            "changes of identity": events[: 10 * LISTED],
        }

    def charts(self) -> dict[str, Chart]:
        return {"error breakdown": Bars("error", "dMOTA")}

    def notes(self) -> Sequence[str]:
        meanings = "; ".join(f"{kind}: {meaning}" for kind, meaning in MEANINGS.items())
        cost = "dMOTA is by how much MOTA rises where the errors of a kind are mended; merges are not among its terms."
        return (f"{meanings}. {cost}",)

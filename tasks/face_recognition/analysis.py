"""What is wrong with embeddings of faces: the hardest pairs, and how groups of people differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tasks.face_recognition.metrics import MAX_IMAGES
from tasks.face_recognition.verification import Roc
from visionkit.analysis.base import LISTED, Analysis, Case, Row, Tables

DRAWN = 12
"""Hard pairs of each type that are drawn."""


class FaceAnalysis(Analysis):
    """The pairs of one person that are least alike, and those of different people that are most alike.

    Pairs are those that the data lists, otherwise all of up to `MAX_IMAGES` images. The threshold is where as many
    pairs of one person are refused as pairs of different people are accepted, as fractions; groups are judged by the
    threshold of all images.
    """

    draws_images = True

    def __init__(self) -> None:
        super().__init__()
        self._vectors: list[np.ndarray] = []
        self._people: list[int] = []
        self._listed: list[int] = []
        self._found: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None = None

    def row(self, case: Case) -> Row:
        """The person, and the number of the pair that the image belongs to where the data lists pairs."""
        prediction: Any = case.prediction
        self._vectors.append(np.asarray(prediction.embeddings[0], dtype=np.float64))
        self._people.append(int(case.target["identity"]))
        self._listed.append(int(case.target.get("pair", -1)))
        self._found = None
        return {"person": str(self._people[-1])}

    def finish(self) -> None:
        """Adds to each row what the image is most like: one of the same person, and one of another."""
        first, second, scores, same = self._pairs()
        for name, chosen in (("least alike, same person", same), ("most alike, other person", ~same)):
            best = np.full(len(self.rows), np.inf if name.startswith("least") else -np.inf)
            update = np.minimum if name.startswith("least") else np.maximum
            for side in (first, second):
                update.at(best, side[chosen], scores[chosen])
            for row, value in zip(self.rows, best.tolist(), strict=True):
                if np.isfinite(value):
                    row[name] = value

    def values(self, images: np.ndarray) -> dict[str, float]:
        """Fractions of pairs that are judged wrongly among these images, and their number."""
        first, second, scores, same = self._pairs()
        inside = np.isin(first, images) & np.isin(second, images)
        return misjudged(scores[inside], same[inside], self.threshold)

    @property
    def threshold(self) -> float:
        """The score from which a pair counts as one person; 0 without pairs of both types."""
        _, _, scores, same = self._pairs()
        return equal_error_threshold(scores, same)

    def tables(self) -> Tables:
        return {
            "error breakdown": breakdown(self.values(np.arange(len(self.rows)))),
            "hard pairs of one person": [self._described(pair) for pair in self._hardest(True)],
            "hard pairs of different people": [self._described(pair) for pair in self._hardest(False)],
        }

    def shown_together(self) -> list[tuple[list[int], str]]:
        out = []
        for one in (True, False):
            for pair in self._hardest(one)[:DRAWN]:
                first, second, scores, _ = self._pairs()
                what = "one person" if one else "different people"
                out.append(([int(first[pair]), int(second[pair])], f"{what}, similarity {scores[pair]:.3f}"))
        return out

    def notes(self) -> Sequence[str]:
        return (
            f"Similarity is the cosine of two embeddings. Pairs count as one person from {self.threshold:.4f} on, "
            "where both types of errors are about equally frequent; groups of images are judged by the same threshold.",
        )

    def _hardest(self, one_person: bool) -> list[int]:
        _, _, scores, same = self._pairs()
        rows = np.flatnonzero(same == one_person)
        order = np.argsort(scores[rows] if one_person else -scores[rows], kind="stable")[:LISTED]
        return [int(row) for row in rows[order]]

    def _described(self, pair: int) -> dict[str, Any]:
        first, second, scores, _ = self._pairs()
        images = [self.rows[int(side[pair])] for side in (first, second)]
        return {
            "image": images[0]["image"],
            "other image": images[1]["image"],
            "person": images[0]["person"],
            "other person": images[1]["person"],
            "similarity": float(scores[pair]),
        }

    def _pairs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Numbers of both images of each pair, their similarity, and whether they show one person."""
        if self._found is not None:
            return self._found
        vectors, people = np.array(self._vectors), np.array(self._people)
        listed = np.array(self._listed)
        if (listed >= 0).any():
            rows = np.flatnonzero(listed >= 0)
            rows = rows[np.argsort(listed[rows], kind="stable")]
            _, starts, counts = np.unique(listed[rows], return_index=True, return_counts=True)
            whole = starts[counts == 2]
            first, second = rows[whole], rows[whole + 1]
        else:
            chosen = np.unique(np.linspace(0, len(vectors) - 1, min(len(vectors), MAX_IMAGES)).astype(np.int64))
            first, second = (chosen[side] for side in np.triu_indices(len(chosen), 1))
        scores = (
            np.einsum("pd,pd->p", vectors[first], vectors[second])
            if len(first) < 1 << 16
            else _cosines(vectors, first, second)
        )
        self._found = first, second, scores, people[first] == people[second]
        return self._found


def _cosines(vectors: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Of very many pairs: from the matrix of all images, which is smaller than the rows of the pairs."""
    return np.asarray((vectors @ vectors.T)[first, second])


class ScoreAnalysis(Analysis):
    """The same of pairs of which nothing but their scores is known; every pair has a row.

    Args:
        names: (P,) names of the pairs.
        scores: (P,) the higher, the more alike.
        same: (P,) bool, they show one person.
    """

    def __init__(self, names: Sequence[str], scores: np.ndarray, same: np.ndarray) -> None:
        super().__init__()
        self._scores, self._same = scores, same
        self.threshold = equal_error_threshold(scores, same)
        self.rows = [
            {"image": name, "same": bool(one), "score": float(score), "correct": bool((score >= self.threshold) == one)}
            for name, score, one in zip(names, scores, same, strict=True)
        ]

    def badness(self, row: Mapping[str, Any]) -> float | None:
        margin = float(row["score"]) - self.threshold
        return -margin if row["same"] else margin

    def values(self, images: np.ndarray) -> dict[str, float]:
        return misjudged(self._scores[images], self._same[images], self.threshold)

    def tables(self) -> Tables:
        ranked = sorted(self.rows, key=lambda row: float(row["score"]))
        return {
            "error breakdown": breakdown(self.values(np.arange(len(self.rows)))),
            "hard pairs of one person": [dict(row) for row in ranked if row["same"]][:LISTED],
            "hard pairs of different people": [dict(row) for row in reversed(ranked) if not row["same"]][:LISTED],
        }

    def notes(self) -> Sequence[str]:
        return (
            f"Pairs count as one person from {self.threshold:.4f} on, where both types of errors are about equally "
            "frequent; groups of pairs are judged by the same threshold.",
        )


def equal_error_threshold(scores: np.ndarray, same: np.ndarray) -> float:
    """The score where as many pairs of one person are refused as others accepted; 0 without pairs of both types."""
    if not same.any() or same.all():
        return 0.0
    roc = Roc.of(scores, same)
    return float(roc.thresholds[int(np.argmax((1 - roc.tar) <= roc.far))])


def misjudged(scores: np.ndarray, same: np.ndarray, threshold: float) -> dict[str, float]:
    """Fractions of the pairs of each type that a threshold judges wrongly, -1 without any, and their number."""
    out: dict[str, float] = {}
    for name, wrong, of in (("refused", scores < threshold, same), ("accepted", scores >= threshold, ~same)):
        number = int(of.sum())
        out |= {f"falsely {name}": float((wrong & of).sum() / number) if number else -1.0, f"{name} of": number}
    return out


def breakdown(values: Mapping[str, float]) -> list[dict[str, Any]]:
    """What `misjudged` gives, one row per type of error."""
    return [
        {"error": "same person refused", "fraction": values["falsely refused"], "pairs": values["refused of"]},
        {"error": "other accepted", "fraction": values["falsely accepted"], "pairs": values["accepted of"]},
    ]

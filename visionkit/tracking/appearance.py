"""What an object looks like, beside where it is: embeddings of any model, as in DeepSORT and BoT-SORT."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

Embed = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From a frame, (h, w, 3) uint8 RGB, and (N, 4) boxes x1, y1, x2, y2 to (N, D) embeddings."""

_GATE = 9.4877
"""The .95 quantile of chi-square with four degrees of freedom."""


@dataclass(frozen=True)
class Appearance:
    """Adds to where an object is expected what it looks like.

    A pair fits as well as its overlap, or as its embeddings where these are alike and the motion allows the place.

    Attributes:
        embed: Makes the embeddings.
        max_distance: Half the cosine distance from which embeddings are not alike.
        gate: Which places the motion allows: `motion`, within the Kalman filter's uncertainty (DeepSORT), or `overlap`,
            those that overlap what is expected by half (BoT-SORT).
        momentum: Fraction of its embedding that a track keeps with each new one.
    """

    embed: Embed
    max_distance: float = 0.25
    gate: Literal["motion", "overlap"] = "motion"
    momentum: float = 0.9

    def features(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """(N, D) embeddings of length 1."""
        if not len(boxes):
            return np.zeros((0, 0))
        return _unit(np.asarray(self.embed(frame, boxes), np.float64).reshape(len(boxes), -1))

    def fit(
        self, overlaps: np.ndarray, tracks: np.ndarray, features: np.ndarray, distances: np.ndarray | None
    ) -> np.ndarray:
        """How well tracks and detections fit.

        Args:
            overlaps: (N, M) IoU.
            tracks: (N, D) embeddings of tracks.
            features: (M, D) embeddings of detections.
            distances: (N, M) squared Mahalanobis distances, for the gate `motion`.
        """
        if not overlaps.size:
            return overlaps
        apart = (1 - tracks @ features.T) / 2
        allowed = overlaps >= 0.5 if distances is None else distances <= _GATE
        alike = np.where(allowed & (apart <= self.max_distance), 1 - apart, 0.0)
        fit: np.ndarray = np.maximum(overlaps, alike)
        return fit

    def mixed(self, tracks: np.ndarray, features: np.ndarray) -> np.ndarray:
        """The embeddings of tracks once a new one of each was seen."""
        return _unit(self.momentum * tracks + (1 - self.momentum) * features)


def _unit(features: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit: np.ndarray = features / np.maximum(lengths, 1e-12)
    return unit

"""Kalman filters of constant velocity, of all tracks at once, in the two coordinates that trackers have."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

OBSERVED = 4
"""The first numbers of a state, which boxes measure."""


class BoxFilter(ABC):
    """The motion of boxes: a state is four coordinates and their velocities.

    Args:
        size: Length of a state.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.transition = np.eye(size)
        for velocity in range(OBSERVED, size):
            self.transition[velocity - OBSERVED, velocity] = 1.0

    @abstractmethod
    def coordinates(self, boxes: np.ndarray) -> np.ndarray:
        """(N, 4) boxes x1, y1, x2, y2 as the first four numbers of a state."""

    @abstractmethod
    def boxes(self, means: np.ndarray) -> np.ndarray:
        """(N, 4) boxes of states."""

    @abstractmethod
    def beginnings(self, means: np.ndarray) -> np.ndarray:
        """(N, size) variances of states that begin."""

    @abstractmethod
    def drifts(self, means: np.ndarray) -> np.ndarray:
        """(N, size) variances that one frame adds."""

    @abstractmethod
    def errors(self, means: np.ndarray) -> np.ndarray:
        """(N, 4) variances of a measured box."""

    def begin(self, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means (N, size) and covariances (N, size, size) of tracks that begin with boxes."""
        means = np.zeros((len(boxes), self.size))
        means[:, :OBSERVED] = self.coordinates(boxes)
        return means, _diagonal(self.beginnings(means))

    def predict(self, means: np.ndarray, covariances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The states one frame later."""
        spread = self.transition @ covariances @ self.transition.T
        spread[:, range(self.size), range(self.size)] += self.drifts(means)
        return means @ self.transition.T, spread

    def update(self, means: np.ndarray, covariances: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The states once a box of each was measured."""
        spread = self._measured(means, covariances)
        gain = covariances[:, :, :OBSERVED] @ np.linalg.inv(spread)
        apart = self.coordinates(boxes) - means[:, :OBSERVED]
        means = means + (gain @ apart[:, :, None])[:, :, 0]
        return means, covariances - gain @ covariances[:, :OBSERVED]

    def distances(self, means: np.ndarray, covariances: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """(N, M) squared Mahalanobis distances of M boxes to N predicted states."""
        apart = self.coordinates(boxes)[None] - means[:, None, :OBSERVED]
        inverse = np.linalg.inv(self._measured(means, covariances))
        distances: np.ndarray = ((apart @ inverse) * apart).sum(axis=-1)
        return distances

    def _measured(self, means: np.ndarray, covariances: np.ndarray) -> np.ndarray:
        spread: np.ndarray = covariances[:, :OBSERVED, :OBSERVED] + _diagonal(self.errors(means))
        return spread


class AreaFilter(BoxFilter):
    """SORT's: center, area and aspect ratio, whose ratio is constant; fixed variances."""

    def __init__(self) -> None:
        super().__init__(7)
        self._begin = np.array([10.0, 10, 10, 10, 1e4, 1e4, 1e4])
        self._drift = np.array([1.0, 1, 1, 1, 0.01, 0.01, 1e-4])
        self._error = np.array([1.0, 1, 10, 10])

    def coordinates(self, boxes: np.ndarray) -> np.ndarray:
        sides = boxes[:, 2:] - boxes[:, :2]
        areas, ratios = sides[:, 0] * sides[:, 1], sides[:, 0] / np.maximum(sides[:, 1], 1e-6)
        return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, np.stack([areas, ratios], axis=1)], axis=1)

    def boxes(self, means: np.ndarray) -> np.ndarray:
        areas, ratios = np.maximum(means[:, 2], 0), np.maximum(means[:, 3], 0)
        widths = np.sqrt(areas * ratios)
        heights = np.divide(areas, widths, out=np.zeros_like(widths), where=widths > 0)
        half = np.stack([widths, heights], axis=1) / 2
        return np.concatenate([means[:, :2] - half, means[:, :2] + half], axis=1)

    def beginnings(self, means: np.ndarray) -> np.ndarray:
        return np.broadcast_to(self._begin, means.shape)

    def drifts(self, means: np.ndarray) -> np.ndarray:
        return np.broadcast_to(self._drift, means.shape)

    def errors(self, means: np.ndarray) -> np.ndarray:
        return np.broadcast_to(self._error, (len(means), OBSERVED))

    def predict(self, means: np.ndarray, covariances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shrunk = means[:, 2] + means[:, 6] <= 0  # an area that would go below 0 stays
        if shrunk.any():
            means = means.copy()
            means[shrunk, 6] = 0
        return super().predict(means, covariances)


class HeightFilter(BoxFilter):
    """DeepSORT's: center, aspect ratio and height, whose deviations are parts of the height."""

    def __init__(self) -> None:
        super().__init__(8)

    def coordinates(self, boxes: np.ndarray) -> np.ndarray:
        sides = boxes[:, 2:] - boxes[:, :2]
        ratios = sides[:, 0] / np.maximum(sides[:, 1], 1e-6)
        return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, np.stack([ratios, sides[:, 1]], axis=1)], axis=1)

    def boxes(self, means: np.ndarray) -> np.ndarray:
        heights = np.maximum(means[:, 3], 0)
        half = np.stack([np.maximum(means[:, 2], 0) * heights, heights], axis=1) / 2
        return np.concatenate([means[:, :2] - half, means[:, :2] + half], axis=1)

    def beginnings(self, means: np.ndarray) -> np.ndarray:
        return self._variances(means, 2 / 20, 1e-2, 10 / 160)

    def drifts(self, means: np.ndarray) -> np.ndarray:
        return self._variances(means, 1 / 20, 1e-2, 1 / 160)

    def errors(self, means: np.ndarray) -> np.ndarray:
        return self._variances(means, 1 / 20, 1e-1, 0)[:, :OBSERVED]

    def _variances(self, means: np.ndarray, place: float, ratio: float, velocity: float) -> np.ndarray:
        deviations = np.empty((len(means), self.size))
        deviations[:, :OBSERVED] = place * np.maximum(means[:, 3:4], 1e-3)
        deviations[:, OBSERVED:] = velocity * np.maximum(means[:, 3:4], 1e-3)
        deviations[:, 2], deviations[:, 6] = ratio, 1e-5
        return deviations * deviations


def _diagonal(values: np.ndarray) -> np.ndarray:
    """(N, K) to (N, K, K)."""
    count, size = values.shape
    matrices = np.zeros((count, size, size))
    matrices[:, range(size), range(size)] = values
    return matrices

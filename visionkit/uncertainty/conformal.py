"""Split conformal prediction: sets of classes that hold the true one with a stated probability.

Whatever the network, sets hold the true class of a fraction of at least 1 - alpha of new images, in the mean over
calibration sets and images, as long as new images are like those of the calibration (Vovk et al., 2005). Scores are
made without random numbers, so one image always has one set, and the highest-scoring class is in every set.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from visionkit.errors import DataError, UsageError

Method = Literal["lac", "aps", "raps"]
METHODS: tuple[Method, ...] = ("lac", "aps", "raps")


@dataclass(frozen=True)
class ConformalConfig:
    """How prediction sets are made, as `visionkit calibrate --conformal` finds it.

    Attributes:
        method: `lac`, `aps` or `raps`, see `scores`.
        alpha: Fraction of images whose set may lack the true class.
        threshold: Score up to which a class is in the set.
        penalty: Of `raps`: added to the score for each rank beyond `free_ranks`.
        free_ranks: Of `raps`: classes of an image that have no penalty.
        images: Number of images that the threshold was found on.
    """

    method: Method
    alpha: float
    threshold: float
    penalty: float = 0.0
    free_ranks: int = 1
    images: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"conformal.method {self.method!r}: allowed are {', '.join(METHODS)}")
        if not 0 < self.alpha < 1:
            raise UsageError(f"conformal.alpha {self.alpha:g}: between 0 and 1, such as 0.1")
        if self.penalty < 0 or self.free_ranks < 1:
            raise UsageError("conformal: penalty is 0 or more and free_ranks at least 1")

    def sets(self, probabilities: np.ndarray) -> np.ndarray:
        """(N, K) bool, which classes each image's set holds; the highest-scoring one always.

        Args:
            probabilities: (N, K), as they are served.
        """
        values = np.asarray(probabilities, np.float64)
        held = scores(values, self.method, self.penalty, self.free_ranks) <= self.threshold
        held[np.arange(len(values)), values.argmax(axis=1)] = True
        return np.asarray(held)


def scores(probabilities: np.ndarray, method: Method, penalty: float = 0.0, free_ranks: int = 1) -> np.ndarray:
    """(N, K) float64, how little each class conforms with the image.

    `lac` is 1 - p (Sadinle et al., 2019): the smallest sets in the mean, equally sure for easy and for hard images.
    `aps` is the sum of the probabilities above the class's own (Romano et al., 2020, with u = 1): sets grow with the
    difficulty of the image. `raps` adds a penalty to low ranks (Angelopoulos et al., 2021): without it, sets of many
    classes have long tails.

    Args:
        probabilities: (N, K).
        method: See above.
        penalty: Of `raps`, for each rank beyond `free_ranks`.
        free_ranks: Of `raps`.
    """
    values = np.asarray(probabilities, np.float64)
    if method == "lac":
        return 1 - values
    order = np.argsort(-values, axis=1, kind="stable")
    falling = np.take_along_axis(values, order, axis=1)
    above = np.cumsum(falling, axis=1) - falling
    if method == "raps":
        above = above + penalty * np.maximum(np.arange(1, values.shape[1] + 1) - free_ranks, 0)
    out = np.empty_like(above)
    np.put_along_axis(out, order, above, axis=1)
    return out


def calibrate(
    probabilities: np.ndarray,
    labels: np.ndarray,
    method: Method = "raps",
    alpha: float = 0.1,
    penalty: float = 0.01,
    free_ranks: int = 5,
) -> ConformalConfig:
    """The threshold for sets that hold the true class of a fraction 1 - alpha of new images.

    Args:
        probabilities: (N, K) of images that the network was not trained on, as they are served.
        labels: (N,) integers.
        method: See `scores`.
        alpha: Fraction of sets that may lack the true class.
        penalty: Of `raps`.
        free_ranks: Of `raps`.

    Raises:
        DataError: Too few images for such an alpha.
        UsageError: No such method, or an alpha that is none.
    """
    own = {"penalty": penalty, "free_ranks": free_ranks} if method == "raps" else {}
    blank = ConformalConfig(method, alpha, math.inf, images=len(labels), **own)  # type: ignore[arg-type]
    labels = np.asarray(labels)
    rank = math.ceil((len(labels) + 1) * (1 - alpha) - 1e-9)
    if rank > len(labels):
        raise DataError(
            f"{len(labels)} images are too few for sets at alpha {alpha:g}; give {math.ceil(1 / alpha) - 1} or more"
        )
    true = scores(probabilities, method, blank.penalty, blank.free_ranks)[np.arange(len(labels)), labels]
    threshold = float(np.partition(true, rank - 1)[rank - 1])
    return ConformalConfig(method, alpha, threshold, blank.penalty, blank.free_ranks, len(labels))


@dataclass(frozen=True)
class SetQuality:
    """What sets of labeled images are like.

    Attributes:
        coverage: Fraction of the sets that hold the true class.
        size: Mean number of classes.
    """

    coverage: float
    size: float


def set_quality(sets: np.ndarray, labels: np.ndarray) -> SetQuality:
    """Measures (N, K) bool sets on (N,) labels."""
    return SetQuality(float(sets[np.arange(len(labels)), labels].mean()), float(sets.sum(axis=1).mean()))

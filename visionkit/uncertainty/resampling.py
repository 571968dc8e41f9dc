"""The bootstrap: images drawn with replacement, and intervals of what is measured on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from visionkit.errors import UsageError

LEVEL = 0.95
"""Fraction of intervals that hold the value of the population, over many splits."""

FEWEST_REPLICATES = 100

GROUPS = 200
"""Groups of units that are left out one by one, at most."""

_SAME = 1e-12
"""Replicates so near to each other are equal."""

_NUMBERS = 1 << 22
"""Weights of one chunk of replicates, at most."""


class Interval(NamedTuple):
    """Bounds of a metric."""

    low: float
    high: float


@dataclass(frozen=True)
class Units:
    """What is drawn with replacement: images, or groups of images that depend on each other.

    Attributes:
        of_image: (N,) int64 number of each image's unit, from 0.
        strata: (U,) int64 stratum of each unit; as many units of each are drawn as there are.
        kind: `image`, `sequence`, `identity` or `pair`.
        strata_kind: What a stratum is.
    """

    of_image: np.ndarray
    strata: np.ndarray
    kind: str = "image"
    strata_kind: str = "class"

    @classmethod
    def of(cls, groups: Sequence[str], labels: Sequence[int | None], kind: str = "image") -> Units:
        """Units of images in their order.

        Args:
            groups: Group of each image; empty for those that belong to none.
            labels: Class of each image, or None. Groups of several images are not stratified by it.
            kind: What a group is.
        """
        names = [name or f"\0{k}" for k, name in enumerate(groups)]
        found, of_image = np.unique(np.array(names, dtype=str), return_inverse=True)
        if len(found) < len(names) or any(label is None for label in labels):
            return cls(of_image, np.zeros(len(found), np.int64), kind)
        strata = np.array(labels, np.int64)
        values, place, counts = np.unique(strata, return_inverse=True, return_counts=True)
        # A class of one image would be drawn once each time, as if it were known for certain.
        return cls(np.arange(len(labels)), np.where(counts[place] > 1, values[place], -1), kind)

    @property
    def is_stratified(self) -> bool:
        """Whether there are several strata."""
        return len(np.unique(self.strata)) > 1

    def draws(self, replicates: int, seed: int) -> Iterator[np.ndarray]:
        """Weights of the images, (r, N) float64 for some replicates at a time.

        Within a stratum of n units n - 1 are drawn and each counts n / (n - 1) times (Rao and Wu, 1988): drawing n
        would make intervals of small strata too short. Without strata whole numbers are drawn.

        Args:
            replicates: Number of replicates.
            seed: Random seed.
        """
        rng = np.random.default_rng(seed)
        groups = [np.flatnonzero(self.strata == each) for each in np.unique(self.strata)]
        for size in _chunks(replicates, len(self.of_image)):
            weights = np.ones((size, len(self.strata)))
            for group in groups:
                number = len(group)
                drawn = number - 1 if len(groups) > 1 else number
                if drawn:
                    counts = rng.multinomial(drawn, np.full(number, 1 / number), size)
                    weights[:, group] = counts * (number / drawn)
            yield weights[:, self.of_image]

    def left_out(self, seed: int) -> np.ndarray:
        """(G, N) float64 weights, each without one group of units: one unit each, or of many a random group.

        Where there are several strata, the others of a stratum stand for those that are left out. Without, the weights
        are 0 and 1: fractions would round recalls that lie at one of COCO's points, below or above it.

        Args:
            seed: Random seed.
        """
        order = np.random.default_rng(seed).permutation(len(self.strata))
        order = order[np.argsort(self.strata[order], kind="stable")]  # groups have units of all strata
        group = np.empty(len(order), np.int64)
        group[order] = np.arange(len(order)) % min(len(order), GROUPS)
        weights = (np.arange(group.max() + 1)[:, None] != group).astype(np.float64)
        for each in np.unique(self.strata) if self.is_stratified else ():
            own = self.strata == each
            weights[:, own] *= own.sum() / np.maximum(weights[:, own].sum(axis=1, keepdims=True), 1)
        return np.asarray(weights[:, self.of_image])

    def swaps(self, replicates: int, seed: int) -> Iterator[np.ndarray]:
        """(r, N) float64 of 0 and 1 with even chances, one for each unit, for some replicates at a time."""
        rng = np.random.default_rng(seed)
        for size in _chunks(replicates, len(self.of_image)):
            yield rng.integers(0, 2, (size, len(self.strata))).astype(np.float64)[:, self.of_image]


def _chunks(replicates: int, images: int) -> Iterator[int]:
    size = max(1, min(replicates, _NUMBERS // max(images, 1)))
    for start in range(0, replicates, size):
        yield min(size, replicates - start)


def check_replicates(number: int, option: str = "--bootstrap") -> None:
    """Refuses numbers of replicates that give no interval.

    Raises:
        UsageError: Fewer than `FEWEST_REPLICATES`.
    """
    if number < FEWEST_REPLICATES:
        raise UsageError(f"{option} {number}: at least {FEWEST_REPLICATES} replicates; 1000 are usual")


def interval_of(
    value: float, drawn: np.ndarray, left_out: np.ndarray, units: Units, level: float = LEVEL
) -> Interval | None:
    """The bias-corrected and accelerated interval (Efron, 1987) of replicates, expanded for few units.

    Percentiles are moved by the bias of the replicates' median and by how much the metric's deviation changes with its
    value; they lie further apart for few units, by Student's t in place of the normal distribution (Hesterberg, 2015).

    Args:
        value: The metric of all units.
        drawn: (R,) replicates; NaN where one measured nothing.
        left_out: (G,) metric without each group of units, see `Units.left_out`.
        units: What was drawn.
        level: Level of the interval.

    Returns:
        None where more than one replicate in twenty measured nothing, or where there is one unit alone.
    """
    from scipy.stats import norm, t

    valid, freedom = drawn[np.isfinite(drawn)], len(units.strata) - len(np.unique(units.strata))
    if len(valid) < 0.95 * len(drawn) or not len(valid) or freedom < 1:
        return None
    same = np.abs(valid - value) <= _SAME
    below = (((valid < value) & ~same).mean() + same.mean() / 2).clip(0.5 / len(valid), 1 - 0.5 / len(valid))
    bias, known = norm.ppf(below), left_out[np.isfinite(left_out)]
    influence = known.mean() - known if len(known) else np.zeros(1)
    spread = np.square(influence).sum()
    acceleration = (influence**3).sum() / (6 * spread**1.5) if spread > _SAME**2 else 0.0
    reach = t.ppf((1 + level) / 2, freedom)
    if not units.is_stratified:  # where strata are drawn, their weights make up for it
        reach *= np.sqrt(len(units.strata) / freedom)
    moved = bias + np.array([-reach, reach])
    low, high = np.quantile(valid, norm.cdf(bias + moved / np.maximum(1 - acceleration * moved, 1e-6)))
    return Interval(float(low), float(high))


@dataclass(frozen=True)
class Intervals:
    """Intervals of the metrics of a split.

    Attributes:
        bounds: By full name (`test/top1`).
        method: How they were made, in one sentence.
        missing: Full names of metrics without an interval.
    """

    bounds: Mapping[str, Interval]
    method: str
    missing: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain json types, as results and summaries have them."""
        bounds = {name: [float(bound) for bound in each] for name, each in self.bounds.items()}
        return {"intervals": bounds, "interval_method": self.method, "no_interval": list(self.missing)}

"""Two models on the same images: differences with intervals, and how likely they are by chance."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from visionkit.errors import DataError
from visionkit.uncertainty.by_image import ImageRecord, computed
from visionkit.uncertainty.resampling import interval_of


@dataclass(frozen=True)
class Difference:
    """One metric of two models.

    Attributes:
        metric: Its name.
        first: Value of the first model.
        second: Value of the second model.
        difference: The second less the first.
        low: Lower bound of the difference's 95 % interval; None where it has none.
        high: Upper bound.
        p: Chance of a difference at least as large if it did not matter which model predicted which image.
        test: `permutation` or `bootstrap`, the test that gave p.
    """

    metric: str
    first: float
    second: float
    difference: float
    low: float | None
    high: float | None
    p: float
    test: str = "permutation"

    def to_json(self) -> dict[str, Any]:
        """Plain json types."""
        return asdict(self)


def compare(first: ImageRecord, second: ImageRecord, replicates: int, seed: int) -> list[Difference]:
    """Compares two models by image.

    The interval is that of the paired bootstrap: both models are measured on the same drawn images. The p-value is that
    of the two-sided permutation test: for each image (or sequence) the predictions of both models change places with
    even chances, and p is (1 + the number of differences as large as the one measured) / (1 + replicates).

    Pairs of images cannot change places image by image: embeddings of two models do not compare. Their p is that of the
    bootstrap: how often a replicate lies at least as far from the difference that was measured as 0 does.

    Args:
        first: What the first model's images add to its metrics.
        second: The same of the second model.
        replicates: Replicates of the bootstrap and of the test.
        seed: Random seed.

    Raises:
        DataError: The images are not the same, or no metric can be taken apart by image.
    """
    if first.ids != second.ids:
        raise DataError("the models were not measured on the same images in one order, so they cannot be compared")
    if first.is_empty or not first.ids:
        raise DataError("no metric of this task can be taken apart by image, so the models cannot be compared")
    ones = np.ones((1, len(first.ids)))
    values = [record.values(iter([ones])) for record in (first, second)]
    drawn = [record.values(first.units.draws(replicates, seed)) for record in (first, second)]
    left_out = [record.values(iter([first.units.left_out(seed)])) for record in (first, second)]
    both = first.joined(second)
    swapped = [
        computed(both, (np.concatenate(pair, axis=1) for pair in _pairs(first, replicates, seed, turned)))
        for turned in (False, True)
    ]
    out, nothing = [], np.zeros(0)
    for name in values[0]:
        if name not in values[1]:
            continue
        a, b = (float(each[name][0]) for each in values)
        if not np.isfinite([a, b]).all():
            continue
        # Without one unit nothing is left to measure where there is one alone.
        spread, parts = (each[1].get(name, nothing) - each[0].get(name, nothing) for each in (drawn, left_out))
        bounds = interval_of(b - a, spread, parts, first.units)
        is_swapped = name in swapped[0]
        chance = swapped[1][name] - swapped[0][name] if is_swapped else spread - (b - a)
        chance = np.abs(chance[np.isfinite(chance)])
        as_large = int((chance >= abs(b - a) - 1e-9).sum())
        low, high = bounds or (None, None)
        test = "permutation" if is_swapped else "bootstrap"
        out.append(Difference(name, a, b, b - a, low, high, (1 + as_large) / (1 + len(chance)), test))
    return out


def _pairs(record: ImageRecord, replicates: int, seed: int, turned: bool) -> Any:
    for swap in record.units.swaps(replicates, seed + 1):
        yield (swap, 1 - swap) if turned else (1 - swap, swap)

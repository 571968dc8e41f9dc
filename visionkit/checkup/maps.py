"""What is wrong with depth over a whole split: the unit that it was read in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from visionkit.checkup.findings import Finding

_NEAREST, _FARTHEST = 0.05, 100.0
"""Meters between which the median depth of a split lies."""

_UNITS = {"millimeters": 1000, "centimeters": 100, "KITTI's 1/256 m": 256, "TUM's 1/5000 m": 5000}
_OUTLIER = 20.0
"""Times by which the median of one image is beyond that of its split."""


def check_depths(facts: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[Finding]:
    """Depth that most likely was read in a wrong unit.

    Args:
        facts: Of each sample, by split; `depth` holds 5 %, 50 % and 95 % of its depth in meters.
    """
    for split, samples in facts.items():
        known = np.array([each["depth"] for each in samples if "depth" in each])
        if not len(known):
            continue
        middle = float(np.median(known[:, 1]))
        if not _NEAREST <= middle <= _FARTHEST:
            yield Finding("depth-unit", split, f"the median depth is {middle:,.4g} m{_guess(middle)}")
            continue
        ratio = np.maximum(known[:, 1] / middle, middle / known[:, 1])
        if (far := ratio > _OUTLIER).any():
            worst = float(known[ratio.argmax(), 1])
            message = (
                f"{int(far.sum())} of {len(known)} depth maps are of another unit, such as a median of {worst:.4g} m"
            )
            yield Finding("depth-unit", split, message + f" where the others have {middle:.4g} m")


def _guess(middle: float) -> str:
    """The unit that would make rooms or streets of it."""
    factors = {name: unit / other for name, unit in _UNITS.items() for other in (1, 1000) if unit != other}
    likely = next((name for name, factor in factors.items() if 0.3 <= middle / factor <= 50), None)
    return f"; numbers in {likely} would be {middle / factors[likely]:.3g} m" if likely else ""

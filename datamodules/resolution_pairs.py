"""Which low resolution belongs to which image."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from datamodules.pairing import pair_by_name
from visionkit.errors import DataError
from visionkit.listing import Listing

_HIGH = r"([-_.]|(?<=\d))(HR|GT)$"
_LOW = r"([-_.]?[xX]SCALE|([-_.]|(?<=\d))LR([-_]?[xX]?SCALE)?)$"


def pair_resolutions(high: Listing, low: Listing, scale: int) -> list[tuple[Path, Path]]:
    """Pairs images with their low resolution by relative path.

    Names are equal, or equal but for an ending that states the resolution: `0001x2`, `0001_LR`, `0001_LR4` for `0001`,
    `0001_HR`. The first of these rules by which every image has exactly one partner holds for all of them.

    Args:
        high: Images in high resolution.
        low: Images in low resolution.
        scale: Factor.

    Raises:
        DataError: No rule gives every image one partner.
    """
    own, any_scale = (_LOW.replace("SCALE", digit) for digit in (str(scale), r"\d"))
    rules = (("(?!)", "(?!)"), (_HIGH, own), (_HIGH, any_scale))  # the first pattern matches nothing
    failures = []
    for high_ending, low_ending in rules:
        try:
            return pair_by_name(high, low, "low resolution", _without(high_ending), _without(low_ending)).pairs
        except DataError as error:
            failures.append(error)
    raise failures[1]


def _without(ending: str) -> Callable[[str], str]:
    return lambda stem: re.sub(ending, "", stem) or stem

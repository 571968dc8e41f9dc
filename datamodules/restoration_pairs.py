"""Which degraded image belongs to which clean one."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from datamodules.pairing import pair_by_name
from visionkit.errors import DataError
from visionkit.listing import Listing

_CLEAN = r"(?<![A-Za-z])(GT|gt|clean|sharp|target|norain)(?![A-Za-z])"
_DEGRADED = r"(?<![A-Za-z])(NOISY|noisy|blur|blurred|blurry|input|rain)(?![A-Za-z])"


def pair_degraded(clean: Listing, degraded: Listing) -> list[tuple[Path, Path]]:
    """Pairs clean images with their degraded ones by relative path.

    Names are equal, or equal but for the word that states which of the two they are: `GT_SRGB_010` and
    `NOISY_SRGB_010` (SIDD), `norain-1` and `rain-1` (Rain100). The first of these rules by which every image has
    exactly one partner holds for all of them.

    Args:
        clean: The clean images.
        degraded: The degraded images.

    Raises:
        DataError: No rule gives every image one partner.
    """
    nothing = "(?!)"  # matches nothing
    failures = []
    for of_clean, of_degraded in ((nothing, nothing), (_CLEAN, _DEGRADED)):
        try:
            return pair_by_name(clean, degraded, "degraded image", _without(of_clean), _without(of_degraded)).pairs
        except DataError as error:
            failures.append(error)
    raise failures[0]


def _without(word: str) -> Callable[[str], str]:
    return lambda stem: re.sub(word, "", stem) or stem

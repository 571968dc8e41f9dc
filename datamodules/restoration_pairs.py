"""Which degraded image belongs to which clean one."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from datamodules.pairing import pair_by_name
from visionkit.errors import DataError
from visionkit.listing import Listing

_CLEAN = r"(?<![A-Za-z])(gt|clean|sharp|target|norain|mean)(?![A-Za-z])"
_DEGRADED = r"(?<![A-Za-z])(noisy|blur_gamma|blur|blurred|blurry|input|rain|real)(?![A-Za-z])"


def pair_degraded(clean: Listing, degraded: Listing) -> list[tuple[Path, Path]]:
    """Pairs clean images with their degraded ones by relative path.

    Paths are equal, or equal but for the words in them that state which of the two they are: `GT_SRGB_010` and
    `NOISY_SRGB_010` (SIDD), `norain-1` and `rain-1` (Rain100), `sharp/000047` and `blur/000047` (GoPro),
    `gt/gt_1` and `blur/blur_1` (RealBlur). The first of these rules by which every image has exactly one partner holds
    for all of them.

    Args:
        clean: The clean images.
        degraded: The degraded images.

    Raises:
        DataError: No rule gives every image one partner, or it is the image itself.
    """
    nothing = "(?!)"  # matches nothing
    failures = []
    for of_clean, of_degraded in ((nothing, nothing), (_CLEAN, _DEGRADED)):
        keys = (_without(of_clean), _without(of_degraded))
        try:
            pairs = pair_by_name(clean, degraded, "degraded image", *keys, of_path=True).pairs
        except DataError as error:
            failures.append(error)
            continue
        same = next((image for image, partner in pairs if image == partner), None)
        if same is not None:
            raise DataError(
                f"{same}: is given as a clean image and as its own degraded one; where both lie in one folder, tell "
                "them apart by --data.pattern 'sharp/*' --data.degraded_pattern 'blur/*', as they are called"
            )
        return pairs
    raise failures[0]


def _without(word: str) -> Callable[[str], str]:
    return lambda path: re.sub(word, "*", path, flags=re.IGNORECASE)

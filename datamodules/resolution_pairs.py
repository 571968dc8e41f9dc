"""Which low resolution belongs to which image."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from datamodules.pairing import pair_by_name
from visionkit.errors import DataError
from visionkit.listing import Listing, find_images, list_images

_HIGH = r"([-_.]|(?<=\d))(HR|GT)$"
_LOW = r"([-_.]?[xX]SCALE|([-_.]|(?<=\d))LR([-_]?[xX]?SCALE)?)$"


def list_matching(root: str, pattern: str, option: str) -> Listing:
    """The images of a folder, or of a glob, whose names match a pattern.

    Args:
        root: The folder, searched deeply, a file or a glob.
        pattern: Pattern of the names.
        option: What the pattern was given with, for the message.

    Raises:
        DataError: Nothing there that matches.
    """
    path = Path(root)
    listing = list_images(path) if path.is_dir() else Listing(path.parent, find_images(root))
    kept = Listing(listing.root, passed_over=dict(listing.passed_over))
    for file in listing.files:
        if file.match(pattern):
            kept.files.append(file)
        else:
            kept.pass_over(f"not {pattern}", file)
    if not kept.files:
        raise DataError(f"{root}: no image of this folder matches data.{option} {pattern!r}")
    return kept


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

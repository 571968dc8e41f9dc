"""The one pairing of images with files of the same name: labels, depth, low resolution.

A partner is found by its relative path, so `seq1/0000` and `seq2/0000` keep their own. Ambiguity is refused.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from datamodules.class_names import shorten
from visionkit.errors import DataError
from visionkit.listing import Listing


class Paired(NamedTuple):
    """Images with their partners.

    Attributes:
        pairs: Image and partner, in the order of the images.
        alone: Partners that no image belongs to.
    """

    pairs: list[tuple[Path, Path]]
    alone: list[Path]


def pair_by_name(
    images: Listing,
    partners: Listing,
    what: str,
    image_key: Callable[[str], str] = str,
    partner_key: Callable[[str], str] = str,
) -> Paired:
    """Pairs the files of two folders by relative path without the ending.

    Where the partners lie in one flat folder and the images do not (or the reverse), the bare names are taken, if each
    is there once.

    Args:
        images: The images.
        partners: Their partners.
        what: What a partner is, for the messages: "label file".
        image_key: Turns the name of an image, without its ending, into what both have in common.
        partner_key: The same for a partner.

    Raises:
        DataError: An image without a partner, two images for one partner or two partners for one image.
    """
    first, second = _keyed(images, image_key), _keyed(partners, partner_key)
    if not first.keys() & second.keys() and images.files and partners.files:
        first, second = _bare(first), _bare(second)
    for found, listing, one in ((first, images, "image"), (second, partners, what)):
        twice = next((paths for paths in found.values() if len(paths) > 1), None)
        if twice is not None:
            names = " and ".join(path.relative_to(listing.root).as_posix() for path in twice[:2])
            raise DataError(
                f"{listing.root}: {names} have one name, so which {one} is meant is not clear; rename or remove one"
            )
    missing = [paths[0] for key, paths in first.items() if key not in second]
    if missing:
        raise DataError(
            f"{partners.root}: no {what} for {len(missing)} of {len(images.files)} images: {_names(missing, images)}"
        )
    pairs = [(paths[0], second[key][0]) for key, paths in first.items()]
    alone = [path for key, paths in second.items() if key not in first for path in paths]
    return Paired(pairs, alone)


def _keyed(listing: Listing, name_key: Callable[[str], str]) -> dict[str, list[Path]]:
    out: dict[str, list[Path]] = {}
    for path in listing.files:
        place = path.relative_to(listing.root)
        stem = path.stem if path.suffix else path.name
        key = unicodedata.normalize("NFC", (place.parent / name_key(stem)).as_posix())
        out.setdefault(key, []).append(path)
    return out


def _bare(keyed: dict[str, list[Path]]) -> dict[str, list[Path]]:
    out: dict[str, list[Path]] = {}
    for key, paths in keyed.items():
        out.setdefault(key.rpartition("/")[2], []).extend(paths)
    return out


def _names(paths: Sequence[Path], listing: Listing) -> str:
    return shorten((path.relative_to(listing.root).as_posix() for path in paths), 3)

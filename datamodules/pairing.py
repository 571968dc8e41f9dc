"""The one pairing of images with files of the same name: labels, depth, low resolution.

A partner is found by its relative path, so `seq1/0000` and `seq2/0000` keep their own. Ambiguity is refused.
"""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from datamodules.class_names import shorten
from visionkit.errors import DataError
from visionkit.images import ImageSource
from visionkit.listing import SUFFIXES, Listing

log = logging.getLogger(__name__)

_TYPES = SUFFIXES | {".npy", ".npz", ".exr", ".pfm"}


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


def keep_ending(listing: Listing, ending: str, what: str) -> tuple[Listing, Callable[[str], str]]:
    """The files of a folder whose names end in something, and what turns their names into what pairs have in common.

    Args:
        listing: The files.
        ending: `_mask`, `.npy` or both, `_depth.png`; every file is kept where it is empty.
        what: What the files are, for the reason why others are passed over: "a label file".

    Returns:
        The listing without the others, and a key for `pair_by_name`.
    """
    own, suffix = split_ending(ending)
    kept = Listing(listing.root, passed_over={reason: list(paths) for reason, paths in listing.passed_over.items()})
    for path in listing.files:
        if has_ending(path, ending):
            kept.files.append(path)
        else:
            kept.pass_over(f"not {what} (*{own}{suffix})", path)
    return kept, lambda stem: stem[: len(stem) - len(own)] if own else stem


def split_ending(ending: str) -> tuple[str, str]:
    """`_depth.png` as `_depth` and `.png`; `.depth` is no file type and stays whole."""
    stem, dot, kind = ending.rpartition(".")
    return (stem, dot + kind) if (dot + kind).lower() in _TYPES else (ending, "")


def has_ending(path: Path, ending: str) -> bool:
    """Whether the name of a file ends in something, see `keep_ending`; the case of letters does not count."""
    own, suffix = split_ending(ending)
    return path.stem.lower().endswith(own.lower()) and (not suffix or path.suffix.lower() == suffix.lower())


def check_same_size(image: ImageSource, size: tuple[int, ...], partner: str, what: str) -> None:
    """Refuses a partner of another size than its image.

    Args:
        image: The image, from its file.
        size: Height and width of the partner.
        partner: Path of the partner.
        what: What it is: "label map".

    Raises:
        DataError: The sizes differ; says where the reason is the EXIF orientation of the image.
    """
    height, width = image.size
    if (height, width) == tuple(size):
        return
    turned = ""
    if image.orientation != 1 and (width, height) == tuple(size):
        turned = (
            f"; the image is turned by its EXIF orientation {image.orientation} and the {what} is not: save the image "
            f"upright or turn the {what}"
        )
    raise DataError(
        f"{partner}: a {what} of {size[1]} x {size[0]} pixels does not fit the image {image.name} of "
        f"{width} x {height}{turned}"
    )


def warn_of_turned(pairs: Iterable[tuple[ImageSource, ImageSource]], source: str, what: str) -> None:
    """Warns of images and partners that EXIF turns differently, where the size alone cannot show a mistake.

    Args:
        pairs: Images and their partners, from their files.
        source: Names the data.
        what: What a partner is: "label map".
    """
    turned = [image.name for image, partner in pairs if image.orientation != partner.orientation]
    if turned:
        log.warning(
            "%s: EXIF turns %d images and not their %s (or the reverse): %s; both must fit as a viewer shows them, "
            "which the size alone does not prove",
            *(source, len(turned), what, shorten(turned, 3)),
        )

"""The one pairing of images with files of the same name: labels, depth, low resolution.

A partner is found by its relative path, so `seq1/0000` and `seq2/0000` keep their own. Ambiguity is refused.
"""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datamodules.class_names import shorten
from visionkit.errors import DataError, UsageError
from visionkit.images import ImageSource
from visionkit.listing import SUFFIXES, Listing, find_images, list_images
from visionkit.refusals import refuse
from visionkit.wording import counted

log = logging.getLogger(__name__)

_HEADERS = 20_000
_TYPES = SUFFIXES | {".npy", ".npz", ".exr", ".pfm"}


class Paired(NamedTuple):
    """Images with their partners.

    Attributes:
        pairs: Image and partner, in the order of the images.
        alone: Partners that no image belongs to.
    """

    pairs: list[tuple[Path, Path]]
    alone: list[Path]


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


def pair_by_name(
    images: Listing,
    partners: Listing,
    what: str,
    image_key: Callable[[str], str] = str,
    partner_key: Callable[[str], str] = str,
    options: tuple[str, str] = ("", ""),
    of_path: bool = False,
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
        options: Options of the data, which state how images and partners are called: "image_names", "label_names".
        of_path: The keys are of whole paths below the folder, not of names.

    Raises:
        DataError: An image without a partner, two images for one partner or two partners for one image.
    """
    first, second = _keyed(images, image_key, of_path), _keyed(partners, partner_key, of_path)
    if not first.keys() & second.keys() and images.files and partners.files:
        first, second = _bare(first), _bare(second)
    for found, listing, one, option in ((first, images, "image", options[0]), (second, partners, what, options[1])):
        twice = next((paths for paths in found.values() if len(paths) > 1), None)
        if twice is not None:
            names = " and ".join(path.relative_to(listing.root).as_posix() for path in twice[:2])
            advice = f", or choose with --data.{option} '*{twice[0].suffix}'" if option else ""
            raise DataError(
                f"{listing.root}: {names} have one name, so which {one} is meant is not clear; rename or remove "
                f"one{advice}"
            )
    missing = [paths[0] for key, paths in first.items() if key not in second]
    if missing:
        of_all = f"{len(missing)} of {counted(len(images.files), 'image')}"
        refuse("missing-label", DataError(f"{partners.root}: no {what} for {of_all}: {_names(missing, images)}"))
    pairs = [(paths[0], second[key][0]) for key, paths in first.items() if key in second]
    alone = [path for key, paths in second.items() if key not in first for path in paths]
    return Paired(pairs, alone)


def _keyed(listing: Listing, name_key: Callable[[str], str], of_path: bool) -> dict[str, list[Path]]:
    out: dict[str, list[Path]] = {}
    for path in listing.files:
        place = path.relative_to(listing.root)
        stem = path.stem if path.suffix else path.name
        named = name_key((place.parent / stem).as_posix()) if of_path else (place.parent / name_key(stem)).as_posix()
        key = unicodedata.normalize("NFC", named)
        out.setdefault(key, []).append(path)
    return out


def _bare(keyed: dict[str, list[Path]]) -> dict[str, list[Path]]:
    out: dict[str, list[Path]] = {}
    for key, paths in keyed.items():
        out.setdefault(key.rpartition("/")[2], []).extend(paths)
    return out


def _names(paths: Sequence[Path], listing: Listing) -> str:
    return shorten((path.relative_to(listing.root).as_posix() for path in paths), 3)


class NamePattern:
    """File names that share something: `*_mask`, `depth_*.png`, `*.npy`. What `*` stands for is what pairs share.

    Args:
        pattern: Pattern with one `*`; the file type may be left out.
        option: What it was given with, for the message.

    Raises:
        UsageError: Not one `*`.
    """

    def __init__(self, pattern: str, option: str) -> None:
        stem, dot, kind = pattern.rpartition(".")
        self.suffix = (dot + kind).lower() if (dot + kind).lower() in _TYPES else ""
        self.start, star, self.end = (stem if self.suffix else pattern).partition("*")
        if not star or "*" in self.end or "/" in pattern:
            raise UsageError(f"{option} {pattern!r}: give a file name with one *, such as '*_depth.png'")
        self.pattern = pattern

    @property
    def is_any(self) -> bool:
        """Whether every name fits."""
        return not (self.start or self.end or self.suffix)

    def fits(self, path: Path) -> bool:
        """Whether a file is called so."""
        stem = path.stem
        long_enough = len(stem) >= len(self.start) + len(self.end)
        typed = not self.suffix or path.suffix.lower() == self.suffix
        return typed and long_enough and stem.startswith(self.start) and stem.endswith(self.end)

    def key(self, stem: str) -> str:
        """What `*` stands for in a name without its file type."""
        return stem[len(self.start) : len(stem) - len(self.end)]

    def select(self, listing: Listing, *, others: bool = False) -> Listing:
        """The files that are called so, or the others; those left out are passed over."""
        kept = Listing(listing.root, passed_over={why: list(paths) for why, paths in listing.passed_over.items()})
        for path in listing.files:
            if self.fits(path) != others:
                kept.files.append(path)
            elif not others:
                kept.pass_over(f"not called {self.pattern}", path)
        return kept


def check_same_size(image: ImageSource, size: tuple[int, ...], partner: str, what: str) -> None:
    """Refuses a partner of another size than its image.

    Args:
        image: The image, from its file.
        size: Height and width of the partner.
        partner: Path of the partner.
        what: What it is: "label map".

    Raises:
        DataError: The sizes differ; states where the reason is the EXIF orientation of the image.
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
    error = DataError(
        f"{partner}: a {what} of {size[1]} x {size[0]} pixels does not fit the image {image.name} of "
        f"{width} x {height}{turned}"
    )
    refuse("wrong-orientation" if (width, height) == tuple(size) else "size-mismatch", error)


def warn_of_turned(pairs: Iterable[tuple[ImageSource, str]], source: str, what: str) -> None:
    """Warns of images and partners that EXIF turns differently, where the size alone cannot show a mistake.

    Args:
        pairs: Images and the paths of their partners.
        source: Names the data.
        what: What a partner is: "label map".
    """
    turned = [image.name for image, partner in pairs if image.orientation != _orientation(partner)]
    if turned:
        log.warning(
            "%s: EXIF turns %d images and not their %s (or the reverse): %s; both must fit as a viewer shows them, "
            "which the size alone does not prove",
            *(source, len(turned), what, shorten(turned, 3)),
        )


def spread(rows: np.ndarray) -> list[int]:
    """Numbers of the images whose headers are compared: all of them, or so many evenly spread."""
    return [int(row) for row in rows[:: max(1, len(rows) // _HEADERS)]]


def _orientation(partner: str) -> int:
    """EXIF orientation of a file; arrays have none, and a TIFF is read as it is to be seen."""
    suffix = Path(partner).suffix.lower()
    return ImageSource(partner).orientation if suffix in SUFFIXES - {".tif", ".tiff"} else 1

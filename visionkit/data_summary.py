"""What a command states about its data before it starts: one line per split, and what most likely is a mistake.

Images per split, objects per class, crowds, images without labels, files that were passed over and where the split came
from. Most mistakes in a data set are seen in these lines.
"""

from __future__ import annotations

import filecmp
import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from visionkit.wording import counted, plural

log = logging.getLogger(__name__)

_MOST_CLASSES = 20  # more are summed up
_HEAD = 1 << 16  # bytes of a file that are compared
_COMPARED = 100_000  # files of two lists up to which content is compared
_PROBES = 256  # files whose sizes distinguish lists of equal names


@runtime_checkable
class NamedSamples(Protocol):
    """A sequence of samples that can name its images without opening them."""

    def names(self) -> Sequence[str]:
        """The path of each image, in order."""


@runtime_checkable
class CountedSamples(Protocol):
    """A sequence of samples that knows how often each class occurs without opening an image."""

    def counts(self, classes: Sequence[str]) -> tuple[dict[str, int], str]:
        """Number of labels by class name, zeros included, and what they count: "image", "object"."""


@dataclass(frozen=True)
class SplitSummary:
    """What one split holds.

    Attributes:
        split: `train`, `val` or `test`.
        images: Number of images.
        source: Where the split comes from: a folder, a label file, "10 % of train".
        classes: Number of labels of each class by name, zeros included; None where they are not counted.
        unit: What `classes` counts, in the singular: "object", "image", "label".
        crowds: Number of crowd regions, which no metric counts.
        unlabeled: Number of images without a label.
        passed_over: Number of files or labels that are left out, by reason.
        notes: Further lines of one type of data, such as the range of depths.
    """

    split: str
    images: int
    source: str = ""
    classes: Mapping[str, int] | None = None
    unit: str = "object"
    crowds: int = 0
    unlabeled: int = 0
    passed_over: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def lines(self) -> list[str]:
        """The summary as text: one line, then the classes and what was passed over, where there are any."""
        parts = [counted(self.images, "image")]
        if self.classes is not None and self.unit != "image":
            parts.append(counted(sum(self.classes.values()), self.unit))
        if self.crowds:
            parts.append(counted(self.crowds, "crowd region"))
        if self.unlabeled:
            parts.append(f"{self.unlabeled:,} without labels")
        out = [f"  {self.split:<6} {', '.join(parts)}{f'  ({self.source})' if self.source else ''}"]
        if self.classes:
            shown = [f"{name} {number:,}" for name, number in self.classes.items()]
            if len(shown) > _MOST_CLASSES:
                low, high = min(self.classes.values()), max(self.classes.values())
                shown = [f"{len(shown)} with {low:,} to {high:,} {plural(self.unit)} each"]
            out.append(f"         classes: {', '.join(shown)}")
        if self.passed_over:
            reasons = (f"{number:,} {reason}" for reason, number in self.passed_over.items())
            out.append(f"         passed over: {', '.join(reasons)}")
        return out + [f"         {note}" for note in self.notes]


def warn_of_absent_classes(summary: SplitSummary) -> None:
    """Warns of classes that never occur in a split, which is nearly always a mistake in the training split."""
    absent = [name for name, number in (summary.classes or {}).items() if number == 0]
    if absent:
        named = ", ".join(absent[:5]) + (f", ... {len(absent)} in all" if len(absent) > 5 else "")
        log.warning(
            "%s: no %s of class %s, so the network cannot be trained on it",
            summary.source or summary.split,
            plural(summary.unit),
            named,
        )


def warn_of_shared_images(files: Mapping[Any, Sequence[str]]) -> set[Any]:
    """Warns where two splits hold the same images, by path or by content.

    Args:
        files: Paths of images by split.

    Returns:
        The splits that share images with another one.
    """
    splits, sharing = list(files), set[Any]()
    for number, first in enumerate(splits):
        for second in splits[number + 1 :]:
            same = shared_images(files[first], files[second])
            if same:
                sharing |= {first, second}
                pairs = [a if a == b else f"{a} = {b}" for a, b in same[:3]]
                log.warning(
                    "%s and %s share %d of %s (%s%s), so they are not independent sets",
                    *(first, second, len(same), counted(len(files[second]), "image"), ", ".join(pairs)),
                    ", ..." if len(same) > len(pairs) else "",
                )
    return sharing


def shared_images(first: Sequence[str], second: Sequence[str]) -> list[tuple[str, str]]:
    """Images of one list that are in another too: the same file, or files of equal content.

    Only files whose size occurs on both sides are opened. Of lists with more than 100,000 files together none is asked
    for its size, since that takes minutes on a network's disk: only equal paths are found, and `visionkit doctor`
    compares contents.

    Args:
        first: Paths.
        second: Paths.

    Returns:
        Pairs of paths, in the order of the second list.
    """
    if len(first) + len(second) > _COMPARED:
        paths = set(first)
        return [(path, path) for path in second if path in paths]
    own: dict[Any, str] = {}
    by_size: dict[int, list[str]] = {}
    for path in first:
        file, size = _identity(path)
        own[file] = path
        by_size.setdefault(size, []).append(path)
    beginnings: dict[int, dict[str, str]] = {}
    found = []
    for path in second:
        file, size = _identity(path)
        if file in own:
            found.append((own[file], path))
        elif size > 0 and size in by_size:
            if size not in beginnings:
                beginnings[size] = {_beginning(rival): rival for rival in by_size[size]}
            match = beginnings[size].get(_beginning(path))
            if match is not None and filecmp.cmp(match, path, shallow=False):
                found.append((match, path))
    return found


def fingerprint(files: Sequence[str]) -> str:
    """Stands for a list of images: equal for the same list, wherever its folder lies.

    Args:
        files: Paths of images in a fixed order; the sizes of some of them count too.
    """
    first, last = min(files, default=""), max(files, default="")
    same = next((k for k, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    start = first.rfind("/", 0, same) + 1  # behind the folder that all of them lie in
    probes = files[:: max(1, len(files) // _PROBES)]
    texts = [*(file[start:] for file in files), *(str(_identity(file)[1]) for file in probes)]
    return hashlib.blake2b("\n".join(texts).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def _identity(path: str) -> tuple[Any, int]:
    """What is equal for two paths of one file, and its size in bytes."""
    try:
        file = os.stat(path)  # noqa: PTH116 (a hot path)
    except OSError:
        return path, -1  # not a file of its own, such as a member of an archive
    return (file.st_dev, file.st_ino), file.st_size


def _beginning(path: str) -> str:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 (a hot path)
            return hashlib.blake2b(file.read(_HEAD), digest_size=16).hexdigest()
    except OSError:
        return path

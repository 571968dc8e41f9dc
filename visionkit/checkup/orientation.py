"""What the files of images contradict: sizes that label files state, turns by EXIF, gray among color."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from visionkit.checkup.findings import Finding
from visionkit.checkup.measurement import Measured
from visionkit.checkup.raw_labels import RawAnnotations

_FEW = 0.05  # fraction of gray or of color images that is odd
_PLACED = ("boxes", "keypoints")


def check_sizes_of_files(
    split: str, entries: Sequence[RawAnnotations], measured: Sequence[Measured]
) -> Iterator[Finding]:
    """Images of another size than their labels state, and images that EXIF turns although labels have places in them.

    Args:
        split: Names them.
        entries: What label files state about the images.
        measured: The images.
    """
    stated = {entry.file: entry for entry in entries}
    for each in measured:
        if each.size is None:
            continue
        entry = stated.get(each.file)
        turned = each.orientation in (5, 6, 7, 8)
        if entry is not None and entry.size is not None and tuple(entry.size) != tuple(each.size):
            (h, w), (height, width) = entry.size, each.size
            message = f"the labels state {w} x {h} and the file has {width} x {height}"
            sideways = (w, h) == (height, width)
            if sideways:
                message += ", the same turned by a quarter" + (", which EXIF does" if turned else "")
            yield Finding("wrong-orientation" if sideways else "size-mismatch", split, message, each.file, entry.place)
        elif each.orientation != 1 and any(key in each.target for key in _PLACED):
            message = f"EXIF turns or flips it (orientation {each.orientation})"
            yield Finding("exif-orientation", split, message, each.file)


def check_channels(measured: Mapping[str, Sequence[Measured]]) -> Iterator[Finding]:
    """A few gray images among color, or a few in color among gray.

    Args:
        measured: Images by split.
    """
    every = [(split, each) for split, some in measured.items() for each in some if each.print is not None]
    gray = sum(each.gray for _, each in every)
    odd = gray if gray <= len(every) - gray else len(every) - gray
    if not 0 < odd <= max(1, _FEW * len(every)):
        return
    is_odd = gray <= len(every) - gray
    for split, each in every:
        if each.gray == is_odd:
            yield Finding("odd-channels", split, "gray among color" if is_odd else "color among gray", each.file)

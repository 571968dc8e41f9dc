"""What the label files of a set hold, found before training: which values, which classes, how much is ignored."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from datamodules.class_names import shorten
from datamodules.label_maps import LabeledMaps, LabelReader
from datamodules.pairing import check_same_size, spread, warn_of_turned
from datamodules.value_files import gray, read_values
from visionkit.errors import DataError
from visionkit.types import IGNORE

log = logging.getLogger(__name__)

MOST_PIXELS = 200_000_000
"""Label pixels that are read for the summary, some seconds' worth; of a larger set, files evenly spread over it."""

_PROBES = 256


@dataclass(frozen=True)
class LabelSurvey:
    """What the label maps of one split hold.

    Attributes:
        files: Number of label maps.
        read: Number of those that were read.
        maps: (K,) label maps in which each class occurs.
        pixels: (K,) fraction of each class among the pixels.
        ignored: Fraction of ignored pixels.
        empty: Label maps with nothing but ignored pixels.
    """

    files: int
    read: int
    maps: np.ndarray
    pixels: np.ndarray
    ignored: float
    empty: int

    def notes(self, classes: Sequence[str]) -> tuple[str, ...]:
        """Fractions of the classes, for the summary.

        Args:
            classes: Class names.
        """
        named = [f"{name} {fraction:.1%}" for name, fraction in zip(classes, self.pixels, strict=True)]
        fractions = f"pixels: {shorten(named, 20)}, ignored {self.ignored:.1%}"
        if self.read == self.files:
            return (fractions,)
        return (f"{fractions} (of {self.read:,} label maps that were read)",)


def survey(samples: LabeledMaps, classes: int, source: str) -> LabelSurvey:
    """Reads label maps, all of them where that takes seconds, and compares their sizes with those of their images.

    Args:
        samples: The set.
        classes: Number of classes.
        source: Names the set in warnings.

    Raises:
        DataError: A label file that is wrong, or of another size than its image.
    """
    counts, maps = np.zeros(max(classes, IGNORE) + 1, dtype=np.int64), np.zeros(classes, dtype=np.int64)
    rows, seen, empty = samples.rows, 0, 0
    for number, labels in _spread(samples):
        check_same_size(samples.store.source(number), labels.shape, samples.labels.name(number), "label map")
        own = np.bincount(labels.reshape(-1), minlength=len(counts))
        counts += own
        occurs = own[:classes] > 0
        occurs[IGNORE : IGNORE + 1] = False
        maps += occurs
        empty += not occurs.any()
        seen += 1
    pairs = ((samples.store.source(k), samples.labels.name(k)) for k in spread(rows))
    warn_of_turned(pairs, source, "label map")
    fractions = counts / max(1, counts.sum())
    return LabelSurvey(len(rows), seen, maps, fractions[:classes], float(fractions[IGNORE]), empty)


def _spread(samples: LabeledMaps) -> Iterator[tuple[int, np.ndarray]]:
    """Numbers and label maps, evenly spread over the set, until the budget of pixels is used up."""
    rows, left = samples.rows, MOST_PIXELS
    first = samples.labels.reader.read(samples.labels.name(int(rows[0])))
    count = min(len(rows), max(1, MOST_PIXELS // first.size))
    for row in rows[np.unique(np.linspace(0, len(rows) - 1, count).astype(int))]:
        labels = samples.labels.reader.read(samples.labels.name(int(row)))
        left -= labels.size
        yield int(row), labels
        if left < 0:
            return


def is_binary(paths: Sequence[str], most: int | None = _PROBES) -> bool:
    """Whether label files hold the values 0 and 255 and no others, as masks of one class mostly do.

    Args:
        paths: Paths of the files; read until one of them holds another value.
        most: Number of files that are read at most, evenly spread.
    """
    return values_of(paths, most, {0, IGNORE}) == {0, IGNORE}


def names_of_binary(paths: Sequence[str], source: str) -> list[str]:
    """Names of the classes of binary masks that nobody named: `background` and `foreground`.

    Args:
        paths: Paths of the label files; the masks hold 0 and 255, or 0 and 1.
        source: Names them in the messages.

    Raises:
        DataError: They hold other values, so that nobody but their owner can name them.
    """
    found = values_of(paths)
    if len(found) > 1 and 0 in found and found <= {0, 1, IGNORE}:
        one = 1 if 1 in found else IGNORE
        log.warning(
            "%s: the label files are binary masks without class names, so 0 is 'background' and %d is 'foreground'; "
            "--data.classes '[background, NAME]' names them",
            *(source, one),
        )
        return ["background", "foreground"]
    values = f"; the label files hold the values {shorten(map(str, sorted(found)), 12)}" if found else ""
    raise DataError(
        f"{source}: no classes.txt states what the labels mean{values}; give --data.classes '[name of 0, name of 1, "
        "...]'"
    )


def values_of(paths: Sequence[str], most: int | None = _PROBES, within: set[int] | None = None) -> set[int]:
    """The values of label files, evenly spread, until one is not among those asked for; none of colors or of JPEG."""
    count = len(paths) if most is None else min(most, len(paths))
    found: set[int] = set()
    for place in np.unique(np.linspace(0, len(paths) - 1, count).astype(int)):
        values, lossy = read_values(paths[place])
        values = gray(values)
        if lossy or values.ndim == 3:
            return set()
        found.update(np.unique(values).tolist())
        if within is not None and not found <= within:
            break
    return found


def values_of_binary(reader: LabelReader, paths: Sequence[str], source: str) -> tuple[dict[str, int] | None, str]:
    """Values of the classes where label files hold 0 and 255 alone, which then cannot mean "ignored".

    Args:
        reader: Reads 255 as ignored, as nearly all label maps mean it.
        paths: Paths of the label files.
        source: Names them in the messages.

    Returns:
        Value by class name, or None where the files hold other values; and a note that states this.

    Raises:
        DataError: They do, and there are not two classes.
    """
    classes = reader.classes
    if not reader.plain or IGNORE in reader.ignore or not paths:
        return None, ""
    if reader.lossy == "nearest" and len(classes) == 2:
        return {classes[0]: 0, classes[1]: IGNORE}, ""
    if not is_binary(paths, _PROBES if len(classes) == 2 else None):
        return None, ""
    if len(classes) != 2:
        one = f"[background, {classes[0]}]"
        raise DataError(
            f"{source}: the label files hold the values 0 and 255 alone, and there "
            + (
                f"is one class ({classes[0]}): name what 0 is too, --data.classes '{one}'"
                if len(classes) == 1
                else f"are {len(classes)} classes ({shorten(classes, 4)}): state what 255 is with --data.values "
                f"'{{{classes[0]}: 0, {classes[1]}: 255, ...}}', or keep it ignored with --data.ignore [255]"
            )
        )
    values = {classes[0]: 0, classes[1]: IGNORE}
    note = (
        f"the label files hold the values 0 and 255 alone, so 0 is {classes[0]!r} and 255 is {classes[1]!r}, not "
        "ignored; --data.ignore [255] keeps it ignored"
    )
    return values, note


def warn_of_one_class(found: LabelSurvey, classes: Sequence[str], source: str) -> None:
    """Warns where nothing is to be distinguished: one class, and the rest of the pixels ignored.

    Args:
        found: What the label maps of training hold.
        classes: Class names.
        source: Names the set.
    """
    there = [name for name, fraction in zip(classes, found.pixels, strict=True) if fraction > 0]
    if len(there) > 1:
        return
    what = f"every pixel of the label maps is {there[0]!r}" if there else "no pixel of the label maps has a class"
    ignored = f" or ignored ({found.ignored:.1%})" if there and found.ignored else ""
    log.warning(
        "%s: %s%s, so there is nothing to distinguish; --data.values states which value is which class, "
        "--data.label_offset where they start",
        *(source, what, ignored),
    )

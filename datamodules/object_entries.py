"""What a label file states about one image, and what is done to all of them: boxes clipped, files looked for."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from datamodules.class_names import shorten
from visionkit.errors import DataError
from visionkit.masks import MaskSet, Rle, encode_polygons
from visionkit.wording import counted

log = logging.getLogger(__name__)

Segment = Rle | list[list[float]] | None
"""An outline as a file has it: run lengths, polygons x1, y1, x2, y2, ... in file pixels, or nothing."""


@dataclass(frozen=True, eq=False)
class AnnotatedImage:
    """What a label file states about one image.

    Attributes:
        file: Path of the image.
        place: Names the entry in messages: the label file and what in it.
        boxes: (N, 4) float64, x1, y1, x2, y2 in file pixels.
        labels: (N,) int64, 0-based numbers of classes.
        size: Height and width as the label file states them, or None.
        area: (N,) float64 where the format has it: COCO's area, which decides between small and large; NaN where it is
            that of the outline or the box.
        crowd: (N,) bool: COCO's crowd regions, VOC's difficult objects, which are not counted.
        segments: N outlines, or None where the format has none.
        scores: (N,) float64 of predictions that were written as labels, NaN for other objects; None where none has one.
            Training and metrics do without them.
        more: Further rows of objects by key of `visionkit.types.Target`, such as keypoints. Keys that begin with
            `file_` are for the metric, and training does without them.
    """

    file: str
    place: str
    boxes: np.ndarray
    labels: np.ndarray
    size: tuple[int, int] | None = None
    area: np.ndarray | None = None
    crowd: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    segments: list[Segment] | None = None
    scores: np.ndarray | None = None
    more: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def crowded(self) -> np.ndarray:
        """(N,) bool, none where the format does not state."""
        return self.crowd if len(self.crowd) == len(self) else np.zeros(len(self), dtype=bool)

    def take(self, rows: np.ndarray) -> AnnotatedImage:
        """The entry with some of its objects.

        Args:
            rows: (N,) bool.
        """
        if rows.all():
            return self
        return replace(
            self,
            boxes=self.boxes[rows],
            labels=self.labels[rows],
            area=None if self.area is None else self.area[rows],
            crowd=self.crowded[rows],
            segments=None
            if self.segments is None
            else [s for s, kept in zip(self.segments, rows, strict=True) if kept],
            scores=None if self.scores is None else self.scores[rows],
            more={key: values[rows] for key, values in self.more.items()},
        )

    def masks(self, size: tuple[int, int]) -> MaskSet:
        """The outlines as run lengths.

        Args:
            size: Height and width of the image.

        Raises:
            DataError: An object without an outline, or one that is none.
        """
        rles: list[Rle] = []
        for number, segment in enumerate(self.segments or [None] * len(self)):
            if segment is None:
                raise DataError(f"{self.place}: object {number + 1} has no outline; --data.target boxes can do without")
            if isinstance(segment, list):
                rles.append(encode_polygons(segment, size))
            elif tuple(segment["size"]) != size:
                given = "x".join(map(str, segment["size"]))
                raise DataError(
                    f"{self.place}: object {number + 1} has a mask of {given} for an image of {size_text(size)}"
                )
            else:
                rles.append(segment)
        return MaskSet(size, rles)


def clean(
    entries: Sequence[AnnotatedImage],
    source: str,
    sizes: Callable[[AnnotatedImage], tuple[int, int]] | None = None,
    counts: dict[str, int] | None = None,
) -> list[AnnotatedImage]:
    """Clips boxes to their images and drops those without an area, with one warning that counts them.

    Args:
        entries: Entries, as they were read.
        source: Names the data in the warning.
        sizes: Where an entry does not state the size of its image; left out, such boxes are not clipped on the right
            and at the bottom.
        counts: Gets the number of objects that are left out, by reason.

    Raises:
        DataError: A coordinate that is not a finite number; names the entry.
    """
    out: list[AnnotatedImage] = []
    clipped: list[str] = []
    dropped: list[str] = []
    objects = sum(len(entry) for entry in entries)
    for entry in entries:
        if not np.isfinite(entry.boxes).all():
            number = int(np.flatnonzero(~np.isfinite(entry.boxes).all(axis=1))[0])
            box = ", ".join(f"{value:g}" for value in entry.boxes[number])
            raise DataError(f"{entry.place}: box {number + 1} is ({box}); coordinates are finite numbers")
        size = entry.size or (sizes(entry) if sizes is not None else None)
        height, width = size or (np.inf, np.inf)
        boxes = np.clip(entry.boxes, 0, np.array([width, height, width, height]))
        keep = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        # A hundredth of a pixel is how coordinates are rounded when they are written.
        moved = keep & (np.abs(boxes - entry.boxes) > 0.01).any(axis=1)
        clipped += [entry.place] * int(moved.sum())
        dropped += [entry.place] * int((~keep).sum())
        out.append(replace(entry, boxes=boxes).take(keep))
    parts = []
    if dropped and counts is not None:
        counts["objects without an area inside their image"] = len(dropped)
    if dropped:
        parts.append(f"{len(dropped)} without an area inside their image are left out ({_few(dropped)})")
    if clipped:
        parts.append(f"{len(clipped)} that reach beyond it are clipped ({_few(clipped)})")
    if parts:
        log.warning("%s: of %d objects %s", source, objects, " and ".join(parts))
    return out


def check_files(entries: Sequence[AnnotatedImage], source: str) -> None:
    """Asks for the size of every image file, so that a missing one is reported now and not in mid-epoch.

    Raises:
        DataError: Some are missing or empty; names the first ones and who asks for them.
    """
    missing, empty = [], []
    for entry in entries:
        try:
            if os.stat(entry.file).st_size == 0:  # noqa: PTH116 (a hot path)
                empty.append(f"{entry.file} ({entry.place})")
        except OSError:
            missing.append(f"{entry.file} ({entry.place})")
    for what, listed in (("missing", missing), ("empty (0 bytes)", empty)):
        if listed:
            raise DataError(
                f"{source}: {len(listed)} of {counted(len(entries), 'image')} are {what}: {shorten(listed, 2)}"
            )


def known_scores(values: Sequence[Any]) -> np.ndarray | None:
    """(N,) float64 scores of objects as a file has them, NaN where there is no number; None where there is none."""
    scores = np.array([_score(value) for value in values], dtype=np.float64)
    return None if np.isnan(scores).all() else scores


def _score(value: Any) -> float:
    """Some tools use the word for something else, so whatever is no finite number is passed over."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def _few(places: Sequence[str]) -> str:
    return shorten(dict.fromkeys(places), 3)


def size_text(size: Sequence[int]) -> str:
    """A size as a message shows it: 480x640."""
    return "x".join(str(side) for side in size)

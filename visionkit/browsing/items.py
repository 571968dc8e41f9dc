"""What is known of a sample before it is drawn, and what a filter asks for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from visionkit.checkup.findings import Finding
from visionkit.checkup.kinds import SEVERITIES
from visionkit.predictions import Prediction
from visionkit.predictions.labels import extended
from visionkit.wording import counted

SIZES = ("small", "medium", "large")
"""Sizes of objects by their area in file pixels, as COCO has them."""

_SMALL, _LARGE = 32**2, 96**2


@dataclass(frozen=True)
class Item:
    """One sample of a data set.

    Attributes:
        split: `train`, `val` or `test`.
        number: Its position in the split.
        name: Path or name of its image.
        classes: Classes that its labels show.
        sizes: Those of `SIZES` that its objects have.
        caption: Its labels in a few words.
        findings: What an examination has found of it.
    """

    split: str
    number: int
    name: str
    classes: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()
    caption: str = ""
    findings: tuple[Finding, ...] = ()

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of its findings, each once."""
        return tuple(dict.fromkeys(each.kind for each in self.findings))


@dataclass(frozen=True)
class Filter:
    """Which samples are asked for; what is empty leaves nothing out.

    Attributes:
        splits: Splits.
        classes: Classes, any of which a sample shows.
        sizes: Sizes of objects, any of which a sample has, see `SIZES`. Where classes are given too, each is asked for
            by itself.
        findings: Kinds or severities of findings, any of which a sample has.
    """

    splits: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()

    def takes(self, item: Item) -> bool:
        """Whether a sample is asked for."""
        return (
            _any(self.splits, (item.split,))
            and _any(self.classes, item.classes)
            and _any(self.sizes, item.sizes)
            and _any(self.findings, (*item.kinds, *(each.severity for each in item.findings)))
        )


def _any(asked: Sequence[str], there: Iterable[str]) -> bool:
    return not asked or not set(asked).isdisjoint(there)


def sizes_of(target: Mapping[str, Any]) -> tuple[str, ...]:
    """Sizes of the objects of a target, each once, the smallest first.

    Args:
        target: See `visionkit.types.Target`, in file pixels; of several heads, all of theirs.
    """
    inner = [target, *target.get("heads", {}).values()]
    areas = np.concatenate([_areas(each) for each in inner])
    numbers = (areas >= _SMALL).astype(int) + (areas >= _LARGE)
    return tuple(SIZES[number] for number in np.unique(numbers))


def _areas(target: Mapping[str, Any]) -> np.ndarray:
    if "area" in target:
        return np.asarray(target["area"], np.float64).reshape(-1)
    boxes = np.asarray(target.get("boxes", np.zeros((0, 4))), np.float64).reshape(-1, 4)
    boxes = boxes[np.isfinite(boxes).all(axis=1)]
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(axis=1))


def caption_of(labels: Prediction | None, target: Mapping[str, Any], classes: Sequence[str]) -> str:
    """Labels in a few words: objects counted by class, or classes, or what the prediction states of itself.

    Args:
        labels: What `labels_of` gave.
        target: The target.
        classes: Class names.
    """
    if labels is None:
        return "no labels"
    numbers = np.asarray(target.get("labels", ()))
    if "boxes" in target and numbers.ndim == 1:
        names, rows = extended(classes, numbers.astype(np.int64))
        counts = Counter(names[row] for row in rows).most_common()
        return ", ".join(counted(count, name) for name, count in counts) or "no objects"
    return ", ".join(labels.class_names()) or labels.text()


def by_file(findings: Iterable[Finding]) -> dict[str, tuple[Finding, ...]]:
    """Findings by the image that they are about, those of an image in the order of reports.

    Args:
        findings: What an examination has found; copies are findings of every image that belongs to them.
    """
    out: dict[str, list[Finding]] = {}
    for each in sorted(findings, key=lambda found: SEVERITIES.index(found.severity)):
        for file in dict.fromkeys((each.file, *each.others)):
            if file:
                out.setdefault(file, []).append(each)
    return {file: tuple(some) for file, some in out.items()}

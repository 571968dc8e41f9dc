"""Runs every check over a data module: first the labels alone, then one pass over the images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np

from visionkit.checkup import keypoints, outlines  # noqa: F401  (they register their checks)
from visionkit.checkup.classes import class_counts, similar_classes
from visionkit.checkup.findings import Finding, in_order
from visionkit.checkup.kinds import KINDS
from visionkit.checkup.maps import check_depths
from visionkit.checkup.measurement import Measured, Measuring, measure_all
from visionkit.checkup.network import NetworkFacts, check_pixels, check_sizes
from visionkit.checkup.objects import Objects, check_objects
from visionkit.checkup.orientation import check_channels, check_sizes_of_files
from visionkit.checkup.raw_labels import RawAnnotations
from visionkit.checkup.splits import Images, copies, identity_leaks, sequence_leaks, similar_images
from visionkit.data import Split, VisionDataModule
from visionkit.errors import DataError, MissingSplit, UsageError
from visionkit.images import ImageSource
from visionkit.refusals import kept_refusals
from visionkit.sampling import classes_of
from visionkit.sequences import SequencedSamples
from visionkit.types import Sample

SPLITS: tuple[Split, ...] = get_args(Split)
QUICK = 20_000
"""Images of a split whose labels are examined before a training."""


@dataclass
class Part:
    """One split as it is examined.

    Attributes:
        split: `train`, `val` or `test`.
        samples: Its samples, as the label files have them.
        annotations: What label files state about its objects, or None where the samples alone know.
        sequences: The video of each sample, or empty.
        rows: Positions of the samples that are read.
        measured: What was measured of them.
    """

    split: str
    samples: Sequence[Sample]
    annotations: Sequence[RawAnnotations] | None = None
    sequences: Sequence[str] = ()
    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    measured: list[Measured] = field(default_factory=list)


@dataclass(frozen=True)
class Checkup:
    """What an examination has found.

    Attributes:
        data: Names the data.
        findings: The most severe first.
        images: Number of images that were read, by split; of a quick examination that are listed.
        statistics: Mean, deviation and sizes by split, in plain values.
    """

    data: str
    findings: Sequence[Finding]
    images: Mapping[str, int]
    statistics: Mapping[str, Any] = field(default_factory=dict)

    def count(self, severity: str) -> int:
        """Number of findings of a severity."""
        return sum(each.severity == severity for each in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "data": self.data,
            "images": dict(self.images),
            "errors": self.count("error"),
            "warnings": self.count("warning"),
            "notes": self.count("note"),
            "statistics": dict(self.statistics),
            "findings": [each.to_json() for each in self.findings],
        }


def examine(
    data: VisionDataModule,
    *,
    kinds: frozenset[str] = frozenset(KINDS),
    network: NetworkFacts | None = None,
    max_images: int = 0,
    num_workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
    embed: Callable[[Sequence[ImageSource]], np.ndarray] | None = None,
) -> Checkup:
    """Reads all of the data and reports what is wrong with it.

    Args:
        data: The data; splits that it does not have are left out.
        kinds: Names of the kinds of findings that are reported.
        network: The network that is to be trained, where it is known.
        max_images: Images of each split that are read, evenly spread; 0 reads all.
        num_workers: Processes that read images; 0 reads in this one.
        progress: Called with the number of images that are done, and of all.
        embed: Images to (n, D) features, by which similar images are found too.

    Raises:
        DataError: No split of the data can be read.
    """
    findings: list[Finding] = []
    parts = [part for split in SPLITS if (part := open_part(data, split, findings)) is not None]
    findings = _joined(findings)
    if not parts and not findings:
        raise DataError(f"{type(data).__name__}: no images in it")
    rows = []
    for number, part in enumerate(parts):
        part.rows = _rows(part.samples, max_images)
        rows += [(number, row) for row in part.rows]
    names = [_names(part) for part in parts]
    measuring = Measuring([part.samples for part in parts], names, np.array(rows).reshape(-1, 2), data.classes)
    measured = measure_all(measuring, num_workers, None if progress is None else lambda n: progress(n, len(rows)))
    for number, part in enumerate(parts):
        part.measured = [each for each, (of, _) in zip(measured, rows, strict=True) if of == number]
        findings += [Finding(f.kind, part.split, f.message, m.file) for m in part.measured for f in m.found]
    tables = [table for part in parts if (table := _objects(part, data.classes)) is not None]
    findings += _of_labels(parts, tables, data.classes)
    for part in parts:
        findings += check_sizes_of_files(part.split, part.annotations or (), part.measured)
    findings += check_channels({part.split: part.measured for part in parts})
    findings += check_depths({part.split: [each.facts for each in part.measured] for part in parts})
    images = _images(parts, data.classes)
    findings += copies(images)
    if embed is not None:
        readable = [k for k, each in enumerate(measured) if each.print is not None]
        sources = [parts[of].samples[int(row)].image for of, row in (rows[k] for k in readable)]
        findings += similar_images(images, readable, embed(sources))
    statistics = {}
    for part in parts:
        known = [each for each in part.measured if each.mean is not None and each.size is not None]
        if known:
            statistics[part.split], more = _statistics(part.split, known, network)
            findings += more
    if network is not None:
        trained = [table for table in tables if table.split == "train"]
        for table in trained or tables:
            findings += check_sizes(table, network)
    numbers = {part.split: len(part.measured) for part in parts}
    return Checkup(type(data).__name__, in_order(f for f in findings if f.kind in kinds), numbers, statistics)


def examine_labels(data: VisionDataModule, splits: Sequence[Split]) -> Checkup:
    """The cheap part: class names, boxes, keypoints, imbalance and leaks of videos; no image is read.

    Of a large set, `QUICK` images of each split, evenly spread, are examined; outlines are left to `examine`.

    Args:
        data: The data.
        splits: Splits that are there.
    """
    parts = [part for split in splits if (part := open_part(data, split, [])) is not None]
    tables = []
    for part in parts:
        if part.annotations is not None:
            chosen = _rows(part.annotations, QUICK)
            table = Objects.of(part.split, [part.annotations[int(row)] for row in chosen], data.classes)
            table.segments = None
            tables.append(table)
    numbers = {part.split: len(part.samples) for part in parts}
    return Checkup(type(data).__name__, in_order(_of_labels(parts, tables, data.classes)), numbers)


def open_part(data: VisionDataModule, split: Split, findings: list[Finding]) -> Part | None:
    """One split of the data; None where it has none, or its reader refuses it.

    Args:
        data: The data.
        split: Which one.
        findings: Gets what its reader refuses.
    """
    with kept_refusals() as refused:
        try:
            annotations = data.annotations(split)
            samples = data.raw_samples(split)
        except (UsageError, MissingSplit):
            samples = None  # the data has no such split
        except DataError as error:
            findings.append(Finding("refused", split, str(error)))
            samples = None
    findings += [Finding(each.kind, split, str(each.error)) for each in refused]
    if samples is None or not len(samples):
        return None
    sequences = samples.sequences() if isinstance(samples, SequencedSamples) else ()
    return Part(split, samples, annotations, sequences)


def _joined(findings: Sequence[Finding]) -> list[Finding]:
    """What several splits are refused for with the same words, once."""
    splits: dict[tuple[str, str], list[str]] = {}
    for each in findings:
        splits.setdefault((each.kind, each.message), []).append(each.split)
    return [Finding(kind, "+".join(dict.fromkeys(some)), message) for (kind, message), some in splits.items()]


def _rows(samples: Sequence[Any], max_images: int) -> np.ndarray:
    # Readers of patches list an image as often as patches are cut out of it.
    rows = np.arange(0, len(samples), int(getattr(samples, "times", 1)))
    if max_images and len(rows) > max_images:
        rows = rows[np.linspace(0, len(rows) - 1, max_images).astype(int)]
    return rows


def _names(part: Part) -> Sequence[str]:
    samples: Any = part.samples
    names = samples.names() if hasattr(samples, "names") else ()
    return names if len(names) == len(samples) else ()


def _objects(part: Part, classes: Sequence[str]) -> Objects | None:
    """The objects of a split, with the sizes that the files have."""
    if part.annotations is not None:
        table = Objects.of(part.split, part.annotations, classes)
        for row, each in zip(part.rows, part.measured, strict=True):
            if each.size is not None:
                table.sizes[row] = each.size
        table.size = table.sizes[table.image].reshape(-1, 2)
        return table
    entries = [_Labeled(each) for each in part.measured]
    entries = [each for each in entries if each.has_boxes]
    return Objects.of(part.split, entries, classes) if entries else None


class _Labeled:
    """What a sample states about its objects, where there is no label file of its own."""

    def __init__(self, measured: Measured) -> None:
        target = measured.target
        self.has_boxes = "boxes" in target and np.ndim(target.get("labels", ())) == 1
        self.file, self.place, self.size = measured.file, "", measured.size
        self.boxes = target.get("boxes", np.zeros((0, 4)))
        self.labels = target.get("labels", np.zeros(len(self.boxes)))
        self.crowded = target.get("iscrowd", np.zeros(len(self.boxes))).astype(bool)
        self.area, self.segments = None, None
        self.more = {"keypoints": target["keypoints"]} if "keypoints" in target else {}


def _of_labels(parts: Sequence[Part], tables: Sequence[Objects], classes: Sequence[str]) -> Iterator[Finding]:
    """What needs no image: objects, class names, imbalance, videos and people in two splits."""
    for table in tables:
        yield from check_objects(table)
    counts, unit = _class_counts(parts, tables, classes)
    if counts:
        whole = {name: sum(each.get(name, 0) for each in counts.values()) for name in classes}
        yield from similar_classes(whole, "+".join(counts))
        yield from class_counts(counts, unit)
    sequences = {part.split: part.sequences for part in parts if len(part.sequences)}
    yield from sequence_leaks(sequences)
    people = {part.split: _values(part, "identity") for part in parts}
    people = {split: each for split, each in people.items() if each}
    yield from identity_leaks(people, galleries=any(_values(part, "gallery") for part in parts))


def _values(part: Part, key: str) -> list[int]:
    return [
        int(each.target[key]) for each in part.measured if np.ndim(each.target.get(key, ())) == 0 and key in each.target
    ]


def _class_counts(
    parts: Sequence[Part], tables: Sequence[Objects], classes: Sequence[str]
) -> tuple[dict[str, dict[str, int]], str]:
    """Labels by class name, by split, and what they count."""
    if not classes:
        return {}, ""
    if tables:
        of_tables = {t.split: np.bincount(t.labels[t.labels >= 0], minlength=len(classes)) for t in tables}
        return {
            split: dict(zip(classes, numbers.tolist(), strict=False)) for split, numbers in of_tables.items()
        }, "object"
    counts: dict[str, dict[str, int]] = {}
    unit = "image"
    for part in parts:
        pixels = [each.facts["label_pixels"] for each in part.measured if "label_pixels" in each.facts]
        if pixels:
            there = (np.stack([each[: len(classes)] for each in pixels]) > 0).sum(axis=0)
            counts[part.split], unit = dict(zip(classes, there.tolist(), strict=False)), "label map"
        elif hasattr(part.samples, "classes_of"):
            labels = classes_of(part.samples)
            unit = "image" if all(len(each) == 1 for each in labels) else "label"
            numbers = np.bincount(np.concatenate(labels), minlength=len(classes)).tolist()
            counts[part.split] = dict(zip(classes, numbers, strict=False))
    return counts, unit


def _images(parts: Sequence[Part], classes: Sequence[str]) -> Images:
    measured = [each for part in parts for each in part.measured]
    splits = [part.split for part in parts for _ in part.measured]
    sequences = [part.sequences[row] if len(part.sequences) else "" for part in parts for row in part.rows]
    return Images(measured, splits, sequences, [_label(each.target, classes) for each in measured])


def _label(target: Mapping[str, Any], classes: Sequence[str]) -> str | None:
    """The one label of a whole image, or None."""
    if "identity" in target:
        return f"person {int(target['identity'])}"
    labels = target.get("labels")
    if labels is None or "boxes" in target:
        return None
    if np.ndim(labels) == 0:
        number = int(labels)
        return repr(classes[number]) if 0 <= number < len(classes) else f"class {number}"
    names = [repr(name) for name, there in zip(classes, labels.ravel(), strict=False) if there]
    return "+".join(names) or "nothing"


def _statistics(
    split: str, measured: Sequence[Measured], network: NetworkFacts | None
) -> tuple[dict[str, Any], list[Finding]]:
    sizes = [each.size for each in measured if each.size is not None]
    mean = np.mean([each.mean for each in measured if each.mean is not None], axis=0)
    square = np.mean([each.square for each in measured if each.square is not None], axis=0)
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    shorter = np.array([min(size) for size in sizes])
    plain = {
        "images": len(measured),
        "mean": [round(float(value), 4) for value in mean],
        "deviation": [round(float(value), 4) for value in deviation],
        "shorter side, least, median, most": [int(np.quantile(shorter, q, method="nearest")) for q in (0, 0.5, 1)],
    }
    return plain, list(check_pixels(split, sizes, mean, deviation, network))

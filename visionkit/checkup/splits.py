"""What is wrong between images: copies within and across splits, labels that contradict each other, leaks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from visionkit.checkup.findings import Finding
from visionkit.checkup.measurement import Measured
from visionkit.checkup.near_duplicates import compare, find_copies, groups_of
from visionkit.wording import counted

_SHOWN = 5
_SIMILAR = 0.9  # cosine of two images' features, freed of the mean of the set
_BLOCK = 1024


@dataclass(frozen=True)
class Images:
    """All images of all splits, in one row each.

    Attributes:
        measured: What is known of each.
        splits: Its split.
        sequences: The video that it is of; empty where it is of none.
        labels: Its class or identity, where it has one for the whole image, else None.
    """

    measured: Sequence[Measured]
    splits: Sequence[str]
    sequences: Sequence[str]
    labels: Sequence[Any]


def copies(images: Images) -> Iterator[Finding]:
    """Images that are copies of each other, each finding with all of them."""
    rows = [number for number, each in enumerate(images.measured) if each.print is not None]
    equal = _equal(images, rows)
    alike = find_copies([_print(images, row) for row in rows])
    pairs = zip(alike.first.tolist(), alike.second.tolist(), alike.flipped.tolist(), alike.difference, strict=True)
    exact = {number: group[0] for group in equal for number in group}
    across: dict[tuple[str, str], set[tuple[int, int]]] = {}
    within: list[tuple[int, int]] = []
    for a, b, flipped, difference in pairs:
        first, second = rows[a], rows[b]
        if exact.get(first, first) == exact.get(second, second) or _one_video(images, first, second):
            continue
        if images.splits[first] == images.splits[second]:
            within += [(first, second)] if not flipped else []
            continue
        kind = "flipped-duplicate-across" if flipped else "near-duplicate-across"
        one = exact.get(first, first), exact.get(second, second)
        key = kind, "+".join((images.splits[first], images.splits[second]))
        if one in across.setdefault(key, set()):
            continue
        across[key].add(one)
        how = "flipped left and right, " if flipped else ""
        message = f"{how}differ by {difference:.1f} gray levels"
        yield Finding(*key, message, _file(images, first), others=(_file(images, second),))
    for group in equal:
        yield from _exact(images, group)
    near = groups_of(*np.array(within, dtype=np.int64).reshape(-1, 2).T)
    for group in near:
        files = [_file(images, number) for number in group]
        message = f"{counted(len(group), 'image')} that are nearly the same"
        yield Finding("near-duplicate", images.splits[group[0]], message, files[0], others=tuple(files[1:]))
    yield from _conflicts(images, [*equal, *near])


def _print(images: Images, row: int) -> Any:
    return images.measured[row].print


def _file(images: Images, number: int) -> str:
    return images.measured[number].file


def _equal(images: Images, rows: Sequence[int]) -> list[list[int]]:
    """Groups of images of equal content; blank ones are equal without being copies."""
    groups: dict[bytes, list[int]] = {}
    for row in rows:
        each = images.measured[row]
        if each.content and each.print is not None and not each.print.flat:
            groups.setdefault(each.content, []).append(row)
    return [group for group in groups.values() if len(group) > 1 and not _of_one_video(images, group)]


def _one_video(images: Images, first: int, second: int) -> bool:
    """Whether two images are frames of one video in one split, which are alike without a fault."""
    name = images.sequences[first]
    return bool(name) and name == images.sequences[second] and images.splits[first] == images.splits[second]


def _of_one_video(images: Images, group: Sequence[int]) -> bool:
    return all(_one_video(images, group[0], other) for other in group[1:])


def _exact(images: Images, group: Sequence[int]) -> Iterator[Finding]:
    by_split: dict[str, list[int]] = {}
    for number in group:
        by_split.setdefault(images.splits[number], []).append(number)
    for (first, own), (second, others) in combinations(by_split.items(), 2):
        files = tuple(_file(images, number) for number in others)
        message = "is in both splits" if _file(images, own[0]) in files else "has the same content in both splits"
        yield Finding("shared-image", f"{first}+{second}", message, _file(images, own[0]), others=files)
    for split, own in by_split.items():
        files = tuple(dict.fromkeys(_file(images, number) for number in own))
        if len(files) > 1:
            message = f"{counted(len(files), 'image')} of equal content"
            yield Finding("duplicate-image", split, message, files[0], others=files[1:])
        elif len(own) > 1:
            yield Finding("duplicate-image", split, f"is listed {len(own)} times", files[0])


def _conflicts(images: Images, groups: Sequence[Sequence[int]]) -> Iterator[Finding]:
    """Copies of one image with different labels."""
    for group in groups:
        known = {number: images.labels[number] for number in group if images.labels[number] is not None}
        labels = list(dict.fromkeys(known.values()))
        if len(labels) < 2:
            continue
        files = [_file(images, number) for number in known]
        splits = "+".join(dict.fromkeys(images.splits[number] for number in known))
        shown = " and ".join(map(str, labels[:_SHOWN]))
        yield Finding(
            "conflicting-labels", splits, f"copies of one image are {shown}", files[0], others=tuple(files[1:])
        )


def similar_images(images: Images, rows: Sequence[int], features: np.ndarray) -> Iterator[Finding]:
    """Images with nearly equal features that are no copies by their pixels, such as two photographs of one scene.

    Args:
        images: All images.
        rows: Those that have features.
        features: (n, D), one row each.
    """
    if len(rows) < 3:
        return
    centered = features.astype(np.float32) - features.mean(axis=0, dtype=np.float32)
    unit = centered / np.maximum(np.linalg.norm(centered, axis=1, keepdims=True), 1e-12)
    small = np.stack([_print(images, row).small for row in rows])
    pairs: dict[str, list[tuple[int, int]]] = {}
    for start in range(0, len(unit), _BLOCK):
        cosine = unit[start : start + _BLOCK] @ unit.T
        first, second = np.nonzero(cosine > _SIMILAR)
        first += start
        later = second > first
        first, second = first[later], second[later]
        equal = compare(small[first], small[second])[0]
        for a, b in zip(first[~equal].tolist(), second[~equal].tolist(), strict=True):
            one, other = rows[a], rows[b]
            if not _one_video(images, one, other):
                split = "+".join(dict.fromkeys((images.splits[one], images.splits[other])))
                pairs.setdefault(split, []).append((one, other))
    for split, some in pairs.items():
        for group in groups_of(*np.array(some, dtype=np.int64).T):
            files = [_file(images, number) for number in group]
            message = f"{counted(len(files), 'image')} with nearly the same features"
            yield Finding("similar-images", split, message, files[0], others=tuple(files[1:]))


def sequence_leaks(sequences: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    """Videos whose frames are in two splits.

    Args:
        sequences: The video of each image, by split; empty where it is of none.
    """
    yield from _shared(sequences, "sequence-leak", "frames of this video are in both splits")


def identity_leaks(identities: Mapping[str, Sequence[Any]], galleries: bool) -> Iterator[Finding]:
    """People who are in two splits, and people of one image.

    Args:
        identities: The person of each image, by split.
        galleries: The people of testing are those of training on purpose.
    """
    if not galleries:  # people of validation and of test are both numbered behind those of training
        for split, people in identities.items():
            if split != "train" and "train" in identities:
                own = {"train": identities["train"], split: people}
                yield from _shared(own, "identity-leak", "images of this person are in both splits")
    for split, people in identities.items():
        values, numbers = np.unique(np.asarray(people), return_counts=True)
        for person in values[numbers == 1]:
            yield Finding("single-image-identity", split, f"person {person} has one image")


def _shared(names: Mapping[str, Sequence[Any]], kind: str, message: str) -> Iterator[Finding]:
    for (first, own), (second, others) in combinations(names.items(), 2):
        for name in sorted(({*own} & {*others}) - {"", None}):
            yield Finding(kind, f"{first}+{second}", f"{name}: {message}", place=str(name))

"""What is wrong with class names, and with how often each class occurs."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from visionkit.checkup.findings import Finding
from visionkit.wording import counted, plural

_SIMILAR = 0.8  # difflib's ratio of two names
_SHORTEST = 5  # letters; boat and goat are two things
_RARE, _FEW_LABELS = 0.1, 5  # what is misspelled is rare: at most that many labels, a tenth of those of the other class
_RATIO = 100.0
_SHIFT, _ENOUGH = 0.3, 30
_MANY = 2000  # classes; names of more are people and products, which are alike


def similar_classes(counts: Mapping[str, int], split: str = "train") -> Iterator[Finding]:
    """Class names that differ in case, blanks or accents, and rare ones that differ from a common one by a letter.

    Args:
        counts: Labels by class name.
        split: Names where they were counted.
    """
    names = list(counts)
    if len(names) > _MANY:
        return
    plain: dict[str, str] = {}
    for name in names:
        known = plain.setdefault(_plain(name), name)
        if known != name:
            yield _similar(known, name, counts, split, "differ in case, blanks or accents alone")
    letters = {name: _plain(name) for name in names}
    for number, first in enumerate(names):
        for second in names[number + 1 :]:
            rare, common = sorted((first, second), key=lambda name: counts[name])
            most = min(max(_FEW_LABELS, counts[common] // 100), _RARE * counts[common])
            if counts[rare] > most or not _one_slip(letters[rare], letters[common]):
                continue
            yield _similar(rare, common, counts, split, "differ by a letter, and one of them is rare")


def _similar(first: str, second: str, counts: Mapping[str, int], split: str, why: str) -> Finding:
    numbers = f"{counts[first]:,} and {counts[second]:,} labels"
    return Finding("similar-classes", split, f"{first!r} and {second!r} {why} ({numbers})")


def _plain(name: str) -> str:
    decomposed = unicodedata.normalize("NFKD", name).casefold()
    return re.sub(r"[\s_.-]+", "", "".join(c for c in decomposed if not unicodedata.combining(c)))


def _one_slip(first: str, second: str) -> bool:
    """Whether one letter more, less or other, or two exchanged, makes one name of the other."""
    if first == second or min(len(first), len(second)) < _SHORTEST or abs(len(first) - len(second)) > 1:
        return False
    if re.sub(r"\d", "", first) == re.sub(r"\d", "", second):
        return False  # numbered: class 1, class 2
    if difflib.SequenceMatcher(None, first, second).ratio() < _SIMILAR:
        return False
    if len(first) != len(second):
        longer, shorter = sorted((first, second), key=len, reverse=True)
        return any(longer[:k] + longer[k + 1 :] == shorter for k in range(len(longer)))
    apart = [k for k, (a, b) in enumerate(zip(first, second, strict=True)) if a != b]
    swapped = len(apart) == 2 and apart[1] == apart[0] + 1 and first[apart[0]] == second[apart[1]]
    return len(apart) == 1 or (swapped and first[apart[1]] == second[apart[0]])


def class_counts(counts: Mapping[str, Mapping[str, int]], unit: str) -> Iterator[Finding]:
    """Classes without labels, classes that training lacks, imbalance, and splits of different mixtures.

    Args:
        counts: Labels by class name, by split.
        unit: What is counted, in the singular.
    """
    train = counts.get("train")
    everywhere = {name: sum(each.get(name, 0) for each in counts.values()) for name in _names(counts)}
    absent = [name for name, number in everywhere.items() if not number]
    if absent:
        yield Finding("absent-class", "+".join(counts), f"no {unit} of class {_few(absent)}")
    if train is None:
        return
    for split, own in counts.items():
        unseen = [name for name, number in own.items() if number and not train.get(name) and split != "train"]
        if unseen:
            numbers = counted(sum(own[name] for name in unseen), unit)
            yield Finding(
                "unseen-class", split, f"training has no {unit} of class {_few(unseen)}, {split} has {numbers}"
            )
    present = {name: number for name, number in train.items() if number}
    if len(present) > 1:
        most, least = max(present, key=present.__getitem__), min(present, key=present.__getitem__)
        if present[most] >= _RATIO * present[least]:
            ratio = present[most] / present[least]
            units = plural(unit)
            message = f"{present[most]:,} {units} of {most!r} and {present[least]:,} of {least!r}, {ratio:,.0f} to 1"
            yield Finding("imbalance", "train", message)
    yield from _shifts(counts, train)


def _shifts(counts: Mapping[str, Mapping[str, int]], train: Mapping[str, int]) -> Iterator[Finding]:
    names = _names(counts)
    own = np.array([train.get(name, 0) for name in names], dtype=np.float64)
    for split, each in counts.items():
        other = np.array([each.get(name, 0) for name in names], dtype=np.float64)
        fewest, present = min(int(own.sum()), int(other.sum())), int(np.count_nonzero(own + other))
        if split == "train" or fewest < _ENOUGH * max(1, present) / 2:
            continue  # of few labels per class, fractions differ by chance
        change = other / other.sum() - own / own.sum()
        if np.abs(change).sum() / 2 > _SHIFT:
            most = int(np.abs(change).argmax())
            fractions = f"{own[most] / own.sum():.0%} of train and {other[most] / other.sum():.0%} of {split}"
            yield Finding("class-shift", split, f"{names[most]!r} is {fractions}")


def _names(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    return list(dict.fromkeys(name for each in counts.values() for name in each))


def _few(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (f", ... {len(names)} in all" if len(names) > 5 else "")

"""What is wrong with found boxes or masks, and what each kind of error costs (TIDE: Bolya et al., 2020).

Every wrong object has one kind of error, every true object that nothing explains is missed, and the cost of a kind is
how much AP50 rises where an oracle mends all errors of that kind and no other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from visionkit.families.detection.coco_eval.accumulate import COUNTED, RECALL_POINTS, Overlaps, highest_scoring
from visionkit.families.detection.coco_eval.flat import Flat, Pairs, meetings

FOREGROUND, BACKGROUND = 0.5, 0.1
"""Overlap from which an object is found, and up to which nothing is there."""

RIGHT, IGNORED = "right", "ignored"
WRONG = ("classification", "localization", "both", "duplicate", "background")
"""Kinds of errors of a found object."""

KINDS = (*WRONG, "missed")
"""The six kinds of errors."""

FALSE_POSITIVE, FALSE_NEGATIVE = "false positive", "false negative"

MEANINGS = {
    "classification": "overlaps an object of another class",
    "localization": "right class, overlap too small",
    "both": "another class and an overlap too small",
    "duplicate": "the object was found by a higher-scoring one",
    "background": "nothing is there",
    "missed": "an object that nothing found",
}

_NAMES = (RIGHT, *WRONG, IGNORED)


@dataclass(frozen=True, eq=False)
class ErrorBreakdown:
    """The errors of found objects, and what they cost.

    Attributes:
        found: The found objects that count: at most 100 per image and class, by image and falling score.
        kind: (N,) int64, what each of them is, a number into `names`.
        true: (N,) int64 row of the true object that it finds or misses, -1 where it meets none.
        overlap: (N,) float64, its overlap with that object.
        missed: (M,) bool of the true objects.
        ap: AP50, mean over the classes that have objects; -1 without any.
        costs: By how much AP50 rises where all errors of a kind are mended; `false positive` and `false negative` too.
    """

    found: Flat
    kind: np.ndarray
    true: np.ndarray
    overlap: np.ndarray
    missed: np.ndarray
    ap: float
    costs: dict[str, float]

    names = _NAMES

    def is_kind(self, name: str) -> np.ndarray:
        """(N,) bool, the found objects of one kind, `right` and `ignored` among them."""
        return np.asarray(self.kind == _NAMES.index(name))

    def count(self, name: str) -> int:
        """Number of errors of a kind."""
        return int(self.missed.sum() if name == "missed" else self.is_kind(name).sum())

    def rows(self) -> list[dict[str, Any]]:
        """One row per kind with its count and dAP; then all false positives, and all true objects not found."""
        counts = {name: self.count(name) for name in KINDS}
        # A true object that only a misplaced or misnamed one covers is not found either.
        unfound = int(self.missed.sum()) + len(np.unique(self.true[self._covers]))
        counts |= {FALSE_POSITIVE: sum(self.count(name) for name in WRONG), FALSE_NEGATIVE: unfound}
        return [{"error": name, "count": count, "dAP": self.costs[name]} for name, count in counts.items()]

    @property
    def _covers(self) -> np.ndarray:
        """(N,) bool, wrong objects whose true object is found by no other."""
        taken = np.zeros(len(self.missed), dtype=bool)
        taken[self.true[self.is_kind(RIGHT)]] = True
        misplaced = (self.is_kind("classification") | self.is_kind("localization")) & (self.true >= 0)
        return np.asarray(misplaced & ~taken[self.true])


def break_down(
    found: Flat,
    true: Flat,
    classes: int,
    overlaps: Overlaps,
    foreground: float = FOREGROUND,
    background: float = BACKGROUND,
    most: int = COUNTED,
) -> ErrorBreakdown:
    """Attributes every error of found objects to one kind.

    In the order of the paper's tool, a wrong object is of the first kind that fits: `localization` where the true
    object of its class that it overlaps most is overlapped by `background` to `foreground`, `classification` where one
    of another class is overlapped by `foreground` or more, `duplicate` where one of its class is that was found
    already, `background` where nothing is overlapped by more than `background`, and `both` otherwise. A true object is
    missed where it is not found and no error of classification or localization means it.

    The oracles: errors of localization and classification become right, the highest-scoring one per true object that
    was not found, and the others vanish; errors of the other kinds vanish; missed objects are not asked for.

    Args:
        found: Objects found, in any order.
        true: Objects there are; crowds, and what lies in them, count neither way.
        classes: K.
        overlaps: `box_pairs` or `mask_pairs`.
        foreground: Overlap from which an object is found.
        background: Overlap up to which nothing is there.
        most: Objects of an image and class that count.
    """
    found, _ = highest_scoring(found, classes, most)
    found = found.take(np.lexsort((-found.scores, found.image)))
    crowd = true.crowd if len(true.crowd) else np.zeros(len(true), dtype=bool)
    anyone = Flat(found.image, np.zeros_like(found.labels), found.boxes, found.areas, masks=found.masks)
    pairs = overlaps(anyone, true, meetings(found.image, true.image), min(background, foreground))
    alike = found.labels[pairs.found] == true.labels[pairs.true]
    in_crowd = crowd[pairs.true]
    match = _match(found, _some(pairs, alike & ~in_crowd & (pairs.iou >= foreground)), len(true))
    taken = np.zeros(len(true), dtype=bool)
    taken[match[match >= 0]] = True

    own = _best(_some(pairs, alike & ~in_crowd), len(found))
    other = _best(_some(pairs, ~alike & ~in_crowd), len(found))
    again = _best(_some(pairs, alike & ~in_crowd & taken[pairs.true]), len(found))
    ignored = np.zeros(len(found), dtype=bool)
    ignored[pairs.found[alike & in_crowd & (pairs.iou >= foreground)]] = True
    ignored &= match < 0
    any_iou = np.maximum(own.iou, other.iou)
    tests = {
        RIGHT: match >= 0,
        IGNORED: ignored,
        "localization": (own.iou >= background) & (own.iou <= foreground),
        "classification": other.iou >= foreground,
        "duplicate": again.iou >= foreground,
        "background": any_iou <= background,
        "both": np.ones(len(found), dtype=bool),
    }
    kind = np.select(list(tests.values()), [_NAMES.index(name) for name in tests], 0)
    partners = {
        RIGHT: _Best(match, _overlap(pairs, match)),
        "localization": own,
        "classification": other,
        "duplicate": again,
        "both": other,
    }
    partner, iou = np.full(len(found), -1), np.zeros(len(found))
    for name, best in partners.items():
        here = kind == _NAMES.index(name)
        partner[here], iou[here] = best.true[here], best.iou[here]
    mended = _mended(kind, partner, found.scores, taken)
    meant = np.zeros(len(true), dtype=bool)
    meant[partner[mended]] = True
    missed = ~taken & ~meant & ~crowd
    ap, costs = _costs(found, true, classes, kind, partner, mended, missed, taken, crowd)
    return ErrorBreakdown(found, kind, partner, iou, missed, ap, costs)


# ---------------------------------------------------------------------- attributing


@dataclass(frozen=True, eq=False)
class _Best:
    """For each found object the true one that it overlaps most, -1 and 0 where there is none."""

    true: np.ndarray
    iou: np.ndarray


def _some(pairs: Pairs, keep: np.ndarray) -> Pairs:
    return Pairs(*(part[keep] for part in pairs))


def _best(pairs: Pairs, number: int) -> _Best:
    order = np.lexsort((pairs.true, -pairs.iou, pairs.found))
    who, first = np.unique(pairs.found[order], return_index=True)
    true, iou = np.full(number, -1), np.zeros(number)
    true[who], iou[who] = pairs.true[order][first], pairs.iou[order][first]
    return _Best(true, iou)


def _match(found: Flat, pairs: Pairs, number: int) -> np.ndarray:
    """(N,) the true object of each found one by COCO's rule: the highest-scoring one chooses first, of those free."""
    # Of equal overlaps COCO takes the last.
    order = np.lexsort((-pairs.true, -pairs.iou, pairs.found))
    match, free = [-1] * len(found), [True] * number
    for d, g in zip(pairs.found[order].tolist(), pairs.true[order].tolist(), strict=True):
        if match[d] < 0 and free[g]:
            match[d], free[g] = g, False
    return np.array(match, dtype=np.int64)


def _overlap(pairs: Pairs, match: np.ndarray) -> np.ndarray:
    iou = np.zeros(len(match))
    here = match[pairs.found] == pairs.true
    iou[pairs.found[here]] = pairs.iou[here]
    return iou


def _mended(kind: np.ndarray, partner: np.ndarray, scores: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """(N,) bool: errors that become right where they are mended, one per true object that was not found."""
    misplaced = np.isin(kind, [_NAMES.index("classification"), _NAMES.index("localization")])
    rows = np.flatnonzero(misplaced & (partner >= 0) & ~taken[partner])
    rows = rows[np.lexsort((-scores[rows], partner[rows]))]
    _, first = np.unique(partner[rows], return_index=True)
    mended = np.zeros(len(kind), dtype=bool)
    mended[rows[first]] = True
    return mended


# ---------------------------------------------------------------------- what errors cost


def _costs(
    found: Flat,
    true: Flat,
    classes: int,
    kind: np.ndarray,
    partner: np.ndarray,
    mended: np.ndarray,
    missed: np.ndarray,
    taken: np.ndarray,
    crowd: np.ndarray,
) -> tuple[float, dict[str, float]]:
    right = kind == _NAMES.index(RIGHT)
    counted = kind != _NAMES.index(IGNORED)
    wanted = np.bincount(true.labels[~crowd], minlength=classes)

    def measured(keep: np.ndarray, right: np.ndarray, labels: np.ndarray, wanted_now: np.ndarray) -> float:
        keep = keep & counted
        return _mean_ap(found.scores[keep], right[keep], labels[keep], wanted_now, wanted > 0)

    before = measured(counted, right, found.labels, wanted)
    if before < 0:
        return before, dict.fromkeys((*KINDS, FALSE_POSITIVE, FALSE_NEGATIVE), 0.0)
    after = {}
    for name in WRONG:
        here = kind == _NAMES.index(name)
        fixed = here & mended
        labels = found.labels.copy()
        labels[fixed] = true.labels[partner[fixed]]
        after[name] = measured(~here | fixed, right | fixed, labels, wanted)
    for name, gone in (("missed", missed), (FALSE_NEGATIVE, ~taken & ~crowd)):
        after[name] = measured(counted, right, found.labels, wanted - np.bincount(true.labels[gone], minlength=classes))
    after[FALSE_POSITIVE] = measured(right, right, found.labels, wanted)
    names = (*KINDS, FALSE_POSITIVE, FALSE_NEGATIVE)
    # Where nothing is asked for any more and nothing is wrong, everything is right.
    return before, {name: (after[name] if after[name] >= 0 else 1.0) - before for name in names}


def _mean_ap(
    scores: np.ndarray, right: np.ndarray, labels: np.ndarray, wanted: np.ndarray, classes: np.ndarray
) -> float:
    """Mean of COCO's AP with 101 recall points over some classes; -1 without any.

    A class of which nothing is asked for any more counts as 0 where wrong objects are left, and not at all otherwise.
    """
    order = np.lexsort((-scores, labels))  # stable: images stay in their order among equal scores
    right, bounds = right[order], np.searchsorted(labels[order], np.arange(len(wanted) + 1))
    values = []
    for k in np.flatnonzero(classes):
        mine = right[bounds[k] : bounds[k + 1]]
        if not wanted[k]:
            values += [0.0] if len(mine) else []
            continue
        hits = mine.cumsum(dtype=np.float64)
        precision = hits / np.arange(1, len(mine) + 1)
        envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
        at = np.searchsorted(hits / wanted[k], RECALL_POINTS, side="left")
        values.append(float(envelope[at].mean()))
    return float(np.mean(values)) if values else -1.0

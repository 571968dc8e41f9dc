"""What is wrong with keypoints: jitter, inversion, swap and miss (Ronchi and Perona, 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from visionkit.families.keypoints.oks import MAX_PEOPLE, PoseResults, Truth, evaluate, oks
from visionkit.skeleton import Skeleton

KINDS = ("jitter", "inversion", "swap", "miss")
"""Kinds of wrong keypoints of people that were found."""

GOOD, NEAR = 0.85, 0.5
"""Similarity of a keypoint to its true place from which it is good, and from which it is near a place at all."""

FOUND = 0.1
"""Object keypoint similarity from which a person is found."""

MEANINGS = {
    "jitter": "near the right place, not quite at it",
    "inversion": "at the flipped counterpart of the same person, left for right",
    "swap": "at the same keypoint of another person, or at its counterpart",
    "miss": "near none of these",
}

UNKNOWN, RIGHT = -1, 0


@dataclass(frozen=True, eq=False)
class PoseErrors:
    """Errors of keypoints, and what they cost.

    Attributes:
        kind: (M, K) int64 of every true keypoint: its number in `KINDS` from 1 on, 0 good, -1 not labeled, or of a
            person that was not found.
        found: (M,) row of the found person of each true one, -1 where there is none.
        missed: (M,) bool, people who were not found.
        extra: (N,) bool, found people where nobody is.
        ap: OKS AP.
        costs: By how much it rises where all errors of a kind are mended; `missed person` and `extra person` too.
    """

    kind: np.ndarray
    found: np.ndarray
    missed: np.ndarray
    extra: np.ndarray
    ap: float
    costs: dict[str, float]

    def count(self, name: str) -> int:
        """Number of keypoints of a kind."""
        return int((self.kind == KINDS.index(name) + 1).sum())

    def rows(self) -> list[dict[str, Any]]:
        """One row per kind with its count, its fraction of the labeled keypoints of found people, and dAP."""
        labeled = max(1, int((self.kind >= RIGHT).sum()))
        counts = {name: self.count(name) for name in KINDS}
        people = {"missed person": int(self.missed.sum()), "extra person": int(self.extra.sum())}
        return [
            {
                "error": name,
                "count": count,
                "of keypoints": count / labeled if name in KINDS else 0.0,
                "dAP": self.costs[name],
            }
            for name, count in (counts | people).items()
        ]

    def per_keypoint(self, skeleton: Skeleton) -> list[dict[str, Any]]:
        """One row per keypoint: how often it is good and how often of each kind."""
        rows = []
        for number, name in enumerate(skeleton.keypoints):
            mine = self.kind[:, number]
            labeled = max(1, int((mine >= RIGHT).sum()))
            parts = {kind: float((mine == k).sum() / labeled) for k, kind in enumerate(("good", *KINDS))}
            rows.append({"keypoint": name, "labeled": int((mine >= RIGHT).sum()), **parts})
        return rows


def attribute(
    found: PoseResults, true: Truth, skeleton: Skeleton, sigmas: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Attributes every wrong keypoint to one kind.

    A found person, highest-scoring first, is the free true one that it is most like: first those with a similarity of
    .5, then the others from .1 on. A keypoint whose similarity to its true place is below .5 is an `inversion` or a
    `swap` where it is .5 or more to the place of its flipped counterpart of the same person, or to either of both of
    another person, whichever is nearer; otherwise it is a `miss`. From .5 up to .85 it is `jitter`.

    Args:
        found: Predictions in any order.
        true: Ground truth in any order; crowds are left out.
        skeleton: Skeleton of both.
        sigmas: (K,) of object keypoint similarity.

    Returns:
        `kind` and `found` of `PoseErrors`, and (N,) bool of the found people that count: at most 20 per image.
    """
    kind = np.full(true.keypoints.shape[:2], UNKNOWN)
    partner, counted = np.full(len(kind), -1), np.zeros(len(found.image), dtype=bool)
    labeled = (true.keypoints[:, :, 2] > 0) & ~true.crowd[:, None]
    for image in np.unique(np.concatenate([true.image, found.image])):
        g = np.flatnonzero((true.image == image) & labeled.any(axis=1))
        d = np.flatnonzero(found.image == image)
        d = d[np.argsort(-found.scores[d], kind="stable")][:MAX_PEOPLE]
        counted[d] = True
        if not len(g):
            continue
        like = oks(found.keypoints[d], true.keypoints[g], true.area[g], true.boxes[g], sigmas)
        for least in (NEAR, FOUND):  # who is near nobody else takes no place from who is
            for row in range(len(d)):
                best = int(like[row].argmax())
                if like[row, best] >= least:
                    partner[g[best]] = d[row]
                    like[:, best] = like[row] = -1.0
        for person in g[partner[g] >= 0]:
            places = found.keypoints[partner[person]]
            kind[person] = _kinds(places, person, g[g != person], true, labeled, skeleton, sigmas)
    return kind, partner, counted


def _kinds(
    places: np.ndarray,
    person: int,
    others: np.ndarray,
    true: Truth,
    labeled: np.ndarray,
    skeleton: Skeleton,
    sigmas: np.ndarray,
) -> np.ndarray:
    """(K,) kinds of the keypoints of one found person."""
    flip = np.array(skeleton.flip_indices)
    paired = flip != np.arange(len(flip))

    def near(row: int, at: np.ndarray) -> np.ndarray:
        """(K,) similarity of each found keypoint to the true one `at` of a person; 0 where it is not labeled."""
        offset = places - true.keypoints[row, at, :2]
        exponent = np.square(offset).sum(axis=1) / (2 * np.square(2 * sigmas[at]) * (true.area[row] + np.spacing(1)))
        return np.where(labeled[row, at], np.exp(-exponent), 0.0)

    same = np.arange(len(flip))
    own = near(person, same)
    inverted = np.where(paired, near(person, flip), 0.0)
    elsewhere = np.max([np.zeros(len(flip)), *(near(row, at) for row in others for at in (same, flip))], axis=0)
    wrong = np.select(
        [(inverted >= NEAR) & (inverted >= elsewhere), elsewhere >= NEAR],
        [KINDS.index("inversion") + 1, KINDS.index("swap") + 1],
        KINDS.index("miss") + 1,
    )
    kinds = np.select([own >= GOOD, own >= NEAR], [RIGHT, KINDS.index("jitter") + 1], wrong)
    return np.where(labeled[person], kinds, UNKNOWN)


def break_down(found: PoseResults, true: Truth, skeleton: Skeleton, sigmas: np.ndarray) -> PoseErrors:
    """Attributes the errors, and measures what they cost.

    The oracles: the keypoints of one kind are put to their true places; people who were not found are not asked for;
    found people where nobody is vanish. Each is measured alone, so they do not add up.

    Args:
        found: See `attribute`.
        true: See there.
        skeleton: See there.
        sigmas: See there.
    """
    kind, partner, counted = attribute(found, true, skeleton, sigmas)
    labeled = (true.keypoints[:, :, 2] > 0).any(axis=1) & ~true.crowd
    missed = labeled & (partner < 0)
    taken = np.zeros(len(found.image), dtype=bool)
    taken[partner[partner >= 0]] = True
    extra = counted & ~taken
    ap = evaluate(found, true, sigmas)["ap"]
    costs = {}
    for number, name in enumerate(KINDS, 1):
        rows, columns = np.nonzero(kind == number)
        keypoints = found.keypoints.copy()
        keypoints[partner[rows], columns] = true.keypoints[rows, columns, :2]
        mended = PoseResults(found.image, keypoints, found.scores, found.area)
        costs[name] = evaluate(mended, true, sigmas)["ap"] - ap if len(rows) else 0.0
    asked = np.flatnonzero(~missed)
    costs["missed person"] = _gain(found, true.take(asked), sigmas, ap) if missed.any() else 0.0
    costs["extra person"] = _gain(found.take(np.flatnonzero(~extra)), true, sigmas, ap) if extra.any() else 0.0
    return PoseErrors(kind, partner, missed, extra, ap, costs)


def _gain(found: PoseResults, true: Truth, sigmas: np.ndarray, before: float) -> float:
    after = evaluate(found, true, sigmas)["ap"]
    return 0.0 if after < 0 else after - before

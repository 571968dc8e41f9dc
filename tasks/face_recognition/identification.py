"""Who is this? Ranks, cumulative match curve, mean average precision, and the open set, where nobody may be right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.face_recognition.verification import MIN_FALSE_ACCEPTS

RANKS = 10
_BLOCK = 2048


@dataclass(frozen=True)
class Ranking:
    """What comparing every probe with the gallery gave.

    Attributes:
        first: (Q,) int64, place (from 0) of the first image of the same person; -1 for a probe without any.
        precision: (Q,) float64, average precision of the probe's ranking; NaN for a probe without any.
        known: (Q,) float64, highest similarity with the same person; NaN without any.
        other: (Q,) float64, highest similarity with another person; NaN without any.
        stranger: (Q,) bool, the gallery has no image of the person at all.
    """

    first: np.ndarray
    precision: np.ndarray
    known: np.ndarray
    other: np.ndarray
    stranger: np.ndarray

    @property
    def asked(self) -> int:
        """Probes whose person can be found."""
        return int((self.first >= 0).sum())

    def rank(self, k: int, weights: np.ndarray | None = None) -> float:
        """Fraction of these probes whose person is among the first k images (the cumulative match curve at k).

        Args:
            k: Images.
            weights: (Q,) how often each probe counts; by default once.
        """
        asked = self.first >= 0
        return float(np.average(self.first[asked] < k, weights=None if weights is None else weights[asked]))

    @property
    def mean_average_precision(self) -> float:
        """Mean over these probes; precision at each right image, nothing interpolated (Zheng et al., 2015)."""
        return self.average_precision()

    def average_precision(self, weights: np.ndarray | None = None) -> float:
        """`mean_average_precision` of probes with weights."""
        asked = self.first >= 0
        return float(np.average(self.precision[asked], weights=None if weights is None else weights[asked]))

    @property
    def impostors(self) -> np.ndarray:
        """(Q,) bool, which probes stand for people that nobody knows: they should be reported "nobody I know".

        Where the gallery lacks people, those are the strangers. Where it has all, every probe is compared a second time
        with its own person left out.
        """
        chosen = self.stranger if self.stranger.any() else np.ones(len(self.stranger), bool)
        return np.asarray(chosen & ~np.isnan(self.other))

    def supports(self, rate: float) -> bool:
        """Whether there are enough strangers to state a false-alarm rate."""
        return int(self.impostors.sum()) * rate >= MIN_FALSE_ACCEPTS

    def open_set(self, rate: float, weights: np.ndarray | None = None) -> float:
        """Detection-and-identification rate at a false-alarm rate (Grother and Phillips).

        A known person counts where it comes first and reaches the threshold that this fraction of strangers reaches
        too.

        Args:
            rate: False-alarm rate.
            weights: (Q,) how often each probe counts; by default once.
        """
        weights = np.ones(len(self.first)) if weights is None else weights
        scores, own = self.other[self.impostors], weights[self.impostors]
        order = np.argsort(-scores, kind="stable")
        reached = np.cumsum(own[order])
        allowed = rate * reached[-1] + 1e-9
        # Strictly above the first stranger who must be refused.
        place = int(np.searchsorted(reached, allowed, side="right"))
        threshold = scores[order[place]] if place < len(scores) else -np.inf
        asked = self.first >= 0
        return float(np.average(((self.first == 0) & (self.known > threshold))[asked], weights=weights[asked]))


def rank_all(
    probes: np.ndarray,
    gallery: np.ndarray,
    probe_people: np.ndarray,
    gallery_people: np.ndarray,
    left_out: np.ndarray | None = None,
    probe_cameras: np.ndarray | None = None,
    gallery_cameras: np.ndarray | None = None,
) -> Ranking:
    """Compares every probe with the whole gallery, a block of probes at a time.

    Args:
        probes: (Q, D) of length 1.
        gallery: (G, D) of length 1.
        probe_people: (Q,) int64.
        gallery_people: (G,) int64; negative ones are junk, which is not compared.
        left_out: (Q,) int64, for each probe an image of the gallery that it is not compared with (itself).
        probe_cameras: (Q,) int64; images of the same person by the same camera are not compared.
        gallery_cameras: (G,) int64.

    Ties count against the probe: of equal similarities, images of other people come first.
    """
    parts: list[tuple[np.ndarray, ...]] = []
    for start in range(0, len(probes), _BLOCK):
        rows = slice(start, start + _BLOCK)
        scores = probes[rows].astype(np.float64) @ gallery.astype(np.float64).T
        same = probe_people[rows, None] == gallery_people[None]
        stranger = ~same.any(axis=1)
        hidden = np.broadcast_to(gallery_people[None] < 0, scores.shape).copy()
        if left_out is not None:
            hidden[np.arange(len(scores)), left_out[rows]] = True
        if probe_cameras is not None and gallery_cameras is not None:
            hidden |= same & (probe_cameras[rows, None] == gallery_cameras[None])
        parts.append((*_block(scores, same & ~hidden, hidden), stranger))
    return Ranking(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def _block(scores: np.ndarray, same: np.ndarray, hidden: np.ndarray) -> tuple[np.ndarray, ...]:
    shown = np.where(hidden, -np.inf, scores)
    # lexsort's last key leads; right images come after wrong ones of the same similarity.
    order = np.lexsort((same, -shown), axis=1)
    hits = np.take_along_axis(same, order, axis=1)
    found = hits.any(axis=1)
    first = np.where(found, hits.argmax(axis=1), -1)
    places = np.arange(1, hits.shape[1] + 1)
    with np.errstate(invalid="ignore"):
        precision = (hits * (np.cumsum(hits, axis=1) / places)).sum(axis=1) / hits.sum(axis=1)
    known = np.where(found, np.where(same, shown, -np.inf).max(axis=1), np.nan)
    others = ~same & ~hidden
    other = np.where(others.any(axis=1), np.where(others, shown, -np.inf).max(axis=1), np.nan)
    return first.astype(np.int64), precision, known, other

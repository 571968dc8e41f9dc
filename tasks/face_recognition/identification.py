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

    def rank(self, k: int) -> float:
        """Fraction of these probes whose person is among the first k images (the cumulative match curve at k)."""
        found = self.first[self.first >= 0]
        return float((found < k).mean())

    @property
    def mean_average_precision(self) -> float:
        """Mean over these probes; precision at each right image, nothing interpolated (Zheng et al., 2015)."""
        return float(np.nanmean(self.precision))

    @property
    def impostors(self) -> np.ndarray:
        """Highest similarity of probes that should be reported "nobody I know".

        Where the gallery lacks people, those are the strangers. Where it has all, every probe is compared a second time
        with its own person left out.
        """
        chosen = self.stranger if self.stranger.any() else np.ones(len(self.stranger), bool)
        values = self.other[chosen]
        return np.asarray(values[~np.isnan(values)])

    def supports(self, rate: float) -> bool:
        """Whether there are enough strangers to state a false-alarm rate."""
        return len(self.impostors) * rate >= MIN_FALSE_ACCEPTS

    def open_set(self, rate: float) -> float:
        """Detection-and-identification rate at a false-alarm rate (Grother and Phillips).

        A known person counts where it comes first and reaches the threshold that this fraction of strangers reaches
        too.
        """
        scores = np.sort(self.impostors)[::-1]
        allowed = int(rate * len(scores))
        # Strictly above the first stranger who must be refused.
        threshold = scores[allowed] if allowed < len(scores) else -np.inf
        found = self.first >= 0
        return float(((self.first == 0) & (self.known > threshold))[found].mean())


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

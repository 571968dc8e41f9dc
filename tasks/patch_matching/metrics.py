"""How well scores rank matches above other pairs: the false positive rate at 95 % recall, average precision, ROC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

RECALL = 0.95
QUALITIES = ("fpr95", "average_precision", "roc_auc")
_POINTS = 65


@dataclass(frozen=True)
class Ranking:
    """What is accepted at each threshold, from the strictest one on.

    Attributes:
        thresholds: (T,) the distinct scores, falling; a pair is accepted from the threshold on.
        matches: (T,) matches accepted.
        others: (T,) other pairs accepted.
    """

    thresholds: np.ndarray
    matches: np.ndarray
    others: np.ndarray

    @classmethod
    def of(cls, scores: np.ndarray, match: np.ndarray, weights: np.ndarray | None = None) -> Ranking:
        """The ranking of pairs.

        Args:
            scores: (P,) the higher, the more alike.
            match: (P,) bool.
            weights: (P,) how often each pair counts; by default once.
        """
        scores, match = np.asarray(scores, np.float64), np.asarray(match, bool)
        order = np.argsort(-scores, kind="stable")
        scores, match = scores[order], match[order]
        own = np.ones(len(scores)) if weights is None else weights[order]
        last = np.flatnonzero(np.diff(scores, append=-np.inf))  # of equal scores: they are accepted together
        return cls(scores[last], np.cumsum(match * own)[last], np.cumsum(~match * own)[last])

    @property
    def is_complete(self) -> bool:
        """Whether there are matches and other pairs."""
        return len(self.matches) > 0 and self.matches[-1] > 0 and self.others[-1] > 0

    @property
    def recall(self) -> np.ndarray:
        """(T,) fraction of the matches that are accepted."""
        return np.asarray(self.matches / self.matches[-1])

    @property
    def false_positive_rate(self) -> np.ndarray:
        """(T,) fraction of the other pairs that are accepted."""
        return np.asarray(self.others / self.others[-1])

    def false_positive_rate_at(self, recall: float = RECALL) -> float:
        """The fraction of other pairs that are accepted where at least this fraction of the matches first is."""
        return float(self.false_positive_rate[np.argmax(self.recall >= recall - 1e-12)])

    @property
    def area(self) -> float:
        """Area under the ROC."""
        recall, rate = (np.concatenate([[0.0], each]) for each in (self.recall, self.false_positive_rate))
        return float(np.trapezoid(recall, rate))

    @property
    def average_precision(self) -> float:
        """Precision at each threshold, weighted by the recall that it adds."""
        precision = self.matches / np.maximum(self.matches + self.others, 1e-12)  # above pairs that weigh nothing
        return float((np.diff(self.recall, prepend=0.0) * precision).sum())

    @property
    def best_threshold(self) -> float:
        """Where most is right, matches and other pairs weighing the same: the middle between two neighboring scores."""
        best = int(np.argmax(self.recall - self.false_positive_rate))
        below = self.thresholds[min(best + 1, len(self.thresholds) - 1)]
        return float((self.thresholds[best] + below) / 2)

    def qualities(self) -> dict[str, float]:
        """What the ranking is judged by, see `QUALITIES`."""
        return dict(zip(QUALITIES, (self.false_positive_rate_at(), self.average_precision, self.area), strict=True))

    def curve(self) -> np.ndarray:
        """(n, 3) some points of the ROC, evenly over the recall: false positive rate, recall, threshold."""
        wanted = np.unique(np.searchsorted(self.recall, np.linspace(0, 1, _POINTS)).clip(max=len(self.recall) - 1))
        return np.stack([self.false_positive_rate[wanted], self.recall[wanted], self.thresholds[wanted]], axis=1)


class MatchMetrics(Metric):
    """The metrics of one split, from the scores of all processes; exact, nothing is binned.

    `compute` gives `fpr95`, `average_precision`, `roc_auc`, `threshold` and `roc` (n, 3); NaN where all pairs are of
    one type.
    """

    full_state_update = False
    scores: list[Tensor]
    match: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("scores", [], dist_reduce_fx="cat")
        self.add_state("match", [], dist_reduce_fx="cat")

    def update(self, scores: Tensor, match: Tensor) -> None:
        """Adds a batch.

        Args:
            scores: (B,) float.
            match: (B,) int64, 1 for a match.
        """
        self.scores.append(scores.detach().float())
        self.match.append(match)

    def compute(self) -> dict[str, Tensor]:
        ranking = Ranking.of(_whole(self.scores), _whole(self.match) > 0)
        if not ranking.is_complete:
            return dict.fromkeys((*QUALITIES, "threshold"), torch.tensor(torch.nan))
        values = {**ranking.qualities(), "threshold": ranking.best_threshold}
        found = {name: torch.tensor(value) for name, value in values.items()}
        return {**found, "roc": torch.from_numpy(ranking.curve())}

    def resampler(self) -> WeightedPairs:
        """The metrics of pairs with weights, of those of this process."""
        return WeightedPairs(_whole(self.scores), _whole(self.match) > 0)


class WeightedPairs:
    """The metrics of pairs with weights; a pair of weight 2 counts as two pairs.

    The threshold is chosen, not measured, so it is not among them.

    Args:
        scores: (P,) the higher, the more alike.
        match: (P,) bool.
    """

    def __init__(self, scores: np.ndarray, match: np.ndarray) -> None:
        order = np.argsort(-scores, kind="stable")  # sorted once, not in each replicate
        self.scores, self.match, self.order = scores[order], match[order], order

    def joined(self, other: WeightedPairs) -> WeightedPairs:
        """One for the pairs of both."""
        sides = [(each.scores[back], each.match[back]) for each in (self, other) for back in [np.argsort(each.order)]]
        scores, match = (np.concatenate(pair) for pair in zip(*sides, strict=True))
        return WeightedPairs(scores, match)

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """(r, P) weights to (r,) values by name, NaN where all pairs are of one type."""
        out = {name: np.full(len(weights), np.nan) for name in QUALITIES}
        for row, own in enumerate(weights[:, self.order]):
            ranking = Ranking.of(self.scores, self.match, own)
            if ranking.is_complete:
                for name, value in ranking.qualities().items():
                    out[name][row] = value
        return out


def _whole(state: Any) -> np.ndarray:
    whole = torch.cat(list(state)) if isinstance(state, (list, tuple)) else state
    return np.asarray(whole.cpu().numpy())


def curve_table(values: Tensor) -> list[dict[str, Any]]:
    """Rows of the ROC."""
    return [
        {"fpr": round(rate, 6), "recall": round(recall, 6), "threshold": round(threshold, 6)}
        for rate, recall, threshold in values.tolist()
    ]

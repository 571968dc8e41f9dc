"""The confusion matrix as a table of results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_TABLE = 200
"""Classes up to which it is written out; above it nobody reads the many cells."""


def confusion_table(confusion: Tensor, names: Sequence[str]) -> list[dict[str, Any]]:
    """One row per true class and one column per predicted one.

    Args:
        confusion: (K, K) counts, true classes first.
        names: K of them.
    """
    return [
        {"truth": name, **dict(zip(names, row, strict=True))}
        for name, row in zip(names, confusion.long().cpu().tolist(), strict=True)
    ]


def largest_confusions(confusion: Tensor, names: Sequence[str], limit: int = LARGEST_TABLE) -> list[dict[str, Any]]:
    """The pairs of classes that are taken for each other most often, where there are too many for a matrix.

    Args:
        confusion: (K, K) counts, true classes first, sparse.
        names: K of them.
        limit: How many pairs at most.

    Returns:
        Rows with the true class, the predicted one, their number, and its fraction of the true class.
    """
    confusion = confusion.coalesce().cpu()
    (truth, predicted), counts = confusion.indices(), confusion.values()
    support = counts.new_zeros(len(names)).index_add(0, truth, counts)
    wrong = (truth != predicted).nonzero()[:, 0]
    largest = wrong[counts[wrong].argsort(descending=True, stable=True)[:limit]]
    return [
        {
            "truth": names[int(truth[k])],
            "prediction": names[int(predicted[k])],
            "count": int(counts[k]),
            "fraction": int(counts[k]) / int(support[truth[k]]),
        }
        for k in largest
    ]

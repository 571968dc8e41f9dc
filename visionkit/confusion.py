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

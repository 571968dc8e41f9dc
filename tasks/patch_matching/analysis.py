"""What is wrong with compared patches: the pairs that are most clearly on the wrong side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visionkit.analysis.base import LISTED, Analysis, Case, Row, Tables


class PairAnalysis(Analysis):
    """Ranks pairs by how far their score lies on the wrong side of the threshold."""

    def row(self, case: Case) -> Row:
        """Truth, prediction, score, and how far the score is from the threshold, below 0 on the wrong side."""
        prediction: Any = case.prediction
        match = int(case.target["match"]) == 1
        margin = prediction.score - prediction.threshold
        return {**prediction.row(case.truth), "margin": margin if match else -margin}

    def badness(self, row: Mapping[str, Any]) -> float | None:
        return -float(row["margin"])

    def confidence(self, row: Mapping[str, Any]) -> float | None:
        return -float(row["margin"]) if row["margin"] < 0 else None

    def tables(self) -> Tables:
        wrong = sorted((row for row in self.rows if float(row["margin"]) < 0), key=lambda row: float(row["margin"]))
        missed = sum(row["truth"] == "match" for row in wrong)
        matches = sum(row["truth"] == "match" for row in self.rows)
        rows = [
            {"error": "match refused", "count": missed, "of pairs": missed / max(1, matches)},
            {
                "error": "other pair accepted",
                "count": len(wrong) - missed,
                "of pairs": (len(wrong) - missed) / max(1, len(self.rows) - matches),
            },
        ]
        return {"error breakdown": rows, "most confident errors": [dict(row) for row in wrong[:LISTED]]}

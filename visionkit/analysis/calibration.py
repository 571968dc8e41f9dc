"""The reliability diagram as a table and a chart: how often what a score claims comes true."""

from __future__ import annotations

from typing import Any

import numpy as np

from visionkit.run_report.charts import Curves
from visionkit.uncertainty.calibration import reliability

CALIBRATION = Curves("confidence", "fraction right", ("accuracy", "calibrated"))
"""How `calibration_rows` are drawn: a calibrated model lies on the diagonal."""


def calibration_rows(confidence: np.ndarray, right: np.ndarray) -> list[dict[str, Any]]:
    """One row per bin that is not empty, see `reliability`.

    Args:
        confidence: (N,) in [0, 1].
        right: (N,) bool: what the score claimed came true.

    Returns:
        The count of each bin, its mean confidence, the fraction that is right, and the confidence once more as
        `calibrated`, for the diagonal of the chart.
    """
    found = reliability(confidence, right)
    columns = zip(found.count.tolist(), found.confidence.tolist(), found.accuracy.tolist(), strict=True)
    return [
        {"confidence": mean, "accuracy": accuracy, "count": count, "calibrated": mean}
        for count, mean, accuracy in columns
        if count
    ]

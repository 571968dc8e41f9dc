"""The reliability diagram as a table and a chart: how often what a score claims comes true."""

from __future__ import annotations

from typing import Any

import numpy as np

from visionkit.run_report.charts import Curves

CALIBRATION = Curves("confidence", "fraction right", ("accuracy", "calibrated"))
"""How `calibration_rows` are drawn: a calibrated model lies on the diagonal."""

BINS = 15
"""Bins of equal width that scores are counted in, as Guo et al. (2017) do."""


def calibration_rows(confidence: np.ndarray, right: np.ndarray) -> list[dict[str, Any]]:
    """One row per bin that is not empty; bin b holds what lies in (b/15, (b+1)/15].

    Args:
        confidence: (N,) in [0, 1].
        right: (N,) bool: what the score claimed came true.

    Returns:
        The count of each bin, its mean confidence, the fraction that is right, and the confidence once more as
        `calibrated`, for the diagonal of the chart.
    """
    bins = np.clip(np.ceil(np.asarray(confidence) * BINS).astype(np.int64) - 1, 0, BINS - 1)
    rows = []
    for number in np.unique(bins).tolist():
        here = bins == number
        mean = float(confidence[here].mean())
        accuracy = float(right[here].mean())
        rows.append({"confidence": mean, "accuracy": accuracy, "count": int(here.sum()), "calibrated": mean})
    return rows

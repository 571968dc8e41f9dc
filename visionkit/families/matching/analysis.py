"""What is wrong with disparity and optical flow: by their size, at edges, and where the other image shows nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from visionkit.analysis.base import Analysis, Case, Row, Tables
from visionkit.families.dense.error_parts import ErrorParts, by_range, edge_mask
from visionkit.families.matching.pixel_errors import is_outlier

SIZES = (0.0, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0)
"""Lower ends of the ranges of the true motion or disparity, in pixels."""

JUMP = 3.0
"""Pixels by which two neighbors differ at an edge."""


class PixelAnalysis(Analysis):
    """Errors of disparity or flow by the size of the truth, at edges against flat surfaces, visible against occluded.

    Args:
        key: Key of the target: `disparity` or `flow`.
    """

    def __init__(self, key: str) -> None:
        super().__init__(("epe", "min"))
        self.key = key
        self._sizes, self._places, self._hidden = ErrorParts(), ErrorParts(), ErrorParts()

    def row(self, case: Case) -> Row:
        truth, values = case.truth, getattr(case.prediction, "values", None)
        if truth is not None and values is not None and values.shape == truth.values.shape:  # type: ignore[attr-defined]
            self.add_maps(values, truth.values, truth.known, case.known.get("occluded"))  # type: ignore[attr-defined]
        return {**case.prediction.row(truth), **case.measure()}

    def add_maps(
        self, values: np.ndarray, truth: np.ndarray, known: np.ndarray, occluded: np.ndarray | None = None
    ) -> None:
        """Adds the errors of one pair of images.

        Args:
            values: (h, w) disparity or (2, h, w) motion, in pixels.
            truth: The same shape.
            known: (h, w) bool, where the truth is known.
            occluded: (h, w) bool, where the other image does not show the point.
        """
        if not known.any():
            return
        planes = [each if each.ndim == 3 else each[None] for each in (values, truth)]
        ours, real = (each.astype(np.float64)[:, known] for each in planes)
        error, size = np.sqrt(np.square(ours - real).sum(axis=0)), np.sqrt(np.square(real).sum(axis=0))
        measures = {"epe": error, "outliers": is_outlier(error, size).astype(np.float64)}
        self._sizes.add(by_range(size, SIZES, "px"), error, measures)
        edge = edge_mask(truth, known, JUMP, relative=False)[known]
        self._places.add({"edges": edge, "flat": ~edge}, error, measures)
        if occluded is not None:
            hidden = np.asarray(occluded, dtype=bool)[known]
            self._hidden.add({"visible": ~hidden, "occluded": hidden}, error, measures)

    def tables(self) -> Tables:
        return {
            "error breakdown by size": self._sizes.rows(self.key),
            "error breakdown by place": self._places.rows("place"),
            "error breakdown by visibility": self._hidden.rows("seen"),
        }

    def notes(self) -> Sequence[str]:
        return (
            f"Edges: neighbors whose truth differs by more than {JUMP:g} px. Outliers are off by more than 3 px and "
            "5 %. Means over pixels of the files.",
        )

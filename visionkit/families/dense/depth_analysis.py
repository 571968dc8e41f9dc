"""What is wrong with depth: by how far it is, and at edges against flat surfaces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from visionkit.analysis.base import Analysis, Case, Row, Tables
from visionkit.families.dense.depth_alignment import Alignment
from visionkit.families.dense.depth_measures import LEAST, DepthMeasures
from visionkit.families.dense.error_parts import ErrorParts, by_range, edge_mask

FRACTIONS = (0.0, 0.1, 0.2, 0.4, 0.6, 0.8)
"""Lower ends of the ranges, as fractions of the farthest depth that counts."""

JUMP = 0.1
"""Depth of two neighbors that differs by more than this fraction of the nearer one is an edge."""


class DepthAnalysis(Analysis):
    """Errors of depth by range, and at edges against flat surfaces.

    Args:
        cap: Meters; farther truth does not count.
        alignment: See `DepthMeasures`.
        relative: Predictions are inverse depth up to a scale and a shift.
        crop: Top, left, bottom and right of what counts, as fractions of the file.
    """

    def __init__(
        self,
        cap: float = 10.0,
        alignment: Alignment = "none",
        relative: bool = False,
        crop: Sequence[float] = (0.0, 0.0, 1.0, 1.0),
    ) -> None:
        super().__init__(("abs_rel", "min"))
        self._measures = DepthMeasures(cap, alignment, relative)
        self.cap, self.crop = cap, tuple(crop)
        self._ranges, self._places = ErrorParts(), ErrorParts()

    def row(self, case: Case) -> Row:
        if "depth" in case.known:
            truth = np.asarray(case.known["depth"], dtype=np.float32)
            values: Any = getattr(case.prediction, "values", truth)
            if values.shape == truth.shape:
                self.add_maps(values, truth)
        return {**case.prediction.row(case.truth), **case.measure()}

    def add_maps(self, values: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> None:
        """Adds the errors of one image to those of its ranges.

        Args:
            values: (h, w) meters, or inverse depth where `relative`.
            truth: (h, w) meters; 0 is not measured.
            mask: (h, w) bool, pixels that count beside the crop; all by default.
        """
        height, width = truth.shape
        top, left, bottom, right = self.crop
        inside = np.zeros(truth.shape, dtype=bool)
        inside[int(top * height) : int(bottom * height), int(left * width) : int(right * width)] = True
        measured = truth > LEAST
        known = measured & (truth <= self.cap) & inside
        known &= (values > 0) if mask is None else mask
        if not known.any():
            return
        goal = truth[known].astype(np.float64)
        ours = self._measures.aligned(torch.from_numpy(values[known].astype(np.float64)), torch.from_numpy(goal))
        depth = ours.clamp(LEAST, self.cap).numpy()
        error = depth - goal
        ratio = np.maximum(depth / goal, goal / depth)
        measures = {"abs_rel": np.abs(error) / goal, "bias": error / goal, "delta1": (ratio < 1.25).astype(np.float64)}
        self._ranges.add(by_range(goal, [fraction * self.cap for fraction in FRACTIONS], "m"), error, measures)
        edge = edge_mask(truth, measured, JUMP, relative=True)[known]
        self._places.add({"edges": edge, "flat": ~edge}, error, measures)

    def tables(self) -> Tables:
        return {
            "error breakdown by range": self._ranges.rows("depth"),
            "error breakdown by place": self._places.rows("place"),
        }

    def notes(self) -> Sequence[str]:
        return (
            f"Edges: neighbors differ by more than {JUMP:.0%} of the nearer one. abs_rel, bias (the signed error by "
            "the true depth) and delta1 are means over pixels, in file pixels.",
        )

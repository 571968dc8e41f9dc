"""What is wrong with the keypoints of people, image by image and over a split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from visionkit.analysis.base import Analysis, Row, Tables
from visionkit.families.keypoints.error_breakdown import KINDS, MEANINGS, break_down
from visionkit.families.keypoints.oks import PoseResults, Truth, evaluate, oks, rows_by_image
from visionkit.run_report.charts import Bars, Chart
from visionkit.skeleton import Skeleton


class KeypointAnalysis(Analysis):
    """Jitter, inversion, swap and miss of keypoints, and what they cost.

    Args:
        skeleton: Skeleton of the keypoints.
    """

    def __init__(self, skeleton: Skeleton) -> None:
        super().__init__()
        self.skeleton, self.sigmas = skeleton, skeleton.oks_sigmas()
        self._found: list[PoseResults] = []
        self._true: list[Truth] = []

    def take(self, names: Mapping[int, str], found: PoseResults, true: Truth) -> None:
        """Takes all images at once, of which nothing but their people is known.

        Args:
            names: Name of each image by its number.
            found: Found people of all images.
            true: True ones.
        """
        images = np.union1d(found.image, true.image)
        rows = zip(images.tolist(), rows_by_image(found.image, images), rows_by_image(true.image, images), strict=True)
        for image, d, g in rows:
            self.rows.append({"image": names[image], **self.row_of(found.take(d), true.take(g))})

    def row_of(self, found: PoseResults, true: Truth) -> Row:
        """People there and found, and their mean similarity.

        Args:
            found: Found people of one image.
            true: True ones.
        """
        self._found.append(found)
        self._true.append(true)
        labeled = (true.keypoints[:, :, 2] > 0).any(axis=1) & ~true.crowd
        like = oks(found.keypoints, true.keypoints, true.area, true.boxes, self.sigmas)[:, labeled]
        best = like.max(axis=0) if len(like) else np.zeros(int(labeled.sum()))
        row: Row = {"people": int(labeled.sum()), "found": len(found.scores)}
        if not len(best):
            return row
        extra = found.scores[like.max(axis=1) < 0.5] if len(like) else found.scores[:0]
        return {
            **row,
            "OKS": float(best.mean()),
            "lowest OKS": float(best.min()),
            **({"highest wrong score": float(extra.max())} if len(extra) else {}),
        }

    def badness(self, row: Mapping[str, Any]) -> float | None:
        return -float(row["OKS"]) if "OKS" in row else None

    def confidence(self, row: Mapping[str, Any]) -> float | None:
        return row.get("highest wrong score")

    def values(self, images: np.ndarray) -> dict[str, float]:
        """OKS AP of some images, and their mean similarity."""
        found, true = self._joined(images)
        means = super().values(images)
        return {"ap": evaluate(found, true, self.sigmas)["ap"], "OKS": means.get("OKS", -1.0)}

    def tables(self) -> Tables:
        if not self._found:
            return {}
        whole = break_down(*self._joined(np.arange(len(self._found))), self.skeleton, self.sigmas)
        return {"error breakdown": whole.rows(), "error breakdown by keypoint": whole.per_keypoint(self.skeleton)}

    def charts(self) -> dict[str, Chart]:
        return {"error breakdown": Bars("error", "dAP"), "error breakdown by keypoint": Bars("keypoint", "good")}

    def notes(self) -> Sequence[str]:
        meanings = "; ".join(f"{kind}: {MEANINGS[kind]}" for kind in KINDS)
        return (
            "Kinds of errors by Ronchi and Perona (2017), of people found with a similarity of .1 or more. dAP is by "
            f"how much OKS AP rises where the keypoints of one kind are put to their places. {meanings}.",
        )

    def _joined(self, images: np.ndarray) -> tuple[PoseResults, Truth]:
        found, true = [self._found[k] for k in images], [self._true[k] for k in images]
        areas = [each.area for each in found if each.area is not None]
        return (
            PoseResults(
                np.concatenate([each.image for each in found]),
                np.concatenate([each.keypoints for each in found]),
                np.concatenate([each.scores for each in found]),
                np.concatenate(areas) if len(areas) == len(found) else None,
            ),
            Truth(
                np.concatenate([each.image for each in true]),
                np.concatenate([each.keypoints for each in true]),
                np.concatenate([each.area for each in true]),
                np.concatenate([each.crowd for each in true]),
                np.concatenate([each.boxes for each in true]),
            ),
        )

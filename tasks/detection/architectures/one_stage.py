"""What FCOS and RetinaNet have in common: two towers of convolutions on every level of a feature pyramid."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import repeat
from typing import Any, ClassVar

from torch import Tensor

from visionkit.argument_types import at_least
from visionkit.families.detection.architecture import DetectionArchitecture
from visionkit.families.detection.fpn import Extra
from visionkit.families.detection.heads import HeadNorm
from visionkit.families.detection.select import SelectedBoxes, Thresholds, select_by_sigmoid


@dataclass(frozen=True)
class OneStage(DetectionArchitecture):
    """One stage on a feature pyramid.

    Attributes:
        neck_channels: Channels of every level of the feature pyramid.
        extra_levels: Coarser levels on top of the backbone's: `conv` two, `pool` one, or `none`.
        convs: Number of convolutions in each of the head's two towers.
        head_norm: Norm of the head's convolutions: `group`, or `none` as RetinaNet was published.
        topk_candidates: Boxes per level that go into the non-maximum suppression.
    """

    neck_channels: int = 256
    extra_levels: Extra = "conv"
    convs: int = 4
    head_norm: HeadNorm = "group"
    topk_candidates: int = 1000

    place: ClassVar[str]
    """Names the architecture in messages."""

    def __post_init__(self) -> None:
        at_least(f"model.{self.place}", 1, neck_channels=self.neck_channels, topk_candidates=self.topk_candidates)

    def select(
        self, outputs: Any, limits: Thresholds, centerness: Iterable[Tensor | None] = repeat(None)
    ) -> list[SelectedBoxes]:
        """The final boxes of each image of a batch, their scores times the centerness where there is one."""
        limits, counts = limits._replace(candidates=self.topk_candidates), outputs.counts.tolist()
        rows = zip(outputs.logits, outputs.boxes, centerness, strict=False)
        return [select_by_sigmoid(logits, boxes, counts, limits, middle) for logits, boxes, middle in rows]

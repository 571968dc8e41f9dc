"""Faster R-CNN: the network itself is `visionkit.families.detection.two_stage`, which other tasks put heads on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from visionkit.families.detection.architecture import TwoStage
from visionkit.families.detection.boxes import gather_objects
from visionkit.families.detection.select import SelectedBoxes, Thresholds
from visionkit.families.detection.two_stage_loss import two_stage_losses


@dataclass(frozen=True)
class FasterRCNN(TwoStage):
    """Faster R-CNN (Ren et al., 2015) on a feature pyramid (Lin et al., 2017)."""

    def losses(self, network: Any, outputs: Any, target: Any) -> dict[str, Tensor]:
        objects = gather_objects(target, outputs.logits.device)
        drawn = {"anchors": self.rpn_batch_size_per_image, "boxes": self.box_batch_size_per_image}
        return two_stage_losses(network, outputs, objects, training=network.training, **drawn)[0]

    def decode(self, network: Any, outputs: Any, limits: Thresholds) -> list[SelectedBoxes]:
        return self.select(outputs, limits)

"""Mask R-CNN (He et al., 2017).

Faster R-CNN, whose network is `visionkit.families.detection.two_stage`, with a mask head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from tasks.instance_segmentation.architecture import MaskArchitecture
from tasks.instance_segmentation.loss import mask_rcnn_losses
from tasks.instance_segmentation.postprocess import FoundMasks
from visionkit.argument_types import at_least
from visionkit.backbones import Backbone
from visionkit.families.detection.architecture import TwoStage
from visionkit.families.detection.select import Thresholds
from visionkit.families.detection.two_stage import RoIPyramid, TwoStageNetwork
from visionkit.nn.norms import head_norm


@dataclass(frozen=True)
class MaskRCNN(TwoStage, MaskArchitecture):
    """Mask R-CNN (He et al., 2017) on a feature pyramid.

    Attributes:
        mask_hidden: Channels of the mask head's convolutions.
        mask_batch_size: Maximum number of boxes per batch that the mask head is trained on.
    """

    mask_hidden: int = 256
    mask_batch_size: int = 256

    place: ClassVar[str] = "mask_rcnn"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("model.mask_rcnn", 1, mask_hidden=self.mask_hidden, mask_batch_size=self.mask_batch_size)

    @property
    def outputs(self) -> type[tuple[Any, ...]]:
        return self.outputs_of(True)

    def build(self, backbone: Backbone, classes: int) -> TwoStageNetwork:
        return self.assemble(backbone, classes, MaskHead(backbone.strides, classes, self))

    def losses(self, network: Any, outputs: Any, target: Any) -> dict[str, Tensor]:
        return mask_rcnn_losses(network, outputs, target, self, self.mask_batch_size, network.training)

    def decode(  # type: ignore[override]  # its task needs masks too
        self,
        network: Any,
        outputs: Any,
        limits: Thresholds,
        threshold: float,
        second: Callable[..., Tensor] | None = None,
    ) -> list[FoundMasks]:
        found = self.select(outputs, limits)
        rois = torch.cat(
            [torch.cat([torch.full_like(each.boxes[:, :1], k), each.boxes], 1) for k, each in enumerate(found)]
        )
        labels = torch.cat([each.labels for each in found])
        logits = (second or network.second_stage())(*network.maps_of(outputs), rois)
        # Of the K masks of a box only that of its class is required: the others need no exponential.
        side = logits.shape[-1]
        masks = logits.gather(1, labels[:, None, None, None].expand(-1, 1, side, side))[:, 0].float().sigmoid()
        parts = masks.split([len(each.boxes) for each in found])
        return [FoundMasks(*each, part, threshold) for each, part in zip(found, parts, strict=True)]


class MaskHead(nn.Module):
    """Four convolutions and an enlargement: one small mask per class for each box (He et al., 2017); torchvision's.

    Args:
        strides: Strides of the levels that boxes are cut from.
        classes: K.
        options: Arguments of the architecture.
    """

    side = 14

    def __init__(self, strides: Sequence[int], classes: int, options: MaskRCNN) -> None:
        super().__init__()
        hidden = options.mask_hidden
        self.pool = RoIPyramid(strides, self.side, options.pooling, options.canonical_box_size)
        self.layers = MaskRCNNHeads(options.neck_channels, (hidden,) * 4, 1, head_norm(options.norm))
        self.predictor = MaskRCNNPredictor(hidden, hidden, classes)

    def forward(self, maps: Sequence[Tensor], rois: Tensor) -> Tensor:
        """Boxes (R, 5), the number of the image first, to logits (R, K, 28, 28)."""
        return cast(Tensor, self.predictor(self.layers(self.pool(maps, rois))))

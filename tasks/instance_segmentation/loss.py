"""The losses of Mask R-CNN: those of Faster R-CNN, and one over the masks of the positive boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from visionkit.families.detection.architecture import TwoStage
from visionkit.families.detection.boxes import gather_objects
from visionkit.families.detection.two_stage import TwoStageNetwork
from visionkit.families.detection.two_stage_loss import mask_loss, two_stage_losses


def mask_rcnn_losses(
    network: TwoStageNetwork,
    outputs: Any,
    target: Sequence[Mapping[str, Any]],
    settings: TwoStage,
    masks_drawn: int,
    training: bool,
) -> dict[str, Tensor]:
    """Five named terms.

    Args:
        network: Network that gave the outputs.
        outputs: Outputs of its forward.
        target: One dict per image with `boxes`, `labels` and `masks` in input pixels.
        settings: Settings of both stages.
        masks_drawn: Boxes of the batch that masks are trained on, at most.
        training: Otherwise the samples are the same every time.
    """
    objects = gather_objects(target, outputs.logits.device)
    terms, sampled = two_stage_losses(
        network,
        outputs,
        objects,
        training=training,
        anchors=settings.rpn_batch_size_per_image,
        boxes=settings.box_batch_size_per_image,
    )
    terms["masks"] = mask_loss(network, outputs, target, sampled, masks_drawn)
    return terms

"""Losses of the two-stage networks, in training and validation alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

from visionkit.families.detection.boxes import Objects, draw_sample, encode_boxes, match
from visionkit.families.detection.proposals import RPNMaps, proposal_losses
from visionkit.families.detection.two_stage import BOX_WEIGHTS, TwoStageNetwork, with_image


class Sampled(NamedTuple):
    """The boxes of a batch that the second stage trains on: proposals, and the true boxes themselves.

    Attributes:
        boxes: (B, R, 4).
        partner: (B, R) int64, the object of highest overlap.
        positive: (B, R) bool, drawn and standing for it.
        drawn: (B, R) bool.
    """

    boxes: Tensor
    partner: Tensor
    positive: Tensor
    drawn: Tensor


def two_stage_losses(
    network: TwoStageNetwork, outputs: Any, objects: Objects, *, training: bool, anchors: int, boxes: int
) -> tuple[dict[str, Tensor], Sampled]:
    """The four losses of Faster R-CNN.

    Args:
        network: Network that gave the outputs; it is asked about the true boxes, which early proposals do not cover.
        outputs: Outputs of its forward.
        objects: Target objects of the batch.
        training: Otherwise the samples are the same every time.
        anchors: Drawn from an image for the first stage.
        boxes: Drawn from an image for the second; a quarter positive at most.

    Returns:
        The losses, and what was drawn, for the losses of further heads.
    """
    stated = RPNMaps(outputs.anchor_logits, outputs.anchor_deltas, outputs.anchors, [])
    terms = proposal_losses(stated, objects, training, anchors)
    logits, deltas = network.read_boxes(outputs, objects.boxes)
    logits = torch.cat([outputs.logits, logits], dim=1).float()
    deltas = torch.cat([outputs.deltas, deltas], dim=1).float()
    candidates = torch.cat([outputs.proposals, objects.boxes], dim=1)
    real = torch.cat([outputs.proposal_scores >= 0, objects.valid], dim=1)
    found = match(objects, candidates, 0.5, 0.5)
    found = found._replace(positive=found.positive & real, negative=found.negative & real)
    positive, drawn = draw_sample(found, boxes, 0.25, training)
    total = drawn.sum().clamp(min=1)
    labels = objects.labels.gather(1, found.partner)
    entropy = F.cross_entropy(logits.transpose(1, 2), torch.where(positive, 1 + labels, 0), reduction="none")
    matched = objects.boxes.gather(1, found.partner[..., None].expand(-1, -1, 4))
    own = deltas.gather(2, labels[..., None, None].expand(-1, -1, 1, 4))[:, :, 0]
    distance = F.smooth_l1_loss(own, encode_boxes(matched, candidates, BOX_WEIGHTS), beta=1 / 9, reduction="none")
    zero = torch.zeros((), device=entropy.device)
    terms["classes"] = torch.where(drawn, entropy, zero).sum() / total
    terms["boxes"] = torch.where(positive, distance.sum(dim=-1), zero).sum() / total
    return terms, Sampled(candidates, found.partner, positive, drawn)


def mask_loss(
    network: TwoStageNetwork, outputs: Any, target: Sequence[Mapping[str, Any]], sampled: Sampled, most: int
) -> Tensor:
    """Cross entropy of the mask of the true class, over the positive boxes (He et al., 2017).

    Args:
        network: Network with a mask head.
        outputs: Outputs of its forward.
        target: Target with `masks` (N, H, W) and `labels`, in input pixels.
        sampled: What the second stage trains on.
        most: Boxes of the whole batch that masks are trained on, at most.
    """
    index, boxes = sampled.partner.flatten(), with_image(sampled.boxes)
    # The one place where training waits for the device: masks are dear, so only true ones are computed.
    rows = sampled.positive.flatten().nonzero().squeeze(1)
    if len(rows) > most:
        rows = rows[torch.linspace(0, len(rows) - 1, most, device=rows.device).long()]
    rois, objects = boxes[rows], index[rows]
    logits = network.read_rois(outputs, rois).float()
    if not len(rows):
        return logits.sum() * 0.0  # no object: the head still takes part, which distributed training needs
    side = logits.shape[-1]
    labels, wanted = torch.zeros_like(objects), torch.zeros(len(rows), side, side, device=rois.device)
    for number, each in enumerate(target):
        own = (rois[:, 0] == number).nonzero().squeeze(1)
        if not len(own):
            continue
        labels[own] = each["labels"].to(rois.device)[objects[own]]
        masks = each["masks"].to(rois.device, torch.float32)[:, None]
        places = torch.cat([objects[own, None].float(), rois[own, 1:]], dim=1)
        # Unlike torchvision's, which are half a pixel off.
        wanted[own] = roi_align(masks, places, side, 1.0, aligned=True)[:, 0]
    own = logits.gather(1, labels[:, None, None, None].expand(-1, 1, side, side))[:, 0]
    return F.binary_cross_entropy_with_logits(own, wanted)

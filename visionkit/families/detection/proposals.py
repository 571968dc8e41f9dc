"""The first stage of R-CNN: every anchor states whether an object is there, and the best boxes go on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import nms

from visionkit.families.detection.anchors import AnchorGrid
from visionkit.families.detection.boxes import Objects, clip_boxes, decode_boxes, draw_sample, encode_boxes, match
from visionkit.families.detection.heads import rows

SMALLEST_SIDE = 1e-3
"""A proposal that is thinner, in input pixels, is none."""


class RPNMaps(NamedTuple):
    """What the network states at every anchor.

    Attributes:
        logits: (B, A), whether an object is there.
        deltas: (B, A, 4).
        anchors: (A, 4) in input pixels.
        counts: Anchors of each level.
    """

    logits: Tensor
    deltas: Tensor
    anchors: Tensor
    counts: list[int]


class Proposals(NamedTuple):
    """The best boxes, the same number for each image.

    Attributes:
        boxes: (B, P, 4) in input pixels, best first; zeros where fewer were found.
        scores: (B, P) in [0, 1]; -1 where fewer were found.
    """

    boxes: Tensor
    scores: Tensor


class RegionProposals(nn.Module):
    """Region proposal network (Ren et al., 2015) on a feature pyramid, with torchvision's head.

    Args:
        width: Channels of the levels.
        sizes: Sides of the anchors in input pixels, for each level.
        ratios: Heights over widths of the anchors.
        candidates: Boxes of each level that go into the suppression, in training and otherwise.
        kept: Boxes of an image that go on, in training and otherwise.
        overlap: IoU threshold of non-maximum suppression: of two boxes of one level that overlap by more, the worse is
            dropped.
    """

    def __init__(
        self,
        width: int,
        sizes: Sequence[Sequence[float]],
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
        *,
        candidates: tuple[int, int] = (2000, 1000),
        kept: tuple[int, int] = (1000, 1000),
        overlap: float = 0.7,
    ) -> None:
        super().__init__()
        self.anchors = AnchorGrid(sizes, ratios)
        self.head = RPNHead(width, self.anchors.per_place)
        self.candidates, self.kept, self.overlap = candidates, kept, overlap

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> RPNMaps:
        """Maps (B, width, h, w) of an image of that height and width to what is stated at every anchor."""
        logits, deltas = self.head(list(maps))
        anchors, counts = self.anchors(maps, size)
        flat = torch.cat([rows(each, 1)[..., 0] for each in logits], dim=1)
        return RPNMaps(flat, torch.cat([rows(each, 4) for each in deltas], dim=1), anchors, counts)

    @torch.no_grad()
    def propose(self, maps: RPNMaps, size: tuple[int, int]) -> Proposals:
        """The best boxes, cut off at the image; the second stage is trained on them as constants."""
        candidates, kept = (self.candidates[0], self.kept[0]) if self.training else (self.candidates[1], self.kept[1])
        boxes, scores = [], []
        start = 0
        for count in maps.counts:
            level = slice(start, start + count)
            start += count
            value, index = maps.logits[:, level].float().topk(min(candidates, count), dim=1)
            deltas = maps.deltas[:, level].gather(1, index[..., None].expand(-1, -1, 4))
            box = clip_boxes(decode_boxes(deltas, maps.anchors[level][index]), size)
            thick = ((box[..., 2:] - box[..., :2]) >= SMALLEST_SIDE).all(dim=-1)
            keep = suppress(box, value, self.overlap) & thick
            boxes.append(box)
            scores.append(torch.where(keep, value.sigmoid(), -1.0))
        all_boxes, all_scores = torch.cat(boxes, dim=1), torch.cat(scores, dim=1)
        best, index = all_scores.topk(min(kept, all_scores.shape[1]), dim=1)
        chosen = all_boxes.gather(1, index[..., None].expand(-1, -1, 4))
        return Proposals(torch.where(best[..., None] >= 0, chosen, 0.0), best)


def suppress(boxes: Tensor, scores: Tensor, overlap: float) -> Tensor:
    """Non-maximum suppression of every image of a batch.

    Args:
        boxes: (B, N, 4) xyxy, none of them negative.
        scores: (B, N).
        overlap: IoU threshold of non-maximum suppression: of two boxes that overlap by more, the worse is dropped.

    Returns:
        (B, N) bool, the boxes that are kept.
    """
    if not torch.compiler.is_exporting():
        keep = torch.zeros_like(scores, dtype=torch.bool)
        for k in range(len(boxes)):
            keep[k, nms(boxes[k], scores[k], overlap)] = True
        return keep
    # A graph's batch has no fixed size to loop over: the images are laid beside each other.
    batch, count = scores.shape
    apart = boxes + torch.arange(batch, device=boxes.device)[:, None, None] * (boxes.max() + 1.0)
    index = nms(apart.reshape(-1, 4), scores.reshape(-1), overlap)
    flat = torch.zeros(batch * count, dtype=torch.float32, device=boxes.device)
    return flat.index_fill(0, index, 1.0).reshape(batch, count) > 0


def proposal_losses(maps: RPNMaps, objects: Objects, training: bool, count: int = 256) -> dict[str, Tensor]:
    """Cross entropy and smooth L1 loss over a sample of anchors, half of it positive at most.

    Args:
        maps: Outputs of the network at every anchor.
        objects: Target objects of the batch.
        training: See `visionkit.families.detection.boxes.draw_sample`.
        count: Anchors per image.
    """
    found = match(objects, maps.anchors, 0.7, 0.3, low_quality=True)
    positive, drawn = draw_sample(found, count, 0.5, training)
    total = drawn.sum().clamp(min=1)
    boxes = objects.boxes.gather(1, found.partner[..., None].expand(-1, -1, 4))
    wanted = encode_boxes(boxes, maps.anchors)
    distance = F.smooth_l1_loss(maps.deltas.float(), wanted, beta=1 / 9, reduction="none").sum(dim=-1)
    entropy = F.binary_cross_entropy_with_logits(maps.logits.float(), positive.float(), reduction="none")
    zero = torch.zeros((), device=entropy.device)
    return {
        "rpn_objects": torch.where(drawn, entropy, zero).sum() / total,
        "rpn_boxes": torch.where(positive, distance, zero).sum() / total,
    }

"""Masks of queries: an embedding of each query times an embedding of each pixel (Li et al., 2023, Mask DINO).

Both are outputs of the network, so a mask is computed for reported objects alone, and graphs carry no map per query.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionkit.backbones import Features
from visionkit.families.detection.boxes import Objects
from visionkit.families.detection.detr.hybrid_encoder import ConvNorm
from visionkit.families.detection.detr.layers import MLP
from visionkit.families.detection.detr.loss import mean_of_processes
from visionkit.families.detection.detr.network import QueryHead, layers_of, outputs_with

MaskOutputs: Any = outputs_with("MaskOutputs", "embeddings", "pixels")
"""`DETROutputs` with `embeddings` (B, Q, C) of the queries and `pixels` (B, C, h, w) on the map of masks."""

WEIGHTS: Mapping[str, float] = {"masks": 5.0, "dice": 5.0}
MARGIN = 0.1
"""Masks are trained this far outside of their object's box too, as a fraction of its sides."""


class MaskHead(QueryHead):
    """Embeds queries and pixels.

    Args:
        stride: Stride of the map of masks.
        finer: Channels of the backbone's map of this stride, which is joined with the encoder's finest; 0 where the
            encoder's finest map has this stride itself.
        encoder_width: Channels of the encoder's maps.
        width: Channels of the queries.
        channels: Channels of both embeddings.
    """

    def __init__(self, stride: int, finer: int, encoder_width: int, width: int, channels: int) -> None:
        super().__init__()
        self.stride = stride
        self.lateral = ConvNorm(finer, encoder_width, 1, act=False) if finer else None
        self.fuse = ConvNorm(encoder_width, encoder_width, 3)
        self.pixels = nn.Conv2d(encoder_width, channels, 1)
        self.queries = MLP(width, width, width, channels)

    def read(
        self, queries: Tensor, boxes: Tensor, features: Features, maps: list[Tensor], size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """`embeddings` and `pixels`; arguments as of `QueryHead.read`."""
        finest = maps[0]
        if self.lateral is not None:
            detail = self.lateral(features.pyramid[self.stride])
            finest = detail + F.interpolate(finest, size=detail.shape[-2:], mode="bilinear")
        return {"embeddings": self.queries(queries), "pixels": self.pixels(self.fuse(finest))}


def sample_map(map_: Tensor, points: Tensor, stride: int) -> Tensor:
    """Bilinear samples of maps.

    Args:
        map_: (N, C, h, w).
        points: (N, R, S, 2) x and y in input pixels.
        stride: Input pixels per cell.

    Returns:
        (N, C, R, S) float32.
    """
    height, width = map_.shape[-2:]
    grid = torch.stack([points[..., 0] / (width * stride), points[..., 1] / (height * stride)], dim=-1) * 2 - 1
    return F.grid_sample(map_.float(), grid, padding_mode="border", align_corners=False)


def grid_over(boxes: Tensor, side: int, shift: Tensor | None = None) -> Tensor:
    """(N, side, side, 2) x and y of the middles of the cells of a grid over (N, 4) boxes.

    Args:
        boxes: x1, y1, x2, y2.
        side: Cells per side.
        shift: (N, side, side, 2) places within the cells, in [0, 1), in place of their middles.
    """
    steps = torch.arange(side, device=boxes.device, dtype=boxes.dtype)
    cells = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1)
    cells = (cells + (0.5 if shift is None else shift)) / side
    return boxes[:, None, None, :2] + cells * (boxes[:, 2:] - boxes[:, :2])[:, None, None]


def masks_in_boxes(embeddings: Tensor, pixels: Tensor, boxes: Tensor, side: int, stride: int) -> Tensor:
    """Masks of one image, stretched over their boxes.

    Args:
        embeddings: (N, C) of the queries.
        pixels: (C, h, w).
        boxes: (N, 4) in input pixels.
        side: Side of the masks.
        stride: Input pixels per cell.

    Returns:
        (N, side, side) float32 in [0, 1].
    """
    logits = torch.einsum("nc,chw->nhw", embeddings.float(), pixels.float())
    return sample_map(logits[:, None], grid_over(boxes, side), stride)[:, 0].sigmoid()


def mask_losses(
    head: MaskHead,
    outputs: Any,
    target: Sequence[Mapping[str, Any]],
    objects: Objects,
    pairs: Tensor,
    *,
    side: int,
    most: int,
    training: bool,
) -> dict[str, Tensor]:
    """Cross entropy and Dice loss of the matched queries' masks, summed over the layers.

    Masks are compared at a grid of points over their object's box, at random places within its cells in training.
    Memory is bounded by the number of points, whatever the size of the images. The device is not waited for: what is
    matched is known on the CPU.

    Args:
        head: The head that gave the outputs.
        outputs: Outputs of the network.
        target: Target with `masks` (N, H, W) in input pixels.
        objects: The objects, whose boxes are center and sides as fractions of the image.
        pairs: See `Matched`.
        side: Points per side of the grid.
        most: Objects of the batch that masks are trained on, at most.
        training: Otherwise the points are the same every time, and other processes are not asked.
    """
    if len(pairs) > most:
        pairs = pairs[torch.linspace(0, len(pairs) - 1, most).long()]
    device, counts = outputs.logits.device, torch.bincount(pairs[:, 0], minlength=len(target)).tolist()
    sent = pairs.to(device, non_blocking=True)
    image, rows = sent[:, 0], sent[:, 1]
    queries = layers_of(outputs)
    layers = torch.arange(len(queries), device=device)[:, None]
    own = head.queries(queries[layers, image, sent[:, 2 : 2 + len(queries)].T]).float()
    height, width = outputs.size.tolist()
    box = objects.boxes[image, rows]
    center, half = box[:, :2], box[:, 2:] * (0.5 + MARGIN)
    corners = torch.cat([center - half, center + half], dim=1).clamp(0, 1)
    corners = torch.stack([corners[:, k] * (width, height)[k % 2] for k in range(4)], dim=1)
    shift = torch.rand(len(pairs), side, side, 2, device=device) if training else None
    points = grid_over(corners, side, shift)
    seen, wanted = [], []
    parts = zip(points.split(counts), rows.split(counts), target, outputs.pixels, strict=True)
    for places, number, each, pixels in parts:
        flat = places.flatten(1, 2)
        seen.append(sample_map(pixels[None], flat[None], head.stride)[0].transpose(0, 1))  # (n, C, P)
        x, y = flat.long().unbind(-1)
        masks = each["masks"].to(device)
        inside = (number[:, None], y.clamp(0, height - 1), x.clamp(0, width - 1))
        wanted.append(masks[inside].float() if len(masks) else flat[..., 0])
    logits, true = torch.einsum("lmc,mcp->lmp", own, torch.cat(seen)), torch.cat(wanted)
    number = torch.full((), float(len(pairs)), device=device)
    number = (mean_of_processes(number) if training else number).clamp(min=1)
    entropy = F.binary_cross_entropy_with_logits(logits, true.expand_as(logits), reduction="none").mean(dim=-1)
    terms = {"masks": entropy, "dice": dice_loss(logits.sigmoid(), true)}
    return {name: WEIGHTS[name] * value.sum() / number for name, value in terms.items()}


def dice_loss(found: Tensor, true: Tensor) -> Tensor:
    """(..., P) probabilities and true values, which broadcast, to the Dice loss (...) (Milletari et al., 2016)."""
    shared, both = (found * true).sum(dim=-1), found.sum(dim=-1) + true.sum(dim=-1)
    return 1 - (2 * shared + 1) / (both + 1)

"""Keypoints of queries: each states all of its object, relative to its box (as in ED-Pose: Yang et al., 2023)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from visionkit.backbones import Features
from visionkit.families.detection.boxes import gather_objects
from visionkit.families.detection.detr.layers import MLP
from visionkit.families.detection.detr.loss import mean_of_processes
from visionkit.families.detection.detr.network import QueryHead, layers_of, outputs_with

KeypointOutputs: Any = outputs_with("KeypointOutputs", "places", "visibility")
"""`DETROutputs` with `places` (B, Q, K, 2) x and y in input pixels and `visibility` (B, Q, K) logits."""

WEIGHTS: Mapping[str, float] = {"oks": 4.0, "keypoints": 3.0, "visibility": 1.0}
AREA = 0.53
"""Area of a person as a fraction of its box, by which similarity is judged in training."""


class KeypointHead(QueryHead):
    """States keypoints and whether they are labeled.

    Args:
        width: Channels of the queries.
        sigmas: Of each keypoint, by which object keypoint similarity judges a distance.
    """

    sigmas: Tensor

    def __init__(self, width: int, sigmas: Sequence[float]) -> None:
        super().__init__()
        self.offsets = MLP(width, width, width, 2 * len(sigmas))
        self.visibility = MLP(width, width, len(sigmas))
        self.register_buffer("sigmas", torch.tensor(sigmas, dtype=torch.float32), persistent=False)

    def places(self, queries: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        """(..., Q, K, 2) float32 x and y in input pixels.

        Args:
            queries: (..., Q, width).
            boxes: (..., Q, 4) their center and sides as fractions of the image; no gradient reaches them.
            size: Height and width of the image.
        """
        boxes = boxes.detach().float()[..., None, :]
        offsets = self.offsets(queries).float().unflatten(-1, (-1, 2))
        x, y = (boxes[..., :2] + offsets * boxes[..., 2:]).unbind(-1)
        return torch.stack([x * size[1], y * size[0]], dim=-1)

    def read(
        self, queries: Tensor, boxes: Tensor, features: Features, maps: list[Tensor], size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """`places` and `visibility`; arguments as of `QueryHead.read`."""
        return {"places": self.places(queries, boxes, size), "visibility": self.visibility(queries)}


def similarities(places: Tensor, keypoints: Tensor, area: Tensor, sigmas: Tensor) -> Tensor:
    """Object keypoint similarity: the mean over the labeled keypoints, 0 where there are none.

    Args:
        places: (..., K, 2).
        keypoints: (..., K, 3) x, y and visibility; broadcast.
        area: (...) of the object, in square pixels.
        sigmas: (K,).
    """
    labeled = (keypoints[..., 2] > 0).float()
    distance = (places - keypoints[..., :2]).square().sum(dim=-1)
    each = (-distance / (2 * area[..., None].clamp(min=1) * (2 * sigmas) ** 2)).exp()
    return (each * labeled).sum(dim=-1) / labeled.sum(dim=-1).clamp(min=1)


def stated_places(head: KeypointHead, outputs: Any) -> Tensor:
    """(L, B, Q, K, 2): the keypoints of every query and layer."""
    queries = layers_of(outputs)
    height, width = outputs.size.tolist()
    return head.places(queries, outputs.all_boxes[: len(queries)], (height, width))


def true_people(target: Sequence[Mapping[str, Any]], outputs: Any) -> tuple[Tensor, Tensor]:
    """(B, N, K, 3) labeled keypoints, padded to the same number per image, and (B, N) areas of their people."""
    boxes = gather_objects(target, outputs.logits.device).boxes
    keypoints = boxes.new_zeros(*boxes.shape[:2], outputs.places.shape[2], 3)
    for row, each in enumerate(target):
        keypoints[row, : len(each["keypoints"])] = each["keypoints"].to(keypoints)
    return keypoints, AREA * (boxes[..., 2:] - boxes[..., :2]).prod(dim=-1)


@torch.no_grad()
def keypoint_cost(head: KeypointHead, outputs: Any, target: Sequence[Mapping[str, Any]]) -> Tensor:
    """(L, B, Q, N): how little the keypoints of every query are like those of every person, times its weight."""
    keypoints, area = true_people(target, outputs)
    places = stated_places(head, outputs)
    similar = [
        similarities(each[:, :, None], keypoints[:, None], area[:, None], head.sigmas) for each in places
    ]  # one layer at a time: the table is queries by people by keypoints
    return -WEIGHTS["oks"] * torch.stack(similar)


def keypoint_losses(
    head: KeypointHead, outputs: Any, target: Sequence[Mapping[str, Any]], pairs: Tensor, training: bool
) -> dict[str, Tensor]:
    """Similarity, distance and visibility of the matched queries' keypoints, summed over the layers.

    People without a labeled keypoint cost nothing. Distances count in square roots of the person's area.

    Args:
        head: The head that gave the outputs.
        outputs: Outputs of the network.
        target: Target with `boxes` and `keypoints` in input pixels.
        pairs: See `Matched`.
        training: Otherwise other processes are not asked.
    """
    sent = pairs.to(outputs.logits.device, non_blocking=True)
    image, rows = sent[:, 0], sent[:, 1]
    queries = layers_of(outputs)
    layers = torch.arange(len(queries), device=sent.device)[:, None]
    chosen = layers, image, sent[:, 2 : 2 + len(queries)].T
    height, width = outputs.size.tolist()
    own = queries[chosen]
    places = head.places(own, outputs.all_boxes[chosen], (height, width))  # (L, M, K, 2)
    every, areas = true_people(target, outputs)
    keypoints, area = every[image, rows], areas[image, rows].clamp(min=1)
    labeled = (keypoints[..., 2] > 0).float()
    known = labeled.amax(dim=-1) if len(pairs) else labeled.sum(dim=-1)
    number = known.sum()
    number = (mean_of_processes(number) if training else number).clamp(min=1)
    similar = similarities(places, keypoints, area, head.sigmas)
    distance = (places - keypoints[..., :2]).abs().sum(dim=-1) / area.sqrt()[:, None]
    seen = F.binary_cross_entropy_with_logits(
        head.visibility(own).float(), labeled.expand(len(queries), -1, -1), reduction="none"
    )
    terms = {
        "oks": 1 - similar,
        "keypoints": (distance * labeled).sum(dim=-1) / labeled.sum(dim=-1).clamp(min=1),
        "visibility": seen.mean(dim=-1),
    }
    return {name: WEIGHTS[name] * (value * known).sum() / number for name, value in terms.items()}

"""Losses on maps, fields and places; what is not labeled costs nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tasks.pose.fields import draw_fields
from tasks.pose.network import FieldOutputs, HeatmapOutputs, OffsetOutputs, PlaceOutputs
from tasks.pose.offsets import RADIUS, draw_offsets
from visionkit.errors import UsageError
from visionkit.families.keypoints.heatmaps import draw_gaussians

Targets = Sequence[dict[str, Tensor]]


def single_people(target: Targets, number: int, device: torch.device) -> Tensor:
    """(B, K, 3) the one person of each crop; a crop without one has no visible keypoint.

    Raises:
        UsageError: A crop with several people, or keypoints of another number.
    """
    rows = []
    for each in target:
        keypoints = each["keypoints"]
        check_keypoint_count(keypoints, number)
        if len(keypoints) > 1:
            raise UsageError(
                f"an image has {len(keypoints)} people, and this network processes one per crop: give the data a crop "
                "(data.crop follows model.crop), or choose --model.architecture openpose"
            )
        rows.append(keypoints[0] if len(keypoints) else keypoints.new_zeros(number, 3))
    return torch.stack(rows).to(device)


def check_keypoint_count(keypoints: Tensor, number: int) -> None:
    """Refuses labels that were made for another skeleton."""
    if keypoints.ndim != 3 or keypoints.shape[1] != number:
        raise UsageError(
            f"the data has {keypoints.shape[1] if keypoints.ndim == 3 else '?'} keypoints per person and the skeleton "
            f"{number}: give both the same with --data.skeleton"
        )


def heatmap_losses(outputs: HeatmapOutputs, people: Tensor, stride: float, sigma: float) -> dict[str, Tensor]:
    """Squared error of each stage's maps (intermediate supervision), a map of zeros costing 1 per labeled keypoint."""
    maps = outputs.heatmaps.float()
    wanted = draw_gaussians(people[..., :2], (maps.shape[-2], maps.shape[-1]), stride, sigma)
    labeled = (people[..., 2] > 0).float()
    unit = math.pi * sigma**2 * labeled.sum().clamp(min=1)
    # A keypoint that is not labeled may be anywhere: no loss, on any of its cells.
    errors = ((maps - wanted[:, None]) ** 2).sum(dim=(-2, -1)) * labeled[:, None]
    return _by_stage("heatmaps", errors.sum(dim=(0, 2)) / unit)


def offset_losses(outputs: OffsetOutputs, people: Tensor, stride: float, sigma: float) -> dict[str, Tensor]:
    """Squared errors of each stage: of the discs everywhere, of the offsets within them.

    Zeros cost 1 per keypoint each.
    """
    maps = outputs.heatmaps.float()
    offsets = outputs.offsets.float().unflatten(2, (-1, 2))
    discs, ways = draw_offsets(people[..., :2], (maps.shape[-2], maps.shape[-1]), stride, sigma)
    labeled = (people[..., 2] > 0).float()
    unit = math.pi * (RADIUS * sigma) ** 2 * labeled.sum().clamp(min=1)
    of_maps = ((maps - discs[:, None]) ** 2).sum(dim=(-2, -1)) * labeled[:, None]
    inside = (offsets - ways[:, None]) ** 2 * discs[:, None, :, None]
    # The mean square of an offset in a disc is half of a squared radius.
    of_offsets = 2 * inside.sum(dim=(-3, -2, -1)) * labeled[:, None]
    return _by_stage("heatmaps", of_maps.sum(dim=(0, 2)) / unit) | _by_stage(
        "offsets", of_offsets.sum(dim=(0, 2)) / unit
    )


def place_losses(outputs: PlaceOutputs, people: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
    """Absolute error of each stage, and how well the last one knows its own (Laplace likelihood)."""
    scale = people.new_tensor([size[1], size[0]])
    labeled = (people[..., 2] > 0).float()
    number = labeled.sum().clamp(min=1)
    # As fractions of the height, so that an error counts the same both ways.
    aspect = people.new_tensor([size[1] / size[0], 1.0])
    errors = ((outputs.places.float() - (people[..., :2] / scale)[:, None]).abs() * aspect).mean(dim=-1)
    terms = _by_stage("positions", 10 * (errors * labeled[:, None]).sum(dim=(0, 2)) / number)
    spread = outputs.spread.float()
    likelihood = errors[:, -1].detach() * (-spread).exp() + spread + 7  # from 0 on: the least spread is exp(-7)
    return {**terms, "spread": 0.1 * (likelihood * labeled).sum() / number}


def field_losses(
    outputs: FieldOutputs, target: Targets, limbs: Sequence[tuple[int, int]], stride: float, sigma: float, width: float
) -> dict[str, Tensor]:
    """Squared error of maps and fields of each stage, except in regions where nobody is labeled one by one."""
    maps, fields = outputs.heatmaps.float(), outputs.fields.float()
    size = maps.shape[-2], maps.shape[-1]
    number = maps.shape[2]
    wanted_maps, wanted_fields, known = [], [], []
    for each in target:
        keypoints = each["keypoints"].to(maps.device)
        check_keypoint_count(keypoints, number)
        drawn = draw_gaussians(keypoints[..., :2], size, stride, sigma) * (keypoints[..., 2] > 0)[..., None, None]
        wanted_maps.append(drawn.amax(dim=0) if len(keypoints) else maps.new_zeros(number, *size))
        wanted_fields.append(draw_fields(keypoints, limbs, size, stride, width))
        known.append(known_cells(each, keypoints, size, stride))
    mask = torch.stack(known)[:, None, None]
    count = sum(len(each["keypoints"]) for each in target)
    # A map of zeros costs about 1 per keypoint of a person, a field of zeros about 1 per limb.
    unit_maps = math.pi * sigma**2 * max(1, count) * number
    drawn_fields = torch.stack(wanted_fields)
    unit_fields = (drawn_fields**2).sum().clamp(min=1.0)
    of_maps = (((maps - torch.stack(wanted_maps)[:, None]) ** 2) * mask).sum(dim=(0, 2, 3, 4)) / unit_maps
    of_fields = (((fields - drawn_fields[:, None]) ** 2) * mask).sum(dim=(0, 2, 3, 4)) / unit_fields
    return _by_stage("heatmaps", of_maps) | _by_stage("fields", of_fields)


def known_cells(target: dict[str, Tensor], keypoints: Tensor, size: tuple[int, int], stride: float) -> Tensor:
    """(h, w) float, 0 in the boxes of crowds and of people without any labeled keypoint, else 1.

    Args:
        target: Target of one image; `boxes` and `iscrowd` are processed where they are there.
        keypoints: (N, K, 3) of the same image.
        size: Height and width in cells.
        stride: Input pixels a cell.
    """
    out = torch.ones(size, device=keypoints.device)
    if "boxes" not in target or not len(keypoints):
        return out
    hidden = ~(keypoints[..., 2] > 0).any(dim=1)
    if "iscrowd" in target:
        hidden = hidden | (target["iscrowd"].to(keypoints.device) > 0)
    boxes = target["boxes"].to(keypoints.device) / stride
    x, y = (torch.arange(side, device=out.device) + 0.5 for side in (size[1], size[0]))
    across = (x >= boxes[:, 0:1]) & (x < boxes[:, 2:3])
    down = (y >= boxes[:, 1:2]) & (y < boxes[:, 3:4])
    covered = (down[:, :, None] & across[:, None, :] & hidden[:, None, None]).any(dim=0)
    # Whoever is labeled inside a crowd's box is still learned: about each labeled keypoint the cells are known.
    points = keypoints[(keypoints[..., 2] > 0) & ~hidden[:, None]][:, :2] / stride
    near = ((x - points[:, 0:1]).abs() < 3)[:, None, :] & ((y - points[:, 1:2]).abs() < 3)[:, :, None]
    return (~covered | near.any(dim=0)).float()


def _by_stage(name: str, values: Tensor) -> dict[str, Tensor]:
    if len(values) == 1:
        return {name: values[0]}
    return {f"{name}_{number + 1}": value for number, value in enumerate(values)}


def as_targets(target: Any) -> Targets:
    """The targets of a batch as a list of dicts, which they are where objects are counted."""
    if isinstance(target, dict):
        raise UsageError("the data gives no keypoints; a pose network needs a data module with people")
    return target  # type: ignore[no-any-return]

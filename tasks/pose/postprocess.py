"""Maps and places to people in input pixels, people to predictions in file pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from tasks.pose.network import HeatmapOutputs, OffsetOutputs, PlaceOutputs
from tasks.pose.offsets import read_offsets
from visionkit.families.keypoints.heatmaps import Decoding, read_peaks
from visionkit.geometry import Geometry
from visionkit.predictions import Poses, Prediction
from visionkit.skeleton import Skeleton
from visionkit.tiling import Located

NEAR = 0.05
"""DeepPose's score of a keypoint is its own chance to be nearer than this, as a fraction of the input's height."""


class PoseCandidates(NamedTuple):
    """The people of one image, or of one crop, in input pixels.

    Attributes:
        places: (N, K, 2) float32 x, y.
        keypoint_scores: (N, K) float32 in [0, 1].
        scores: (N,) float32 in [0, 1].
        boxes: (N, 4) float32 x1, y1, x2, y2 where the network finds boxes itself, else None.
    """

    places: Tensor
    keypoint_scores: Tensor
    scores: Tensor
    boxes: Tensor | None = None


def people_of_maps(outputs: HeatmapOutputs, stride: float, decoding: Decoding) -> list[PoseCandidates]:
    """One person per crop, each keypoint at the highest place of its map."""
    places, heights = read_peaks(outputs.heatmaps[:, -1], stride, decoding)
    return _one_each(places, heights.clamp(0, 1))


def people_of_offsets(outputs: OffsetOutputs, stride: float, sigma: float) -> list[PoseCandidates]:
    """One person per crop, each keypoint where the cells at the middle of its disc state."""
    offsets = outputs.offsets[:, -1].unflatten(1, (-1, 2))
    places, heights = read_offsets(outputs.heatmaps[:, -1], offsets, stride, sigma)
    return _one_each(places, heights.clamp(0, 1))


def people_of_places(outputs: PlaceOutputs, size: tuple[int, int]) -> list[PoseCandidates]:
    """One person per crop, at the places of the last stage."""
    places = outputs.places[:, -1].float() * outputs.places.new_tensor([size[1], size[0]], dtype=torch.float32)
    # Laplace: an error above t has the probability exp(-t / b).
    scores = 1 - (-NEAR / outputs.spread.float().exp()).exp()
    return _one_each(places, scores)


def _one_each(places: Tensor, keypoint_scores: Tensor) -> list[PoseCandidates]:
    scores = keypoint_scores.mean(dim=1)
    return [
        PoseCandidates(places[k : k + 1], keypoint_scores[k : k + 1], scores[k : k + 1]) for k in range(len(places))
    ]


def in_file(found: PoseCandidates, geometry: Geometry, skeleton: Skeleton) -> PoseCandidates:
    """The same people in file pixels, in float64 on the CPU; a flipped view's left and right change places.

    Where the network finds boxes, one without area is no person.
    """
    places = geometry.invert_points(found.places.detach().cpu().double())
    keypoint_scores = found.keypoint_scores.detach().cpu()
    if geometry.flip:
        order = list(skeleton.flip_indices)
        places, keypoint_scores = places[:, order], keypoint_scores[:, order]
    there = PoseCandidates(places, keypoint_scores, found.scores.detach().cpu())
    if found.boxes is None:
        return there
    boxes = geometry.invert_boxes(found.boxes.detach().cpu().float())
    real = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    return PoseCandidates(*(each[real] for each in (*there[:3], boxes)))


def to_predictions(
    found: Sequence[PoseCandidates],
    geometry: Sequence[Geometry],
    skeleton: Skeleton,
    threshold: float,
    keypoint_threshold: float,
) -> list[Poses]:
    """People to one prediction per image."""
    out = []
    for people, each in zip(found, geometry, strict=True):
        there = in_file(people, each, skeleton)
        out.append(
            Poses(
                skeleton,
                there.places.numpy(),
                there.keypoint_scores.numpy(),
                there.scores.numpy(),
                person_boxes(there, keypoint_threshold).numpy(),
                threshold,
                keypoint_threshold,
            )
        )
    return out


def person_boxes(found: PoseCandidates, keypoint_threshold: float) -> Tensor:
    """(N, 4) boxes as they were found, else around what is visible of each person, or around all its keypoints."""
    if found.boxes is not None:
        return found.boxes
    seen = found.keypoint_scores >= keypoint_threshold
    seen = (seen | ~seen.any(dim=1, keepdim=True))[..., None]
    far = torch.finfo(found.places.dtype).max
    low = torch.where(seen, found.places, found.places.new_tensor(far)).amin(dim=1)
    high = torch.where(seen, found.places, found.places.new_tensor(-far)).amax(dim=1)
    return torch.cat([low, high], dim=1)


def merge_crops(parts: Sequence[Prediction], found: Located | None, nobody: Poses) -> Prediction:
    """The people of all crops of an image. A person's score is that of the box times the network's own.

    Args:
        parts: Predictions on the crops.
        found: The boxes that the crops were taken from, or None where the views were asked for.
        nobody: The prediction where there are none.
    """
    poses = [part for part in parts if isinstance(part, Poses)]
    if found is not None:
        boxes = zip(poses, found.boxes, found.scores, strict=True)
        poses = [replace(part, scores=part.scores * score, boxes=box[None]) for part, box, score in boxes]
    return Poses.joined(poses) if poses else nobody

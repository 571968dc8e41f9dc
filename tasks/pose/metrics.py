"""COCO's ten numbers, the fraction of correct keypoints, and a table of keypoints, all in file pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from tasks.pose.measures import IMAGE_COLUMNS, measure
from tasks.pose.weighted_poses import WeightedPoses
from visionkit.families.keypoints.oks import PoseResults, Truth
from visionkit.skeleton import Skeleton, subject_areas

_LOW = 1 << 28  # a number of 56 bits is two columns of float64


class PoseMetrics(Metric):
    """Collects found and true people, and measures them when the split is done.

    `compute` gives `ap`, `ap50`, `ap75`, `ap_medium`, `ap_large`, the same of `ar`, `pck` (by the torso, or by the
    box's longer side where the skeleton names no torso), `pckh` (where it names a head), for faces and hands `epe`,
    `nme`, `nme_box` and `auc`, `keypoints`, (K, 3): fraction of correct keypoints, mean similarity, and number of
    labeled ones, and `images`, the values of each image, for `image_table`.

    Args:
        skeleton: Gives sigmas, head and torso.
    """

    full_state_update = False
    higher_is_better = True

    found_image: list[Tensor]
    found_keypoints: list[Tensor]
    found_scores: list[Tensor]
    true_image: list[Tensor]
    true_keypoints: list[Tensor]
    true_rest: list[Tensor]

    def __init__(self, skeleton: Skeleton) -> None:
        super().__init__()
        self.skeleton = skeleton
        self.sigmas = skeleton.oks_sigmas()
        self.names: dict[int, str] = {}
        self._images: list[int] = []
        for name in ("found_image", "found_keypoints", "found_scores", "true_image", "true_keypoints", "true_rest"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def reset(self) -> None:
        super().reset()
        self.names, self._images = {}, []

    def update(self, found: Sequence[PoseResults], true: Sequence[Truth]) -> None:
        """Adds images, or crops of images; crops of one image name the same one."""
        for each in found:
            self.found_image.append(torch.from_numpy(np.asarray(each.image, np.int64)))
            self.found_keypoints.append(torch.from_numpy(np.asarray(each.keypoints, np.float64)))
            self.found_scores.append(torch.from_numpy(np.asarray(each.scores, np.float64)))
        for there in true:
            self.names[number := image_id(there.name)] = there.name
            self._images.append(number)
            self.true_image.append(torch.from_numpy(np.asarray(there.image, np.int64)))
            self.true_keypoints.append(torch.from_numpy(np.asarray(there.keypoints, np.float64)))
            rest = np.column_stack([there.area, there.crowd, there.boxes]).astype(np.float64)
            self.true_rest.append(torch.from_numpy(rest))

    def compute(self) -> dict[str, Tensor]:
        found, true = self._collected()
        self.names = _of_all(self.names)
        measured = measure(found, true, self.skeleton, self.sigmas)
        out = {name: torch.tensor(value, dtype=torch.float32) for name, value in measured.values.items()}
        images = np.column_stack([*np.divmod(measured.images, _LOW), measured.of_images])
        return {**out, "keypoints": torch.from_numpy(measured.keypoints).float(), "images": torch.from_numpy(images)}

    def _collected(self) -> tuple[PoseResults, Truth]:
        number = len(self.skeleton)
        found = PoseResults(
            _numpy(self.found_image, np.int64),
            _numpy(self.found_keypoints).reshape(-1, number, 2),
            _numpy(self.found_scores),
        )
        rest = _numpy(self.true_rest).reshape(-1, 6)
        keypoints = _numpy(self.true_keypoints).reshape(-1, number, 3)
        true = Truth(_numpy(self.true_image, np.int64), keypoints, rest[:, 0], rest[:, 1] > 0, rest[:, 2:])
        return found, true

    def resampler(self) -> WeightedPoses:
        """The metrics of images, or crops of images, with weights, of this process."""
        found, true = self._collected()
        return WeightedPoses(found, true, self.skeleton, np.array(self._images, np.int64))


def _numpy(parts: Any, dtype: Any = np.float64) -> np.ndarray:
    if isinstance(parts, Tensor):  # gathered from several processes
        return np.asarray(parts.cpu().numpy())
    return np.concatenate([part.cpu().numpy() for part in parts]) if len(parts) else np.zeros(0, dtype)


def _of_all(names: dict[int, str]) -> dict[int, str]:
    """The names that all processes know."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return names
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, names)
    return {number: name for part in parts for number, name in part.items()}


def keypoint_table(values: Tensor, skeleton: Skeleton) -> list[dict[str, Any]]:
    """A row per keypoint.

    Args:
        values: (K, 3) of `PoseMetrics`.
        skeleton: Names them.
    """
    name = "PCKh" if skeleton.head else "PCK"
    return [
        {"keypoint": joint, name: float(fraction), "mean OKS": float(similar), "labeled": int(number)}
        for joint, (fraction, similar, number) in zip(skeleton.keypoints, values.tolist(), strict=True)
    ]


def image_table(values: Tensor, names: Mapping[int, str]) -> list[dict[str, Any]]:
    """A row per image, in the order of their names.

    Args:
        values: `images` of `PoseMetrics`.
        names: Names by `image_id`.
    """
    rows: list[dict[str, Any]] = [
        {"image": names.get(int(high) * _LOW + int(low), ""), **dict(zip(IMAGE_COLUMNS, rest, strict=True))}
        for high, low, *rest in values.tolist()
    ]
    return sorted(rows, key=lambda row: str(row["image"]))


def image_id(name: str) -> int:
    """A number for an image's name, the same on every process; crops of one image are put together by it."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest(), "big")


def truth_of(target: Mapping[str, Tensor], keypoints: Tensor, name: str) -> Truth:
    """The true people of one image, or of one crop.

    Args:
        target: What was labeled; `file_...` keys are in file pixels.
        keypoints: (N, K, 3) in file pixels.
        name: Name of the image.
    """
    places = keypoints.detach().cpu().double().numpy()
    count = len(places)
    labeled = places[..., 2:] > 0
    low = np.where(labeled, places[..., :2], np.inf).min(axis=1, initial=np.inf)
    high = np.where(labeled, places[..., :2], -np.inf).max(axis=1, initial=-np.inf)
    around = np.nan_to_num(np.concatenate([low, high], axis=1), posinf=0.0, neginf=0.0)

    def given(*keys: str) -> np.ndarray | None:
        found = next((target[key] for key in keys if key in target), None)
        return None if found is None or len(found) != count else found.detach().cpu().double().numpy()

    boxes = given("file_boxes")
    boxes = around if boxes is None else boxes.reshape(-1, 4)
    area = subject_areas(given("file_area", "area"), boxes)
    crowd = given("file_iscrowd", "iscrowd")
    crowd = np.zeros(count) if crowd is None else crowd
    return Truth(np.full(count, image_id(name)), places, area, crowd > 0, boxes, name)

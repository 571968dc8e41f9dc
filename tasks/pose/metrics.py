"""COCO's ten numbers, the share of correct keypoints, and a table of joints, all in file pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from tasks.pose.oks import Found, Truth, evaluate, oks
from visionkit.skeleton import Skeleton

PCK_SHARE = {"torso": 0.2, "head": 0.5}
"""A joint is right within this share of the torso (PCK) or of the head (PCKh)."""


class PoseMetrics(Metric):
    """Collects found and true persons, and measures them when the split is done.

    `compute` gives `ap`, `ap50`, `ap75`, `ap_medium`, `ap_large`, the same of `ar`, `pck` (by the torso, or by the
    box's longer side where the skeleton names no torso), `pckh` (where it names a head), and `joints`, (K, 3): share of
    correct keypoints, mean similarity, and number of labelled ones.

    Args:
        skeleton: Gives sigmas, head and torso.
    """

    full_state_update = False
    higher_is_better = True

    found_image: list[Tensor]
    found_joints: list[Tensor]
    found_scores: list[Tensor]
    true_image: list[Tensor]
    true_keypoints: list[Tensor]
    true_rest: list[Tensor]

    def __init__(self, skeleton: Skeleton) -> None:
        super().__init__()
        self.skeleton = skeleton
        self.sigmas = skeleton.oks_sigmas()
        for name in ("found_image", "found_joints", "found_scores", "true_image", "true_keypoints", "true_rest"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, found: Sequence[Found], true: Sequence[Truth]) -> None:
        """Adds pictures, or crops of pictures; crops of one picture name the same one."""
        for each in found:
            self.found_image.append(torch.from_numpy(np.asarray(each.image, np.int64)))
            self.found_joints.append(torch.from_numpy(np.asarray(each.joints, np.float64)))
            self.found_scores.append(torch.from_numpy(np.asarray(each.scores, np.float64)))
        for there in true:
            self.true_image.append(torch.from_numpy(np.asarray(there.image, np.int64)))
            self.true_keypoints.append(torch.from_numpy(np.asarray(there.keypoints, np.float64)))
            rest = np.column_stack([there.area, there.crowd, there.boxes]).astype(np.float64)
            self.true_rest.append(torch.from_numpy(rest))

    def compute(self) -> dict[str, Tensor]:
        joints = len(self.skeleton)
        found = Found(
            _numpy(self.found_image, np.int64),
            _numpy(self.found_joints).reshape(-1, joints, 2),
            _numpy(self.found_scores),
        )
        rest = _numpy(self.true_rest).reshape(-1, 6)
        keypoints = _numpy(self.true_keypoints).reshape(-1, joints, 3)
        true = Truth(_numpy(self.true_image, np.int64), keypoints, rest[:, 0], rest[:, 1] > 0, rest[:, 2:])
        values = evaluate(found, true, self.sigmas)
        distance, similar = _pairs(found, true, self.sigmas)
        labelled = (true.keypoints[:, :, 2] > 0) & ~true.crowd[:, None]
        of_joint = np.zeros((joints, 3))
        of_joint[:, 2] = labelled.sum(axis=0)
        with np.errstate(invalid="ignore"):
            of_joint[:, 1] = np.where(labelled, similar, 0).sum(axis=0) / np.maximum(labelled.sum(axis=0), 1)
        torso = self.skeleton.pair("torso")
        unit = _lengths(true, torso) if torso else (true.boxes[:, 2:] - true.boxes[:, :2]).max(axis=1, initial=0)
        values["pck"], of_joint[:, 0] = _share(distance, labelled, unit * PCK_SHARE["torso"])
        if head := self.skeleton.pair("head"):
            values["pckh"], of_joint[:, 0] = _share(distance, labelled, _lengths(true, head) * PCK_SHARE["head"])
        out = {name: torch.tensor(value, dtype=torch.float32) for name, value in values.items()}
        return {**out, "joints": torch.from_numpy(of_joint).float()}


def _numpy(parts: Any, dtype: Any = np.float64) -> np.ndarray:
    if isinstance(parts, Tensor):  # gathered from several processes
        return np.asarray(parts.cpu().numpy())
    return np.concatenate([part.cpu().numpy() for part in parts]) if len(parts) else np.zeros(0, dtype)


def _pairs(found: Found, true: Truth, sigmas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance and similarity of every true joint to that of the found person most like its own; inf where none is.

    Returns:
        (M, K) pixels and (M, K) in [0, 1].
    """
    count, joints = true.keypoints.shape[:2]
    distance, similar = np.full((count, joints), np.inf), np.zeros((count, joints))
    order = np.argsort(found.image, kind="stable")
    for image in np.unique(true.image):
        g = np.flatnonzero((true.image == image) & ~true.crowd)
        first, last = np.searchsorted(found.image[order], [image, image + 1])
        d = order[first:last]
        values = oks(found.joints[d], true.keypoints[g], true.area[g], true.boxes[g], sigmas)
        for _ in range(min(values.shape)):
            row, column = np.unravel_index(int(values.argmax()), values.shape)
            offset = found.joints[d[row]] - true.keypoints[g[column], :, :2]
            distance[g[column]] = np.sqrt((offset**2).sum(axis=1))
            exponent = (offset**2).sum(axis=1) / (2 * sigmas) ** 2 / (true.area[g[column]] + np.spacing(1)) / 2
            similar[g[column]] = np.exp(-exponent)
            values[row], values[:, column] = -1.0, -1.0
    return distance, similar


def _lengths(true: Truth, pair: tuple[int, int]) -> np.ndarray:
    """(M,) distance of two joints; NaN where one of them is not labelled."""
    ends = true.keypoints[:, list(pair)]
    length = np.sqrt(((ends[:, 0, :2] - ends[:, 1, :2]) ** 2).sum(axis=1))
    return np.where((ends[..., 2] > 0).all(axis=1) & (length > 0), length, np.nan)


def _share(distance: np.ndarray, labelled: np.ndarray, limit: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean over joints of the share within the limit, and that share of each; persons without a limit are left out."""
    counted = labelled & np.isfinite(limit)[:, None]
    right = counted & (distance <= np.where(np.isfinite(limit), limit, 0)[:, None])
    number = counted.sum(axis=0)
    share = np.where(number > 0, right.sum(axis=0) / np.maximum(number, 1), np.nan)
    return float(np.nanmean(share)) if number.any() else -1.0, np.nan_to_num(share, nan=-1.0)


def joint_table(values: Tensor, skeleton: Skeleton) -> list[dict[str, Any]]:
    """A row a joint.

    Args:
        values: (K, 3) of `PoseMetrics`.
        skeleton: Names them.
    """
    name = "PCKh" if skeleton.head else "PCK"
    return [
        {"joint": joint, name: float(share), "mean OKS": float(similar), "labelled": int(number)}
        for joint, (share, similar, number) in zip(skeleton.keypoints, values.tolist(), strict=True)
    ]


def picture_number(name: str) -> int:
    """A number for a picture's name, the same on every process; crops of one picture are put together by it."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest(), "big")


def truth_of(target: Mapping[str, Tensor], keypoints: Tensor, name: str) -> Truth:
    """The true persons of one picture, or of one crop.

    Args:
        target: What was labelled; `file_...` keys are in file pixels.
        keypoints: (N, K, 3) in file pixels.
        name: Of the picture.
    """
    places = keypoints.detach().cpu().double().numpy()
    count = len(places)
    labelled = places[..., 2:] > 0
    low = np.where(labelled, places[..., :2], np.inf).min(axis=1, initial=np.inf)
    high = np.where(labelled, places[..., :2], -np.inf).max(axis=1, initial=-np.inf)
    around = np.nan_to_num(np.concatenate([low, high], axis=1), posinf=0.0, neginf=0.0)

    def given(*keys: str) -> np.ndarray | None:
        found = next((target[key] for key in keys if key in target), None)
        return None if found is None or len(found) != count else found.detach().cpu().double().numpy()

    boxes = given("file_boxes")
    boxes = around if boxes is None else boxes.reshape(-1, 4)
    area = given("file_area", "area")
    if area is None:
        area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    crowd = given("file_iscrowd", "iscrowd")
    crowd = np.zeros(count) if crowd is None else crowd
    return Truth(np.full(count, picture_number(name)), places, area, crowd > 0, boxes)

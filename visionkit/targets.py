"""What is known of an image, field by field: how each moves with the image, is padded and is put into batches.

A type of target is declared once, here or by `register` in a module of its own; preprocessing, batches and augmentation
read the declaration. A key without one is carried along as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from visionkit.errors import UsageError
from visionkit.geometry import Geometry
from visionkit.masks import MaskSet, decode_crop, encode_masks
from visionkit.types import IGNORE

MIN_BOX_SIDE = 1.0
"""An object whose cut-off box is thinner than this many input pixels is not a training target any more."""

Apply = Callable[[Geometry, Any], Tensor]


def _as_it_is(geometry: Geometry, value: Any) -> Tensor:
    return torch.as_tensor(value)


@dataclass(frozen=True)
class TargetField:
    """One key of `visionkit.types.Target`.

    Attributes:
        name: The key.
        apply: Takes the value from file pixels to a tensor in input pixels.
        placed: It belongs to positions in the image, so whatever moves the image has to move it too.
        per_instance: It has one row per object; an object that leaves the image loses its row.
        counted: Its number of rows differs from image to image, so a batch is a list of targets.
        pad: Value beside the image where a batch is padded to its largest one.
        in_file: Names and values that evaluation needs in file pixels, untouched: metrics are measured there, and a way
            through the input and back would round them.
    """

    name: str
    apply: Apply = _as_it_is
    placed: bool = True
    per_instance: bool = False
    counted: bool = False
    pad: float = 0.0
    in_file: Callable[[Geometry, Any], dict[str, Tensor]] | None = None


_FIELDS: dict[str, TargetField] = {}


def register(field: TargetField) -> TargetField:
    """Declares a type of target.

    Raises:
        UsageError: The name is taken by another declaration.
    """
    if _FIELDS.setdefault(field.name, field) != field:
        raise UsageError(f"target {field.name!r} already exists; give the new one another name")
    return field


def field_of(name: str) -> TargetField:
    """The declaration of a key; one that is carried along as it is where there is none."""
    return _FIELDS.get(name) or TargetField(name, placed=False)


def placed(target: Iterable[str]) -> set[str]:
    """The keys of a target that belong to positions in the image."""
    return {name for name in target if field_of(name).placed}


def fixed(target: Iterable[str]) -> list[str]:
    """The keys of a target that belong to positions and that no view moves: its data module alone cuts them."""
    fields = [(name, _FIELDS.get(name)) for name in target]
    return sorted(name for name, field in fields if field and field.placed and field.apply is _as_it_is)


def per_instance(target: Iterable[str]) -> list[str]:
    """The keys of a target with one row per object."""
    return [name for name in target if field_of(name).per_instance]


def apply_target(geometry: Geometry, target: Mapping[str, Any], drop: bool = False) -> dict[str, Any]:
    """Takes every key of a target from file to input pixels.

    Args:
        geometry: Geometry of the reference image.
        target: See `visionkit.types.Target`, in file pixels.
        drop: Leave out objects of which the cut keeps less than a pixel (training on a view). In evaluation every
            object stays.

    Returns:
        The same keys, as tensors, in input pixels. `area` stays in file pixels: it is the annotation's own. Where
        nothing is dropped, boxes and masks come in file pixels too (`file_boxes`, `file_masks`).
    """
    out: dict[str, Any] = {}
    for key, value in target.items():
        if key == "heads":
            out[key] = {name: apply_target(geometry, each, drop) for name, each in value.items()}
            continue
        field = field_of(key)
        out[key] = field.apply(geometry, value)
        if not drop and field.in_file is not None:
            out |= field.in_file(geometry, value)
    if drop and "boxes" in out:
        sides = out["boxes"][:, 2:] - out["boxes"][:, :2]
        keep = (sides >= MIN_BOX_SIDE).all(dim=1)
        for key in per_instance(out):
            out[key] = out[key][keep]
    return out


# ---------------------------------------------------------------------- how the types move


def _boxes(geometry: Geometry, value: Any) -> Tensor:
    return geometry.apply_boxes(torch.as_tensor(value, dtype=torch.float32).reshape(-1, 4))


def _boxes_in_file(geometry: Geometry, value: Any) -> dict[str, Tensor]:
    return {"file_boxes": torch.as_tensor(value, dtype=torch.float64).reshape(-1, 4)}


def _mask_set(geometry: Geometry, value: Any) -> MaskSet:
    return value if isinstance(value, MaskSet) else MaskSet(geometry.source, encode_masks(np.asarray(value)))


def _masks(geometry: Geometry, value: Any) -> Tensor:
    return apply_masks(geometry, _mask_set(geometry, value))


def _masks_in_file(geometry: Geometry, value: Any) -> dict[str, Tensor]:
    return {"file_masks": torch.from_numpy(_mask_set(geometry, value).pack())}


def _map(geometry: Geometry, value: Any) -> Tensor:
    return geometry.apply_map(torch.as_tensor(value, dtype=torch.float32), fill=0.0)


def _valid(geometry: Geometry, value: Any) -> Tensor:
    return geometry.apply_map(torch.as_tensor(value).bool(), fill=False)


def _flow(geometry: Geometry, value: Any) -> Tensor:
    return geometry.apply_vectors(torch.as_tensor(value, dtype=torch.float32))


def _disparity(geometry: Geometry, value: Any) -> Tensor:
    if geometry.flip or geometry.rotation:
        raise UsageError(
            "disparity: an image that is flipped or turned is no left image of a rectified pair any more; leave "
            "horizontal_flip and rotate out, and take PairAugment or SwapViews"
        )
    return _map(geometry, value) * geometry.scale[0]


def _intrinsics(geometry: Geometry, value: Any) -> Tensor:
    """(4,) fx, fy, cx, cy of the input, as its pixels are."""
    if geometry.rotation:
        raise UsageError("intrinsics: an image that is turned has other axes than its camera; leave rotate out")
    fx, fy, cx, cy = torch.as_tensor(value, dtype=torch.float32).tolist()
    (sx, sy), center = geometry.scale, geometry.apply_points(torch.tensor([[cx, cy]]))[0].tolist()
    return torch.tensor([fx * sx, fy * sy, *center])


def apply_masks(geometry: Geometry, masks: MaskSet) -> Tensor:
    """Carries masks to (N, H, W) bool by nearest value; of each only the part that it covers is unpacked."""
    out = torch.zeros((len(masks), *geometry.size), dtype=torch.bool)
    rows, columns, inside = geometry.source_indices()
    seen_rows, seen_columns = inside.any(dim=1), inside.any(dim=0)
    for mask, rle in zip(out, masks, strict=True):
        x1, y1, x2, y2, crop = decode_crop(rle)
        if not crop.size:
            continue
        bitmap = torch.from_numpy(np.ascontiguousarray(crop))
        if geometry.rotation:
            hit = inside & (rows >= y1) & (rows < y2) & (columns >= x1) & (columns < x2)
            mask[hit] = bitmap[rows[hit] - y1, columns[hit] - x1]
            continue
        # Without a rotation rows depend on rows alone, and those of the covered part follow each other.
        down = (seen_rows & (rows[:, 0] >= y1) & (rows[:, 0] < y2)).nonzero()[:, 0]
        across = (seen_columns & (columns[0] >= x1) & (columns[0] < x2)).nonzero()[:, 0]
        if len(down) and len(across):
            part = bitmap[(rows[down] - y1), columns[0, across] - x1]
            mask[int(down[0]) : int(down[-1]) + 1, int(across[0]) : int(across[-1]) + 1] = part
    return out


def _label_map(geometry: Geometry, value: Any) -> Tensor:
    labels = np.asarray(value)
    # Bytes are carried as bytes, an eighth of the traffic. numpy's uint16 does not convert to torch on every version.
    if labels.dtype != np.uint8:
        labels = labels.astype(np.int64)
    elif not labels.flags.writeable:  # kept by a cache; torch would warn
        labels = labels.copy()
    return geometry.apply_map(labels, fill=IGNORE).long()


def _keypoints(geometry: Geometry, value: Any) -> Tensor:
    """(N, K, 3); a keypoint that leaves what the input shows becomes absent.

    Flip pairs are swapped by the pose data, which knows them.
    """
    keypoints = torch.as_tensor(value, dtype=torch.float32)
    places = geometry.apply_points(keypoints[..., :2])
    content = torch.tensor(geometry.content, dtype=places.dtype)
    inside = ((places >= content[:2]) & (places <= content[2:])).all(dim=-1, keepdim=True)
    visible = torch.where(inside, keypoints[..., 2:], torch.zeros(()))
    return torch.cat([places * (visible > 0), visible], dim=-1)


for _field in (
    TargetField("labels", placed=False, per_instance=True),
    TargetField("boxes", _boxes, per_instance=True, counted=True, in_file=_boxes_in_file),
    TargetField("masks", _masks, per_instance=True, counted=True, in_file=_masks_in_file),
    TargetField("keypoints", _keypoints, per_instance=True, counted=True),
    TargetField("area", placed=False, per_instance=True),
    TargetField("iscrowd", placed=False, per_instance=True),
    TargetField("track_ids", placed=False, per_instance=True),
    TargetField("label_map", _label_map, pad=IGNORE),
    TargetField("pixel_weight", _map),
    TargetField("depth", _map),
    TargetField("flow", _flow),
    TargetField("disparity", _disparity),
    TargetField("right_disparity", _disparity),
    TargetField("valid", _valid),
    TargetField("occluded", _valid),
    TargetField("intrinsics", _intrinsics),
    TargetField("high_res"),
    TargetField("clean"),
):
    register(_field)

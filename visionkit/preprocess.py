"""From a sample to network input: the one road that training, evaluation and serving share."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from visionkit.geometry import Geometry, InputSpec
from visionkit.images import ImageLike, ImageSource
from visionkit.masks import MaskSet, decode_crop, encode_masks
from visionkit.types import IGNORE, PER_INSTANCE, Example, Sample

MIN_BOX_SIDE = 1.0
"""An object whose cut-off box is thinner than this many input pixels is not a training target any more."""


class Preprocessor:
    """Brings pictures, and their targets, to the input that a task declares.

    Args:
        spec: The task's input.

    Example:
        >>> preprocessor = Preprocessor(InputSpec(size=(224, 224)))
        >>> tensor, geometry = preprocessor.prepare("photo.jpg")    # (3, 224, 224) uint8
        >>> geometry.invert_points([[112.0, 112.0]])                # the same place in the photo
    """

    def __init__(self, spec: InputSpec) -> None:
        self.spec = spec

    def source(self, image: ImageLike) -> ImageSource:
        """The image, read with the white that the task was trained with."""
        return ImageSource(image, white=self.spec.white)

    def prepare(self, image: ImageLike) -> tuple[Tensor, Geometry]:
        """One picture to its input tensor (C, H, W) uint8 and the way back."""
        return self._picture(Sample(self.source(image)))

    def __call__(self, sample: Sample) -> Example:
        """One sample with its target, both in input pixels."""
        image, geometry = self._picture(sample)
        target = apply_target(geometry, sample.target, drop=sample.view is not None)
        return {"image": image, "target": target, "geometry": geometry, "id": sample.id or sample.image.name}

    def _picture(self, sample: Sample) -> tuple[Tensor, Geometry]:
        source = sample.image
        if sample.draft and not source.is_decoded:
            geometry = Geometry.plan(self.spec, source.size, sample.view)
            pixels = source.read(self.spec.channels, min_scale=min(1.0, max(geometry.scale)))
        else:
            pixels = source.read(self.spec.channels, bits=self.spec.bits)
            geometry = Geometry.plan(self.spec, (pixels.shape[0], pixels.shape[1]), sample.view)
        image = geometry.apply_image(pixels if pixels.dtype == np.uint8 else to_scale(pixels))
        if sample.photometric is not None:
            changed = sample.photometric(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))
            image = torch.from_numpy(np.ascontiguousarray(changed)).permute(2, 0, 1)
        return image, geometry


def to_scale(pixels: np.ndarray) -> np.ndarray:
    """16-bit pixels as float32 on the scale of 8 bit: 65535 becomes 255."""
    scaled: np.ndarray = pixels.astype(np.float32) / np.float32(257)
    return scaled


def apply_target(geometry: Geometry, target: Any, drop: bool = False) -> dict[str, Any]:
    """Carries every key of a target from file to input pixels.

    Args:
        geometry: The picture's transform.
        target: See `visionkit.types.Target`, in file pixels.
        drop: Leave out objects of which the cut keeps less than a pixel (training on a view). In evaluation every
            object stays.

    Returns:
        The same keys, as tensors, in input pixels. `area` stays in file pixels: it is the annotation's own. Where
        nothing is dropped, boxes and masks come in file pixels too (`file_boxes`, `file_masks`), untouched, because
        metrics are measured there and a way through the input and back would round them.
    """
    out: dict[str, Any] = {}
    for key, value in target.items():
        if key == "boxes":
            out[key] = geometry.apply_boxes(torch.as_tensor(value, dtype=torch.float32).reshape(-1, 4))
            if not drop:
                out["file_boxes"] = torch.as_tensor(value, dtype=torch.float64).reshape(-1, 4)
        elif key == "masks":
            masks = value if isinstance(value, MaskSet) else MaskSet(geometry.source, encode_masks(np.asarray(value)))
            out[key] = apply_masks(geometry, masks)
            if not drop:
                out["file_masks"] = torch.from_numpy(masks.pack())
        elif key == "label_map":
            out[key] = _label_map(geometry, np.asarray(value))
        elif key in ("depth", "pixel_weight"):
            out[key] = geometry.apply_map(torch.as_tensor(value, dtype=torch.float32), fill=0.0)
        elif key == "keypoints":
            out[key] = _keypoints(geometry, torch.as_tensor(value, dtype=torch.float32))
        elif key == "heads":
            out[key] = {name: apply_target(geometry, each, drop) for name, each in value.items()}
        else:
            out[key] = torch.as_tensor(value)
    if drop and "boxes" in out:
        sides = out["boxes"][:, 2:] - out["boxes"][:, :2]
        keep = (sides >= MIN_BOX_SIDE).all(dim=1)
        for key in PER_INSTANCE:
            if key in out:
                out[key] = out[key][keep]
    return out


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


def _label_map(geometry: Geometry, labels: np.ndarray) -> Tensor:
    # Bytes are carried as bytes, an eighth of the traffic. numpy's uint16 does not convert to torch on every version.
    if labels.dtype != np.uint8:
        labels = labels.astype(np.int64)
    elif not labels.flags.writeable:  # kept by a cache; torch would warn
        labels = labels.copy()
    return geometry.apply_map(labels, fill=IGNORE).long()


def _keypoints(geometry: Geometry, keypoints: Tensor) -> Tensor:
    """(N, K, 3); a keypoint that leaves what the input shows becomes absent.

    Mirrored pairs are swapped by the pose data, which knows them.
    """
    places = geometry.apply_points(keypoints[..., :2])
    content = torch.tensor(geometry.content, dtype=places.dtype)
    inside = ((places >= content[:2]) & (places <= content[2:])).all(dim=-1, keepdim=True)
    visible = torch.where(inside, keypoints[..., 2:], torch.zeros(()))
    return torch.cat([places * (visible > 0), visible], dim=-1)

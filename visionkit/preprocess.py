"""From a sample to network input: the one road that training, evaluation and serving share."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from visionkit.geometry import Geometry, InputSpec
from visionkit.images import ImageLike, ImageSource
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

    def prepare(self, image: ImageLike) -> tuple[Tensor, Geometry]:
        """One picture to its input tensor (C, H, W) uint8 and the way back."""
        return self._picture(Sample(ImageSource(image)))

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
            pixels = source.read(self.spec.channels)
            geometry = Geometry.plan(self.spec, (pixels.shape[0], pixels.shape[1]), sample.view)
        image = geometry.apply_image(pixels)
        if sample.photometric is not None:
            changed = sample.photometric(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))
            image = torch.from_numpy(np.ascontiguousarray(changed)).permute(2, 0, 1)
        return image, geometry


def apply_target(geometry: Geometry, target: Any, drop: bool = False) -> dict[str, Tensor]:
    """Carries every key of a target from file to input pixels.

    Args:
        geometry: The picture's transform.
        target: See `visionkit.types.Target`, in file pixels.
        drop: Leave out objects of which the cut keeps less than a pixel (training on a view). In evaluation every
            object stays.

    Returns:
        The same keys, as tensors, in input pixels. `area` stays in file pixels: it is the annotation's own.
    """
    out: dict[str, Tensor] = {}
    for key, value in target.items():
        if key == "boxes":
            out[key] = geometry.apply_boxes(torch.as_tensor(value, dtype=torch.float32).reshape(-1, 4))
        elif key == "masks":
            out[key] = geometry.apply_map(torch.as_tensor(value, dtype=torch.bool), fill=False)
        elif key == "label_map":
            out[key] = geometry.apply_map(_integers(value), fill=IGNORE)
        elif key == "depth":
            out[key] = geometry.apply_map(torch.as_tensor(value, dtype=torch.float32), fill=0.0)
        elif key == "keypoints":
            out[key] = _keypoints(geometry, torch.as_tensor(value, dtype=torch.float32))
        else:
            out[key] = torch.as_tensor(value)
    if drop and "boxes" in out:
        sides = out["boxes"][:, 2:] - out["boxes"][:, :2]
        keep = (sides >= MIN_BOX_SIDE).all(dim=1)
        for key in PER_INSTANCE:
            if key in out:
                out[key] = out[key][keep]
    return out


def _integers(value: Any) -> Tensor:
    # numpy's uint16 label maps do not convert to torch directly on every version
    return torch.as_tensor(np.asarray(value).astype(np.int64))


def _keypoints(geometry: Geometry, keypoints: Tensor) -> Tensor:
    """(N, K, 3); a keypoint that leaves the canvas becomes absent.

    Mirrored pairs are swapped by the pose data, which knows them.
    """
    places = geometry.apply_points(keypoints[..., :2])
    limit = torch.tensor([geometry.size[1], geometry.size[0]], dtype=places.dtype)
    inside = ((places >= 0) & (places <= limit)).all(dim=-1, keepdim=True)
    visible = torch.where(inside, keypoints[..., 2:], torch.zeros(()))
    return torch.cat([places * (visible > 0), visible], dim=-1)

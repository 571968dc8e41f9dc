"""Normalized features of whole frames on one fine grid, from maps of any backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from visionkit.backbones import Backbone, backbone_facts, declared_strides
from visionkit.backbones.frozen import FrozenBackbone
from visionkit.backbones.of_models import backbone_of
from visionkit.errors import UsageError

Size = tuple[int, int]


class FrameFeatures:
    """Gives features of a frame whose products are mean cosine similarities of the maps.

    Args:
        model: Name of a backbone (`resnet50`, `timm:resnet50`), whose public weights are taken, or a run, a checkpoint
            or a bundle, whose backbone is.
        strides: Strides of the maps; none takes those of `usual` that the network has. A plain transformer has one
            stride alone.
        size: Height and width that the frames are to have.
        device: Where the network runs.
        usual: See `strides`.

    Attributes:
        strides: Strides of the maps, finest first; the finest is that of the features.
        size: Height and width that the frames have to have: multiples of what the network needs.

    Raises:
        UsageError: An unknown backbone, a stride that it does not have (its own are listed), or a model without one.
        CheckpointError: The model cannot be opened.
        EnvironmentFault: Public weights are not at hand and cannot be brought.
    """

    def __init__(
        self, model: str, strides: Sequence[int], *, size: Size, device: str = "cpu", usual: Sequence[int] = (4, 8, 16)
    ) -> None:
        name, arguments = backbone_of(model)
        declared = declared_strides(name)
        missing = [stride for stride in strides if stride not in declared]
        if missing:
            raise UsageError(
                f"strides: backbone {name!r} has no map of stride {', '.join(map(str, missing))}; it has strides "
                f"{', '.join(map(str, sorted(set(declared))))}"
            )
        chosen = set(strides) or ({*usual} & {*declared}) or {min(declared)}
        self.strides = tuple(sorted(chosen))
        self.size = rounded(size, max(declared))
        self._plain = len(set(declared)) == 1
        if not self._plain:
            arguments |= {"strides": self.strides, "use_final": False}
        if backbone_facts(name).fixed_input_size:
            arguments["image_size"] = self.size
        self._backbone = FrozenBackbone(Backbone(name, **arguments), device)
        self.device = self._backbone.device

    @torch.inference_mode()
    def __call__(self, image: Tensor) -> Tensor:
        """(C, h, w) features of a frame, of length 1 at each place.

        Args:
            image: (3, H, W) pixels of 0 to 255, of `size`.
        """
        maps = self._maps(image.to(self.device)[None].float())
        grid = maps[0].shape[-2:]
        scale = len(maps) ** -0.5
        unit = []
        for each in maps:
            if each.shape[-2:] != grid:
                each = F.interpolate(each, size=grid, mode="bilinear", align_corners=False)
            unit.append(F.normalize(each[0].float(), dim=0) * scale)
        return torch.cat(unit)

    def _maps(self, images: Tensor) -> list[Tensor]:
        if not self._plain:
            return list(self._backbone(images).pyramid.values())
        model: Any = self._backbone.body.model
        found: list[Tensor] = model.forward_intermediates(
            self._backbone.normalized(images), indices=1, norm=True, output_fmt="NCHW", intermediates_only=True
        )
        return found


def rounded(size: Size, divisor: int) -> Size:
    """The nearest size whose sides are multiples of a number, at least one of it."""
    height, width = (max(1, round(side / divisor)) * divisor for side in size)
    return height, width

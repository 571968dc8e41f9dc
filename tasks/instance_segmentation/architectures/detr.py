"""D-FINE and RT-DETRv2 with masks: their queries are embedded, and so are the pixels of a fine map."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from tasks.instance_segmentation.architecture import MaskArchitecture
from tasks.instance_segmentation.postprocess import FoundMasks
from visionkit.argument_types import at_least
from visionkit.backbones import Backbone
from visionkit.errors import UsageError
from visionkit.families.detection.boxes import Objects
from visionkit.families.detection.detr.architecture import DETR
from visionkit.families.detection.detr.dfine import DFINE
from visionkit.families.detection.detr.masks import MaskHead, MaskOutputs, mask_losses, masks_in_boxes
from visionkit.families.detection.detr.matching import Matched
from visionkit.families.detection.detr.network import DETRNetwork, QueryHead
from visionkit.families.detection.detr.published import Published
from visionkit.families.detection.detr.rtdetr import RTDETR
from visionkit.families.detection.select import Thresholds


@dataclass(frozen=True)
class MaskDETR(DETR, MaskArchitecture):
    """Masks of queries (Li et al., 2023, arXiv 2206.02777).

    Attributes:
        mask_stride: Stride of the map that masks are made on; a finer one than the encoder's finest takes the
            backbone's map of this stride.
        mask_channels: Channels of the embeddings of queries and pixels, whose products are masks.
        mask_side: Side of a reported mask, stretched over its box.
        mask_grid: Points per side over an object's box that its mask is trained on.
        mask_batch_size: Maximum number of objects per batch that masks are trained on.
    """

    mask_stride: int = 4
    mask_channels: int = 64
    mask_side: int = 112
    mask_grid: int = 28
    mask_batch_size: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        counted = ("mask_channels", "mask_side", "mask_grid", "mask_batch_size")
        at_least(f"model.{self.place}", 1, **{name: getattr(self, name) for name in counted})
        finest = min(self.settled.strides)
        if self.mask_stride > finest or self.mask_stride < 1:
            raise UsageError(
                f"model.{self.place}.mask_stride {self.mask_stride}: must be from 1 to the finest of strides, {finest}"
            )

    @property
    def maps(self) -> tuple[int, ...]:
        return tuple(sorted({self.mask_stride, *self.settled.strides}))

    @property
    def outputs(self) -> type[tuple[Any, ...]]:
        return MaskOutputs  # type: ignore[no-any-return]

    def assemble(self, backbone: Backbone, classes: int, head: QueryHead | None = None) -> DETRNetwork:
        own = self.settled
        finer = 0 if self.mask_stride in own.strides else backbone.channels[self.mask_stride]
        masks = MaskHead(self.mask_stride, finer, own.neck_channels, own.channels, self.mask_channels)
        return super().assemble(backbone, classes, masks)

    def further_losses(
        self, network: Any, outputs: Any, target: Any, objects: Objects, matched: Matched
    ) -> dict[str, Tensor]:
        return mask_losses(
            network.head,
            outputs,
            target,
            objects,
            matched.pairs,
            side=self.mask_grid,
            most=self.mask_batch_size,
            training=network.training,
        )

    def decode(  # type: ignore[override]  # its task needs masks too
        self,
        network: Any,
        outputs: Any,
        limits: Thresholds,
        threshold: float,
        second: Callable[..., Tensor] | None = None,
    ) -> list[FoundMasks]:
        out = []
        parts = zip(self.select(outputs, limits), outputs.embeddings, outputs.pixels, strict=True)
        for (boxes, scores, labels, rows), embeddings, pixels in parts:
            masks = masks_in_boxes(embeddings[rows], pixels, boxes, self.mask_side, self.mask_stride)
            out.append(FoundMasks(boxes, scores, labels, masks, threshold))
        return out


@dataclass(frozen=True)
class MaskDFINE(DFINE, MaskDETR):
    """D-FINE (Peng et al., 2024) with masks."""

    public: ClassVar[Mapping[str, Published]] = {}


@dataclass(frozen=True)
class MaskRTDETR(RTDETR, MaskDETR):
    """RT-DETRv2 (Lv et al., 2024) with masks."""

    public: ClassVar[Mapping[str, Published]] = {}

"""RT-DETRv2 (Lv et al., 2024): hybrid encoder, and a decoder whose every layer moves the boxes of the one before."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from torch import nn

from visionkit.backbones import Backbone
from visionkit.errors import UsageError
from visionkit.families.detection.detr.architecture import DETR, LARGE
from visionkit.families.detection.detr.decoders import BoxDecoder, DecoderSizes
from visionkit.families.detection.detr.hybrid_encoder import Fusion
from visionkit.families.detection.detr.published import Published

_R50: dict[str, Any] = {**LARGE, "points": (4, 4, 4), "used_layers": 0}


def _published(release: str, file: str, size: str, port: str, backbone: str, norm: str) -> Published:
    own = {"size": size, **({"first_shortcut": True} if size in ("r18", "r34") else {})}
    return Published(
        f"https://github.com/lyuwenyu/storage/releases/download/{release}/rtdetrv2_{file}.pth",
        f"PekingU/rtdetr_v2_{port}" if port else "",
        {"backbone": backbone, "backbone_norm": norm, "rtdetr": own},
    )


@dataclass(frozen=True)
class RTDETR(DETR):
    """RT-DETRv2 (Lv et al., 2024, arXiv 2407.17140; Zhao et al., 2024, arXiv 2304.08069).

    Attributes:
        size: Published size `r18`, `r34`, `r50m`, `r50` or `r101`; arguments that are not given are its own.
        used_layers: Layers of the decoder that are run outside of training; 0 for all.
        first_shortcut: Put a projection on the first shortcut of a ResNet of timm, as the ResNets of 18 and 34 layers
            have it that the published weights were trained with.
    """

    size: str = "r18"
    used_layers: int | None = None
    first_shortcut: bool = False

    place: ClassVar[str] = "rtdetr"
    fusion: ClassVar[Fusion] = "csp"
    sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "r18": {**_R50, "encoder_expansion": 0.5, "layers": 3},
        "r34": {**_R50, "encoder_expansion": 0.5, "layers": 4},
        "r50m": {**_R50, "encoder_expansion": 0.5, "used_layers": 3},
        "r50": _R50,
        "r101": {**_R50, "neck_channels": 384, "encoder_feedforward": 2048},
    }

    public: ClassVar[Mapping[str, Published]] = {
        "r18": _published("v0.2", "r18vd_120e_coco_rerun_48.1", "r18", "r18vd", "resnet18d", "batch"),
        "r34": _published("v0.1", "r34vd_120e_coco_ema", "r34", "r34vd", "resnet34d", "batch"),
        "r50m": _published("v0.1", "r50vd_m_7x_coco_ema", "r50m", "", "resnet50d", "frozen"),
        "r50": _published("v0.1", "r50vd_6x_coco_ema", "r50", "r50vd", "resnet50d", "frozen"),
        "r101": _published("v0.1", "r101vd_6x_coco_from_paddle", "r101", "r101vd", "resnet101d", "frozen"),
    }

    def build(self, backbone: Backbone, classes: int) -> nn.Module:
        if self.first_shortcut:
            add_first_shortcut(backbone)
        return super().build(backbone, classes)

    @property
    def layers_used(self) -> int:
        own = self.settled
        return cast(int, min(own.used_layers or own.layers, own.layers))

    def decoder(self, sizes: DecoderSizes, classes: int) -> BoxDecoder:
        return BoxDecoder(sizes, classes)


def add_first_shortcut(backbone: Backbone) -> None:
    """Puts a 1x1 convolution and a norm on the shortcut of a ResNet's first block, where timm has none.

    Raises:
        UsageError: The backbone is no ResNet of timm.
    """
    block = next(iter(getattr(backbone.model, "layer1", ())), None)
    norm = getattr(block, "bn2", None)
    if norm is None or block is None or not hasattr(block, "downsample"):
        raise UsageError(f"model.rtdetr.first_shortcut: backbone {backbone.name!r} is no ResNet of basic blocks")
    if block.downsample is None:
        width = block.conv2.out_channels
        project = nn.Conv2d(width, width, 1, bias=False)
        block.downsample = nn.Sequential(nn.Identity(), project, copy.deepcopy(norm))

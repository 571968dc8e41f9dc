"""RT-DETRv2 (Lv et al., 2024): hybrid encoder, and a decoder whose every layer moves the boxes of the one before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tasks.detection.architectures.detr import DETR
from visionkit.families.detection.detr.decoders import BoxDecoder, DecoderSizes
from visionkit.families.detection.detr.hybrid_encoder import Fusion

_R50: dict[str, Any] = {
    "strides": (8, 16, 32),
    "neck_channels": 256,
    "encoder_feedforward": 1024,
    "encoder_blocks": 3,
    "encoder_expansion": 1.0,
    "channels": 256,
    "feedforward": 1024,
    "layers": 6,
    "points": (4, 4, 4),
}


@dataclass(frozen=True)
class RTDETR(DETR):
    """RT-DETRv2 (Lv et al., 2024, arXiv 2407.17140; Zhao et al., 2024, arXiv 2304.08069).

    Attributes:
        size: Published size `r18`, `r34`, `r50m`, `r50` or `r101`; arguments that are not given are its own.
        used_layers: Layers of the decoder that are run outside of training; 0 for all.
    """

    size: str = "r18"
    used_layers: int = 0

    place: ClassVar[str] = "rtdetr"
    fusion: ClassVar[Fusion] = "csp"
    sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "r18": {**_R50, "encoder_expansion": 0.5, "layers": 3},
        "r34": {**_R50, "encoder_expansion": 0.5, "layers": 4},
        "r50m": {**_R50, "encoder_expansion": 0.5, "used_layers": 3},
        "r50": _R50,
        "r101": {**_R50, "neck_channels": 384, "encoder_feedforward": 2048},
    }

    @property
    def layers_used(self) -> int:
        return min(self.used_layers or self.layers, self.layers)

    def decoder(self, sizes: DecoderSizes, classes: int) -> BoxDecoder:
        return BoxDecoder(sizes, classes)

"""D-FINE (Peng et al., 2024): RT-DETR's queries with boxes refined as distributions of their sides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from visionkit.argument_types import at_least
from visionkit.errors import UsageError
from visionkit.families.detection.detr.architecture import DETR, LARGE
from visionkit.families.detection.detr.decoders import DecoderSizes, DistributionDecoder
from visionkit.families.detection.detr.hybrid_encoder import Fusion
from visionkit.families.detection.detr.published import Published

_LARGE: dict[str, Any] = {**LARGE, "points": (3, 6, 3), "reg_scale": 4.0}


def _published(size: str, word: str, backbone: str, norm: str) -> Published:
    return Published(
        f"https://github.com/Peterande/storage/releases/download/dfinev1.0/dfine_{size}_coco.pth",
        f"ustc-community/dfine-{word}-coco",
        {"backbone": backbone, "backbone_norm": norm, "dfine": {"size": size}},
    )


@dataclass(frozen=True)
class DFINE(DETR):
    """D-FINE (Peng et al., 2024, arXiv 2410.13842).

    Attributes:
        size: Published size `n`, `s`, `m`, `l` or `x`; arguments that are not given are its own.
        bins: Steps between the offsets of a side, an even number.
        reg_scale: Curvature of the offsets; larger is flatter in the middle and steeper outside.
    """

    size: str = "s"
    bins: int = 32
    reg_scale: float | None = None

    place: ClassVar[str] = "dfine"
    fusion: ClassVar[Fusion] = "elan"
    sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "n": {
            **_LARGE,
            "strides": (16, 32),
            "neck_channels": 128,
            "encoder_feedforward": 512,
            "encoder_blocks": 2,
            "encoder_expansion": 0.34,
            "channels": 128,
            "feedforward": 512,
            "layers": 3,
            "points": (6, 6),
        },
        "s": {**_LARGE, "encoder_blocks": 1, "encoder_expansion": 0.5, "layers": 3},
        "m": {**_LARGE, "encoder_blocks": 2, "layers": 4},
        "l": _LARGE,
        "x": {**_LARGE, "neck_channels": 384, "encoder_feedforward": 2048, "reg_scale": 8.0},
    }

    public: ClassVar[Mapping[str, Published]] = {
        name: _published(name, *facts)
        for name, facts in {
            "n": ("nano", "hgnetv2_b0", "batch"),
            "s": ("small", "hgnetv2_b0", "batch"),
            "m": ("medium", "hgnetv2_b2", "batch"),
            "l": ("large", "hgnetv2_b4", "frozen"),
            "x": ("xlarge", "hgnetv2_b5", "frozen"),
        }.items()
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("model.dfine", 4, bins=self.bins)
        if self.bins % 2:
            raise UsageError(f"model.dfine.bins {self.bins}: must be even")
        if self.settled.reg_scale <= 0:
            raise UsageError(f"model.dfine.reg_scale {self.reg_scale:g}: must be above 0")

    def decoder(self, sizes: DecoderSizes, classes: int) -> DistributionDecoder:
        return DistributionDecoder(sizes, classes, self.bins, self.settled.reg_scale)

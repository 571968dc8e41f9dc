"""A siamese network on any backbone: pooled features as descriptors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from tasks.patch_matching.architecture import PatchArchitecture
from tasks.patch_matching.network import SiameseNetwork, comparison
from visionkit.argument_types import at_least
from visionkit.backbones import Backbone
from visionkit.geometry import InputSpec
from visionkit.nn.normalize import Standardizing


class PooledFeatures(Standardizing):
    """A backbone's pooled features, mapped to a descriptor.

    Args:
        backbone: Its own mean and deviation are taken off the patches.
        width: Numbers of a descriptor.
    """

    def __init__(self, backbone: Backbone, width: int) -> None:
        super().__init__()
        self.backbone, self.project = backbone, nn.Linear(backbone.num_features, width)
        self.expect(backbone.mean, backbone.std)

    def forward(self, patches: Tensor) -> Tensor:
        features = self.backbone(self.standardized(patches))
        described: Tensor = self.project(self.backbone.pool(features.final))
        return described


@dataclass(frozen=True)
class TimmSiamese(PatchArchitecture):
    """A siamese network on any timm backbone.

    Attributes:
        backbone: Any timm backbone by name.
        pretrained: Begin with the public weights of the backbone.
        drop_path: Rate of stochastic depth of the backbone, where its family has it.
        width: Numbers of a descriptor.
        hidden: Units of the hidden layer of the decision.
        compare: How descriptors are compared: by a `decision` network, or by their `cosine`, with which they can be
            searched by distance.
        shared: Both patches have one backbone; otherwise each has its own, as in a pseudo-siamese network.
    """

    backbone: str = "resnet18"
    pretrained: bool = False
    drop_path: float = 0.0
    width: int = 128
    hidden: int = 256
    compare: Literal["decision", "cosine"] = "cosine"
    shared: bool = True

    def __post_init__(self) -> None:
        at_least("model.timm_siamese", 1, width=self.width, hidden=self.hidden)

    def build(self, spec: InputSpec) -> SiameseNetwork:
        branches = [self._branch(spec) for _ in range(1 if self.shared else 2)]
        compare = comparison(self.compare, self.width, self.hidden, "model.timm_siamese")
        return SiameseNetwork(branches[0], None if self.shared else branches[1], compare)

    def _branch(self, spec: InputSpec) -> PooledFeatures:
        backbone = Backbone(
            self.backbone,
            in_chans=spec.channels,
            image_size=spec.size,
            pretrained=self.pretrained,
            drop_path_rate=self.drop_path,
        )
        return PooledFeatures(backbone, self.width)

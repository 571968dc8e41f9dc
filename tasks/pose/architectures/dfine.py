"""D-FINE (Peng et al., 2024) with keypoints: finds all people of an image and their keypoints in one pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from tasks.pose.architecture import PoseArchitecture, PoseLimits
from tasks.pose.loss import check_keypoint_count
from tasks.pose.postprocess import PoseCandidates
from visionkit.backbones import Backbone
from visionkit.families.detection.boxes import Objects
from visionkit.families.detection.detr.dfine import DFINE
from visionkit.families.detection.detr.keypoints import KeypointHead, KeypointOutputs, keypoint_cost, keypoint_losses
from visionkit.families.detection.detr.matching import Matched
from visionkit.families.detection.detr.published import Published
from visionkit.families.detection.select import Thresholds
from visionkit.geometry import InputSpec
from visionkit.skeleton import Skeleton


@dataclass(frozen=True)
class PoseDFINE(DFINE, PoseArchitecture):
    """D-FINE, each of whose queries states the keypoints of its person relative to its box.

    People are matched by class, box and object keypoint similarity.
    """

    whole: ClassVar[bool] = True
    flips: ClassVar[bool] = False
    public: ClassVar[Mapping[str, Published]] = {}

    @property
    def outputs(self) -> type[tuple[Any, ...]]:
        return KeypointOutputs  # type: ignore[no-any-return]

    def build(self, backbone: Backbone, skeleton: Skeleton, spec: InputSpec) -> nn.Module:  # type: ignore[override]
        return self.assemble(backbone, 1, KeypointHead(self.settled.channels, skeleton.oks_sigmas().tolist()))

    def further_cost(self, network: Any, outputs: Any, target: Any) -> Tensor:
        for each in target:
            check_keypoint_count(each["keypoints"], len(network.head.sigmas))
        return keypoint_cost(network.head, outputs, target)

    def further_losses(
        self, network: Any, outputs: Any, target: Any, objects: Objects, matched: Matched
    ) -> dict[str, Tensor]:
        return keypoint_losses(network.head, outputs, target, matched.pairs, network.training)

    def decode(self, network: Any, outputs: Any, limits: PoseLimits) -> list[PoseCandidates]:  # type: ignore[override]
        found = self.select(outputs, Thresholds(nms=1.0).given(None, None, limits.max_people))
        scores = outputs.visibility.float().sigmoid()
        return [
            PoseCandidates(places[each.rows], seen[each.rows], each.scores, each.boxes)
            for each, places, seen in zip(found, outputs.places, scores, strict=True)
        ]

"""Keypoint R-CNN (He et al., 2017): Mask R-CNN's two stages with a head of heatmaps; torchvision's parts.

A box's keypoint is one cell out of 56 x 56 stretched over it, learned as a class among cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
from torchvision.models.detection.roi_heads import heatmaps_to_keypoints, keypointrcnn_loss

from tasks.pose.architecture import PoseArchitecture, PoseLimits
from tasks.pose.loss import check_keypoint_count
from tasks.pose.postprocess import PoseCandidates
from visionkit.backbones import Backbone
from visionkit.backbones.weights import download
from visionkit.errors import CheckpointError
from visionkit.families.detection.architecture import TwoStage
from visionkit.families.detection.boxes import gather_objects
from visionkit.families.detection.public import IMAGENET, convert, read_weights
from visionkit.families.detection.select import Thresholds
from visionkit.families.detection.two_stage import RoIPyramid, TwoStageNetwork, with_image
from visionkit.families.detection.two_stage_loss import two_stage_losses
from visionkit.geometry import InputSpec
from visionkit.skeleton import Skeleton

PUBLIC = "keypointrcnn_resnet50_fpn"
CONFIDENT_LOGIT = 2.0
"""Logit of a peak whose score is one half: from it on Detectron draws a keypoint."""


class KeypointHead(nn.Module):
    """Eight convolutions and an enlargement: one map per keypoint for each box.

    Args:
        strides: Strides of the levels that boxes are cut from.
        keypoints: K.
        options: Arguments of the architecture.
    """

    side = 14

    def __init__(self, strides: Sequence[int], keypoints: int, options: KeypointRCNN) -> None:
        super().__init__()
        hidden = options.keypoint_hidden
        self.pool = RoIPyramid(strides, self.side, options.pooling, options.canonical_box_size)
        self.layers = KeypointRCNNHeads(options.neck_channels, (hidden,) * 8)
        self.predictor = KeypointRCNNPredictor(hidden, keypoints)

    def forward(self, maps: Sequence[Tensor], rois: Tensor) -> Tensor:
        """Boxes (R, 5), the number of the image first, to logits (R, K, 56, 56)."""
        return cast(Tensor, self.predictor(self.layers(self.pool(maps, rois))))


@dataclass(frozen=True)
class KeypointRCNN(TwoStage, PoseArchitecture):
    """Keypoint R-CNN (He et al., 2017): finds boxes and their keypoints at once, in whole images.

    Attributes:
        keypoint_hidden: Channels of the keypoint head's convolutions.
    """

    keypoint_hidden: int = 512

    whole: ClassVar[bool] = True
    flips: ClassVar[bool] = False
    place: ClassVar[str] = "keypoint_rcnn"

    @property
    def maps(self) -> tuple[int, ...]:
        return tuple(self.strides)

    @property
    def outputs(self) -> type[tuple[Any, ...]]:
        return self.outputs_of(True)

    def build(  # type: ignore[override]
        self, backbone: Backbone, skeleton: Skeleton, spec: InputSpec
    ) -> TwoStageNetwork:
        network = self.assemble(backbone, 1, KeypointHead(backbone.strides, len(skeleton), self))
        network.keypoints = len(skeleton)
        return network

    def losses(self, network: Any, outputs: Any, target: Any) -> dict[str, Tensor]:
        return keypoint_rcnn_losses(network, outputs, target, self, network.keypoints, network.training)

    def decode(self, network: Any, outputs: Any, limits: PoseLimits) -> list[PoseCandidates]:  # type: ignore[override]
        found = self.select(outputs, Thresholds().given(None, None, limits.max_people))
        rois = torch.cat(
            [torch.cat([torch.full_like(each.boxes[:, :1], k), each.boxes], 1) for k, each in enumerate(found)]
        )
        keypoints = network.keypoints
        if len(rois):
            logits = (limits.second or network.second_stage())(*network.maps_of(outputs), rois).float()
            places, heights = heatmaps_to_keypoints(logits, rois[:, 1:])
        else:
            places, heights = rois.new_zeros(0, keypoints, 3), rois.new_zeros(0, keypoints)
        scores = (heights - CONFIDENT_LOGIT).sigmoid()
        counts = [len(each.boxes) for each in found]
        parts = zip(found, places[..., :2].split(counts), scores.split(counts), strict=True)
        return [PoseCandidates(xy, keypoint_scores, each.scores, each.boxes) for each, xy, keypoint_scores in parts]


def keypoint_rcnn_losses(
    network: TwoStageNetwork,
    outputs: Any,
    target: Sequence[Mapping[str, Any]],
    settings: TwoStage,
    keypoints: int,
    training: bool,
) -> dict[str, Tensor]:
    """Those of Faster R-CNN, and a cross entropy over the cells of each labeled keypoint of the positive boxes."""
    for each in target:
        check_keypoint_count(each["keypoints"], keypoints)
    objects = gather_objects(target, outputs.logits.device)
    terms, sampled = two_stage_losses(
        network,
        outputs,
        objects,
        training=training,
        anchors=settings.rpn_batch_size_per_image,
        boxes=settings.box_batch_size_per_image,
    )
    index, boxes = sampled.partner.flatten(), with_image(sampled.boxes)
    rows = sampled.positive.flatten().nonzero().squeeze(1)
    rois, partners = boxes[rows], index[rows]
    logits = network.read_rois(outputs, rois).float()
    places = [each["keypoints"].to(rois.device).float() for each in target]
    own = [(rois[:, 0] == number).nonzero().squeeze(1) for number in range(len(target))]
    kept = [number for number, each in enumerate(own) if len(each)]
    # A labeled keypoint outside the box belongs to no cell of it, which torchvision's function leaves out.
    terms["keypoints"] = (
        keypointrcnn_loss(
            logits.contiguous(),  # it views them flat; in channels-last memory they cannot be
            [rois[own[number], 1:] for number in kept],
            [places[number] for number in kept],
            [partners[own[number]] for number in kept],
        )
        if kept
        else logits.sum() * 0.0
    )
    return terms


def public_arguments() -> dict[str, Any]:
    """How torchvision's network was built, in the task's arguments."""
    return {
        "backbone": "resnet50",
        "architecture": "keypoint_rcnn",
        "skeleton": "coco17",
        "classes": ("person",),
        "backbone_norm": "frozen",
        "norm_eps": 0.0,
        "input": InputSpec(size=(1024, 1024), resize_mode="letterbox"),
    }


def fetch_public() -> dict[str, Tensor]:
    """Torchvision's public weights, from the cache or else downloaded.

    Raises:
        EnvironmentFault: They are not in the cache and cannot be brought.
    """
    from torchvision.models.detection import KeypointRCNN_ResNet50_FPN_Weights

    address: str = KeypointRCNN_ResNet50_FPN_Weights.COCO_V1.url
    filename = address.rpartition("/")[2]
    path = download(
        address,
        filename,
        lambda folder: (
            f"torchvision:{PUBLIC}: its public weights ({filename}) are not in the cache {folder} and cannot be "
            f"downloaded: bring {address} there"
        ),
    )
    return read_weights(path)


def load_torchvision(task: Any, state: Mapping[str, Tensor]) -> Any:
    """Puts torchvision's weights into a task that was built by `public_arguments`.

    Raises:
        CheckpointError: They are the weights of something else.
    """
    from visionkit.nn.normalize import Normalize

    try:
        task.network.load_state_dict(convert(state, "faster_rcnn", gaps=False))
    except RuntimeError as error:
        raise CheckpointError(
            f"not the weights of torchvision:{PUBLIC}: {str(error).splitlines()[1].strip()}"
        ) from error
    task.normalize = Normalize(*IMAGENET)
    return task.eval()

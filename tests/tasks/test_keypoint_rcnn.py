"""Keypoint R-CNN: torchvision's network with random weights, loaded into ours, predictions the same; ours learns."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models.detection import KeypointRCNN
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

from datamodules.scene_data import SceneData
from tasks.pose import PoseTask
from tasks.pose.architectures.keypoint_rcnn import load_torchvision, public_arguments
from visionkit.errors import CheckpointError, EnvironmentFault, UsageError
from visionkit.families.detection.public import read_weights
from visionkit.geometry import InputSpec
from visionkit.predictions import Poses
from visionkit.predictor import Predictor

SMALL = {
    "hidden": 64,
    "canonical_box_size": 56,
    "anchor_scale": 4,
    "pre_nms_top_n": 100,
    "post_nms_top_n": 50,
    "train_pre_nms_top_n": 100,
    "train_post_nms_top_n": 50,
    "rpn_batch_size_per_image": 64,
    "box_batch_size_per_image": 64,
    "neck_channels": 16,
    "keypoint_hidden": 16,
}
MOST = 12


def theirs() -> Any:
    body = resnet_fpn_backbone(backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d)
    model = KeypointRCNN(body, num_classes=2, box_detections_per_img=MOST)
    overwrite_eps(model, 0.0)
    model.transform.resize = lambda image, target=None: (image, target)
    return model


@torch.no_grad()
def with_opinions(model: nn.Module) -> nn.Module:
    """Random weights with which the network finds somebody."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.weight.copy_(0.4 + 0.2 * torch.rand(module.weight.shape, generator=generator))
            module.bias.copy_(0.2 * torch.randn(module.bias.shape, generator=generator))
            module.running_mean.copy_(0.1 * torch.randn(module.bias.shape, generator=generator))
            module.running_var.copy_(0.5 + torch.rand(module.bias.shape, generator=generator))
    for key, value in model.named_parameters():
        if "box_predictor.cls_score" in key:
            value.mul_(20.0)
    return model.eval()


@pytest.mark.timeout(300)
@torch.inference_mode()
def test_the_same_weights_give_the_same_people(tmp_path) -> None:
    torch.manual_seed(0)
    reference = with_opinions(theirs())
    torch.save(reference.state_dict(), tmp_path / "weights.pth")
    task = load_torchvision(PoseTask(**public_arguments()), read_weights(tmp_path / "weights.pth"))
    image = torch.randint(0, 256, (3, 128, 160), dtype=torch.uint8)
    wanted = reference([image.float() / 255])[0]
    (found,) = task.decode(task(image[None]), max_people=MOST)
    assert len(found.scores) == len(wanted["boxes"]) >= 10
    apart = (found.boxes[:, None] - wanted["boxes"]).abs().amax(dim=-1)
    far, partner = apart.min(dim=1)
    assert len(partner.unique()) == len(partner) and far.max() < 1e-3
    assert torch.allclose(found.scores, wanted["scores"][partner], atol=1e-4)
    assert (found.places - wanted["keypoints"][partner][..., :2]).abs().max() < 1e-3
    logits = torch.special.logit(found.keypoint_scores.double(), eps=1e-12) + 2
    assert torch.allclose(logits, wanted["keypoints_scores"][partner].double(), atol=1e-2)


def test_the_published_number_of_parameters_and_every_weight_has_its_place() -> None:
    with torch.device("meta"):
        reference = theirs()
        task = PoseTask(**public_arguments())
    assert sum(parameter.numel() for parameter in reference.parameters()) == 59_137_258
    assert sum(parameter.numel() for parameter in task.parameters()) == 59_137_258
    with pytest.raises(CheckpointError, match="not the weights of torchvision"):
        load_torchvision(PoseTask("test_resnet", architecture="keypoint_rcnn", keypoint_rcnn=SMALL), {})


def test_it_trains_evaluates_and_serves() -> None:
    torch.manual_seed(0)
    spec = InputSpec(size=(96, 128), resize_mode="letterbox")
    task = PoseTask(
        "test_resnet", architecture="keypoint_rcnn", input=spec, keypoint_rcnn={**SMALL, "neck_channels": 32}
    ).train()
    assert task.crop is None and PoseTask.linked("crop", architecture="keypoint_rcnn") is None
    data = SceneData("keypoints", count=4, eval_count=2, size=(96, 128), input=spec, batch_size=2)
    batch = next(iter(data.train_dataloader()))
    terms = task.losses(task.run(batch), batch["target"])
    assert "keypoints" in terms and all(torch.isfinite(value) for value in terms.values())
    sum(terms.values()).backward()
    assert all(parameter.grad is not None for parameter in task.parameters())
    task.eval()
    with torch.no_grad():
        for batch in data.val_dataloader():
            task.measure(task.decode(task.run(batch)), batch)
    assert "ap" in task.metrics.compute()
    prediction = Predictor(task)(data.samples("val")[0].image)
    assert isinstance(prediction, Poses)
    nobody = task.decode(task(torch.zeros(1, 3, 96, 128, dtype=torch.uint8)))
    assert np.isfinite(nobody[0].places.detach().numpy()).all()
    with pytest.raises(UsageError, match="finds other boxes in a flipped image"):
        Predictor(task)(data.samples("val")[0].image, flip_tta=True)


def test_public_names_that_are_none_and_weights_that_are_not_there() -> None:
    with pytest.raises(UsageError, match="poses know torchvision:keypointrcnn_resnet50_fpn"):
        PoseTask.from_public("torchvision", "keypointrcnn_resnet51_fpn")
    with pytest.raises(EnvironmentFault, match="not in the cache"):
        PoseTask.from_public("torchvision", "keypointrcnn_resnet50_fpn")

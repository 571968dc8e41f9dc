"""torchvision's detectors with random weights, saved to a file and loaded into ours, prediction the same.

Weights are drawn so that objects are found: with those of a fresh network every score lies under its threshold.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import detection
from torchvision.models.detection import FCOS, FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from tasks.detection import DetectionTask
from tasks.instance_segmentation import InstanceSegmentationTask
from visionkit.checkpoint import load_task
from visionkit.errors import CheckpointError, EnvironmentFault, UsageError
from visionkit.families.detection.public import (
    DETECTORS,
    class_names,
    class_rows,
    convert,
    entries,
    read_weights,
    with_weights,
)

TASKS = {"detection": DetectionTask, "instance_segmentation": InstanceSegmentationTask}
PUBLISHED = {
    "fasterrcnn_resnet50_fpn": 41_755_286,
    "maskrcnn_resnet50_fpn": 44_401_393,
    "retinanet_resnet50_fpn": 34_014_999,
    "fcos_resnet50_fpn": 32_269_600,
    "ssd300_vgg16": 35_641_826,
}


def theirs(name: str) -> Any:
    """Torchvision's model as its public weights are run: frozen batch norms, and no resizing."""
    model = _theirs(name)
    model.transform.resize = lambda image, target=None: (image, target)
    return model


def _theirs(name: str) -> Any:
    if name == "ssd300_vgg16":
        return detection.ssd300_vgg16(weights=None, weights_backbone=None)
    kind = {"fasterrcnn": FasterRCNN, "maskrcnn": MaskRCNN, "retinanet": RetinaNet, "fcos": FCOS}[name.split("_")[0]]
    levels: dict[str, Any] = {}
    if kind in (RetinaNet, FCOS):
        levels = {"returned_layers": [2, 3, 4], "extra_blocks": LastLevelP6P7(256, 256)}
    body = resnet_fpn_backbone(backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d, **levels)
    model = kind(body, num_classes=91)
    if kind is not FCOS:
        overwrite_eps(model, 0.0)
    return model


@torch.no_grad()
def with_opinions(model: nn.Module) -> nn.Module:
    """Random weights with which a network states something, background and gaps never."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.weight.copy_(0.4 + 0.2 * torch.rand(module.weight.shape, generator=generator))
            module.bias.copy_(0.2 * torch.randn(module.bias.shape, generator=generator))
            module.running_mean.copy_(0.1 * torch.randn(module.bias.shape, generator=generator))
            module.running_var.copy_(0.5 + torch.rand(module.bias.shape, generator=generator))
    gaps = [row for row in range(91) if row not in class_rows()]
    for key, value in model.named_parameters():
        if any(part in key for part in ("cls_logits", "cls_score", "classification_head.module_list")):
            if "rpn" in key:
                continue
            rows = value.view(-1, 91, *value.shape[1:])
            if key.endswith("bias"):
                rows.copy_(0.1 * torch.randn(rows.shape, generator=generator))
                rows[:, gaps] = -12.0
            else:
                value.mul_(0.02 if "module_list" in key else 20.0)
                rows[:, gaps] = 0.0
    return model.eval()


@pytest.mark.parametrize("name", DETECTORS)
@torch.inference_mode()
def test_the_same_weights_give_the_same_predictions(name: str, tmp_path) -> None:
    torch.manual_seed(0)
    reference = with_opinions(theirs(name))
    torch.save(reference.state_dict(), tmp_path / "weights.pth")
    assert sum(parameter.numel() for parameter in reference.parameters()) == PUBLISHED[name]
    task: Any = with_weights(TASKS[DETECTORS[name].task], name, read_weights(tmp_path / "weights.pth"))
    assert task.classes == class_names() and len(task.classes) == 80
    height, width = (300, 300) if name == "ssd300_vgg16" else (128, 160)
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    wanted = reference([image.float() / 255])[0]
    found = task.decode(task(image[None]))[0]
    assert len(found.boxes) == len(wanted["boxes"]) >= 20
    # Two of one score to the last digit may change places, so objects are paired by class and place.
    rows = torch.tensor(class_rows())
    apart = (found.boxes[:, None] - wanted["boxes"]).abs().amax(dim=-1)
    apart = apart + 1e6 * (rows[found.labels][:, None] != wanted["labels"])
    far, partner = apart.min(dim=1)
    assert len(partner.unique()) == len(partner)
    assert far.max() <= 1e-4 * max(height, width)
    assert torch.allclose(found.scores, wanted["scores"][partner], atol=1e-4)
    if "masks" in wanted:
        from torchvision.models.detection.roi_heads import paste_masks_in_image

        pasted = paste_masks_in_image(found.masks[:, None], wanted["boxes"][partner], (height, width))
        assert torch.allclose(pasted, wanted["masks"][partner], atol=1e-4)


def test_gaps_and_background_are_not_classes() -> None:
    assert len(entries()) == 91 and len(class_rows()) == 80 and "N/A" not in class_names()
    assert class_names()[0] == "person" and class_names()[-1] == "toothbrush"


def test_weights_of_something_else_are_refused(tmp_path) -> None:
    with pytest.raises(CheckpointError, match=r"it has no 'fc\.weight'"):
        convert({"fc.weight": torch.zeros(3)}, "fcos")
    with pytest.raises(CheckpointError, match="not the weights of torchvision:fcos_resnet50_fpn: Missing key"):
        with_weights(DetectionTask, "fcos_resnet50_fpn", {})
    (tmp_path / "a.pth").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="not a file of weights"):
        read_weights(tmp_path / "a.pth")


def test_unknown_names_and_no_network_are_one_line(monkeypatch, tmp_path) -> None:
    with pytest.raises(UsageError, match="did you mean 'fcos_resnet50_fpn'"):
        load_task("torchvision:fcos_resnet50_fpm")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(EnvironmentFault, match=r"ssd300_vgg16: its public weights .* cannot be downloaded"):
        load_task("torchvision:ssd300_vgg16")

"""torchvision's detectors under their public names: how they were built, and how their weights are called here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from visionkit.backbones.weights import download
from visionkit.errors import CheckpointError, UsageError, suggest
from visionkit.geometry import InputSpec
from visionkit.nn.normalize import Normalize
from visionkit.task import VisionTask

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CAFFE = ((0.48235, 0.45882, 0.40784), (1 / 255, 1 / 255, 1 / 255))


@dataclass(frozen=True)
class PublicDetector:
    """One of torchvision's detectors.

    Attributes:
        task: Name of the task that builds it.
        weights: Name of torchvision's enumeration of its weights.
        arguments: Arguments of the task.
        statistics: Mean and std per channel, for pixels in [0, 1].
    """

    task: str
    weights: str
    arguments: dict[str, Any]
    statistics: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET


_R50 = {"backbone": "resnet50", "backbone_norm": "frozen", "norm_eps": 0.0}
_SQUARE = {"size": [1024, 1024], "resize_mode": "letterbox"}

DETECTORS: dict[str, PublicDetector] = {
    "fasterrcnn_resnet50_fpn": PublicDetector(
        "detection",
        "FasterRCNN_ResNet50_FPN_Weights",
        {**_R50, "architecture": "faster_rcnn", "input": _SQUARE},
    ),
    "retinanet_resnet50_fpn": PublicDetector(
        "detection",
        "RetinaNet_ResNet50_FPN_Weights",
        {
            **_R50,
            "architecture": "retinanet",
            "retinanet": {"head_norm": "none"},
            "max_detections": 300,
            "input": _SQUARE,
        },
    ),
    "fcos_resnet50_fpn": PublicDetector(
        "detection",
        "FCOS_ResNet50_FPN_Weights",
        {**_R50, "architecture": "fcos", "norm_eps": 1e-5, "score_threshold": 0.2, "input": _SQUARE},
    ),
    "ssd300_vgg16": PublicDetector(
        "detection",
        "SSD300_VGG16_Weights",
        {
            "backbone": "vgg16",
            "architecture": "ssd",
            "ssd": {"published": True, "strides": [8, 16], "topk_candidates": 400},
            "score_threshold": 0.01,
            "max_detections": 200,
            "input": {"size": [300, 300], "resize_mode": "stretch"},
        },
        CAFFE,
    ),
    "maskrcnn_resnet50_fpn": PublicDetector(
        "instance_segmentation", "MaskRCNN_ResNet50_FPN_Weights", {**_R50, "input": _SQUARE}
    ),
}


def load_public(task: type[VisionTask], scheme: str, name: str) -> VisionTask:
    """Builds a task with the public weights of that name.

    Raises:
        UsageError: torchvision has no such detector for this task.
        EnvironmentFault: The weights are not in the cache and cannot be brought.
    """
    detector = DETECTORS.get(name)
    if scheme != "torchvision" or detector is None:
        raise UsageError(f"{scheme}:{name}: known are {', '.join(DETECTORS)}{suggest(name, DETECTORS)}")
    if detector.task != task.name:
        raise UsageError(f"{scheme}:{name}: its task is {detector.task}, not {task.name}")
    return with_weights(task, name, fetch_weights(name, detector))


def with_weights(task: type[VisionTask], name: str, state: Mapping[str, Tensor]) -> VisionTask:
    """Builds the task of a public name with weights as torchvision stores them.

    Args:
        task: Class of the task.
        name: Name of `DETECTORS`.
        state: For 91 entries; 80 classes are made of them.

    Raises:
        CheckpointError: They are the weights of something else.
    """
    detector = DETECTORS[name]
    arguments = {**detector.arguments, "input": InputSpec.of(detector.arguments["input"])}
    built = task(classes=class_names(), **arguments)
    weights = convert(state, detector.arguments.get("architecture", "faster_rcnn"))
    try:
        built.network.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"not the weights of torchvision:{name}: {str(error).splitlines()[1].strip()}") from error
    built.normalize = Normalize(*detector.statistics)
    return built.eval()


def entries() -> list[str]:
    """The 91 entries of torchvision's detectors: background, 80 classes, and gaps named `N/A`."""
    from torchvision.models._meta import _COCO_CATEGORIES

    return list(_COCO_CATEGORIES)


def class_rows() -> list[int]:
    """Which of the 91 entries are classes."""
    return [row for row, name in enumerate(entries()) if name not in ("__background__", "N/A")]


def class_names() -> tuple[str, ...]:
    """The names of the 80 classes of COCO in label order."""
    return tuple(entries()[row] for row in class_rows())


def fetch_weights(name: str, detector: PublicDetector) -> dict[str, Tensor]:
    """The public weights, from the cache or else downloaded.

    Raises:
        EnvironmentFault: They are not in the cache and cannot be brought.
    """
    from torchvision.models import detection

    address: str = getattr(detection, detector.weights).COCO_V1.url
    filename = Path(address).name
    path = download(
        address,
        filename,
        lambda folder: (
            f"torchvision:{name}: its public weights ({filename}) are not in the cache {folder} and cannot be "
            f"downloaded: bring {address} there"
        ),
    )
    return read_weights(path)


def read_weights(path: Any) -> dict[str, Tensor]:
    """A file of torchvision's weights.

    Raises:
        CheckpointError: It is damaged, or holds more than tensors.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises errors of many types
        raise CheckpointError(f"{path}: not a file of weights ({str(error).splitlines()[0][:200]})") from error
    return dict(state)


# ---------------------------------------------------------------------- names

_BACKBONE = (r"^backbone\.body\.", "backbone.model.")
_FPN = [
    _BACKBONE,
    (r"^backbone\.fpn\.(inner_blocks|layer_blocks)\.(\d)\.(weight|bias)$", r"neck.fpn.\1.\2.0.\3"),  # of older files
    (r"^backbone\.fpn\.", "neck.fpn."),
]
_DENSE = [
    *_FPN,
    (r"^head\.classification_head\.cls_logits\.", "head.logits."),
    (r"^head\.regression_head\.bbox_reg\.", "head.deltas."),
    (r"^head\.regression_head\.bbox_ctrness\.", "head.centerness."),
]
_TWO_STAGE = [
    *_FPN,
    (r"^rpn\.head\.conv\.(weight|bias)$", r"proposals.head.conv.0.0.\1"),  # of older files
    (r"^rpn\.head\.", "proposals.head."),
    (r"^roi_heads\.box_head\.", "box_head.layers."),
    (r"^roi_heads\.box_predictor\.", "box_head.predictor."),
    (r"^roi_heads\.mask_head\.mask_fcn(\d)\.", lambda m: f"roi_head.layers.{int(m[1]) - 1}.0."),  # of older files
    (r"^roi_heads\.mask_head\.", "roi_head.layers."),
    (r"^roi_heads\.mask_predictor\.", "roi_head.predictor."),
    (r"^roi_heads\.keypoint_head\.", "roi_head.layers."),
    (r"^roi_heads\.keypoint_predictor\.", "roi_head.predictor."),
]


def _retinanet_tower(match: re.Match[str]) -> str:
    """Either `conv.<k>.0.` of newer files, or `conv.<2k>.` of older ones, where ReLUs were counted."""
    number = int(match[2]) if match[3] else int(match[2]) // 2
    return f"head.{_TOWERS[match[1]]}.{number}.conv."


def _fcos_tower(match: re.Match[str]) -> str:
    """Convolution, norm and ReLU were counted one after the other."""
    number, kind = divmod(int(match[2]), 3)
    return f"head.{_TOWERS[match[1]]}.{number}.{('conv', 'norm')[kind]}."


_TOWERS = {"classification": "class_tower", "regression": "box_tower"}
_RETINANET = [
    (r"^head\.(classification|regression)_head\.conv\.(\d+)\.(0\.)?(?=weight|bias)", _retinanet_tower),
    *_DENSE,
]
_FCOS = [(r"^head\.(classification|regression)_head\.conv\.(\d+)\.", _fcos_tower), *_DENSE]


def _vgg_tail(match: re.Match[str]) -> str:
    """What follows VGG's fourth pooling: convolutions of its own, then what was put in place of its last layers."""
    number = int(match[1])
    return f"backbone.model.features.{number + 23}." if match[2] is None else f"neck.fc.{match[2][:-1]}."


_SSD = [
    (r"^backbone\.scale_weight$", "neck.scale"),
    (r"^backbone\.features\.", "backbone.model.features."),
    (r"^backbone\.extra\.0\.(\d+)\.(\d+\.)?(?=weight|bias)", _vgg_tail),
    (r"^backbone\.extra\.(\d+)\.", lambda m: f"neck.extra.{int(m[1]) - 1}."),
    (r"^head\.classification_head\.module_list\.", "head.logits."),
    (r"^head\.regression_head\.module_list\.", "head.deltas."),
]

Rules = list[tuple[str, str | Callable[[re.Match[str]], str]]]
_RULES: dict[str, Any] = {"fcos": _FCOS, "retinanet": _RETINANET, "ssd": _SSD, "faster_rcnn": _TWO_STAGE}


def convert(state: Mapping[str, Tensor], architecture: str, gaps: bool = True) -> dict[str, Tensor]:
    """Torchvision's weights under our names, with 80 classes in place of 91 entries.

    Args:
        state: State, as torchvision stores it.
        architecture: `fcos`, `retinanet`, `ssd` or `faster_rcnn` (Mask and Keypoint R-CNN's too).
        gaps: They are for 91 entries, of which 80 are classes.

    Returns:
        What `network.load_state_dict` takes.
    """
    rules: Rules = _RULES[architecture]
    out = {}
    for key, value in state.items():
        if key.endswith("num_batches_tracked"):
            continue
        name = key
        for pattern, replacement in rules:
            name, hits = re.subn(pattern, replacement, key)
            if hits:
                break
        else:
            raise CheckpointError(f"not the weights of torchvision's {architecture}: it has no {key!r}")
        out[name] = _without_gaps(name, value, architecture) if gaps else value
    return out


def _without_gaps(name: str, value: Tensor, architecture: str) -> Tensor:
    """Leaves out the rows of gaps, and of background where classes are judged each by itself."""
    classes = class_rows()
    with_background = [0, *classes]
    if name.startswith("head.logits."):
        kept = with_background if architecture == "ssd" else classes
        return cast(Tensor, value.unflatten(0, (-1, 91)))[:, kept].flatten(0, 1)
    if name.startswith("box_head.predictor.cls_score."):
        return value[with_background]
    if name.startswith("box_head.predictor.bbox_pred."):
        return cast(Tensor, value.unflatten(0, (91, 4)))[with_background].flatten(0, 1)
    if name.startswith("roi_head.predictor.mask_fcn_logits."):
        return value[classes]
    return value

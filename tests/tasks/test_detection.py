"""Detectors on every type of backbone, their losses, and what a call may choose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import visionkit.families.detection.task
from tasks.detection import DetectionTask
from tasks.detection.architectures.localizer import area_pooled
from tasks.instance_segmentation import InstanceSegmentationTask
from visionkit.backbones import Backbone
from visionkit.engines import OpenVinoEngine, served_fields
from visionkit.errors import UsageError
from visionkit.export import export_bundle, write_graph
from visionkit.families.detection.select import Thresholds, select_by_class, select_by_sigmoid, select_by_softmax
from visionkit.geometry import Geometry, InputSpec
from visionkit.predictor import Predictor, load

SIZE = (64, 96)
SPEC = InputSpec(size=SIZE, resize_mode="stretch")
TINY = {
    "hidden": 32,
    "canonical_box_size": 56,
    "anchor_scale": 4,
    "post_nms_top_n": 20,
    "train_post_nms_top_n": 20,
    "rpn_batch_size_per_image": 64,
    "box_batch_size_per_image": 32,
}
QUERIES = {"channels": 32, "encoder_feedforward": 64, "feedforward": 64, "heads": 4}
OWN = {
    "fcos": {"convs": 1},
    "retinanet": {"convs": 1},
    "faster_rcnn": TINY,
    "mask_rcnn": {**TINY, "mask_hidden": 16},
    "dfine": {**QUERIES, "size": "n", "layers": 2},
    "rtdetr": {**QUERIES, "size": "r18", "layers": 2},
}
"""Arguments of the architectures that make them small."""
MASKED = {"mask_rcnn": "mask_rcnn", "mask_dfine": "dfine", "mask_rtdetr": "rtdetr"}
"""Architectures of instance segmentation by the names that they have here."""
ARCHITECTURES = ("fcos", "retinanet", "ssd", "faster_rcnn", "localizer", "dfine", "rtdetr", "mask_rcnn", "mask_dfine")
every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)
BACKBONES = {
    "ResNet": "test_resnet",
    "ConvNeXt": "test_convnext",
    "Swin": "swin_tiny_patch4_window7_224",
    "ViT": "test_vit",
    "MobileNet": "mobilenetv3_small_050",
    "EfficientNet": "test_efficientnet",
    "VGG": "vgg11",
    "RegNet": "regnetx_002",
    "DenseNet": "densenet121",
}


def build(architecture: str, backbone: str = "test_resnet", own: dict[str, Any] | None = None, **arguments: Any) -> Any:
    kind = InstanceSegmentationTask if architecture in MASKED else DetectionTask
    architecture = MASKED.get(architecture, architecture)
    small = {"neck_channels": 32, "strides": (4, 8, 16, 32), **OWN.get(architecture, {}), **(own or {})}
    given = {"classes": ("a", "b", "c"), "input": SPEC, architecture: small, **arguments}
    return kind(backbone, architecture=architecture, **given)


def images(count: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, *SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def target(boxes: list[list[float]], labels: list[int], crowd: list[int] | None = None) -> dict[str, torch.Tensor]:
    masks = torch.zeros(len(boxes), *SIZE, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[int(y1) : int(y2), int(x1) : int(x2)] = True
    out = {
        "boxes": torch.tensor(boxes).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "masks": masks,
    }
    return out if crowd is None else {**out, "iscrowd": torch.tensor(crowd)}


TARGETS = [target([[5, 5, 30, 40], [40, 10, 90, 60]], [0, 2]), target([], [])]


def train_on(family: str, architectures: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward and backward; the backbone, which takes the time to build, is shared."""
    body = Backbone(BACKBONES[family], strides=(4, 8, 16, 32), image_size=SPEC.size, use_final=False)
    monkeypatch.setattr(visionkit.families.detection.task, "Backbone", lambda *args, **kwargs: body)
    for architecture in architectures:
        body.zero_grad()
        task = build(architecture, BACKBONES[family]).train()
        terms = task.losses(task(images()), TARGETS)
        assert all(torch.isfinite(value) for value in terms.values()), architecture
        sum(terms.values()).backward()
        assert not [key for key, p in task.named_parameters() if p.requires_grad and p.grad is None], architecture
        assert any(p.grad.abs().sum() > 0 for p in body.parameters() if p.grad is not None), architecture


@pytest.mark.parametrize("family", BACKBONES)
def test_every_backbone_trains_and_every_architecture(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The families take turns in the architectures."""
    number, every = list(BACKBONES).index(family), list(ARCHITECTURES)
    train_on(family, sorted({every[number % len(every)], *every[number :: len(BACKBONES)]}), monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("family", BACKBONES)
def test_every_backbone_in_each_architecture(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    train_on(family, list(ARCHITECTURES), monkeypatch)


@every_architecture
def test_images_without_objects_are_trained_on(architecture: str) -> None:
    task = build(architecture).train()
    terms = task.losses(task(images()), [target([], [])] * 2)
    sum(terms.values()).backward()
    assert all(torch.isfinite(value) for value in terms.values())
    assert not [key for key, p in task.named_parameters() if p.grad is None]


@every_architecture
def test_a_validation_loss_is_the_same_again_and_crowds_are_left_out(architecture: str) -> None:
    torch.manual_seed(0)
    task = build(architecture).eval()
    with_crowd = [target([[5, 5, 30, 40], [40, 10, 90, 60]], [0, 2], [0, 1]), target([], [])]
    without = [target([[5, 5, 30, 40]], [0]), target([], [])]
    with torch.no_grad():
        outputs = task(images())
        first, again, other = (task.losses(outputs, each) for each in (with_crowd, with_crowd, without))
    assert first == again
    if architecture not in ("faster_rcnn", "mask_rcnn"):  # the number of true boxes moves their draws
        assert {key: pytest.approx(float(value), rel=1e-5) for key, value in other.items()} == first


# The contract suite has others.
@pytest.mark.parametrize(
    "architecture", ["retinanet", "ssd", "faster_rcnn", pytest.param("dfine", marks=pytest.mark.slow)]
)
def test_one_image_can_be_overfit(architecture: str) -> None:
    torch.manual_seed(0)
    task = build(architecture, input=InputSpec(size=SIZE, resize_mode="stretch")).train()
    image = images(1)
    for box in TARGETS[0]["boxes"].int().tolist():
        image[0, :, box[1] : box[3], box[0] : box[2]] //= 6
    optimizer = torch.optim.AdamW(task.parameters(), lr=3e-3)
    for _ in range(80):
        optimizer.zero_grad()
        sum(task.losses(task(image), TARGETS[:1]).values()).backward()
        nn.utils.clip_grad_norm_(task.parameters(), 5.0)
        optimizer.step()
    # Statistics of one image are its own: the batch norms stay as they are in training.
    with torch.no_grad():
        found = task.decode(task(image), score_threshold=0.3)[0]
    best = {int(label): box for label, box in zip(found.labels.flip(0), found.boxes.flip(0), strict=True)}
    for label, box in zip((0, 2), TARGETS[0]["boxes"], strict=True):
        assert label in best, f"{architecture} does not find object {label}"
        assert (best[label] - box).abs().max() < 8


def test_cells_are_the_means_of_what_lies_in_them() -> None:
    level = torch.randn(2, 3, 14, 21)
    assert torch.allclose(area_pooled(level, 7), F.adaptive_avg_pool2d(level, 7), atol=1e-6)
    column = torch.arange(5.0).reshape(1, 1, 1, 5).expand(1, 1, 3, 5)
    assert torch.allclose(area_pooled(column, 2)[0, 0, 0], torch.tensor([(0 + 1 + 1) / 2.5, (1 + 3 + 4) / 2.5]))
    assert torch.allclose(area_pooled(torch.ones(1, 1, 2, 3), 7), torch.ones(1, 1, 7, 7)), "smaller maps are enlarged"


def test_the_localizer_trains_the_largest_object_and_predictions_one() -> None:
    torch.manual_seed(0)
    task = build("localizer").train()
    image = images(3)
    boxes = [[5.0, 5, 30, 40], [40, 10, 90, 60], [10, 20, 70, 60]]
    for source_image, box in zip(image, boxes, strict=True):
        x1, y1, x2, y2 = map(int, box)
        source_image[:, y1:y2, x1:x2] //= 6
    targets = [
        target([[0, 0, 6, 6], boxes[0]], [1, 0]),
        target([boxes[1], [0, 0, 96, 64]], [2, 1], [0, 1]),  # the crowd is larger, and no object
        target([boxes[2]], [1]),
    ]
    optimizer = torch.optim.AdamW(task.parameters(), lr=3e-3)
    for _ in range(80):
        optimizer.zero_grad()
        sum(task.losses(task(image), targets).values()).backward()
        optimizer.step()
    with torch.no_grad():
        found = task.decode(task(image), score_threshold=0.3)
    assert "at most 1 per image" in task.protocol
    with pytest.raises(UsageError, match=r"model\.tile 100: localizer finds one object"):
        build("localizer", tile=100)
    for each, box, label in zip(found, boxes, (0, 2, 1), strict=True):
        assert each.labels.tolist() == [label]
        assert (each.boxes[0] - torch.tensor(box)).abs().max() < 8


def test_a_call_chooses_thresholds(architecture: str = "fcos") -> None:
    predictor = Predictor(build(architecture).eval())
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    everything = predictor(image, score_threshold=0.0, nms_threshold=1.0, max_detections=500)
    assert len(everything) == 500
    assert len(predictor(image, score_threshold=0.0, nms_threshold=0.1)) < len(everything)
    assert len(predictor(image, score_threshold=0.0, max_detections=3)) == 3
    assert len(predictor(image, score_threshold=1.0)) == 0
    for options, message in (
        ({"score_threshold": 2}, "score_threshold 2: allowed is 0 to 1"),
        ({"nms_threshold": -1}, "nms_threshold -1: allowed is 0 to 1"),
        ({"max_detections": 0}, "max_detections 0: must be at least 1"),
        ({"max_detections": 2.5}, "max_detections 2.5: a whole number is required"),
        ({"nms_threshold": "high"}, "nms_threshold 'high': a number from 0 to 1 is required"),
        ({"score_treshold": 0.5}, "did you mean 'score_threshold'"),
    ):
        with pytest.raises(UsageError, match=message):
            predictor(image, **options)


def test_bad_arguments_are_one_line() -> None:
    with pytest.raises(UsageError, match="did you mean 'retinanet'"):
        DetectionTask("test_resnet", classes=["a"], architecture="retinanett")
    with pytest.raises(UsageError, match="at least one class"):
        DetectionTask("test_resnet")
    with pytest.raises(UsageError, match=r"model\.faster_rcnn\.hidden 0: must be at least 1"):
        build("faster_rcnn", own={"hidden": 0})
    with pytest.raises(UsageError, match=r"model\.faster_rcnn\.pooling: 'aline' is not one of align, pool"):
        build("faster_rcnn", own={"pooling": "aline"})
    with pytest.raises(UsageError, match="norm 'grup'"):
        build("fcos", backbone_norm="grup")
    with pytest.raises(UsageError, match="has no map of stride 64"):
        build("fcos", own={"strides": (16, 64)})


@pytest.mark.parametrize("norm", ["frozen", "group"])
def test_norms_of_the_backbone(norm: str) -> None:
    task = build("fcos", backbone_norm=norm).train()
    before = {key: value.clone() for key, value in task.network.backbone.state_dict().items() if "running" in key}
    sum(task.losses(task(images()), TARGETS).values()).backward()
    assert not [m for m in task.network.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert bool(before) == (norm == "frozen")
    assert all(torch.equal(value, task.network.backbone.state_dict()[key]) for key, value in before.items())
    again = type(task).from_config(task.config)
    again.load_state_dict(task.state_dict())


def test_predictions_are_in_file_pixels_and_the_border_finds_nothing() -> None:
    task = build("fcos", input=InputSpec(size=(64, 64), resize_mode="letterbox"))
    geometry = Geometry.plan(task.input, (100, 200))  # 16 rows of border above and below
    found = select_by_sigmoid(
        torch.tensor([[5.0], [4.0]]), torch.tensor([[8.0, 20, 24, 36], [8, 0, 24, 15]]), [2], Thresholds()
    )
    (prediction,) = task.restore([found], [geometry])
    assert prediction.boxes.tolist() == [[25.0, 12.5, 75.0, 62.5]]
    assert prediction.size == (100, 200) and prediction.labels.tolist() == [0]


def test_selection_by_hand() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]])
    found = select_by_sigmoid(torch.tensor([[2.0, -9], [1.0, -9], [-9, 3.0]]), boxes, [2, 1], Thresholds(0.5, 0.5))
    assert found.labels.tolist() == [1, 0] and found.boxes.tolist() == [[20, 20, 30, 30], [0, 0, 10, 10]]
    middle = torch.tensor([9.0, 9, -9])
    found = select_by_sigmoid(torch.tensor([[2.0, -9], [1.0, -9], [-9, 3.0]]), boxes, [2, 1], Thresholds(0.5), middle)
    assert found.labels.tolist() == [0], "a place at the border of its object states little"
    probabilities = torch.tensor([[0.9, 0.0], [0.8, 0.6], [0.1, 0.7]])
    found = select_by_class(probabilities, boxes, Thresholds(0.3, 0.5, 10, 2))
    assert found.labels.tolist() == [0, 1, 1] and found.scores.tolist() == pytest.approx([0.9, 0.7, 0.6])
    found = select_by_softmax(probabilities, boxes[:, None].expand(-1, 2, -1), Thresholds(0.3, 0.5, 2))
    assert found.labels.tolist() == [0, 1]


@every_architecture
def test_every_architecture_finds_nothing_for_an_image_of_nothing(architecture: str) -> None:
    task = build(architecture).eval()
    prediction = Predictor(task)(np.zeros((30, 40, 3), np.uint8), score_threshold=1.0)
    assert len(prediction) == 0 and prediction.size == (30, 40)


@pytest.mark.slow
@pytest.mark.parametrize(
    "architecture", ["retinanet", "ssd", "faster_rcnn", "localizer", "dfine", "rtdetr", "mask_dfine", "mask_rtdetr"]
)
def test_graphs_predict_as_torch_does(architecture: str, tmp_path) -> None:
    torch.manual_seed(0)
    task = build(architecture).eval()
    export_bundle(task, tmp_path / "bundle", onnx=True)
    graph = load(tmp_path / "bundle", engine="onnx")
    several = [np.random.default_rng(k).integers(0, 256, (60, 80 + k, 3), dtype=np.uint8) for k in range(3)]
    for ours, other in zip(Predictor(task)(several), graph(several), strict=True):
        assert len(ours) == len(other)
        assert np.allclose(ours.scores, other.scores, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["dfine", "mask_dfine"])
def test_openvino_samples_as_torch_does(architecture: str, tmp_path) -> None:
    pytest.importorskip("openvino")
    torch.manual_seed(0)
    task = build(architecture, own={"strides": (8, 16, 32)}).eval()
    write_graph(task, tmp_path / "model.onnx")
    engine = OpenVinoEngine(tmp_path / "model.onnx", task.outputs, 1, "float32")
    with torch.no_grad():
        wanted = task(images())
    found = engine(images())
    for name in served_fields(task.outputs):
        ours, other = getattr(wanted, name), getattr(found, name)
        assert (ours - other).abs().max() < 1e-4 * max(1.0, float(ours.abs().max())), name


@pytest.mark.slow
@pytest.mark.parametrize("family", BACKBONES)
def test_queries_on_every_backbone_export(family: str, tmp_path) -> None:
    """The graph is kept only where its predictions on real images are torch's."""
    torch.manual_seed(0)
    task = build("dfine", BACKBONES[family], own={"layers": 1, "strides": (8, 16, 32)}).eval()
    photos = [np.random.default_rng(k).integers(0, 256, (60, 80, 3), dtype=np.uint8) for k in range(2)]
    export_bundle(task, tmp_path / "bundle", onnx=True, images=photos)
    assert (tmp_path / "bundle" / "model.onnx").is_file()

"""Parts of the detectors with queries: sampling, denoising, matching, distributions, and what a call selects."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import visionkit.families.detection.detr.deformable as deformable
from tasks.detection import DetectionTask
from visionkit.errors import UsageError
from visionkit.families.detection.boxes import Objects, gather_objects
from visionkit.families.detection.detr.architecture import fractions
from visionkit.families.detection.detr.deformable import DeformableAttention, sample_by_gather, sample_by_grid
from visionkit.families.detection.detr.denoising import noisy_copies
from visionkit.families.detection.detr.distribution import bins_of, localization_loss, moved_boxes, offset_bins
from visionkit.families.detection.detr.layers import Seen
from visionkit.families.detection.detr.loss import Stages, matched_losses
from visionkit.families.detection.detr.matching import MatchWeights, corners_of, match_queries, matching_cost, overlaps
from visionkit.families.detection.select import Thresholds
from visionkit.families.detection.views import DetectorViews
from visionkit.geometry import InputSpec
from visionkit.images import ImageSource

SHAPES, POINTS = [(7, 5), (4, 3), (2, 2)], (3, 6, 2)
QUERIES = {"channels": 32, "neck_channels": 32, "encoder_feedforward": 64, "feedforward": 64, "heads": 4, "layers": 2}


def tiny(architecture: str = "dfine", size: tuple[int, int] = (64, 96), **own: Any) -> Any:
    torch.manual_seed(0)
    first = {"size": "n", "strides": (8, 16, 32)} if architecture == "dfine" else {}
    given: dict[str, Any] = {architecture: {**QUERIES, **first, **own}}
    spec = InputSpec(size=size, resize_mode="stretch")
    return DetectionTask("test_resnet", classes=["a", "b", "c"], architecture=architecture, input=spec, **given)


def known(boxes: list[list[float]], labels: list[int]) -> Objects:
    """One image; boxes are center and sides."""
    found = torch.tensor(boxes)[None]
    return Objects(found, torch.tensor(labels)[None], torch.ones(1, len(labels), dtype=torch.bool))


def test_both_paths_of_sampling_agree_inside_and_outside_of_the_image() -> None:
    torch.manual_seed(0)
    value = torch.randn(2, sum(h * w for h, w in SHAPES), 4, 8, requires_grad=True)
    locations = (torch.rand(2, 9, 4, sum(POINTS), 2) * 1.6 - 0.3).requires_grad_()
    weights = torch.rand(2, 9, 4, sum(POINTS)).softmax(dim=-1).requires_grad_()
    results = [f(value, SHAPES, POINTS, locations, weights) for f in (sample_by_grid, sample_by_gather)]
    assert torch.allclose(*results, atol=1e-5) and results[0].shape == (2, 9, 32) and results[0].std() > 0.1
    noise = torch.randn_like(results[0])
    grads = [torch.autograd.grad(each, (value, locations, weights), noise, retain_graph=True) for each in results]
    for one, other in zip(*grads, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("architecture", ["dfine", "rtdetr"])
@torch.no_grad()
def test_an_exported_network_gathers_and_states_the_same(architecture: str, monkeypatch) -> None:
    task = tiny(architecture, size=(72, 100)).eval()  # maps whose sides do not divide
    image = torch.randint(0, 256, (2, 3, 72, 100), dtype=torch.uint8)
    wanted = task(image)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    monkeypatch.setattr(deformable.F, "grid_sample", None)
    found = task(image)
    assert torch.allclose(found.logits, wanted.logits, atol=1e-5)
    assert torch.allclose(found.boxes, wanted.boxes, atol=1e-3)


def test_the_first_samples_lie_around_the_box() -> None:
    layer = DeformableAttention(8, 4, (2,), project=False)
    offsets = layer.offsets.bias.reshape(4, 2, 2)
    assert torch.allclose(offsets[:, 0], torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]]), atol=1e-6)
    assert torch.allclose(offsets[:, 1], 2 * offsets[:, 0])


@pytest.mark.parametrize("architecture", ["dfine", "rtdetr"])
def test_denoising_queries_are_run_as_if_together_with_the_others(architecture: str) -> None:
    """They see the others' keys of each layer; running all in one pass under the whole mask gives the same."""
    task = tiny(architecture, denoising=4).train()
    network, decoder = task.network, task.network.decoder
    torch.nn.init.normal_(network.selection_box[-1].weight, std=0.1)
    outputs = task(torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8))
    target = [{"boxes": torch.tensor([[5.0, 5, 30, 40], [40, 10, 90, 60]]), "labels": torch.tensor([0, 2])}] * 2
    objects = fractions(gather_objects(target, outputs.logits.device), outputs.size)
    count = outputs.logits.shape[1]
    copies = noisy_copies(objects, 3, count, 4, 0.5, 1.0)
    shapes = [tuple(each) for each in outputs.shapes.tolist()]
    own = network.denoising_labels(copies.labels)
    seen = Seen(outputs.keys, outputs.values, copies.mask)
    apart = decoder(own, copies.boxes, outputs.memory, shapes, seen)
    first, total = own.shape[1], own.shape[1] + count
    mask = torch.zeros(total, total, dtype=torch.bool)
    mask[:first], mask[first:, :first] = copies.mask, True
    start = outputs.all_boxes[-1].logit()
    nothing = outputs.keys[:, :, :0]
    queries = torch.cat([own, outputs.values[0]], dim=1)
    boxes = torch.cat([copies.boxes, start], dim=1)
    together = decoder(queries, boxes, outputs.memory, shapes, Seen(nothing, nothing, mask))
    assert torch.allclose(together.logits[:, :, :first], apart.logits, atol=1e-5)
    assert torch.allclose(together.boxes[:, :, :first], apart.boxes, atol=1e-5)
    assert torch.allclose(together.logits[-1, :, first:], outputs.logits, atol=1e-5), "the others do not see them"


def test_copies_are_near_their_objects_or_refused() -> None:
    torch.manual_seed(0)
    objects = known([[0.5, 0.5, 0.2, 0.4], [0.3, 0.6, 0.1, 0.1], [0, 0, 0, 0]], [1, 0, 2])
    objects.valid[0, 2] = False
    copies = noisy_copies(objects, 3, 7, count=60, label_noise=0.0, box_noise=1.0)
    assert copies.groups == 20 and copies.labels.shape == (1, 120)
    pattern = [0, 1, -1, -1, -1, -1]
    assert copies.objects[0].tolist() == pattern * 20
    assert copies.labels[0, :6].tolist() == [1, 0, 3, 1, 0, 3], "what pads a batch has no class"
    corners, own = corners_of(copies.boxes.sigmoid())[0], corners_of(objects.boxes)[0, 0]
    moved = (corners[0::6] - own).abs() / torch.tensor([0.1, 0.2, 0.1, 0.2])
    assert moved.max() <= 1.01 and moved.mean() == pytest.approx(0.5, abs=0.1)
    far = (corners[3::6] - own).abs() / torch.tensor([0.1, 0.2, 0.1, 0.2])
    assert far.max() > 1.5 and far.mean() > 1
    assert not copies.mask[:6, :6].any() and copies.mask[:6, 6:120].all() and not copies.mask[:, 120:].any()
    noisy = noisy_copies(objects, 3, 7, count=600, label_noise=1.0, box_noise=1.0)
    changed = noisy.labels[0, 0::6] != 1
    assert 0.2 < changed.float().mean() < 0.45, "half is drawn, a third of that stays what it is"


def test_matching_is_the_cheapest_of_all_and_the_union_goes_by_votes() -> None:
    torch.manual_seed(0)
    logits, boxes = torch.randn(4, 1, 5, 3), torch.rand(4, 1, 5, 4) * 0.5 + 0.2
    objects = known([[0.4, 0.4, 0.2, 0.2], [0.5, 0.6, 0.3, 0.2], [0.3, 0.3, 0.2, 0.3]], [0, 1, 1])
    objects.valid[0, 1] = False
    matched = match_queries(logits, boxes, objects, MatchWeights())
    cost = matching_cost(logits, boxes, objects, MatchWeights())
    assert cost[..., 1].isinf().all()
    votes = torch.zeros(5, 3)
    for stage in range(4):
        best = min(
            itertools.permutations(range(5), 2),
            key=lambda rows, stage=stage: float(cost[stage, 0, rows[0], 0] + cost[stage, 0, rows[1], 2]),
        )
        wanted = [-1] * 5
        wanted[best[0]], wanted[best[1]] = 0, 2
        assert matched.stages[stage, 0].tolist() == wanted
        votes[best[0], 0] += 1
        votes[best[1], 2] += 1
    assert matched.union[0].tolist() == [int(row.argmax()) if row.any() else -1 for row in votes]
    many = known([[0.5, 0.5, 0.2, 0.2]] * 9, [0] * 9)
    assert (match_queries(logits, boxes, many, MatchWeights()).stages >= 0).all(), "more objects than queries"


def test_overlaps_are_those_of_torchvision() -> None:
    from torchvision.ops import box_iou, generalized_box_iou

    torch.manual_seed(0)
    boxes, others = (corners_of(torch.rand(6, 4)) for _ in range(2))
    iou, giou = overlaps(boxes[:, None], others[None])
    assert torch.allclose(iou, box_iou(boxes, others), atol=1e-6)
    assert torch.allclose(giou, generalized_box_iou(boxes, others), atol=1e-5)


def test_sides_between_two_bins_are_known_by_them() -> None:
    bins = offset_bins(32, 4.0)
    assert len(bins) == 33 and bins[16] == 0 and torch.allclose(bins, -bins.flip(0)) and (bins.diff() > 0).all()
    assert bins[-1] == 4 and bins[-2] == pytest.approx(2.0)
    first = torch.tensor([[0.5, 0.5, 0.2, 0.3], [0.4, 0.6, 0.3, 0.1]])
    boxes = torch.tensor([[0.52, 0.49, 0.24, 0.26], [0.42, 0.6, 0.28, 0.12]])
    target = bins_of(first, boxes, bins, 4.0)
    offsets = bins[target.left] * (1 - target.weight) + bins[target.left + 1] * target.weight
    assert torch.allclose(moved_boxes(first, offsets, 4.0), boxes, atol=1e-5)
    far = bins_of(first, torch.tensor([[0.5, 0.5, 0.9, 0.01]] * 2), bins, 4.0)
    assert far.left.max() == 31 and far.weight[0, 0] == 1, "what lies outside belongs to the last bin"
    exact = torch.full((2, 4, 33), -torch.inf).scatter(2, target.left[..., None], (1 - target.weight)[..., None].log())
    exact = exact.scatter(2, target.left[..., None] + 1, target.weight[..., None].log())
    entropy = -(target.weight * target.weight.log() + (1 - target.weight) * (1 - target.weight).log())
    assert torch.allclose(localization_loss(exact, target), entropy, atol=1e-5)


def test_a_query_is_trained_on_its_box_of_all_stages_and_its_class_of_one() -> None:
    """D-FINE's union: a query matched in one stage is trained on that box in every stage, its class only there."""
    objects = known([[0.5, 0.5, 0.2, 0.2]], [0])
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.2, 0.2, 0.1, 0.1]])
    stages = Stages(torch.zeros(2, 1, 2, 1), torch.stack([boxes, boxes.flip(0)])[:, None].requires_grad_())
    matched = match_queries(stages.logits, stages.boxes, objects, MatchWeights())
    terms, counts = matched_losses(stages, objects, matched, None, 1.0)
    assert terms["boxes"] == 0 and counts.boxes == 1, "each stage by itself is right"
    terms, counts = matched_losses(stages, objects, matched, offset_bins(4, 4.0), 4.0)
    assert counts.boxes == 2 and terms["boxes"].item() == pytest.approx(5 * 2 * 0.8 / 2)


def test_objects_count_the_same_on_every_process(monkeypatch) -> None:
    """The sum over all ranks is divided by the objects of all ranks, once gradients are averaged."""
    objects = known([[0.5, 0.5, 0.2, 0.2]], [0])
    stages = Stages(torch.zeros(1, 1, 2, 1), torch.rand(1, 1, 2, 4))
    matched = match_queries(*stages[:2], objects, MatchWeights())
    alone = matched_losses(stages, objects, matched, None, 1.0, shared=True)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor: tensor.add_(5))  # the other one has five
    terms, counts = matched_losses(stages, objects, matched, None, 1.0, shared=True)
    assert counts.classes == counts.boxes == 3
    assert all(terms[name] * 3 == pytest.approx(float(alone[0][name])) for name in terms)
    assert matched_losses(stages, objects, matched, None, 1.0)[1].classes == 1, "a validation asks no other process"


class Waits(TorchDispatchMode):
    """Counts what would wait for a device: values that become Python numbers, and shapes that depend on values."""

    def __init__(self, *words: str) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.words = words or ("_local_scalar", "nonzero", "masked_select", "unique", "nms", "to_copy")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(word in str(func) for word in self.words):
            self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def test_decoding_does_not_wait_and_drops_what_is_below_the_threshold() -> None:
    task = tiny().eval()
    outputs = task(torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8))
    outputs = outputs._replace(logits=torch.randn(outputs.logits.shape))
    with Waits() as waits:
        found = task.architecture.decode(task.network, outputs, Thresholds(0.8, 1.0, 50))
    assert waits.seen == []
    wanted = outputs.logits[0].sigmoid()
    rows, labels = (wanted > 0.8).nonzero(as_tuple=True)
    order = wanted[rows, labels].argsort(descending=True)[:50]
    count = len(order)
    assert 0 < count < 50
    assert found[0].scores[:count].tolist() == wanted[rows, labels][order].tolist()
    assert found[0].labels[:count].tolist() == labels[order].tolist()
    assert torch.equal(found[0].boxes[:count], outputs.boxes[0, rows[order]])
    assert not found[0].scores[count:].any() and not found[0].boxes[count:].any()
    geometry = [task_geometry(task)] * 2
    kept = task.restore(task.decode(outputs, score_threshold=0.8, max_detections=50), geometry)
    assert (kept[0].scores > 0.8).all() and 0 < len(kept[0]) <= count
    outputs = outputs._replace(boxes=outputs.boxes[:, :1].expand_as(outputs.boxes))
    fewer = task.restore(task.decode(outputs, score_threshold=0.8, max_detections=50, nms_threshold=0.1), geometry)
    assert len(fewer[0]) == len(set(kept[0].labels)), "suppression is there for those who ask for it"


def task_geometry(task: Any) -> Any:
    from visionkit.geometry import Geometry

    return Geometry.plan(task.input, task.input.size)


def test_objects_of_tiles_are_joined_though_nothing_is_suppressed(monkeypatch: pytest.MonkeyPatch) -> None:
    task = tiny()
    plan = task.plan(ImageSource(torch.zeros(300, 400, 3, dtype=torch.uint8).numpy()), tile=128)
    given: list[Any] = []
    monkeypatch.setattr(DetectorViews, "merge", lambda self, parts, size, overlap, score, most: given.append(overlap))
    plan.reduce.merge([])
    assert given == [0.5] and task.limits.nms == 1.0
    assert "NMS 1" in task.protocol


def test_a_size_gives_what_is_not_given() -> None:
    kinds = DetectionTask.architectures
    small, large = kinds.choose("dfine", {}), kinds.choose("dfine", {"dfine": {"size": "x", "layers": 2}})
    assert (small.layers, small.neck_channels, small.points) == (3, 256, (3, 6, 3))
    assert (large.layers, large.neck_channels, large.reg_scale) == (2, 384, 8.0)
    assert kinds.choose("dfine", {"dfine": {"size": "n", "strides": (4, 8, 16)}}).points == (6, 6, 6)
    lighter = [kinds.choose("rtdetr", {"rtdetr": {"size": "r50m", **own}}) for own in ({}, {"used_layers": 0})]
    assert [each.layers_used for each in lighter] == [3, 6], "a 0 that is given is no preset"
    for own, message in (
        ({"size": "xl"}, r"model\.dfine\.size 'xl': allowed are n, s, m, l, x"),
        ({"channels": 100}, r"model\.dfine\.channels 100: must be a multiple of heads \(8\)"),
        ({"bins": 7}, r"model\.dfine\.bins 7: must be even"),
        ({"queries": 0}, r"model\.dfine\.queries 0: must be at least 1"),
        ({"points": (3, 6)}, r"model\.dfine\.points \[3, 6\]: one number per stride is needed, .* \[8, 16, 32\]"),
        ({"strides": ()}, r"model\.dfine\.strides: at least one is needed"),
        ({"layers": 0}, r"model\.dfine\.layers 0: must be at least 1"),
        ({"neck_channels": 0}, r"model\.dfine\.neck_channels 0: must be a multiple of heads"),
        ({"encoder_blocks": 0}, r"model\.dfine\.encoder_blocks 0: must be at least 1"),
        ({"encoder_expansion": 0}, r"model\.dfine\.encoder_expansion 0: leaves no channel of 256"),
        ({"encoder_expansion": 0.001}, r"model\.dfine\.encoder_expansion 0\.001: leaves no channel of 256"),
        ({"reg_scale": 0}, r"model\.dfine\.reg_scale 0: must be above 0"),
        ({"reg_scale": -1.5}, r"model\.dfine\.reg_scale -1\.5: must be above 0"),
    ):
        with pytest.raises(UsageError, match=message):
            kinds.choose("dfine", {"dfine": own})
    with pytest.raises(UsageError, match=r"first_shortcut: backbone 'test_convnext' is no ResNet"):
        DetectionTask(
            "test_convnext", classes=["a"], architecture="rtdetr", rtdetr={"first_shortcut": True, "strides": (8, 16)}
        )


def test_layers_that_are_left_out_in_use_train_the_others() -> None:
    task = tiny("rtdetr", layers=3, used_layers=1)
    image: Tensor = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    assert len(task.train()(image).all_logits) == 3 + 1
    assert len(task.eval()(image).all_logits) == 1 + 1

"""Arithmetic of boxes, anchors and regions, beside torchvision's."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection._utils import BoxCoder, BoxLinearCoder, Matcher, SSDMatcher
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign, box_iou, roi_align, roi_pool

import visionkit.families.detection.proposals
from visionkit.families.detection.anchors import AnchorGrid, DefaultBoxes
from visionkit.families.detection.boxes import (
    Matches,
    Objects,
    clip_boxes,
    decode_boxes,
    decode_distances,
    decode_fractions,
    draw_sample,
    encode_boxes,
    encode_fractions,
    gather_objects,
    match,
    pairwise_iou,
)
from visionkit.families.detection.proposals import suppress
from visionkit.families.detection.roi_align import align_regions
from visionkit.families.detection.two_stage import RoIPyramid


def some_boxes(count: int, side: float = 60.0, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 2, generator=generator) * side
    return torch.cat([low, low + 2 + torch.rand(count, 2, generator=generator) * side / 2], dim=1)


def objects_of(boxes: torch.Tensor, valid: torch.Tensor | None = None) -> Objects:
    count = len(boxes)
    valid = torch.ones(1, count, dtype=torch.bool) if valid is None else valid[None]
    return Objects(boxes[None], torch.zeros(1, count, dtype=torch.int64), valid)


def test_coders_are_torchvisions_and_inverse() -> None:
    boxes, anchors = some_boxes(20), some_boxes(20, seed=1)
    weights = (10.0, 10.0, 5.0, 5.0)
    coder = BoxCoder(weights)
    deltas = encode_boxes(boxes, anchors, weights)
    assert torch.allclose(deltas, coder.encode_single(boxes, anchors), atol=1e-5)
    assert torch.allclose(decode_boxes(deltas, anchors, weights), boxes, atol=1e-4)
    wild = torch.randn(20, 4) * 30
    assert torch.allclose(decode_boxes(wild, anchors, weights), coder.decode_single(wild, anchors), rtol=1e-5)
    distances = torch.rand(20, 4) * 5
    squares = torch.tensor([[-4.0, -4, 4, 4]]) + torch.arange(20)[:, None]
    assert torch.allclose(decode_distances(distances, squares), BoxLinearCoder().decode(distances, squares), atol=1e-5)


def test_fractions_of_an_image_there_and_back():
    image = torch.tensor([[0.0, 0, 200, 100]])
    boxes = torch.tensor([[[20.0, 10, 60, 70]], [[0, 0, 200, 100]]])
    fractions = encode_fractions(boxes, image)
    assert torch.allclose(fractions, torch.tensor([[[0.2, 0.4, 0.2, 0.6]], [[0.5, 0.5, 1, 1]]]))
    assert torch.allclose(decode_fractions(fractions, image), boxes)


def test_overlap_and_clipping() -> None:
    boxes, others = some_boxes(7), some_boxes(9, seed=2)
    assert torch.allclose(pairwise_iou(boxes, others), box_iou(boxes, others), atol=1e-6)
    assert pairwise_iou(torch.zeros(1, 4), torch.zeros(1, 4)).item() == 0
    assert clip_boxes(torch.tensor([[-3.0, 2, 90, 50]]), (40, 80)).tolist() == [[0, 2, 80, 40]]


@pytest.mark.parametrize("low_quality", [False, True])
def test_matching_is_torchvisions(low_quality: bool) -> None:
    boxes, anchors = some_boxes(6), some_boxes(300, seed=3)
    found = match(objects_of(boxes), anchors, 0.5, 0.3, low_quality=low_quality)
    wanted = Matcher(0.5, 0.3, low_quality)(box_iou(boxes, anchors))
    assert torch.equal(found.positive[0], wanted >= 0)
    assert torch.equal(found.negative[0], wanted == Matcher.BELOW_LOW_THRESHOLD)
    assert torch.equal(found.partner[0][wanted >= 0], wanted[wanted >= 0])


def test_each_object_claims_an_anchor_as_in_ssd() -> None:
    boxes, anchors = some_boxes(6), some_boxes(40, seed=4)
    found = match(objects_of(boxes), anchors, 0.5, 0.5, claim=True)
    wanted = SSDMatcher(0.5)(box_iou(boxes, anchors))
    assert torch.equal(found.positive[0], wanted >= 0)
    assert torch.equal(found.partner[0][wanted >= 0], wanted[wanted >= 0])


def test_what_is_not_valid_matches_nothing() -> None:
    boxes = some_boxes(2)
    for options in ({}, {"low_quality": True}, {"claim": True}):
        found = match(objects_of(boxes, torch.tensor([False, False])), boxes, 0.5, 0.5, **options)
        assert not found.positive.any() and found.negative.all()


def test_targets_become_tensors_without_crowds() -> None:
    target = [
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
        {
            "boxes": torch.tensor([[1.0, 1, 5, 5], [2, 2, 2, 9], [0, 0, 9, 9]]),
            "labels": torch.tensor([3, 1, 2]),
            "iscrowd": torch.tensor([0, 0, 1]),
        },
    ]
    objects = gather_objects(target, torch.device("cpu"))
    assert objects.boxes.shape == (2, 3, 4)
    assert objects.valid.tolist() == [[False] * 3, [True, False, False]]
    assert objects.labels[1].tolist() == [3, 1, 2]


def test_a_sample_has_its_fraction_and_validation_always_the_same() -> None:
    positive = torch.zeros(2, 1000, dtype=torch.bool)
    positive[0, :300] = True
    positive[1, :10] = True
    matches = Matches(torch.zeros(2, 1000, dtype=torch.int64), positive, ~positive)
    good, drawn = draw_sample(matches, 128, 0.25, training=True)
    assert good.sum(dim=1).tolist() == [32, 10] and drawn.sum(dim=1).tolist() == [128, 128]
    assert not (good & ~positive).any()
    again = [draw_sample(matches, 128, 0.25, training=False)[1] for _ in range(2)]
    assert torch.equal(*again)
    few, all_of_them = draw_sample(
        Matches(matches.partner[:, :20], positive[:, :20], ~positive[:, :20]), 128, 0.25, True
    )
    assert all_of_them[1].all() and few[1].sum() == 10


def test_anchors_are_torchvisions() -> None:
    maps = [torch.zeros(1, 1, 10, 12), torch.zeros(1, 1, 5, 6), torch.zeros(1, 1, 2, 3)]
    sizes, ratios = ((16, 20), (32, 40), (64, 80)), (0.5, 1.0, 2.0)
    anchors, counts = AnchorGrid(sizes, ratios)(maps, (80, 96))
    image = ImageList(torch.zeros(1, 3, 80, 96), [(80, 96)])
    wanted = AnchorGenerator(sizes, (ratios,) * 3)(image, maps)[0]
    assert torch.equal(anchors, wanted) and counts == [720, 180, 36]


@pytest.mark.parametrize("steps", [None, [8, 16, 40]])
def test_default_boxes_are_torchvisions(steps: list[int] | None) -> None:
    maps = [torch.zeros(1, 1, 10, 12), torch.zeros(1, 1, 5, 6), torch.zeros(1, 1, 2, 3)]
    ratios, scales = [[2], [2, 3], [2]], [0.07, 0.15, 0.5, 1.05]
    anchors, counts = DefaultBoxes(ratios, scales, steps)(maps, (80, 96))
    image = ImageList(torch.zeros(1, 3, 80, 96), [(80, 96)])
    wanted = DefaultBoxGenerator(ratios, scales=scales, steps=steps)(image, maps)[0]
    assert torch.allclose(anchors, wanted, atol=1e-4) and counts == [480, 180, 24]


def test_regions_are_cut_as_torchvision_does() -> None:
    generator = torch.Generator().manual_seed(0)
    strides = (4, 8, 16, 32)
    maps = [torch.randn(2, 5, 256 // stride, 320 // stride, generator=generator) for stride in strides]
    boxes = torch.cat([some_boxes(20, 40), some_boxes(20, 200), torch.tensor([[0.0, 0, 320, 256]])])
    rois = torch.cat([torch.arange(len(boxes))[:, None] % 2, boxes], dim=1)
    theirs = MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2)
    split = [boxes[rois[:, 0] == k] for k in range(2)]
    wanted = theirs({str(k): map_ for k, map_ in enumerate(maps)}, split, [(256, 320)] * 2)
    order = torch.cat([(rois[:, 0] == k).nonzero().squeeze(1) for k in range(2)])
    assert torch.allclose(RoIPyramid(strides, 7)(maps, rois)[order], wanted, atol=1e-5)


def test_regions_of_any_place_are_aligned_as_torchvision_does() -> None:
    map_ = torch.randn(2, 6, 9, 13, dtype=torch.float32, requires_grad=True)
    places = [[0, -30, -30, 5, 5], [1, 90, 60, 200, 200], [0, 3, 3, 3, 3], [1, 0, 0, 52, 36], [0, 300, 300, 400, 400]]
    rois = torch.tensor(places, dtype=torch.float32)
    ours = align_regions([torch.zeros(2, 6, 20, 30), map_], (2, 4), torch.ones(len(rois), dtype=torch.int64), rois, 7)
    theirs = roi_align(map_, rois, 7, 0.25, sampling_ratio=2)
    assert torch.allclose(ours, theirs, atol=1e-5)
    weights = torch.randn(ours.shape)
    gradients = [torch.autograd.grad((out * weights).sum(), map_)[0] for out in (ours, theirs)]
    assert torch.allclose(*gradients, atol=1e-4)


def test_rounded_cells_are_a_switch() -> None:
    map_, rois = torch.randn(1, 3, 16, 16), torch.tensor([[0.0, 3, 5, 50, 60]])
    pooled = RoIPyramid((4,), 7, "pool")([map_], rois)
    assert torch.equal(pooled, roi_pool(map_, rois, 7, 0.25))
    assert not torch.equal(pooled, RoIPyramid((4,), 7, "align")([map_], rois))


def test_a_graphs_suppression_is_that_of_the_loop(monkeypatch) -> None:
    boxes = torch.stack([some_boxes(80, 30, seed) for seed in range(3)])
    scores = torch.rand(3, 80, generator=torch.Generator().manual_seed(5))
    looped = suppress(boxes, scores, 0.4)
    monkeypatch.setattr(visionkit.families.detection.proposals.torch.compiler, "is_exporting", lambda: True)
    assert torch.equal(suppress(boxes, scores, 0.4), looped)
    assert 0 < looped.sum() < looped.numel()

"""Masks of queries: where they are read, what they are trained on, and what a call gives."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tasks.instance_segmentation import InstanceSegmentationTask
from tests.visionkit.families.detection.test_detr import QUERIES, Waits
from visionkit.errors import UsageError
from visionkit.families.detection.boxes import Objects
from visionkit.families.detection.detr.masks import dice_loss, grid_over, mask_losses, masks_in_boxes, sample_map
from visionkit.geometry import Geometry, InputSpec
from visionkit.masks import decode_masks

SIZE = (64, 96)


def tiny(architecture: str = "dfine", **own: Any) -> Any:
    torch.manual_seed(0)
    small = {**QUERIES, "strides": (8, 16, 32), "mask_side": 24, **own}
    spec = InputSpec(size=SIZE, resize_mode="stretch")
    return InstanceSegmentationTask(
        "test_resnet", classes=["a", "b"], architecture=architecture, input=spec, **{architecture: small}
    )


def test_maps_are_sampled_where_their_cells_lie() -> None:
    across = (torch.arange(24) * 4 + 2.0).expand(16, -1)
    down = (torch.arange(16) * 4 + 2.0)[:, None].expand(-1, 24)
    points = torch.tensor([[10.0, 7.0], [2.0, 2.0], [94.0, 62.0], [33.3, 41.7]])
    found = sample_map(torch.stack([across, down])[None], points[None, None], 4)[0, :, 0].T
    assert torch.allclose(found, points, atol=1e-4)
    middles = grid_over(torch.tensor([[10.0, 20, 30, 60]]), 2)
    assert middles[0].tolist() == [[[15, 30], [25, 30]], [[15, 50], [25, 50]]], "x runs along a row"


def test_a_mask_is_the_product_of_two_embeddings_within_its_box() -> None:
    pixels = torch.zeros(2, 16, 24)
    pixels[0, :, :12], pixels[0, :, 12:] = 8.0, -8.0  # left and right half of 64 x 96 pixels
    boxes = torch.tensor([[24.0, 0, 72, 64], [0, 0, 40, 64], [0, 0, 0, 0]])
    masks = masks_in_boxes(torch.tensor([[1.0, 5.0], [-1.0, 5.0], [1.0, 0.0]]), pixels, boxes, 8, 4)
    assert (masks[0, :, :4] > 0.9).all() and (masks[0, :, 4:] < 0.1).all()
    assert (masks[1] < 0.1).all() and masks.isfinite().all()


class _Same(torch.nn.Module):
    stride = 4

    def queries(self, queries: Tensor) -> Tensor:
        return queries


def _stated(second: int) -> tuple[Any, Any, Objects, Tensor]:
    """Two layers of three queries; query 1 has the mask of the only object, in image 1, query 2 the inverse."""
    pixels = torch.zeros(2, 1, 16, 24)
    pixels[1, 0, 4:8, 6:18] = 40.0
    pixels[1] -= 20.0
    queries = torch.zeros(2, 3, 1)
    queries[1, 1], queries[1, 2] = 1.0, -1.0
    values = torch.stack([queries.new_full((2, 3, 1), torch.nan), queries])
    outputs = SimpleNamespace(
        logits=torch.zeros(2, 3, 2), values=values, queries=queries, pixels=pixels, size=torch.tensor(SIZE)
    )
    masks = torch.zeros(2, *SIZE, dtype=torch.bool)
    masks[1, 16:32, 24:72] = True
    box = torch.tensor([48 / 96, 24 / 64, 48 / 96, 16 / 64])
    objects = Objects(
        torch.stack([torch.zeros(2, 4), torch.stack([torch.zeros(4), box])]),
        torch.zeros(2, 2, dtype=torch.int64),
        torch.tensor([[False, False], [False, True]]),
    )
    target = [{"masks": torch.zeros(0, *SIZE, dtype=torch.bool)}, {"masks": masks}]
    return outputs, target, objects, torch.tensor([[1, 1, 1, second, 0]])  # of three stages two are layers


def test_the_loss_reads_the_matched_query_of_each_layer_at_its_own_object() -> None:
    def terms(second: int, most: int = 9, training: bool = False) -> dict[str, float]:
        outputs, target, objects, pairs = _stated(second)
        head: Any = _Same()
        found = mask_losses(head, outputs, target, objects, pairs.repeat(4, 1), side=16, most=most, training=training)
        return {name: float(value) for name, value in found.items()}

    right, wrong, unsure = (terms(query) for query in (1, 2, 0))
    assert right["masks"] < 1.5 and right["dice"] < 0.6, "the border of a map of stride 4 is in between"
    assert wrong["masks"] > 20 and wrong["dice"] > 3
    assert right["masks"] + 2.5 < unsure["masks"] < wrong["masks"]
    assert terms(1, most=1) == pytest.approx(right), "fewer of the same are the same"
    assert terms(1) == right and terms(1, training=True) != terms(1, training=True)


def test_dice_by_hand() -> None:
    true = torch.tensor([1.0, 1, 0, 0])
    found = torch.stack([true, 1 - true, torch.full((4,), 0.5)])
    assert dice_loss(found, true).tolist() == pytest.approx([0, 1 - 1 / 5, 1 - 3 / 5])


@torch.no_grad()
def test_decoding_and_losses_do_not_wait_and_masks_belong_to_their_boxes() -> None:
    task = tiny().eval()
    outputs = task(torch.randint(0, 256, (2, 3, *SIZE), dtype=torch.uint8))
    count = outputs.logits.shape[1]
    logits = torch.full_like(outputs.logits, -9.0)
    logits[0, 5, 1], logits[0, 7, 0] = 3.0, 2.0
    boxes = torch.tensor([24.0, 16, 72, 48]).expand(2, count, 4)
    embeddings = torch.zeros_like(outputs.embeddings)
    embeddings[0, 5, 0], embeddings[0, 7, 0] = 1.0, -1.0
    pixels = torch.zeros_like(outputs.pixels)
    pixels[:, 0, :, :12], pixels[:, 0, :, 12:] = 9.0, -9.0
    stated = outputs._replace(logits=logits, boxes=boxes, embeddings=embeddings, pixels=pixels)
    with Waits() as waits:
        found = task.decode(stated, score_threshold=0.5)
    assert waits.seen == []
    prediction, nothing = task.restore(found, [Geometry.plan(task.input, (128, 192))] * 2)
    assert prediction.labels.tolist() == [1, 0] and len(nothing) == 0
    left, right = decode_masks(prediction.masks, (128, 192))
    assert left[40:90, 52:92].all() and not left[:, 100:].any()
    assert right[40:90, 100:140].all() and not right[:, :92].any()
    one = task.decode(stated._replace(logits=logits.sum(-1, keepdim=True) + 9), 0.4, nms_threshold=0.5)[0]
    assert (one.scores > 0).sum() == 1 and (one.masks[0, :, :12] > 0.9).all(), "what is left keeps its own mask"
    target = [{"boxes": torch.tensor([[5.0, 5, 30, 40]]), "labels": torch.tensor([0]), "masks": left[None, ::2, ::2]}]
    target[0]["masks"] = torch.as_tensor(target[0]["masks"])
    with Waits("_local_scalar", "nonzero", "masked_select") as waits:
        task.losses(outputs, target * 2)
    assert waits.seen == []


def test_arguments_that_make_no_sense() -> None:
    for own, message in (
        ({"mask_stride": 16}, r"model\.dfine\.mask_stride 16: must be from 1 to the finest of strides, 8"),
        ({"mask_side": 0}, r"model\.dfine\.mask_side 0: must be at least 1"),
        ({"mask_grid": 0}, r"model\.dfine\.mask_grid 0: must be at least 1"),
    ):
        with pytest.raises(UsageError, match=message):
            tiny(**own)
    with pytest.raises(UsageError, match="has no map of stride 3"):
        tiny(mask_stride=3)
    coarse, alone = tiny(mask_stride=8), tiny("rtdetr")
    assert coarse.network.head.lateral is None and alone.network.head.lateral is not None
    assert InstanceSegmentationTask.public_schemes == ("torchvision",)

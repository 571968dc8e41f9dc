"""Keypoints of queries: where they lie, what they are matched and trained by, and who is reported."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules.scene_data import SceneData
from tasks.pose import PoseTask
from tests.visionkit.families.detection.test_detr import QUERIES, Waits
from visionkit.errors import UsageError
from visionkit.export import export_bundle
from visionkit.families.detection.detr.keypoints import KeypointHead, keypoint_cost, keypoint_losses, similarities
from visionkit.families.keypoints.oks import oks
from visionkit.geometry import Geometry, InputSpec
from visionkit.predictor import Predictor, load

SIZE = (64, 96)
SPEC = InputSpec(size=SIZE, resize_mode="stretch")


def tiny(**own: Any) -> Any:
    torch.manual_seed(0)
    small = {**QUERIES, "size": "n", "strides": (8, 16, 32), **own}
    return PoseTask("test_resnet", architecture="dfine", input=SPEC, dfine=small)


def test_similarity_is_that_of_the_metric() -> None:
    rng = np.random.default_rng(0)
    found, true = rng.uniform(0, 60, (4, 3, 2)), np.dstack([rng.uniform(0, 60, (2, 3, 2)), [[1, 2, 0], [0, 0, 0]]])
    area, sigmas = np.array([900.0, 400.0]), np.array([0.2, 0.3, 0.4])
    wanted = oks(found, true, area, np.zeros((2, 4)), sigmas)
    ours = similarities(
        torch.from_numpy(found)[:, None], torch.from_numpy(true)[None], torch.from_numpy(area)[None],
        torch.from_numpy(sigmas),
    )  # fmt: skip
    assert np.allclose(ours[:, 0], wanted[:, 0]) and not ours[:, 1].any(), "nobody knows the second one's"


class _Stated(KeypointHead):
    """Queries are the offsets of two keypoints, and their visibility."""

    def __init__(self) -> None:
        super().__init__(4, (0.1, 0.1))
        self.offsets = torch.nn.Identity()  # type: ignore[assignment]

        class Visibility(torch.nn.Module):
            def forward(self, queries: Tensor) -> Tensor:
                return queries[..., ::2] * 40

        self.visibility = Visibility()  # type: ignore[assignment]


def _image() -> tuple[_Stated, Any, list[dict[str, Tensor]], Tensor]:
    """One image of two people, the second without labels; query 2 states the first one's keypoints in both layers."""
    head = _Stated()
    queries = torch.zeros(2, 1, 3, 4)
    queries[:, 0, 2] = torch.tensor([0.25, -0.25, -0.5, 0.5])
    boxes = torch.tensor([0.5, 0.5, 0.5, 0.25]).expand(4, 1, 3, 4)
    outputs = SimpleNamespace(
        logits=torch.zeros(1, 3, 1), places=torch.zeros(1, 3, 2, 2), all_boxes=boxes, size=torch.tensor(SIZE),
        values=torch.cat([queries[:1] * torch.nan, queries[:1]]), queries=queries[1],
    )  # fmt: skip
    person = [[48 + 12, 32 - 4, 2], [48 - 24, 32 + 8, 0]]
    target = {
        "boxes": torch.tensor([[24.0, 24, 72, 40], [0, 0, 20, 20]]),
        "labels": torch.zeros(2, dtype=torch.int64),
        "keypoints": torch.tensor([person, [[0.0, 0, 0], [0, 0, 0]]]),
    }
    return head, outputs, [target], torch.tensor([[0, 0, 2, 2, 0, 0], [0, 1, 1, 1, 1, 1]])


def test_keypoints_lie_relative_to_the_box_and_are_matched_by_similarity() -> None:
    head, outputs, target, _ = _image()
    places = head.places(outputs.queries, outputs.all_boxes[0], SIZE)
    assert places[0, 2].tolist() == [[60.0, 28.0], [24.0, 40.0]] and places[0, 0].tolist() == [[48.0, 32.0]] * 2
    cost = keypoint_cost(head, outputs, target)
    assert cost.shape == (2, 1, 3, 2) and torch.equal(cost[0], cost[1])
    assert cost[0, 0, 2, 0] == -4 and (cost[0, 0, :2, 0] > -4).all() and not cost[..., 1].any()


def test_every_layer_is_trained_on_labeled_keypoints_alone() -> None:
    head, outputs, target, pairs = _image()

    def terms(pairs: Tensor) -> dict[str, float]:
        return {name: float(value) for name, value in keypoint_losses(head, outputs, target, pairs, False).items()}

    right = terms(pairs)
    assert right["oks"] == right["keypoints"] == 0 and right["visibility"] < 1e-3
    assert terms(pairs[:1]) == right, "whoever has no labeled keypoint costs nothing"
    late = terms(torch.tensor([[0, 0, 2, 1, 0, 0]]))
    assert late["keypoints"] == pytest.approx(3 * 16 / (0.53 * 48 * 16) ** 0.5) and late["oks"] > 0.1
    none = terms(pairs[:0])
    assert not any(none.values())


def test_it_trains_evaluates_and_serves() -> None:
    task = tiny().train()
    assert task.crop is None and PoseTask.linked("crop", architecture="dfine") is None
    data = SceneData("keypoints", count=2, eval_count=2, size=SIZE, input=SPEC, batch_size=2)
    batch = next(iter(data.train_dataloader()))
    terms = task.losses(task.run(batch), batch["target"])
    assert {"oks", "keypoints", "visibility"} <= terms.keys()
    assert all(torch.isfinite(value) for value in terms.values())
    sum(terms.values()).backward()
    assert all(parameter.grad is not None for parameter in task.parameters())
    task.eval()
    with torch.no_grad():
        for batch in data.val_dataloader():
            outputs = task.run(batch)
            with Waits("_local_scalar", "nonzero", "masked_select", "nms") as waits:
                decoded = task.decode(outputs, max_people=7)
                first, again = (task.losses(outputs, batch["target"]) for _ in range(2))
            assert waits.seen == [] and first == again
            task.measure(decoded, batch)
    assert "ap" in task.metrics.compute()
    with pytest.raises(UsageError, match="finds other boxes in a flipped image"):
        Predictor(task)(data.samples("val")[0].image, flip_tta=True)
    other = [{**each, "keypoints": each["keypoints"][:, :5]} for each in batch["target"]]
    with pytest.raises(UsageError, match="5 keypoints per person and the skeleton 17"):
        task.losses(outputs, other)


@torch.no_grad()
def test_whoever_is_below_the_threshold_is_not_reported() -> None:
    task = tiny().eval()
    outputs = task(torch.randint(0, 256, (2, 3, *SIZE), dtype=torch.uint8))
    logits = torch.full_like(outputs.logits, -9.0)
    logits[0, 5] = 3.0
    boxes = torch.tensor([24.0, 16, 72, 48]).expand_as(outputs.boxes)
    geometry = [Geometry.plan(task.input, (128, 192))] * 2
    one, nobody = task.restore(task.decode(outputs._replace(logits=logits, boxes=boxes)), geometry)
    assert len(nobody) == 0 and one.boxes.tolist() == [[48.0, 32.0, 144.0, 96.0]]
    assert np.allclose(one.keypoints[0], outputs.places[0, 5] * 2, atol=1e-4)


@pytest.mark.slow
def test_a_graph_finds_the_same_people(tmp_path: Path) -> None:
    """The graph is kept only where its predictions on images are torch's."""
    task = tiny(layers=1).eval()
    photos = [np.random.default_rng(k).integers(0, 256, (60, 80, 3), dtype=np.uint8) for k in range(2)]
    export_bundle(task, tmp_path / "bundle", onnx=True, images=photos)
    graph = load(tmp_path / "bundle", engine="onnx")
    for ours, other in zip(Predictor(task)(photos), graph(photos), strict=True):
        assert len(ours) == len(other) and np.allclose(ours.scores, other.scores, atol=1e-5)

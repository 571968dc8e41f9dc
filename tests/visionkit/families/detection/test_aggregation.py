"""Proposals of other frames aggregated: by hand, through training, evaluation and the session of a video."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules.clip_data import ClipData
from tasks.detection.task import DetectionTask
from tasks.instance_segmentation.task import InstanceSegmentationTask
from tests.tiny_clips import CLIP, INPUT, SMALL, detector, train
from tests.tiny_training import Killed, end_state
from visionkit.errors import UsageError
from visionkit.families.detection.aggregation import ProposalAggregation, References
from visionkit.geometry import InputSpec
from visionkit.inputs import Clip
from visionkit.predictor import Predictor
from visionkit.sequences import ReferencedSamples
from visionkit.session import Session
from visionkit.synthetic import OBJECT_CLASSES


def frames(count: int = 6) -> list[np.ndarray]:
    samples = ClipData(count=1, clip=CLIP).samples("train")
    return [samples[k].image.read() for k in range(count)]


# ---------------------------------------------------------------------- the layer


def test_a_proposal_takes_in_the_references_that_are_like_it() -> None:
    layer = ProposalAggregation(2)
    for each in (layer.query, layer.key, layer.value, layer.out):
        torch.nn.init.eye_(each.weight)
    torch.nn.init.constant_(layer.log_factor, np.log(2.0))
    own = torch.tensor([[[4.0, 0.0]]])
    references = torch.tensor([[[3.0, 0.0], [3.0, 4.0], [100.0, 0.0]]])  # cosines 1 and .6, and one that is filling
    valid = torch.tensor([[True, True, False]])
    weights = torch.tensor([2 * 1.0, 2 * 0.6]).softmax(0)
    wanted = own[0, 0] + weights[0] * references[0, 0] + weights[1] * references[0, 1]
    torch.testing.assert_close(layer(own, references, valid)[0, 0], wanted)


def test_it_begins_with_what_the_proposals_were_and_fillers_give_no_nan() -> None:
    layer = ProposalAggregation(128)
    assert torch.equal(layer.query.weight, layer.key.weight)
    assert layer.heads == 2 and ProposalAggregation(96).heads == 1
    own = torch.randn(2, 3, 128)
    assert torch.equal(layer(own, torch.randn(2, 5, 128), torch.ones(2, 5, dtype=torch.bool)), own)
    assert torch.isfinite(layer(own, torch.zeros(2, 5, 128), torch.zeros(2, 5, dtype=torch.bool))).all()


# ---------------------------------------------------------------------- the network


def test_off_is_the_same_network_to_the_last_bit() -> None:
    plain, off = detector(0, InputSpec(size=(48, 64), resize_mode="stretch")), detector(8)
    assert not any("aggregations" in name for name in plain.state_dict())
    missing = off.load_state_dict(plain.state_dict(), strict=False)
    assert missing.missing_keys and all("aggregations" in name for name in missing.missing_keys)
    for each in off.network.box_head.aggregations:
        torch.nn.init.zeros_(each.out.weight)
    image = torch.randint(0, 256, (2, 3, 48, 64), dtype=torch.uint8)
    with torch.no_grad():
        first, second = plain(image), off(image)
    assert torch.equal(first.proposals, second.proposals)
    torch.testing.assert_close(first.logits, second.logits, rtol=1e-4, atol=1e-5)
    assert "reference_features" not in first._fields


@pytest.mark.parametrize("convs", [0, 1])
def test_a_clip_predicts_on_its_last_frame_with_the_proposals_of_the_others(convs: int) -> None:
    task = detector(convs=convs)
    shown = torch.stack([torch.from_numpy(each).permute(2, 0, 1) for each in frames(3)])
    with torch.no_grad():
        clip = task(torch.stack([shown, shown.flip(0)]))
        one, alone = task(shown[-1:]), [task(each[None]) for each in shown]
        parts = [task.network.described(each) for each in alone[:2]]
        by_hand = task.network(task.normalize(shown[-1:]), References.joined(parts))
    torch.testing.assert_close(clip.proposals[:1], one.proposals, atol=1e-3, rtol=1e-4)
    assert clip.reference_features.shape[1:] == (24, 2 - convs, 32)
    torch.testing.assert_close(clip.logits[:1], by_hand.logits)
    assert not torch.allclose(clip.logits[:1], one.logits, atol=1e-3)
    torch.testing.assert_close(clip.anchor_logits[:1], one.anchor_logits)
    # A frame is among its own references, once or twice.
    own = task.network(task.normalize(shown[-1:]), task.network.described(one))
    torch.testing.assert_close(one.logits, own.logits)


def test_losses_of_a_clip_are_finite_and_train_what_the_references_pass_through() -> None:
    task = detector().train()
    data = ClipData(count=2, clip=CLIP, input=INPUT, batch_size=2)
    batch = next(iter(data.loader("train")))
    assert batch["inputs"]["image"].shape == (2, 3, 3, 48, 64)
    loss = sum(task.losses(task.run(batch), batch["target"]).values())
    loss.backward()
    gradients = [each.grad for each in task.network.box_head.aggregations.parameters()]
    assert torch.isfinite(loss) and all(each is not None and torch.isfinite(each).all() for each in gradients)
    assert all(each.abs().sum() > 0 for each in gradients[:1])


def test_masks_are_those_of_the_last_frame() -> None:
    torch.manual_seed(0)
    task = InstanceSegmentationTask(
        "test_resnet", classes=OBJECT_CLASSES, input=INPUT, mask_rcnn={**SMALL, "aggregate": 8, "mask_hidden": 8}
    )
    data = ClipData("masks", count=2, clip=CLIP, input=INPUT, batch_size=2)
    batch = next(iter(data.loader("train")))
    loss = sum(task.train().losses(task.run(batch), batch["target"]).values())
    assert torch.isfinite(loss)
    session = Predictor(task.eval()).session(score_threshold=0.0)
    assert len(session.step(frames(1)[0]).masks) and session.step(frames(2)[1]).size == (48, 64)


@pytest.mark.parametrize("trained_with", [2, 0])
def test_a_session_predicts_as_evaluation_does(trained_with: int) -> None:
    spec = replace(INPUT, reference_frames=trained_with, eval_reference_frames=3, frame_stride=2)
    task = detector(input=spec)
    data = ClipData(eval_count=1, clip=CLIP, input=spec)
    samples, predictor = data.samples("val"), Predictor(task)
    session = predictor.session()
    for sample in samples:
        clip = sample.inputs["image"]
        assert isinstance(clip, Clip) and len(clip.frames) == 4
        there, served = predictor({"image": clip}), session.step(sample.image)
        np.testing.assert_allclose(served.scores, there.scores, atol=1e-5)
        np.testing.assert_allclose(served.boxes, there.boxes, atol=1e-2)
    assert task.protocol.endswith("; each frame with 3 frames before it, 2 apart")
    alone = predictor(samples[5].image)
    assert np.abs(alone.scores[:20] - served.scores[:20]).max() > 1e-4


# ---------------------------------------------------------------------- the data


def _numbers(sample: Any) -> list[int]:
    return [int(each.name.split("/")[1]) for each in sample.inputs["image"].frames]


def test_references_are_those_before_or_of_the_whole_sequence() -> None:
    samples = ClipData(eval_count=2, clip=CLIP).samples("val")
    before, spread = ReferencedSamples(samples, 2, 2), ReferencedSamples(samples, 3, spread=True)
    assert [_numbers(before[6 + k]) for k in (0, 1, 3, 5)] == [[0, 0, 0], [0, 0, 1], [0, 1, 3], [1, 3, 5]]
    assert [_numbers(spread[6 + k]) for k in (0, 5)] == [[1, 3, 5, 0], [1, 3, 5, 5]]
    assert {each.name.split("/")[0] for each in spread[11].inputs["image"].frames} == {samples[11].sequence}
    assert spread.sequences() == samples.sequences() and spread[11].target is samples[11].target


def test_training_draws_other_frames_from_seed_epoch_and_index() -> None:
    def numbers(epoch: int, workers: int = 0, seed: int = 0) -> list[list[int]]:
        data = ClipData(count=2, clip=CLIP, input=INPUT, seed=seed)
        samples = data.samples("train")
        dataset = data.loader("train").dataset
        return [_numbers(dataset.raw(k, _rng(seed, epoch, k))) for k in range(len(samples))]

    first = numbers(0)
    assert first == numbers(0) != numbers(1) and numbers(0, seed=1) != first
    for index, each in enumerate(first):
        assert each[-1] == index % 6 and index % 6 not in each[:-1] and len(set(each)) == 3
    assert {k for each in first for k in each[:-1]} == set(range(6))
    one = ReferencedSamples(ClipData(count=1, clip=replace(CLIP, length=1)).samples("train"), 2)
    assert _numbers(one.drawn(0, np.random.default_rng(0))) == [0, 0, 0]


def _rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    from visionkit.loading import REFERENCES, rng_for

    return rng_for(seed, epoch, index, 0, REFERENCES)


def test_a_training_on_clips_that_was_killed_ends_bit_for_bit_as_an_uninterrupted_one(tmp_path: Path) -> None:
    train(tmp_path / "whole")
    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path / "killed", extra=[Killed(6)])
    train(tmp_path / "killed")
    assert end_state(tmp_path / "killed", "ClipData") == end_state(tmp_path / "whole", "ClipData")


# ---------------------------------------------------------------------- what is refused


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match=r"reference_frames 2: fcos aggregates no frames"):
        DetectionTask("test_resnet", classes=["a"], input=INPUT)
    with pytest.raises(UsageError, match="takes whole ones alone"):
        DetectionTask("test_resnet", architecture="faster_rcnn", classes=["a"], faster_rcnn={"aggregate": 5}, tile=64)
    with pytest.raises(UsageError, match="takes whole ones alone"):
        Predictor(detector())(frames(1)[0], tile=64)
    with pytest.raises(UsageError, match="allowed are before, sequence"):
        InputSpec(references="after")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="is not for clips of 3 frames"):
        InputSpec(frames=3, reference_frames=2)
    with pytest.raises(UsageError, match="aggregate"):
        DetectionTask("test_resnet", architecture="faster_rcnn", classes=["a"], faster_rcnn={"aggregate": -1})


def test_images_of_no_video_and_mixing_are_refused() -> None:
    from datamodules.augmentation import ObjectAugment
    from datamodules.scene_data import SceneData

    with pytest.raises(UsageError, match="these samples are no sequences"):
        SceneData("boxes", count=2, input=INPUT).samples("train")
    with pytest.raises(UsageError, match="cannot follow; leave mosaic"):
        ClipData(clip=CLIP, input=INPUT, augment=ObjectAugment(mosaic=1.0)).samples("train")


@pytest.mark.slow
def test_the_graph_is_that_of_single_frames(tmp_path: Path) -> None:
    from visionkit.engines import OnnxEngine
    from visionkit.export import write_graph

    task = detector()
    write_graph(task, tmp_path / "model.onnx")
    engine = OnnxEngine(tmp_path / "model.onnx", task.outputs)
    image = torch.from_numpy(frames(1)[0]).permute(2, 0, 1)[None]
    with torch.no_grad():
        torch.testing.assert_close(engine(image).logits, task(image).logits, atol=1e-3, rtol=1e-3)
    assert type(Predictor(task, engine).session()) is Session

"""Drawn clips as data: sequences, crowds, speeds, tracks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lightning import Trainer

from datamodules import clip_data
from datamodules.clip_data import ClipData
from tasks.detection.task import DetectionTask
from visionkit.errors import UsageError
from visionkit.families.detection.motion_speed import motion_ious
from visionkit.geometry import InputSpec
from visionkit.synthetic import ClipSettings, make_clip

CLIP = ClipSettings(size=(48, 64), length=5, objects=(5, 6), speed=0.08)
INPUT = InputSpec(size=(48, 64), resize_mode="stretch")


def test_frames_are_those_of_the_generator_in_order() -> None:
    data = ClipData(count=2, eval_count=2, clip=CLIP, clip_seed=3, min_visibility=0.6)
    samples = data.samples("val")
    assert [(each.sequence, each.frame) for each in samples] == list(
        zip(samples.sequences(), [*range(5), *range(5)], strict=True)
    )
    assert [each.id for each in samples] == samples.ids and len(set(samples.sequences())) == 2
    frames = [make_clip(3, 1_000_000_001, CLIP).frame(k) for k in range(5)]
    hidden = 0
    for sample, frame in zip(samples[5:], frames, strict=True):
        assert (sample.image.read() == frame.image).all()
        assert sample.target["boxes"].tolist() == [each.box.tolist() for each in frame.objects]
        assert sample.target["track_ids"].tolist() == [each.id for each in frame.objects]
        assert sample.target["iscrowd"].tolist() == [int(each.visibility < 0.6) for each in frame.objects]
        hidden += int(sample.target["iscrowd"].sum())
    assert hidden
    every = np.concatenate([each.target["boxes"] for each in samples[5:]])
    ids = np.concatenate([each.target["track_ids"] for each in samples[5:]])
    numbers = np.repeat(np.arange(5), [len(each.target["boxes"]) for each in samples[5:]])
    found = np.concatenate([each.target["file_motion"] for each in samples[5:]])
    np.testing.assert_allclose(found, motion_ious(numbers, ids, every))


def test_clips_are_drawn_again_where_they_would_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = ClipData(count=3, clip=CLIP).samples("train")
    first = frames[0].image.read()
    monkeypatch.setattr(clip_data, "_KEPT_BYTES", 2 * CLIP.length * first.nbytes)
    for number in (0, CLIP.length, 2 * CLIP.length):
        frames[number]
    assert sorted(frames.kept) == [1, 2] and np.array_equal(frames[0].image.read(), first)


def test_training_leaves_out_what_is_hardly_seen() -> None:
    data = ClipData(count=3, clip=CLIP, min_visibility=0.6)
    samples = data.samples("train")
    kept = sum(len(each.target["boxes"]) for each in samples)
    assert kept < sum(len(make_clip(0, k // 5, CLIP).frame(k % 5).objects) for k in range(15))
    assert all("file_motion" not in each.target and not each.target["iscrowd"].any() for each in samples)


def test_whole_boxes_are_cut_off_at_the_image_and_masks_go_with_them() -> None:
    data = ClipData("masks", eval_count=2, clip=CLIP, extent="whole")
    larger = 0
    for sample in data.samples("val"):
        for box, mask in zip(sample.target["boxes"], sample.target["masks"], strict=True):
            rows, columns = np.nonzero(mask)
            assert box[0] <= columns.min() and box[3] >= rows.max() + 1
            assert (box >= 0).all() and box[2] <= 64 and box[3] <= 48
            larger += box[2] - box[0] > columns.max() + 1 - columns.min()
    assert larger
    assert ClipData("depth", clip=CLIP).samples("train")[0].target["depth"].shape == (48, 64)


@pytest.mark.filterwarnings("ignore:You called")
def test_a_tracker_is_measured_where_one_is_given() -> None:
    torch.manual_seed(0)
    data = ClipData(eval_count=2, clip=CLIP, extent="whole", tracker="sort", input=INPUT, batch_size=5)
    fcos = {"neck_channels": 8, "convs": 1}
    task = DetectionTask("test_resnet", classes=data.classes, input=INPUT, fcos=fcos)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    (values,) = trainer.test(task, data, verbose=False)
    assert {"test/track_hota", "test/voc_ap50_slow", "test/voc_ap50_fast"} <= values.keys()
    rows = data.dataset("test").truth("clip-2000000001")
    assert set(rows.frames.tolist()) == set(range(1, 6)) and set(rows.scores.tolist()) <= {0.0, 1.0}
    assert 0 < values["test/track_fn"] <= 2 * 5 * 6


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"target": "box"}, "did you mean 'boxes'"),
        ({"extent": "all"}, "allowed are visible, whole"),
        ({"count": 0}, "at least 1"),
        ({"min_visibility": 2}, "a fraction from 0 to 1"),
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ClipData(**wrong)  # type: ignore[arg-type]

"""Sizes per batch, repeated images of rare classes, and last epochs without mosaic: for workers, ranks and resumes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from datamodules.augmentation import Mosaic, ObjectAugment
from datamodules.scene_data import SceneData
from tasks.classification.task import ClassificationTask
from tasks.detection.task import DetectionTask
from tests.tiny_training import Killed, fingerprint
from visionkit.callbacks import batch_size
from visionkit.errors import UsageError
from visionkit.geometry import InputSpec
from visionkit.resume import epochs_of
from visionkit.sampling import EpochSampler, RepeatFactorSampler, Stretch, classes_of, repeat_factors
from visionkit.training import fit

SPEC = InputSpec(size=(64, 96), resize_mode="letterbox")
TRAINER: dict[str, Any] = {"accelerator": "cpu", "enable_progress_bar": False, "num_sanity_val_steps": 0}


def scenes(**options: Any) -> SceneData:
    given = {"count": 8, "eval_count": 2, "size": (48, 72), "batch_size": 2, "seed": 3, "input": SPEC}
    return SceneData("boxes", **{**given, **options})


def epoch_of(data: SceneData, epoch: int, resume: int = 0) -> list[Any]:
    """The batches of one epoch, from one on."""
    if resume:
        data.load_state_dict({"epoch": epoch, "batches": resume, "batch_size": data.batch_size, "world": 1})
    loader: Any = data.train_dataloader()
    if not resume:
        loader.sampler.set_epoch(epoch)
    boxes = "boxes"
    return [(b["id"], b["inputs"]["image"].tolist(), [t[boxes].tolist() for t in b["target"]]) for b in loader]


# ---------------------------------------------------------------------- sizes per batch


def test_every_batch_has_a_size_that_all_ranks_share() -> None:
    sampler = [EpochSampler(16, shuffle=True, seed=1, rank=rank, world=2) for rank in range(2)]
    for each in sampler:
        each.scales, each.batch_size = (0.5, 2.0), 4
    first, second = ([item[2].scale for item in each] for each in sampler)
    assert first == second and len(set(first[:4])) == len(set(first[4:])) == 1 and first[0] != first[4]
    sampler[0].seen = [Stretch(2, 4, 1)]
    assert [item[2].scale for item in sampler[0]] == first[4:], "a resume draws the same sizes"
    sampler[0].set_epoch(1)
    assert [item[2].scale for item in sampler[0]] != first


def test_images_and_boxes_follow_the_size_for_any_workers_and_after_a_resume() -> None:
    options: dict[str, Any] = {"multi_scale": [0.5, 1.5], "count": 16}
    alone = epoch_of(scenes(**options), 1)
    shapes = [np.shape(images)[-2:] for _, images, _ in alone]
    assert len(set(shapes)) > 1 and all(side % 32 == 0 for shape in shapes for side in shape)
    assert min(shapes) >= (32, 32) and max(shapes) <= (96, 160)
    plain = epoch_of(scenes(count=16), 1)
    for (names, _, boxes), (same, _, before), shape in zip(alone, plain, shapes, strict=True):
        assert names == same
        factor = min(shape[0] / 48, shape[1] / 72) / min(64 / 48, 96 / 72)
        for ours, theirs in zip(boxes, before, strict=True):
            sides = [np.array(each)[:, 2:] - np.array(each)[:, :2] for each in (ours, theirs)]
            assert np.allclose(sides[0], sides[1] * factor, rtol=0.02)
    assert epoch_of(scenes(**options, num_workers=1), 1) == alone
    assert epoch_of(scenes(**options), 1, resume=3) == alone[3:]


@pytest.mark.parametrize("architecture", ["fcos", "retinanet", "ssd", "faster_rcnn", "dfine", "rtdetr", "localizer"])
def test_every_detector_trains_at_other_sizes(architecture: str) -> None:
    torch.manual_seed(0)
    spec = InputSpec(size=(128, 128), resize_mode="letterbox")
    task = DetectionTask("test_resnet", architecture=architecture, classes=["a"], input=spec)
    target = [{"boxes": torch.tensor([[10.0, 10, 60, 50]]), "labels": torch.tensor([0])}]
    for size in ((96, 96), (160, 192)):
        batch: Any = {"inputs": {"image": torch.zeros(1, 3, *size, dtype=torch.uint8)}, "target": target, "id": ["a"]}
        sum(task.losses(task.run(batch), target).values()).backward()  # type: ignore[union-attr]


def test_a_search_for_the_batch_size_tries_the_largest_images(monkeypatch: pytest.MonkeyPatch) -> None:
    memory: Any = object.__new__(batch_size._Memory)
    memory.trainer, memory.device, memory.needed, memory._before = None, torch.device("cpu"), 0, 0
    seen: list[Any] = []
    monkeypatch.setattr(batch_size._Memory, "_step", lambda self, batch: seen.append(batch["inputs"]["image"].shape))
    monkeypatch.setattr(batch_size, "to_device", lambda trainer, batch: batch)
    assert memory.fits(scenes(multi_scale=[0.5, 2.0]), 2)
    assert seen == [(2, 3, 128, 192)] * 2


# ---------------------------------------------------------------------- repeated images


def test_rare_classes_are_repeated_by_the_published_factor() -> None:
    classes = [np.array([0, 0])] * 12 + [np.array([0, 1])] * 3 + [np.zeros(0, np.int64)]
    factors = repeat_factors(classes, 0.75)
    assert np.allclose(factors, [1] * 12 + [np.sqrt(0.75 / (3 / 16))] * 3 + [1])
    assert (repeat_factors(classes, 0.1) == 1).all() and repeat_factors([np.zeros(0, np.int64)], 0.5).tolist() == [1]


def test_an_epoch_holds_every_image_as_often_as_its_factor_rounded() -> None:
    factors = np.array([1.0, 1.0, 1.3, 2.5, 1.0, 3.0])
    sampler = RepeatFactorSampler(factors, seed=2)
    seen = np.zeros((200, 6))
    for epoch in range(200):
        sampler.set_epoch(epoch)
        items = list(sampler)
        assert len(items) == len(sampler) == 10
        seen[epoch] = np.bincount([item[1] for item in items], minlength=6)
        assert len({(item[1], item[2].repeat if len(item) > 2 else 0) for item in items}) == 10
    assert (seen >= 1).all() and (seen <= np.ceil(factors * 10 / 9.8)).all()
    assert np.allclose(seen.mean(axis=0), factors * 10 / 9.8, atol=0.1)
    sampler.set_epoch(3)
    whole = list(sampler)
    sampler.set_epoch(3)
    sampler.seen = [Stretch(1, 4, 1)]
    assert list(sampler) == whole[4:]
    ranks = [RepeatFactorSampler(factors, seed=2, rank=rank, world=2) for rank in range(2)]
    for each in ranks:
        each.set_epoch(3)
    assert [item for pair in zip(*ranks, strict=True) for item in pair] == whole


def test_a_repeated_image_is_augmented_otherwise_and_the_same_for_any_workers() -> None:
    data = scenes(repeat_threshold=1.0, augment=ObjectAugment(), people=0.1)
    (note,) = data._repeats()
    assert re.fullmatch(r"repeat_threshold 1: an epoch shows \d+ images, 8 of the 8 more than once \(at .*\)", note)
    alone = epoch_of(data, 0)
    names = [name for names, _, _ in alone for name in names]
    images = [image for _, batch, _ in alone for image in batch]
    twice = next(name for name in names if names.count(name) > 1)
    first, second = [k for k, name in enumerate(names) if name == twice][:2]
    assert images[first] != images[second]
    again = scenes(repeat_threshold=1.0, augment=ObjectAugment(), people=0.1, num_workers=1)
    assert epoch_of(again, 0) == alone


def test_classes_are_read_from_labels_of_every_type() -> None:
    samples: Any = [SimpleNamespace(target={"labels": value}) for value in (2, np.array([1, 1]), np.float32([0, 1, 1]))]
    assert [each.tolist() for each in classes_of(samples)] == [[2], [1, 1], [1, 2]]
    with pytest.raises(UsageError, match="needs data with classes"):
        classes_of([SimpleNamespace(target={"depth": 1})])  # type: ignore[list-item]


# ---------------------------------------------------------------------- the last epochs


def trainer_of(**options: Any) -> Any:
    return SimpleNamespace(
        **{"max_steps": -1, "is_global_zero": True, "num_training_batches": 4, "accumulate_grad_batches": 1, **options}
    )


def test_the_length_of_a_training() -> None:
    assert epochs_of(trainer_of(max_epochs=5)) == 5 and epochs_of(trainer_of(max_epochs=-1)) == np.inf
    assert epochs_of(trainer_of(max_epochs=5, max_steps=9)) == 3
    assert epochs_of(trainer_of(max_epochs=None, max_steps=9, accumulate_grad_batches=2)) == 5


@pytest.mark.parametrize("num_workers", [0, 1])
def test_the_last_epochs_mix_nothing_with_workers_that_live_on(
    num_workers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    data = scenes(augment=ObjectAugment(mosaic=1.0), close_mosaic=2, num_workers=num_workers)
    data.trainer = trainer_of(max_epochs=4, lightning_module=None, overfit_batches=0)
    loader: Any = data.train_dataloader()
    plain: Any = scenes(augment=ObjectAugment()).train_dataloader()
    equal = []
    for epoch in range(4):
        batches = []
        for each in (loader, plain):
            each.sampler.set_epoch(epoch)
            batches.append([batch["inputs"]["image"].tolist() for batch in each])
        equal.append(batches[0] == batches[1])
    assert equal == [False, False, True, True] and "close_mosaic" not in capsys.readouterr().err
    data.trainer = trainer_of(max_epochs=1, lightning_module=None, overfit_batches=0)
    assert not data.train_dataloader().sampler.is_closing(0), "the first epoch is never without"  # type: ignore[attr-defined]
    assert "data.close_mosaic 2: of 1 epochs only the first one mixes images" in capsys.readouterr().err


def test_a_killed_training_with_all_of_it_ends_with_the_same_weights(tmp_path: Path) -> None:
    def task() -> DetectionTask:
        torch.manual_seed(0)
        fcos = {"neck_channels": 16, "convs": 1}
        return DetectionTask("test_resnet", classes=scenes().classes or ("a",), input=SPEC, fcos=fcos)

    def data(workers: int = 0) -> SceneData:
        return scenes(
            count=4,
            augment=[Mosaic(p=0.5), *ObjectAugment(mixup=0.5).parts],
            close_mosaic=1,
            multi_scale=[0.5, 1.0],
            repeat_threshold=0.9,
            num_workers=workers,
            classes=task().classes,
        )

    def weights(folder: str, **options: Any) -> Callable[[], str]:
        trained = task()
        fit(trained, data(options.pop("workers", 0)), run=tmp_path / folder, max_epochs=3, report=False, **options)
        return fingerprint(trained.state_dict())  # type: ignore[return-value]

    options: dict[str, Any] = {**TRAINER, "limit_val_batches": 0, "ema": 0.9}
    whole = weights("whole", **options)
    for step, workers in ((3, 0), (5, 1)):
        folder = f"killed{step}"
        with pytest.raises(RuntimeError, match="killed"):
            weights(folder, **options, checkpoint_every=1, callbacks=[Killed(step)])
        assert weights(folder, **options, ckpt_path="last", workers=workers) == whole


# ---------------------------------------------------------------------- refusals


def test_options_that_cannot_be_are_refused() -> None:
    for options, message in (
        ({"close_mosaic": 2}, "augment has no part that mixes images"),
        ({"close_mosaic": -1}, "give a number of epochs"),
        ({"multi_scale": [2]}, "give smallest and largest"),
        ({"multi_scale": [1.5, 0.5]}, "give smallest and largest"),
        ({"repeat_threshold": 2.0}, "allowed is a fraction"),
    ):
        with pytest.raises(UsageError, match=message):
            scenes(**options)
    native = scenes(multi_scale=[0.5, 1.0], input=InputSpec(size=(64, 64), resize_mode="native"))
    with pytest.raises(UsageError, match="images keep their own sizes"):
        native.train_dataloader()
    data = SceneData("labels", count=2, eval_count=1, batch_size=2, multi_scale=[0.5, 1.0])
    classifier = ClassificationTask("test_resnet", classes=["a"])
    data.input, data.trainer = SPEC, trainer_of(max_epochs=1, lightning_module=classifier, overfit_batches=0)
    with pytest.raises(UsageError, match="classification is trained at one input size"):
        data.train_dataloader()

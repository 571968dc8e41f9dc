"""Mosaic, mixup and copy-paste: what lands where, against hand-made expectations, whatever the number of workers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from datamodules.augmentation import (
    CopyPaste,
    LargeScaleJitter,
    MixUp,
    Mosaic,
    ObjectAugment,
    RandomHorizontalFlip,
    ScaleJitter,
)
from datamodules.scene_data import SceneData
from visionkit.errors import UsageError
from visionkit.geometry import InputSpec
from visionkit.images import ImageSource
from visionkit.loading import rng_for
from visionkit.masks import MaskSet
from visionkit.types import Sample, View


def plain(number: int, size: tuple[int, int] = (40, 60)) -> Sample:
    """An image of one color with a square in another; every target knows the square."""
    height, width = size
    image = np.full((*size, 3), 10 * (number + 1), np.uint8)
    inside = np.zeros(size, bool)
    inside[height // 4 : height // 2, width // 4 : width // 2] = True
    image[inside] = 200 + number
    target: Any = {
        "boxes": np.array([[width // 4, height // 4, width // 2, height // 2]], np.float32),
        "labels": np.array([number]),
        "masks": inside[None],
        "label_map": np.where(inside, number, 100).astype(np.uint8),
        "depth": np.full(size, 1.0 + number, np.float32),
        "keypoints": np.array([[(width / 4 + 0.5, height / 4 + 0.5, 2)]], np.float32),
    }
    return Sample.of(ImageSource(image, str(number)), target, str(number))


SAMPLES = [plain(number) for number in range(6)]


class Fixed:
    """A generator whose draws are written down."""

    def __init__(self, *draws: Any) -> None:
        self.draws = list(draws)

    def random(self, size: int | None = None) -> Any:
        return self.draws.pop(0) if size is None else np.array(self.draws.pop(0))

    def integers(self, *limits: int) -> int:
        return int(self.draws.pop(0))

    def beta(self, a: float, b: float) -> float:
        return float(self.draws.pop(0))


def objects(number: int, size: tuple[int, int] = (40, 60), keypoints: bool = True) -> Sample:
    """One of `plain` without maps, and with a flag of crowds."""
    sample = plain(number, size)
    target: Any = {key: value for key, value in sample.target.items() if key not in ("label_map", "depth")}
    if not keypoints:
        del target["keypoints"]
    return Sample.of(sample.image, {**target, "iscrowd": np.array([0])}, sample.id)  # type: ignore[typeddict-item]


def test_a_mosaic_is_what_its_draws_state() -> None:
    draws = Fixed(0.0, 1, 2, 3, (0.25, 0.75))  # mixed; the others; a point at (30, 75) of the canvas of 80 x 120
    mixed = Mosaic(min_visibility=0.0).with_samples(SAMPLES)(SAMPLES[0], draws)  # type: ignore[arg-type]
    image, target = mixed.image.read(3)[..., 0], mixed.target
    assert image.shape == (80, 120) and mixed.id == "0"
    assert mixed.view == View((30, 20, 90, 60)), "the middle, as large as the image was"
    wanted = np.full((80, 120), 114)
    labels, depth = np.full((80, 120), 255), np.zeros((80, 120))
    for number, (top, left) in enumerate([(-10, 15), (-10, 75), (30, 15), (30, 75)]):
        for y in range(max(top, 0), min(top + 40, 80)):
            for x in range(max(left, 0), min(left + 60, 120)):
                inside = 10 <= y - top < 20 and 15 <= x - left < 30
                wanted[y, x] = 200 + number if inside else 10 * (number + 1)
                labels[y, x], depth[y, x] = number if inside else 100, 1 + number
    assert (image == wanted).all()
    assert (target["label_map"] == labels).all() and (target["depth"] == depth).all()
    assert target["labels"].tolist() == [0, 1, 2, 3]
    boxes = [[30, 0, 45, 10], [90, 0, 105, 10], [30, 40, 45, 50], [90, 40, 105, 50]]
    assert target["boxes"].tolist() == boxes
    for number, mask in enumerate(target["masks"]):
        assert (mask == (wanted == 200 + number)).all()
    assert target["keypoints"][:, 0].tolist() == [[x1 + 0.5, y1 + 0.5, 2] for x1, y1, _, _ in boxes]


def test_a_mosaic_fits_images_of_many_sizes_and_drops_what_is_cut_off() -> None:
    samples = [plain(0), plain(1, (80, 120)), plain(2, (20, 20)), plain(3, (30, 90))]
    for seed in range(10):
        mixed = Mosaic(size=(40, 60), min_visibility=0.5).with_samples(samples)(samples[0], rng_for(0, 0, seed))
        image, target = mixed.image.read(3)[..., 0].astype(int), mixed.target
        assert image.shape == (80, 120)
        rows = {len(target[key]) for key in ("boxes", "labels", "masks", "keypoints")}  # type: ignore[literal-required]
        assert len(rows) == 1 and rows.pop() >= 1
        for label, box, mask in zip(target["labels"], target["boxes"], target["masks"], strict=True):
            assert (image[mask] > 150).mean() > 0.8 and image[mask].max() == 200 + label
            x1, y1, x2, y2 = np.round(box).astype(int)
            assert (
                mask[y1:y2, x1:x2].mean() > 0.8
                and mask.sum() == mask[max(y1 - 1, 0) : y2 + 1, max(x1 - 1, 0) : x2 + 1].sum()
            )


def test_pasted_objects_cover_what_lies_under_them() -> None:
    # Pasted; the other is number 1, at zoom 1 (the logarithm's middle), 5 pixels to the right and down; its one object.
    samples = [plain(0, (50, 70)), plain(1)]
    draws = Fixed(0.0, 1, 0.5, 5, 5, (0.0,))
    mixed = CopyPaste(scale=(0.5, 2.0)).with_samples(samples)(samples[0], draws)  # type: ignore[arg-type]
    own, pasted = np.zeros((50, 70), bool), np.zeros((50, 70), bool)
    own[12:25, 17:35], pasted[15:25, 20:35] = True, True
    own &= ~pasted
    image, target = mixed.image.read(3)[..., 0], mixed.target
    assert (image == np.where(pasted, 201, np.where(own, 200, 10))).all()
    assert (np.asarray(target["label_map"]) == np.where(pasted, 1, np.where(own, 0, 100))).all()
    assert (np.asarray(target["depth"]) == np.where(pasted, 2, 1)).all()
    assert target["labels"].tolist() == [0, 1]
    assert (target["masks"] == np.stack([own, pasted])).all()
    assert target["boxes"].tolist() == [[17, 12, 35, 25], [20, 15, 35, 25]]
    draws = Fixed(0.0, 1, 0.5, 5, 5, (0.0,))
    strict = CopyPaste(scale=(0.5, 2.0), min_visibility=0.5).with_samples(samples)(samples[0], draws)  # type: ignore[arg-type]
    assert strict.target["labels"].tolist() == [1], "too little is left of the covered one"
    nothing = CopyPaste(p=1.0, fraction=0.0).with_samples(samples)(samples[0], rng_for(0, 0, 0))
    assert nothing is samples[0]


def test_mixup_lays_one_image_over_another_with_the_objects_of_both() -> None:
    samples = [objects(0, (50, 70)), objects(1, (40, 60))]
    draws = Fixed(0.0, 1, 0.25, 3, 0)  # mixed; with the other; a quarter of the first; 3 pixels down (70 wide: no way)
    mixed = MixUp().with_samples(samples)(samples[0], draws)  # type: ignore[arg-type]
    image, target = mixed.image.read(3)[..., 0].astype(int), mixed.target
    first = samples[0].image.read(3)[..., 0].astype(int)
    assert image.shape == (50, 70)
    assert (image[:3] == first[:3]).all(), "beside the other image it stays as it was"
    assert image[3 + 40, 5] == round(0.25 * 10 + 0.75 * 20)
    assert target["labels"].tolist() == [0, 1] and target["iscrowd"].tolist() == [0, 0]
    factor = 70 / 60
    assert target["boxes"][0].tolist() == [17, 12, 35, 25]
    assert np.allclose(target["boxes"][1], [15 * factor, 3 + 10 * factor, 30 * factor, 3 + 20 * factor], atol=0.2)
    own, laid = np.asarray(target["masks"])
    assert own.sum() == 13 * 18 and laid[20, 25] and own[20, 25], "both are there where they overlap"
    assert image[20, 25] == round(0.25 * 200 + 0.75 * 201)
    assert target["keypoints"].shape == (2, 1, 3)
    with pytest.raises(UsageError, match="of depth, label_map there is no mixture"):
        MixUp(p=1.0).with_samples(SAMPLES)(SAMPLES[0], rng_for(0, 0, 0))


def test_parts_behind_a_mosaic_fill_what_is_shown() -> None:
    samples = [objects(number) for number in range(4)]
    mosaic = Mosaic().with_samples(samples)(samples[0], rng_for(0, 0, 3))
    assert mosaic.view is not None
    x1, y1, x2, y2 = (int(side) for side in mosaic.view.box)
    mixed = MixUp(p=1.0).with_samples(samples)(mosaic, rng_for(0, 0, 4))
    before, after = mosaic.image.read(3), mixed.image.read(3)
    changed = (before != after).any(axis=-1)
    assert mixed.view == mosaic.view and changed[y1:y2, x1:x2].any()
    changed[y1:y2, x1:x2] = False
    assert not changed.any()
    pasted = CopyPaste(p=1.0, fraction=1.0).with_samples(samples)(mosaic, rng_for(0, 0, 4))
    box = pasted.target["boxes"][-1]
    assert box[0] >= x1 and box[1] >= y1 and box[2] <= x2 and box[3] <= y2
    flipped = RandomHorizontalFlip(p=1.0, flip_pairs=())(mosaic, rng_for(0, 0, 0))
    with pytest.raises(UsageError, match="before the parts that move"):
        MixUp(p=1.0).with_samples(samples)(flipped, rng_for(0, 0, 0))


def test_crowds_are_not_pasted_and_covered_keypoints_are_hidden() -> None:
    samples = [objects(0, (50, 70)), objects(1)]
    draws = Fixed(0.0, 1, 0.5, 5, 0, (0.0,))
    mixed = CopyPaste(scale=(0.5, 2.0), min_visibility=0.0).with_samples(samples)(samples[0], draws)  # type: ignore[arg-type]
    # The keypoint of the first lies at (18, 13), what is pasted from (15, 15) to (30, 25).
    assert mixed.target["keypoints"][:, 0, 2].tolist() == [2, 2]
    draws = Fixed(0.0, 1, 0.5, 1, 0, (0.0,))
    mixed = CopyPaste(scale=(0.5, 2.0), min_visibility=0.0).with_samples(samples)(samples[0], draws)  # type: ignore[arg-type]
    assert mixed.target["keypoints"][:, 0, 2].tolist() == [1, 2], "from (15, 11) on it is covered"
    crowd = Sample.of(samples[1].image, {**samples[1].target, "iscrowd": np.array([1])}, "1")  # type: ignore[typeddict-item]
    pasted = CopyPaste(p=1.0, fraction=1.0).with_samples([crowd])(samples[0], rng_for(0, 0, 0))
    assert pasted is samples[0]


def test_images_without_objects_are_mixed_too() -> None:
    empty: Any = {
        "boxes": np.zeros((0, 4), np.float32),
        "labels": np.zeros(0, np.int64),
        "masks": MaskSet((40, 60), []),
        "iscrowd": np.zeros(0, np.int64),
    }
    nothing = Sample.of(plain(5).image, empty, "5")
    some = objects(1, keypoints=False)
    for first, second in ((nothing, some), (some, nothing), (nothing, nothing)):
        for part in (Mosaic(), MixUp(p=1.0), CopyPaste(p=1.0, fraction=1.0)):
            mixed = part.with_samples([second])(first, rng_for(0, 0, 1))
            assert len({len(mixed.target[key]) for key in empty}) == 1  # type: ignore[literal-required]


def test_the_jitter_of_the_paper_draws_zooms_evenly() -> None:
    sample = objects(0)
    views = [LargeScaleJitter(min_visibility=0)(sample, rng_for(0, 0, k)).view for k in range(400)]
    zooms = np.array([60 / (view.box[2] - view.box[0]) for view in views if view is not None])
    assert 0.1 <= zooms.min() < 0.15 and 1.9 < zooms.max() <= 2.0 and abs(zooms.mean() - 1.05) < 0.08


def test_a_preset_has_each_of_them_in_one_line_and_the_last_epochs_go_without() -> None:
    augment = ObjectAugment(mosaic=1.0, mixup=0.5, copy_paste=0.5)
    assert [type(part).__name__ for part in augment.parts][:3] == ["CopyPaste", "Mosaic", "MixUp"]
    assert augment.mixes and not ObjectAugment().mixes
    last = augment.without_mixing()
    assert not last.mixes and augment.mixes
    sample, plainly = objects(0), ObjectAugment(horizontal_flip=0)
    closing = ObjectAugment(mosaic=1.0, horizontal_flip=0).with_samples([sample]).without_mixing()
    assert closing(sample, rng_for(0, 0, 7)).view == plainly(sample, rng_for(0, 0, 7)).view
    assert Mosaic().without_mixing()(sample, rng_for(0, 0, 0)) is sample


def test_what_cannot_be_mixed_is_refused() -> None:
    with pytest.raises(UsageError, match="Mosaic mixes samples of one data set and has none"):
        Mosaic()(SAMPLES[0], rng_for(0, 0, 0))
    mosaic, paste = Mosaic().with_samples(SAMPLES), CopyPaste(p=1.0).with_samples(SAMPLES)
    image = SAMPLES[0].image
    for sample, message in (
        (Sample.of(image, {"labels": np.int64(0)}), "positions, not labels"),
        (Sample.of(image, {"high_res": np.zeros((3, 8, 8))}), "positions, not high_res"),
        (Sample.of(image, SAMPLES[0].target, view=View((0, 0, 9, 9))), "before the parts that move"),
        (Sample({"left": image, "right": image}, SAMPLES[0].target), "a sample has left, right"),
    ):
        with pytest.raises(UsageError, match=message):
            mosaic(sample, rng_for(0, 0, 0))
    with pytest.raises(UsageError, match=r"leave it out, or set data\.target masks"):
        paste(Sample.of(image, {"boxes": np.zeros((0, 4))}), rng_for(0, 0, 0))


def test_seed_epoch_and_index_decide_for_any_workers_and_after_a_resume() -> None:
    augment = [CopyPaste(p=0.7), Mosaic(p=0.5), ScaleJitter((1.0, 2.0), min_visibility=0.3), RandomHorizontalFlip()]

    def batches(num_workers: int, resume: dict[str, int] | None = None) -> list[Any]:
        data = SceneData(
            "masks",
            count=8,
            eval_count=1,
            size=(48, 64),
            augment=augment,
            num_workers=num_workers,
            batch_size=2,
            seed=3,
        )
        data.input = InputSpec(size=(32, 48), resize_mode="letterbox")
        if resume is not None:
            data.load_state_dict(resume)
        loader = data.train_dataloader()
        if resume is None:
            loader.sampler.set_epoch(1)  # type: ignore[attr-defined]
        return [
            (
                batch["id"],
                batch["inputs"]["image"].tolist(),
                [{k: v.tolist() for k, v in t.items()} for t in batch["target"]],
            )
            for batch in loader
        ]

    alone = batches(0)
    assert len(alone) == 4 and batches(2) == alone
    assert batches(0, {"epoch": 1, "batches": 2, "batch_size": 2, "world": 1}) == alone[2:]

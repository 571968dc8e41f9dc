"""Mosaic and copy-paste: what lands where, against hand-made expectations, whatever the number of workers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from datamodules.augmentation import CopyPaste, Mosaic, RandomHorizontalFlip, ScaleJitter
from datamodules.scene_data import SceneData
from visionkit.errors import UsageError
from visionkit.geometry import InputSpec
from visionkit.images import ImageSource
from visionkit.loading import rng_for
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


def test_a_mosaic_is_what_its_draws_state() -> None:
    draws = Fixed(0.0, 1, 2, 3, (0.25, 0.75))  # mixed; the others; a point at (30, 75) of the canvas of 80 x 120
    mixed = Mosaic(min_visibility=0.0).with_samples(SAMPLES)(SAMPLES[0], draws)  # type: ignore[arg-type]
    image, target = mixed.image.read(3)[..., 0], mixed.target
    assert image.shape == (80, 120) and mixed.view is None and mixed.id == "0"
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
    with pytest.raises(UsageError, match=r"data\.target masks, or use Mosaic"):
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

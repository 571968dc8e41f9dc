"""Every part moves every kind of target with the image: what is painted on the image is where its target says."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from datamodules.augmentation import (
    ColorJitter,
    Compose,
    CutOut,
    RandomAffine,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    RandomLight,
    RandomQuarterTurn,
    RandomResizedCrop,
    SanitizeBoundingBoxes,
    ScaleJitter,
)
from datamodules.augmentation.geometric import cut, visible
from datamodules.scene_data import SceneData
from visionkit.augmentation import SampleAugment
from visionkit.errors import UsageError
from visionkit.geometry import InputSpec
from visionkit.images import ImageSource
from visionkit.loading import rng_for
from visionkit.preprocess import Preprocessor
from visionkit.remembered import described
from visionkit.types import Sample, View

BOX, MOTION = (60, 40, 84, 64), (8, 4)
PARTS: dict[str, list[SampleAugment]] = {
    "resized crop": [RandomResizedCrop(area=(0.5, 0.9))],
    "crop": [RandomCrop(0.2)],
    "scale": [ScaleJitter((0.6, 1.5), (0.8, 1.25), translate=0.1, min_visibility=0.5)],
    "affine": [RandomAffine((0.8, 1.2), (0.9, 1.1), 0.1, 40.0)],
    "quarter turn": [RandomQuarterTurn()],
    "flip": [RandomHorizontalFlip(1.0, ((0, 1),))],
    "turned, then cut": [RandomQuarterTurn(), ScaleJitter((0.9, 1.3)), RandomHorizontalFlip(0.5, ((0, 1),))],
    "turned twice, cut twice": [
        RandomAffine(rotate=30.0),
        RandomHorizontalFlip(0.5, ((0, 1),)),
        RandomAffine((0.9, 1.1), rotate=30.0, translate=0.05),
        ScaleJitter((0.8, 1.1)),
        RandomQuarterTurn(),
    ],
}


def marked() -> Sample:
    """A rectangle on the first image, the same one moved on the second; every kind of target knows it."""
    first, second = np.zeros((120, 160, 3), np.uint8), np.zeros((120, 160, 3), np.uint8)
    x1, y1, x2, y2 = BOX
    first[y1:y2, x1:x2], second[y1 + MOTION[1] : y2 + MOTION[1], x1 + MOTION[0] : x2 + MOTION[0]] = 255, 255
    inside = first[..., 0] > 0
    target: Any = {
        "boxes": np.array([BOX, (0, 0, 1, 1)], float),
        "labels": np.array([7, 3]),
        "masks": np.stack([inside, ~inside]),
        "keypoints": np.array([[(72, 52, 2), (60, 52, 2)], [(72, 52, 2), (60, 52, 2)]], np.float32),
        "label_map": inside.astype(np.uint8) * 5,
        "depth": inside * np.float32(3) + np.float32(1),
        "flow": np.stack([inside * np.float32(step) for step in MOTION]),
        "valid": inside,
    }
    return Sample({"image": ImageSource(first), "next": ImageSource(second)}, target, "marked")


def middle(weight: Any) -> np.ndarray:
    weight = np.asarray(weight, dtype=float)
    y, x = np.indices(weight.shape) + 0.5
    return np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()


@pytest.mark.parametrize("name", PARTS)
def test_every_target_moves_with_the_image(name: str) -> None:
    augment = pickle.loads(pickle.dumps(Compose(PARTS[name])))
    prepare = Preprocessor(InputSpec(size=(120, 160), resize_mode="letterbox", fill=0, tied=True))
    compared, views = 0, set()
    for seed in range(12):
        changed = augment(marked(), rng_for(0, 0, seed))
        views.add(changed.view)
        example = prepare(changed)
        target = example["target"]
        lit = np.asarray(example["inputs"]["image"][0]) > 127
        rows, columns = lit.any(1).nonzero()[0], lit.any(0).nonzero()[0]
        if lit.sum() < 200 or min(rows[0], columns[0]) < 12 or rows[-1] > 107 or columns[-1] > 147:
            continue  # partly outside, or too near to the border for the motion
        compared += 1
        assert int(target["labels"][0]) == 7
        for seen in (target["masks"][0], target["label_map"] == 5, target["depth"] == 4, target["valid"]):
            seen = np.asarray(seen)
            assert (seen & lit).sum() / (seen | lit).sum() > 0.85, changed.view
        tight = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        assert np.abs(np.asarray(target["boxes"][0]) - tight).max() <= 2.5, changed.view
        flipped = changed.view.flip
        (x, y, known), (side_x, side_y, _) = np.asarray(target["keypoints"][0])[:: -1 if flipped else 1]
        assert known == 2 and np.abs((x, y) - middle(lit)).max() < 1
        edge = example["geometry"].apply_points(np.array([[60.0, 52.0]]))[0]
        assert np.abs((side_x, side_y) - np.asarray(edge)).max() < 0.01
        moved = middle(np.asarray(example["inputs"]["next"][0]) > 127) - middle(lit)
        flow = np.asarray(target["flow"])[:, np.asarray(target["valid"])].mean(axis=1)
        assert np.abs(moved - flow).max() < 1, changed.view
    assert compared >= 3 and (name == "flip" or len(views) > 3)


def test_parts_are_applied_in_order() -> None:
    whole = RandomAffine((2.0, 2.0)), RandomCrop(0.5)
    first, second = (Compose(list(parts))(marked(), rng_for(0, 0, 1)).view for parts in (whole, whole[::-1]))
    assert first is not None and second is not None
    assert (first.box[2] - first.box[0], second.box[2] - second.box[0]) == (80, 80)
    assert abs(first.box[0] - 40) <= 40 < 80 and first.box != second.box, "the second moves by half of what it sees"
    chain = Compose([RandomErasing(1.0), ColorJitter(0.4), CutOut(), RandomLight()])(
        marked(), rng_for(0, 0, 0)
    ).photometric
    assert [type(step).__name__ for step in chain.steps] == ["EraseStep", "ColorStep", "EraseStep", "LightStep"]


def test_a_cut_of_a_turned_view_lies_in_its_turned_frame() -> None:
    assert cut(View((0, 0, 10, 20)), 2, 3, 4, 5).box == (2, 3, 6, 8)
    turned = View((-5, 5, 15, 15), rotation=90.0)  # of a file of 10 x 20: 20 x 10 as it is shown
    # Counter-clockwise by a quarter, the right side of the file is on top.
    assert cut(turned, 0, 0, 20, 4).box == pytest.approx((-2, 8, 18, 12))
    assert visible(np.array([[6.0, 0, 10, 20], [0, 0, 6, 20]]), cut(turned, 0, 0, 20, 4)).tolist() == pytest.approx(
        [1, 0]
    )


def test_objects_of_which_too_little_is_left_lose_every_row() -> None:
    sample = Compose([RandomAffine((4.0, 4.0)), SanitizeBoundingBoxes(0.5)])(marked(), rng_for(0, 0, 0))
    assert sample.view is not None and sample.view.box == (60, 45, 100, 75)
    assert {len(sample.target[key]) for key in ("boxes", "labels", "masks", "keypoints")} == {1}  # type: ignore[literal-required]


def test_flip_pairs_come_from_the_skeleton_and_are_needed() -> None:
    with pytest.raises(UsageError, match="which keypoints are a pair"):
        RandomHorizontalFlip()(marked(), rng_for(0, 0, 0))
    assert RandomHorizontalFlip(0.0)(marked(), rng_for(0, 0, 0)).view is None
    data = SceneData("keypoints", count=2, augment=[RandomAffine(rotate=10.0), RandomHorizontalFlip(1.0)])
    flip = data.augment.parts[1]  # type: ignore[union-attr]
    assert isinstance(flip, RandomHorizontalFlip) and flip.flip_pairs == data.skeleton.swap


def test_a_list_is_composed_and_described_as_it_was_given() -> None:
    data = SceneData("boxes", count=2, augment=[RandomResizedCrop(area=(0.5, 1.0)), ColorJitter(hue=0.1)])
    assert isinstance(data.augment, Compose) and data.augment.draft
    parts = described(data)["init_args"]["augment"]
    assert [part["class_path"].rpartition(".")[2] for part in parts] == ["RandomResizedCrop", "ColorJitter"]
    assert parts[0]["init_args"]["area"] == [0.5, 1.0]
    with pytest.raises(UsageError, match=r"RandomResizedCrop.*is not an augmentation"):
        SceneData("boxes", augment=[RandomResizedCrop])  # type: ignore[list-item]


def test_the_command_line_takes_a_preset_or_a_list() -> None:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(SceneData, "data")

    def parsed(*arguments: str) -> Any:
        return parser.instantiate(parser.parse_args(["--data", "SceneData", *arguments])).data.augment

    assert (
        parsed("--data.augment", "ObjectAugment", "--data.augment.min_visibility", "0.5").parts[1].min_visibility == 0.5
    )
    given = '[{"class_path": "RandomResizedCrop", "init_args": {"area": [0.2, 1]}}, {"class_path": "RandomErasing"}]'
    assert parsed("--data.augment", given).parts == (RandomResizedCrop((0.2, 1.0)), RandomErasing())
    assert parsed("--data.augment+", "RandomHorizontalFlip", "--data.augment+", "CutOut").parts[1] == CutOut()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomHorizontalFlip(1.5), r"augment\.RandomHorizontalFlip\.p 1\.5: allowed is 0 to 1"),
        (lambda: RandomResizedCrop(area=(0.1, 2.0)), r"augment\.area \(0\.1, 2\.0\): .* at most 1"),
        (lambda: ScaleJitter(crop_size=(0, 5)), r"augment\.crop_size \(0, 5\)"),
        (lambda: RandomAffine(rotate=200), r"augment\.rotate 200: allowed is 0 to 180"),
        (lambda: ColorJitter(hue=0.6), r"augment\.hue 0\.6: allowed is 0 to 0\.5"),
        (lambda: RandomErasing(aspect_ratio=(2.0, 1.0)), r"augment\.aspect_ratio"),
    ],
)
def test_values_that_make_no_sense_are_refused(make: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()

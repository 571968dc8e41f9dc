"""Pairs of patches made of images: what is drawn depends on (seed, epoch, index), and matches show one point."""

from __future__ import annotations

import pickle

import cv2
import numpy as np
import pytest
from PIL import Image

from datamodules.generated_patches import GeneratedPatchData
from datamodules.patch_views import PatchViews
from visionkit.errors import UsageError
from visionkit.geometry import InputSpec
from visionkit.loading import SampleDataset, rng_for
from visionkit.preprocess import Preprocessor

GRAY = InputSpec(size=(64, 64), resize_mode="stretch", channels=1)
STILL = PatchViews(scale=1, rotate=0, perspective=0, translate=0, gain=(1, 1), offset=0, gamma=1, blur=0, noise=0)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(4):
        noise = rng.integers(0, 256, (16, 20, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((200, 160)).save(tmp_path / f"{number}.png")
    return tmp_path


def data(root="", **arguments):
    return GeneratedPatchData(str(root), patches_per_image=6, **{"input": GRAY, "val_fraction": 0.5, **arguments})


def test_a_still_view_is_the_image_around_the_point(folder):
    image = np.asarray(Image.open(folder / "0.png"))
    patch = STILL.seen(image, np.array([70.0, 90.0]), 64, rng_for(0, 0, 0))
    assert np.array_equal(patch, image[58:122, 38:102])


def test_a_view_is_turned_and_enlarged_as_it_is_drawn(folder):
    """A point 20 pixels beside the middle is found where the homography takes it."""
    image = np.zeros((200, 200, 1), np.uint8)
    cv2.circle(image, (120, 100), 3, 255, -1)
    for seed in range(5):
        views = PatchViews(
            scale=1, rotate=40, perspective=0, translate=0, gain=(1, 1), offset=0, gamma=1, blur=0, noise=0
        )
        patch = views.seen(image, np.array([100.5, 100.5]), 64, rng_for(seed, 0, 0)).astype(float)[..., 0]
        rows, columns = np.indices(patch.shape)
        place = np.array([(columns * patch).sum(), (rows * patch).sum()]) / patch.sum() - 31.5
        assert np.hypot(*place) == pytest.approx(20, abs=0.3)
        angle = np.radians(rng_for(seed, 0, 0).uniform(-40, 40))
        assert place == pytest.approx([20 * np.cos(angle), -20 * np.sin(angle)], abs=0.4)


def test_matches_show_one_point_and_others_two(folder):
    image = np.asarray(Image.open(folder / "1.png").convert("L"))[..., None]
    for index in range(20):
        first, second = STILL.pair(image, True, 64, rng_for(0, 0, index))
        assert np.array_equal(first, second)
        first, second = STILL.pair(image, False, 64, rng_for(0, 0, index))
        assert not np.array_equal(first, second)


def test_light_is_drawn_for_each_view(folder):
    image = np.asarray(Image.open(folder / "1.png"))
    views = PatchViews(scale=1, rotate=0, perspective=0, translate=0, blur=0, noise=0)
    first, second = (each.astype(float) for each in views.pair(image, True, 64, rng_for(3, 0, 0)))
    assert abs(first.mean() - second.mean()) > 2 and np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("drawn", [False, True])
def test_what_is_drawn_depends_on_seed_epoch_and_index(folder, drawn):
    module = data("" if drawn else folder, scenes=2)
    for split, changes in (("train", True), ("val", False)):
        augment = module.augment if split == "train" else None
        made = SampleDataset(module.samples(split), Preprocessor(GRAY), 0, augment, training=split == "train")
        again = pickle.loads(pickle.dumps(made))  # what a worker is given
        a, b, later = made[(0, 3)], again[(0, 3)], again[(1, 3)]
        for name in ("first", "second"):
            assert a["inputs"][name].shape == (1, 64, 64)
            assert np.array_equal(a["inputs"][name], b["inputs"][name])
            assert np.array_equal(a["inputs"][name], later["inputs"][name]) != changes
        assert list(a["inputs"]) == ["first", "second"]
    labels = [int(sample.target["match"]) for sample in module.samples("val")]
    assert labels == [1, 0] * (len(labels) // 2)
    train = [int(made[(epoch, 0)]["target"]["match"]) for epoch in range(2)]
    assert set(train) <= {0, 1} and len({sample.id for sample in module.samples("val")}) == len(labels)


def test_validation_holds_back_whole_images(folder):
    module = data(folder)
    assert len(module.samples("train")) == len(module.samples("val")) == 12
    assert not set(module.files("train")) & set(module.files("val"))
    assert "6 pairs of 64x64 per image" in " ".join(module.summary("train").lines())
    assert "drawn scenes" in " ".join(data(scenes=3).summary("train").lines())


def test_color_is_kept_for_networks_that_take_it(folder):
    module = data(folder, input=InputSpec(size=(64, 64), resize_mode="stretch"))
    pixels = module.samples("val")[0].image.read_as_is()
    assert pixels.shape == (64, 64, 3) and not np.array_equal(pixels[..., 0], pixels[..., 1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": 0.5}, "must be at least 1"),
        ({"noise": -1.0}, "must be at least 0"),
        ({"perspective": 0.5}, "perspective below 0.5"),
        ({"gain": (2, 1)}, "smallest and the largest factor"),
    ],
)
def test_views_that_cannot_be(arguments, message):
    with pytest.raises(UsageError, match=message):
        PatchViews(**arguments)


def test_mistakes_are_named():
    with pytest.raises(UsageError, match=r"data\.scenes 0"):
        data(scenes=0)
    with pytest.raises(UsageError, match=r"set data\.views"):
        data(augment=lambda sample, rng: sample)

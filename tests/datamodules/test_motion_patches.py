"""Motion blur by patch: the motions as classes, blurred patches, and the field that a classifier finds."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.motion_patches import MotionPatchData
from tasks.classification import ClassificationTask
from visionkit.errors import DataError, UsageError
from visionkit.families.restoration.blur_field import find_blur_field
from visionkit.families.restoration.motions import Motion, candidate_motions
from visionkit.geometry import InputSpec
from visionkit.loading import rng_for
from visionkit.predictions import Classification
from visionkit.predictor import Predictor

PATCH = InputSpec(size=(30, 30), resize_mode="stretch")


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(4):
        noise = rng.integers(0, 256, (12, 15, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((75, 60)).save(tmp_path / f"{number}.png")
    return tmp_path


def data(folder, **arguments) -> MotionPatchData:
    return MotionPatchData(str(folder), val_fraction=0.5, patches_per_image=20, input=PATCH, **arguments)


def test_candidates_are_the_papers_73():
    motions = candidate_motions()
    assert len(motions) == len(set(motions)) == 73
    assert {motion.length for motion in motions} == set(range(1, 26, 2))
    assert {motion.angle for motion in motions} == {0, 30, 60, 90, 120, 150}
    assert [Motion.of(motion.name) for motion in motions] == motions
    assert motions[0].name == "sharp" and motions[8].name == "5 px 30 deg"


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: candidate_motions(24), "odd number"),
        (lambda: candidate_motions(25, 35), "divide 180"),
        (lambda: Motion.of("cat"), "is no motion"),
    ],
)
def test_motions_that_cannot_be_are_refused(call, reason):
    with pytest.raises(UsageError, match=reason):
        call()


def test_patches_are_blurred_along_their_class(folder):
    """Neighbors along the motion resemble each other, those across do not."""
    module = data(folder, max_length=15, angle_step=90, noise=0)
    for split in ("train", "val"):
        samples, seen = module.samples(split), set()
        for index in range(len(samples)):
            sample = samples[index]
            if split == "train":
                assert sample.target == {} and sample.image.size == (60, 75)
                sample = module.augment(sample, rng_for(0, 0, index))
            pixels = sample.image.read().astype(float)
            motion = Motion.of(module.classes[int(sample.target["labels"])])
            seen.add(motion)
            across, down = (np.abs(np.diff(pixels, axis=axis)).mean() for axis in (1, 0))
            assert pixels.shape == (30, 30, 3)
            if motion.length >= 9:
                assert (across < down) == (motion.angle == 0)
        assert len(seen) > 8


def test_patches_of_validation_stay_and_those_of_training_are_drawn(folder):
    module, again = data(folder), data(folder)
    for index in (0, 7):
        first, second = module.samples("val")[index], again.samples("val")[index]
        assert first.target == second.target and np.array_equal(first.image.read(), second.image.read())
    sample = module.samples("train")[0]
    one, same, other = (module.augment(sample, rng_for(0, epoch, 0)).image.read() for epoch in (0, 0, 1))
    assert np.array_equal(one, same) and not np.array_equal(one, other)
    assert "made by 73 motions" in str(module.summary("train").notes)


def test_another_seed_of_the_run_is_validated_on_the_same_patches(folder):
    first, second = (data(folder, seed=seed).samples("val")[0] for seed in (0, 1))
    assert np.array_equal(first.image.read(), second.image.read()) and first.target == second.target


def test_flat_patches_are_drawn_again(tmp_path):
    pixels = np.zeros((60, 200, 3), np.uint8)
    pixels[:, 170:] = np.random.default_rng(0).integers(0, 256, (60, 30, 3))
    Image.fromarray(pixels).save(tmp_path / "0.png")
    module = MotionPatchData(str(tmp_path), val_fraction=0, patches_per_image=40, noise=0, input=PATCH)
    sample = module.samples("train")[0]
    flat = [not module.augment(sample, rng_for(0, 0, index)).image.read().any() for index in range(40)]
    assert np.mean(flat) < 0.45, "two of three places are flat, and half are drawn so with min_contrast 0"


class _Streaks:
    """Classifies the direction of streaks by their gradients, as a trained network would."""

    classes = tuple(motion.name for motion in candidate_motions(3))
    task = SimpleNamespace(input=PATCH)

    def __call__(self, patches):
        out = []
        for patch in patches:
            y, x = np.gradient(patch.astype(float).mean(axis=2))
            direction = 0.5 * np.degrees(np.arctan2(-2 * (x * y).mean(), (x * x - y * y).mean())) + 90
            angles = np.array([Motion.of(name).angle for name in self.classes])
            distance = (angles - direction + 90) % 180 - 90
            weights = np.exp(-((distance / 10) ** 2))
            weights[0] = 0
            out.append(Classification(self.classes, weights / weights.sum()))
        return out


class _Certain:
    """Gives every patch the same probabilities."""

    classes = ("sharp", "3 px 0 deg", "3 px 90 deg")
    task = SimpleNamespace(input=PATCH)

    def __init__(self, *probabilities):
        self.probabilities = np.array(probabilities)

    def __call__(self, patches):
        return [Classification(self.classes, self.probabilities) for _ in patches]


@pytest.mark.parametrize("rotations", [1, 5])
def test_no_motion_counts_as_often_as_a_motion(rotations):
    """It is a class of every rotated patch, and each motion of one alone."""
    image = np.zeros((30, 30, 3), np.uint8)
    moving = find_blur_field(_Certain(0.3, 0.6, 0.1), image, rotations=rotations)
    assert moving.lengths == 3 and moving.probabilities == pytest.approx(0.6 / (0.3 + 0.7 * rotations))
    still = find_blur_field(_Certain(0.5, 0.4, 0.1), image, rotations=rotations)
    assert still.lengths == 1 and still.probabilities == pytest.approx(0.5 / (0.5 + 0.5 * rotations))


@pytest.mark.parametrize("angle", [0, 18, 42, 102, 174])
def test_rotated_patches_give_the_angles_between(angle):
    y, x = np.mgrid[:90, :120]
    across = x * np.sin(np.radians(angle)) + y * np.cos(np.radians(angle))
    image = np.repeat((128 + 100 * np.sin(across / 2)).astype(np.uint8)[:, :, None], 3, axis=2)
    field = find_blur_field(_Streaks(), image, stride=20)
    assert field.angles.shape == (4, 5) and (field.lengths == 3).all()
    assert (np.abs((field.angles - angle + 90) % 180 - 90) < 6.1).all()
    assert np.allclose(np.linalg.norm(field.vectors, axis=2), 3, atol=1e-5)
    coarse = find_blur_field(_Streaks(), image, stride=20, rotations=1)
    assert set(np.unique(coarse.angles)) <= {0, 30, 60, 90, 120, 150}


def test_a_field_is_drawn_over_its_image():
    image = np.full((90, 120, 3), 90, np.uint8)
    image[::2] = 160
    field = find_blur_field(_Streaks(), image, stride=30)
    drawn = field.draw(image)
    assert drawn.shape == (270, 360, 3)
    changed = (drawn != image.repeat(3, axis=0).repeat(3, axis=1)).any(axis=2)
    for y in field.rows:
        for x in field.columns:
            row, column = round((y + 0.5) * 3), round((x + 0.5) * 3)
            assert changed[row - 2 : row + 3, column - 2 : column + 3].any()
    assert np.array_equal(field.draw(image, min_probability=1.1), image.repeat(3, axis=0).repeat(3, axis=1))


def test_the_ordinary_classifier_serves_and_others_are_refused():
    names = [motion.name for motion in candidate_motions(3)]
    torch.manual_seed(0)
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    field = find_blur_field(Predictor(ClassificationTask("resnet9_small", classes=names, input=PATCH)), image)
    assert field.lengths.shape == (1, 2) and np.isfinite(field.probabilities).all()
    other = Predictor(ClassificationTask("resnet9_small", classes=["cat", "dog"], input=PATCH))
    with pytest.raises(UsageError, match="class 'cat': is no motion"):
        find_blur_field(other, image)
    with pytest.raises(DataError, match="takes patches of 30x30"):
        find_blur_field(_Streaks(), image[:20])
    with pytest.raises(UsageError, match="at least 1"):
        find_blur_field(_Streaks(), image, stride=0)

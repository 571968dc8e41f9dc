"""Clean and degraded images: made or read, whole or in patches, the same for the same seed."""

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.degradations import GaussianNoise
from datamodules.restoration import RestorationData
from tests.real_data import real_data
from visionkit.errors import DataError, UsageError
from visionkit.geometry import InputSpec

SPEC = InputSpec(size=(32, 32), resize_mode="native", divisor=1, bits=32)


def photo(height, width, seed=0, channels=3):
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 11, 3), dtype=np.uint8)).resize((width, height), 3)
    noisy = np.clip(np.asarray(coarse) + rng.normal(0, 12, (height, width, 3)), 0, 255).astype(np.uint8)
    return noisy if channels == 3 else noisy[:, :, 0]


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "clean"
    root.mkdir()
    for number in range(5):
        Image.fromarray(photo(61 + number, 70 - number, number)).save(root / f"{number}.png")
    return root


def data_of(root, **arguments):
    defaults = {"degradations": [GaussianNoise(25)], "patch_size": 16, "patches_per_image": 3, "batch_size": 4}
    return RestorationData(str(root), **{**defaults, "val_fraction": 0.4, "input": SPEC, **arguments})


def pixels(sample):
    values = sample.image.undecoded_values()
    return sample.image.read_as_is() if values is None else values


def psnr(sample):
    error = pixels(sample).astype(np.float64) - sample.target["clean"].transpose(1, 2, 0)
    return 10 * np.log10(255**2 / (error**2).mean())


def drawn(data, epoch, split="train"):
    """The images and targets of one epoch, by item."""
    loader = data.loader(split)
    loader.sampler.set_epoch(epoch)
    batches = list(loader)
    return torch.cat([batch["inputs"]["image"].float() for batch in batches]) if split == "train" else batches


def test_patches_in_training_and_whole_images_in_validation(folder):
    data = data_of(folder)
    batch = next(iter(data.loader("train")))
    assert batch["inputs"]["image"].shape == batch["target"]["clean"].shape == (4, 3, 16, 16)
    assert batch["target"]["clean"].dtype == torch.uint8 and len(data.samples("train")) == 9
    for sample in data.samples("val"):
        assert sample.image.size == sample.target["clean"].shape[1:] and min(sample.image.size) > 60
        assert sample.target["clean"].dtype == np.uint8 and not sample.target["gray"]
        assert pixels(sample).dtype == np.float32 and abs(psnr(sample) - 20.17) < 0.25


def test_noise_is_that_of_the_epoch_in_training_and_always_the_same_in_validation(folder):
    first, second = (drawn(data_of(folder), 0) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, drawn(data_of(folder), 1)) and not torch.equal(
        first, drawn(data_of(folder, seed=1), 0)
    )
    data = data_of(folder)
    for a, b in zip(drawn(data, 0, "val"), drawn(data, 1, "val"), strict=True):
        assert torch.equal(a["inputs"]["image"], b["inputs"]["image"])
    assert torch.equal(first, drawn(data_of(folder, num_workers=2), 0)), "as without workers"


def test_gray_networks_get_gray_images(folder):
    gray = InputSpec(size=(32, 32), resize_mode="native", divisor=1, channels=1, bits=32)
    data = data_of(folder, input=gray)
    assert next(iter(data.loader("train")))["target"]["clean"].shape == (4, 1, 16, 16)
    sample = data.samples("val")[0]
    wanted = np.asarray(Image.open(sample.id).convert("L"))
    assert np.array_equal(sample.target["clean"][0], wanted) and pixels(sample).shape[2] == 1


def test_noise_of_the_protocol():
    for name, known in (("set12", 20.17), ("bsd68", 20.18)):
        gray = InputSpec(size=(32, 32), resize_mode="native", divisor=1, channels=1, bits=32)
        data = data_of(real_data(f"restoration/{name}"), val_fraction=1, input=gray)
        assert np.mean([psnr(sample) for sample in data.samples("val")]) == pytest.approx(known, abs=0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"degradations": None}, "nothing degrades the train images"),
        ({"degradations": [25]}, "25 is not a degradation"),
        ({"conditions": ["masks"]}, "'masks': allowed are mask, noise_level; did you mean 'mask'"),
        ({"conditions": ["mask"]}, "takes the input mask.*add a part that makes holes"),
        ({"patch_size": 62}, "smaller than a patch of 62x62"),
        ({"augment": lambda sample, rng: sample}, "brings its own"),
        ({"pattern": "*.jpg"}, "no image of this folder matches"),
        ({"degraded": "absent"}, "no such file, folder or pattern"),
    ],
)
def test_mistakes(folder, arguments, message):
    with pytest.raises((UsageError, DataError), match=message):
        data_of(folder, **arguments).samples("train")

"""Restoration: any image in tiles, depth and transparency kept, a mask or a noise level beside the image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.degradations import JPEG, GaussianNoise
from datamodules.restoration import RestorationData
from tasks.restoration import RestorationTask
from tasks.restoration.network import RestorationNetwork
from visionkit.checkpoint import load_task
from visionkit.errors import DataError, UsageError
from visionkit.images import ImageSource
from visionkit.predictor import Predictor
from visionkit.training import fit

NAFNET = {"width": 4, "encoder": (1, 1), "middle": 1, "decoder": (1, 1)}


def shown(height: int = 60, width: int = 44, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def trained(architecture: str, channels: int = 3, **arguments: Any) -> RestorationTask:
    """A task that changes images visibly, as a trained one would."""
    torch.manual_seed(0)
    task = RestorationTask(architecture, input={"channels": channels}, **{architecture: arguments}).eval()
    for each in task.network.parameters():
        torch.nn.init.normal_(each, std=0.1)
    return task


def test_dncnn_has_the_published_number_of_parameters():
    def count(**given: Any) -> int:
        task = RestorationTask("dncnn", input={"channels": given.pop("channels", 1)}, dncnn=given)
        return sum(each.numel() for each in task.parameters())

    assert count() == 556_032 and count(depth=20) == 667_008
    assert count(depth=20, channels=3) == 667_008 + 2 * 2 * 9 * 64


@pytest.mark.parametrize(
    "architecture, arguments", [("dncnn", {"width": 4, "depth": 4}), ("nafnet", {**NAFNET, "pool": 8})]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_tiles_equal_the_whole(architecture, arguments, channels):
    predictor = Predictor(trained(architecture, channels, **arguments))
    image = shown(301, 205, channels)
    halo = predictor.task.reach.halo  # type: ignore[attr-defined]
    whole, tiled = predictor(image, tile=0), predictor(image, tile=2 * halo + 40)
    assert whole.pixels.shape == image.shape and not np.array_equal(whole.pixels, image)
    assert np.abs(whole.pixels.astype(int) - tiled.pixels).max() <= 1, "rounding alone"
    assert np.mean(whole.pixels != tiled.pixels) < 1e-3


def test_gray_deep_clear_and_float_images_stay_what_they_are():
    color = Predictor(trained("dncnn", 3, width=4, depth=3))
    for channels in (1, 2, 3, 4):
        image = shown(channels=channels)
        source = (
            ImageSource(image)
            if channels != 2
            else ImageSource(np.concatenate([image[..., :1]] * 3 + [image[..., 1:]], 2))
        )
        found = color(source)
        assert found.pixels.shape[2] == (4 if channels == 2 else channels) and found.pixels.dtype == np.uint8
        if channels in (2, 4):
            assert np.array_equal(found.pixels[..., -1], image[..., -1]), "transparency is not restored"
    deep = color(shown()[..., 0].astype(np.uint16) * 257)
    assert deep.pixels.dtype == np.uint16 and deep.pixels.shape == (60, 44, 1)
    flat = color(shown()[..., 0])
    assert np.abs(deep.pixels / 257 - flat.pixels).max() <= 0.51, "the same image, but for rounding"


def test_gray_with_transparency_is_decoded_once_and_for_all():
    """As the demo does: pixels in memory first, and the prediction on them."""
    image = Image.fromarray(np.stack([shown()[..., 0], shown(seed=1)[..., 0]], axis=2), "LA")
    predictor = Predictor(trained("dncnn", 3, width=4, depth=3))
    found = predictor(predictor.decoded(image))
    assert found == predictor(image) and found.pixels.shape == (60, 44, 2)
    assert np.array_equal(found.pixels[..., 1], np.asarray(image)[..., 1])


def test_the_white_of_twelve_bits_is_applied_once():
    task = RestorationTask("dncnn", input={"channels": 1, "white": 4095.0}, dncnn={"width": 4, "depth": 3}).eval()
    torch.nn.init.zeros_(task.network.body.layers[-1].weight)  # gives the image as it is
    twelve = np.full((20, 20), 2000, np.uint16)
    predictor = Predictor(task)
    for found in (predictor(twelve), predictor(predictor.decoded(twelve))):
        assert np.abs(found.pixels.astype(int) - round(2000 / 4095 * 65535)).max() <= 20


def test_a_gray_network_makes_images_gray():
    gray = Predictor(trained("dncnn", 1, width=4, depth=3))
    image = shown(channels=4)
    found = gray(image)
    assert found.pixels.shape == (60, 44, 2) and np.array_equal(found.pixels[..., 1], image[..., 3])
    assert np.array_equal(found.pixels[..., :1], gray(ImageSource(np.ascontiguousarray(image[..., :3])).read(1)).pixels)


def test_noise_beyond_black_and_white_reaches_the_network():
    task = trained("dncnn", 1, width=4, depth=3)
    noisy = np.linspace(-80, 330, 60 * 44, dtype=np.float32).reshape(60, 44)
    seen: list[torch.Tensor] = []
    task.network.body.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    found = Predictor(task)(ImageSource(noisy, white=255))
    assert torch.allclose(seen[0][0, 0], torch.from_numpy(noisy) / 255, atol=1e-6)
    assert found.pixels.dtype == np.uint16, "floats come back with 16 bit"


def test_a_noise_level_is_a_number_or_an_image(caplog):
    task = trained("ffdnet", 1, width=4, depth=3)
    task.noise_levels = (0.0, 50.0)
    predictor = Predictor(task)
    assert task.inputs == ("image", "noise_level") and "noise_level" in predictor.options
    image = shown(channels=1)
    number = predictor(image, noise_level=25)
    level = np.full(image.shape[:2], 25, np.uint8)
    assert number == predictor({"image": image, "noise_level": level}) != predictor(image, noise_level=26)
    assert not caplog.records
    assert predictor(image, noise_level=60) is not None and "trained on 0 to 50" in caplog.text
    for given, options, words in (
        (image, {}, "noise_level=25"),
        (image, {"noise_level": -1}, "noise_level -1: allowed are 0 to 255"),
        ({"image": image, "noise_level": level}, {"noise_level": 25}, "given as a number and as an image"),
    ):
        with pytest.raises(UsageError, match=words):
            predictor(given, **options)
    with pytest.raises(UsageError, match="finds the noise by itself"):
        Predictor(trained("dncnn", 1, width=4, depth=3))(image, noise_level=25)


def test_only_what_is_missing_is_filled_in():
    predictor = Predictor(trained("nafnet", 3, **NAFNET, condition="mask"))
    image, mask = shown(), np.zeros((60, 44), np.uint8)
    mask[20:40, 10:30] = 255
    found = predictor({"image": image, "mask": mask}).pixels
    assert np.array_equal(found[mask == 0], image[mask == 0]) and not np.array_equal(found[mask > 0], image[mask > 0])
    other = np.where(mask[..., None] > 0, 7, image).astype(np.uint8)
    assert np.array_equal(found, predictor({"image": other, "mask": mask}).pixels), "what lies in a hole is not seen"
    with pytest.raises(UsageError, match="give them by name: image, mask"):
        predictor(image)
    with pytest.raises(DataError, match="they need one size"):
        predictor({"image": image, "mask": mask[:-1]})


def test_training_compares_known_pixels_of_a_network_with_a_mask_too():
    network = trained("nafnet", 3, **NAFNET, condition="mask").network
    assert isinstance(network, RestorationNetwork)
    image, mask = torch.rand(1, 3, 16, 16), torch.zeros(1, 3, 16, 16)
    mask[..., 4:8, 4:8] = 1
    known = (mask[:, :1] == 0).expand(-1, 3, -1, -1)
    assert torch.equal(network.eval()(image, mask).restored[known], image[known])
    assert not torch.equal(network.train()(image, mask).restored[known], image[known])


def test_what_it_takes_is_checked():
    with pytest.raises(UsageError, match="resize_mode native with channels 1 or 3, not crop and 3"):
        RestorationTask(input={"resize_mode": "crop"})
    with pytest.raises(UsageError, match="channels 1 or 3, not native and 4"):
        RestorationTask(input={"channels": 4})
    assert RestorationTask(nafnet=NAFNET).input.divisor == 4 and RestorationTask("dncnn").input.divisor == 1
    with pytest.raises(
        UsageError, match=r"nafnet takes sides that are multiples of 4, not size .50, 50. and divisor 4"
    ):
        RestorationTask(nafnet=NAFNET, input={"size": (50, 50)})


def test_the_data_pads_to_the_divisor_of_the_network():
    """Model and data agree from the command line, where the data does not see the network."""
    from visionkit.linking import _input

    assert _input(None, {"nafnet": NAFNET}, RestorationTask)["divisor"] == 4
    assert _input({"size": [48, 48]}, {"architecture": "dncnn"}, RestorationTask)["divisor"] == 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize(
    "network", [("nafnet", 3, NAFNET), ("ffdnet", 3, {"width": 4, "depth": 3})], ids=["nafnet", "ffdnet"]
)
def test_transparency_of_any_size_is_kept_by_a_network_with_a_divisor(network, mode, tmp_path):
    name, channels, arguments = network
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (37, 45, 4), dtype=np.uint8), "RGBA")
    if mode == "P":
        image = image.convert("RGB").quantize(8)
        image.info["transparency"] = 0
    else:
        image = image.convert(mode)
    image.save(tmp_path / "odd.png")
    options = {"noise_level": 25} if name == "ffdnet" else {}
    pixels = Predictor(trained(name, channels, **arguments))(tmp_path / "odd.png", **options).pixels
    given = ImageSource(tmp_path / "odd.png").read_as_is()
    assert pixels.shape == given.shape and np.array_equal(pixels[..., -1], given[..., -1])


def test_a_mask_whose_white_is_1_is_refused(tmp_path):
    predictor = Predictor(trained("nafnet", 3, **NAFNET, condition="mask"))
    mask = np.zeros((60, 44), np.uint8)
    mask[20:40, 10:30] = 1
    with pytest.raises(DataError, match="the largest value of this mask is 1, and white is 255; multiply it by 255"):
        predictor({"image": shown(), "mask": mask})
    assert np.array_equal(predictor({"image": shown(), "mask": mask * 0}).pixels, shown()), "nothing is missing"


def test_the_noise_of_the_data_is_what_a_network_was_trained_on(tmp_path):
    for number in range(2):
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(
            tmp_path / f"{number}.png"
        )
    task = RestorationTask("ffdnet", ffdnet={"width": 4, "depth": 3})
    parts = [GaussianNoise((5, 30)), JPEG()]
    data = RestorationData(
        str(tmp_path), val_root=str(tmp_path), degradations=parts, patch_size=16, batch_size=2, patches_per_image=1
    )
    fit(task, data, run=tmp_path / "run", max_epochs=1, report=False)
    stored = load_task(tmp_path / "run")
    assert tuple(stored.noise_levels) == (5, 30)
    assert "trained on 5 to 30" in stored.cautions(noise_level=90)[0] and not stored.cautions(noise_level=20)

"""Metrics of restoration: values worked out by hand, published numbers of noise, holes, and LPIPS without weights."""

import logging

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio_with_blocked_effect

from tasks.restoration import metrics
from tasks.restoration.lpips import Lpips
from tasks.restoration.metrics import RestorationQuality, psnr_b
from tests.real_data import real_data
from visionkit.errors import DataError, EnvironmentFault, UsageError
from visionkit.families.restoration.quality import psnr, ssim, to_levels
from visionkit.images import ImageSource


def decibels(error):
    return 10 * np.log10(255**2 / error)


def measured(metric, *images, **options):
    metric.update(*([each] for each in images), **options)
    return {name: float(value) for name, value in metric.compute().items()}


def image(channels=1, height=24, width=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (channels, height, width), generator=generator, dtype=torch.uint8)


# ---------------------------------------------------------------------- known numbers


def noisy(folder):
    """Clean gray images, and the same with noise of 25 gray levels from one stream."""
    generator = np.random.default_rng(0)
    for path in sorted(real_data(f"restoration/{folder}").glob("*.png")):
        clean = torch.from_numpy(ImageSource(path).read(1).copy()).permute(2, 0, 1)
        yield clean, clean + torch.from_numpy(generator.normal(0, 25, clean.shape[1:]))


def test_noise_on_set12_has_the_known_decibels():
    metric = RestorationQuality()
    for clean, given in noisy("set12"):
        metric.update([given], [clean], [given])
    values = metric.compute()
    assert float(values["psnr_input"]) == pytest.approx(20.17, abs=0.005)
    assert float(values["psnr"]) == pytest.approx(20.33, abs=0.005), "clipped and rounded"


def test_noise_on_bsd68_has_the_known_decibels():
    found = [(psnr(given, clean), psnr(to_levels(given), clean)) for clean, given in noisy("bsd68")]
    assert len(found) == 68 and np.mean(found, axis=0) == pytest.approx((20.18, 20.48), abs=0.005)


# ---------------------------------------------------------------------- values


@pytest.mark.parametrize("channels", [1, 3])
def test_the_served_image_is_compared_and_the_input_as_it_is(channels):
    clean = torch.full((channels, 16, 16), 250, dtype=torch.uint8)
    found = measured(RestorationQuality(), clean + 3.4, clean, clean.float() + 10)
    assert found["psnr"] == pytest.approx(decibels(9), abs=1e-4), "rounded"
    assert found["psnr_input"] == pytest.approx(decibels(100), abs=1e-4), "neither rounded nor clipped"
    clipped = measured(RestorationQuality(), clean.float() + 10, clean, clean)
    assert clipped["psnr"] == pytest.approx(decibels(25), abs=1e-4) and clipped["psnr_input"] == 100


def test_rgb_is_one_error_over_three_channels_and_ssim_their_mean():
    clean, ours = image(3), image(3, seed=1)
    found = measured(RestorationQuality(), ours.float(), clean, clean)
    assert found["psnr"] == pytest.approx(decibels((ours.double() - clean.double()).square().mean().item()), abs=1e-4)
    assert found["ssim"] == pytest.approx(np.mean([float(ssim(ours[c : c + 1], clean[c : c + 1])) for c in range(3)]))


def test_values_are_means_over_images_of_any_size():
    metric = RestorationQuality()
    small, large = image(height=16, width=16), image(height=40, width=48, seed=2)
    measured(metric, small + 1.0, small, small)
    found = measured(metric, large.float(), large, large)
    (expected,) = RestorationQuality().values[:1]
    first = measured(RestorationQuality(), small + 1.0, small, small)
    assert found[expected] == pytest.approx((first["psnr"] + 100) / 2, abs=1e-4), "decibels are averaged, not errors"


def test_the_border_is_left_out_of_everything():
    clean = image(3)
    ours, mask = clean.float(), torch.zeros(1, 24, 32)
    ours[:, :4], mask[:, :4] = 0, 1
    mask[:, 10, 10] = 1
    found = measured(RestorationQuality(4, luma=True, holes=True), ours, clean, ours, mask=[mask])
    names = ("psnr", "psnr_input", "psnr_y", "psnr_y_input", "psnr_hole", "psnr_valid")
    assert [found[name] for name in names] == [100.0] * 6
    assert measured(RestorationQuality(), ours, clean, ours)["psnr"] < 30
    with pytest.raises(DataError, match="at least 19"):
        RestorationQuality(4).update([ours[:, :18]], [clean[:, :18]], [ours[:, :18]])


@pytest.mark.parametrize("channels", [1, 3])
def test_holes_are_measured_by_themselves(channels):
    clean, mask = torch.full((channels, 16, 16), 100, dtype=torch.uint8), torch.zeros(1, 16, 16)
    mask[:, 2:4, 3:8] = 1
    ours = torch.where(mask == 1, 130.0, 102.0).expand(channels, -1, -1)
    metric = RestorationQuality(holes=True)
    found = measured(metric, ours, clean, ours, mask=[mask])
    assert found["psnr_hole"] == pytest.approx(decibels(900), abs=1e-4)
    assert found["psnr_valid"] == pytest.approx(decibels(4), abs=1e-4)
    assert found["psnr"] == pytest.approx(decibels((10 * 900 + 246 * 4) / 256), abs=1e-4)
    again = measured(metric, clean, clean, clean, mask=[torch.zeros(1, 16, 16)])
    assert again["psnr_hole"] == pytest.approx(found["psnr_hole"]), "an image without holes has no share in it"
    assert again["psnr_valid"] == pytest.approx((found["psnr_valid"] + 100) / 2, abs=1e-4)
    broken = measured(RestorationQuality(holes=True), ours * float("nan"), clean, ours, mask=[mask])
    assert np.isnan(broken["psnr"]) and np.isnan(broken["psnr_hole"]), "what is not finite is not left out"


def test_luma_of_gray_is_gray_and_that_of_color_the_studio_range():
    clean = image(1)
    ours = clean.float() + 6
    found = measured(RestorationQuality(luma=True), ours, clean, ours)
    assert found["psnr_y"] == pytest.approx(found["psnr"], abs=1e-6) and found["psnr_y_input"] == found["psnr_y"]
    color = clean.expand(3, -1, -1) // 2 + 60
    moved = color.float() + 60
    found = measured(RestorationQuality(luma=True), moved, color, moved)
    assert found["psnr_y"] == pytest.approx(found["psnr"] + 20 * np.log10(255 / 219), abs=0.1)
    of_gray = measured(RestorationQuality(luma=True), moved, color, moved, gray=[True])
    assert of_gray["psnr_y"] == pytest.approx(found["psnr"], abs=1e-4)


def test_gray_files_are_measured_as_the_one_channel_that_is_served():
    """Errors of (10, 0, -5) in red, green and blue are 2.99 - .57 = 2.42 in gray, which is served as 2."""
    clean = image(1) // 2 + 60
    ours = clean + torch.tensor([10.0, 0.0, -5.0]).view(3, 1, 1)
    arguments = (ours, clean.expand(3, -1, -1), clean.expand(3, -1, -1) + 4.0)
    found = measured(RestorationQuality(holes=True), *arguments, mask=[torch.ones(1, 24, 32)], gray=[True])
    assert found["psnr"] == pytest.approx(decibels(4), abs=1e-4) == found["psnr_hole"]
    assert found["psnr_input"] == pytest.approx(decibels(16), abs=1e-4)
    alone = measured(RestorationQuality(), clean + 2.42, clean, clean + 4.0)
    assert found["ssim"] == pytest.approx(alone["ssim"], abs=1e-6)
    assert measured(RestorationQuality(), *arguments)["psnr"] == pytest.approx(decibels(125 / 3), abs=1e-4)
    assert "one channel for gray networks and files" in RestorationQuality().protocol


def test_psnr_b_is_that_of_torchmetrics_and_counts_blocks():
    clean = image(1, 32, 40)
    blocky = clean.float() * 0.2 + 100
    blocky[..., 8:16] += 40
    options = {"data_range": 255.0, "block_size": 8}
    for ours in (blocky, clean * 0.9):
        wanted = peak_signal_noise_ratio_with_blocked_effect(ours[None], clean[None].float(), **options)
        assert float(psnr_b(ours, clean)) == pytest.approx(float(wanted), abs=1e-4)
    assert float(psnr_b(blocky, clean)) < float(psnr(blocky, clean)) - 0.01
    cut = psnr_b(blocky[..., 3:, 3:], blocky[..., 3:, 3:] + 5, border=3)
    uncut = psnr_b(blocky[..., 3:, 3:], blocky[..., 3:, 3:] + 5)
    assert float(cut) < float(uncut), "blocks begin where the file does"


def test_images_of_other_shapes_are_not_compared():
    clean = image(1)
    with pytest.raises(UsageError, match="one shape"):
        RestorationQuality().update([clean.expand(3, -1, -1).float()], [clean], [clean])
    with pytest.raises(UsageError, match="0 or more"):
        RestorationQuality(-1)


def test_the_protocol_states_what_is_measured():
    assert "no border is left out" in RestorationQuality().protocol and "Y is" not in RestorationQuality().protocol
    said = RestorationQuality(8, luma=True, holes=True).protocol
    assert "border of 8 pixels" in said and "BT.601" in said and "psnr_hole is of missing pixels" in said


# ---------------------------------------------------------------------- LPIPS


def test_lpips_without_weights_is_left_out_in_one_line(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with caplog.at_level(logging.WARNING):
        metric = RestorationQuality(lpips="alex")
        assert not caplog.messages, "a model that is served needs no LPIPS"
        found = measured(metric, image().float(), image(), image())
    assert "lpips" not in found and found["psnr"] == 100 and "LPIPS" not in metric.protocol
    (line,) = caplog.messages
    assert "alexnet-owt-7be5be79.pth" in line and line.endswith("LPIPS is left out") and "\n" not in line
    with pytest.raises(UsageError, match="did you mean 'alex'"):
        RestorationQuality(lpips="alx")
    with pytest.raises(EnvironmentFault, match="put the file of https"):
        Lpips("vgg")


def test_lpips_is_measured_where_its_weights_are_at_hand(tmp_path, monkeypatch):
    from torchvision.models import SqueezeNet1_1_Weights, squeezenet1_1

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    torch.manual_seed(0)
    name = SqueezeNet1_1_Weights.DEFAULT.url.rpartition("/")[2]
    torch.save(squeezenet1_1(weights=None).state_dict(), tmp_path / "checkpoints" / name)
    built = []
    monkeypatch.setattr(metrics, "Lpips", lambda network: built.append(network) or Lpips(network))
    metric = RestorationQuality(lpips="squeeze")
    assert not built
    assert metric.values[-1] == "lpips" and "LPIPS by squeeze" in metric.protocol
    assert not list(metric.parameters()), "its weights are no part of a checkpoint"
    for channels in (1, 3):
        clean = image(channels, 64, 64)
        assert float(Lpips("squeeze")(clean.float(), clean)) == pytest.approx(0, abs=1e-6)
        found = measured(RestorationQuality(lpips="squeeze"), image(channels, 64, 64, seed=1).float(), clean, clean)
        assert found["lpips"] > 1e-4

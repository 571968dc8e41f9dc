"""Super-resolution: the papers' numbers, networks of the published sizes, what is trained and measured."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.nn.functional import interpolate

from datamodules.degradation import modulo_crop
from tasks.super_resolution import SuperResolutionTask
from tasks.super_resolution.loss import SuperResolutionLoss
from tasks.super_resolution.metrics import ImageQuality
from tests.real_data import real_data
from visionkit.checkpoint import save_bundle
from visionkit.errors import DataError, UsageError
from visionkit.families.restoration.bicubic import Bicubic
from visionkit.families.restoration.color import luma
from visionkit.families.restoration.perceptual import PerceptualLoss
from visionkit.families.restoration.quality import psnr, ssim
from visionkit.geometry import InputSpec
from visionkit.images import read_image
from visionkit.warm_start import take_weights

SMALL = {
    "compact": {"width": 8, "blocks": 1},
    "edsr_baseline": {"width": 8, "blocks": 1},
    "edsr": {"width": 8, "blocks": 1},
    "rcan": {"width": 8, "groups": 1, "blocks": 1, "reduction": 2},
    "swinir_light": {"width": 12, "depths": [2], "heads": 2, "window": 4},
    "vdsr": {"width": 8, "depth": 3},
}


def tiny(network="compact", scale=2, **arguments):
    return SuperResolutionTask(network, scale=scale, **{network: SMALL.get(network), **arguments})


# ---------------------------------------------------------------------- known numbers


@pytest.mark.parametrize(
    ("rgb", "y"), [((1, 1, 1), 235), ((0, 0, 0), 16), ((1, 0, 0), 81.481), ((0, 1, 0), 144.553), ((0, 0, 1), 40.966)]
)
def test_luma_has_the_known_values(rgb, y):
    color = torch.tensor(rgb, dtype=torch.float64).view(3, 1, 1)
    assert float(luma(color) * 255) == pytest.approx(y, abs=1e-9)
    assert float(luma(color * 255, 255)) == pytest.approx(y, abs=1e-9)


@pytest.mark.parametrize(
    ("scale", "decibels", "similarity"), [(2, 33.66, 0.9299), (3, 30.39, 0.8682), (4, 28.42, 0.8104)]
)
def test_bicubic_reaches_the_papers_numbers_on_set5(scale, decibels, similarity):
    """From the high resolution alone: Y rounded, low resolution kept in float, result rounded."""
    enlarge, found = Bicubic(scale).double(), []
    for number in range(1, 6):
        path = real_data(f"super_resolution/set5/image_SRF_{scale}/img_00{number}_SRF_{scale}_HR.png")
        high = torch.from_numpy(modulo_crop(read_image(path), scale).copy()).permute(2, 0, 1).double()
        y = luma(high, 255).round()
        low = interpolate(y[None], scale_factor=1 / scale, mode="bicubic", antialias=True)
        result = enlarge(low)[0].round().clamp(0, 255)
        inner = [each[..., scale:-scale, scale:-scale] for each in (result, y)]
        found.append((float(psnr(*inner)), float(ssim(*inner))))
    mean = np.mean(found, axis=0)
    assert mean[0] == pytest.approx(decibels, abs=0.01)
    assert mean[1] == pytest.approx(similarity, abs=0.0003)


@pytest.mark.parametrize(
    ("network", "scale", "parameters"),
    [
        ("srcnn", 3, 8_032 + 97),
        ("srcnn_955", 3, 57_184 + 97),
        ("vdsr", 2, 664_704 + 19 * 64 + 1),
        ("edsr_baseline", 2, 1_369_859),
        ("edsr_baseline", 3, 1_554_499),
        ("edsr_baseline", 4, 1_517_571),
        ("edsr", 2, 40_729_603),
        ("rcan", 2, 15_444_643),
        ("swinir_light", 2, 877_692 + 32_460),  # the paper's 878 K leave out the convolution after the groups
        ("swinir_light", 4, 897_168 + 32_460),
    ],
)
def test_parameter_counts_are_the_published_ones(network, scale, parameters):
    with torch.device("meta"):
        task = SuperResolutionTask(network, scale=scale)
    assert sum(p.numel() for p in task.parameters()) == parameters


def test_fsrcnn_has_the_published_weights():
    network = SuperResolutionTask("fsrcnn", scale=3).network
    convolutions = (torch.nn.Conv2d, torch.nn.ConvTranspose2d)
    assert sum(m.weight.numel() for m in network.modules() if isinstance(m, convolutions)) == 12_464


# ---------------------------------------------------------------------- parts


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (17, 23)])
def test_bicubic_is_the_antialiased_one(scale, size):
    image = torch.rand(2, 3, *size)
    wanted = interpolate(image, scale_factor=scale, mode="bicubic", antialias=True)
    assert torch.allclose(Bicubic(scale)(image), wanted, atol=5e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.allclose(Bicubic(scale)(image), wanted, atol=5e-6), "eight bits of mantissa would show"


def test_ssim_equals_torchmetrics():
    from torchmetrics.functional.image import structural_similarity_index_measure

    a = torch.randint(0, 256, (1, 1, 40, 50)).double()
    b = (a + 20 * torch.randn(a.shape)).clamp(0, 255).round()
    # Theirs flips the border; what of it reaches the middle is cut off.
    _, whole = structural_similarity_index_measure(
        a, b, data_range=255.0, gaussian_kernel=True, sigma=1.5, kernel_size=11, return_full_image=True
    )
    assert float(ssim(a[0], b[0])) == pytest.approx(float(whole[..., 5:-5, 5:-5].mean()), abs=1e-6)


@pytest.mark.parametrize("brightest", [3, 20])
def test_ssim_of_dark_images_is_that_of_its_paper(brightest):
    """There the two constants decide; in the middle of flat images both sums of squares are known."""
    a, b = torch.full((1, 11, 11), float(brightest)), torch.full((1, 11, 11), 1.0)
    wanted = (2 * brightest + (0.01 * 255) ** 2) / (brightest**2 + 1 + (0.01 * 255) ** 2)
    assert float(ssim(a, b)) == pytest.approx(wanted, abs=1e-9)


def test_equal_images_are_a_hundred_decibels():
    image = torch.randint(0, 256, (3, 20, 20), dtype=torch.uint8)
    assert float(psnr(image, image)) == 100.0
    assert float(ssim(image, image)) == pytest.approx(1.0)


def test_metric_is_a_mean_over_images_and_leaves_the_border_out():
    metric, generator = ImageQuality(2), torch.Generator().manual_seed(0)
    truth = torch.randint(0, 256, (3, 32, 40), generator=generator, dtype=torch.uint8)
    wrong_at_the_border = truth.float()
    wrong_at_the_border[:, :2] = 0
    low = F.avg_pool2d(truth[None].float(), 2)[0]
    metric.update([wrong_at_the_border], [truth], [low])
    assert float(metric.compute()["psnr_y"]) == 100.0
    metric.update([truth.float() + 10], [truth], [low])
    both = metric.compute()
    assert 50 < float(both["psnr_y"]) < 80, "decibels are averaged, not errors"
    with pytest.raises(DataError, match="at least 15"):
        metric.update([truth.float()[:, :14]], [truth[:, :14]], [low[:, :7]])


def test_a_file_of_one_channel_is_y_as_it_is():
    """Set14's one gray image is measured so in the published tables; mapped to studio range it reads 1.3 dB higher."""
    generator = torch.Generator().manual_seed(1)
    truth = torch.randint(20, 230, (1, 40, 40), generator=generator).expand(3, -1, -1).byte()
    ours = truth.float() + torch.randint(-9, 10, (1, 40, 40), generator=generator)
    low = F.avg_pool2d(truth[None].float(), 2)[0]
    values = []
    for gray in ((True,), ()):
        metric = ImageQuality(2)
        metric.update([ours], [truth], [low], gray)
        values.append(metric.compute())
    inner = slice(2, -2)
    wanted = float(psnr(ours[:1, inner, inner], truth[:1, inner, inner]))
    assert float(values[0]["psnr_y"]) == pytest.approx(wanted, abs=1e-4)
    assert float(values[1]["psnr_y"]) == pytest.approx(wanted + 20 * np.log10(255 / 219), abs=0.1)
    assert float(values[1]["psnr_y_bicubic"]) > float(values[0]["psnr_y_bicubic"]) + 1
    assert "one channel is Y as it is" in tiny().protocol


def test_luma_networks_leave_colors_as_bicubic_has_them():
    task = tiny("espcn").eval()
    image = torch.randint(60, 200, (1, 3, 12, 12), dtype=torch.uint8)
    with torch.no_grad():
        out, plain = task(image).high_res, Bicubic(2)(image / 255)
    change = out - plain
    assert change.abs().max() > 0.05
    assert torch.allclose(change[:, :1], change[:, 1:2], atol=1e-6) and torch.allclose(
        change[:, :1], change[:, 2:], atol=1e-6
    )
    with torch.no_grad():
        trained = task.network.body(luma(image / 255))
    assert torch.allclose(luma(out), trained, atol=1e-6)


@pytest.mark.parametrize("network", sorted(set(SuperResolutionTask.architectures) - {"spandrel"}))
@pytest.mark.parametrize("scale", [2, 3])
def test_every_network_enlarges_and_trains(network, scale):
    task = tiny(network, scale).train()
    image = torch.randint(0, 256, (2, 3, 11, 14), dtype=torch.uint8)
    outputs = task(image)
    assert outputs.high_res.shape == (2, 3, 11 * scale, 14 * scale)
    target = {"high_res": torch.randint(0, 256, outputs.high_res.shape, dtype=torch.uint8)}
    sum(task.losses(outputs, target).values()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in task.parameters())


@pytest.mark.parametrize("network", ["srcnn", "vdsr", "compact"])
def test_networks_begin_near_bicubic(network):
    torch.manual_seed(0)
    image = F.interpolate(torch.rand(1, 3, 6, 6), size=(24, 24), mode="bicubic").clamp(0, 1) * 255
    with torch.no_grad():
        out = SuperResolutionTask(network, scale=2)(image.byte()).high_res
    difference = (out - Bicubic(2)(image.byte() / 255)).abs()
    assert difference.mean() < (0.2 if network == "srcnn" else 0.02)


def test_losses_are_what_they_are_called():
    ours, target = torch.full((1, 3, 8, 8), 0.5), torch.full((1, 3, 8, 8), 51, dtype=torch.uint8)
    assert float(SuperResolutionLoss("l1")(ours, target)["l1"]) == pytest.approx(0.3)
    assert float(SuperResolutionLoss("l2")(ours, target)["l2"]) == pytest.approx(0.09)
    assert float(SuperResolutionLoss("charbonnier")(ours, target)["charbonnier"]) == pytest.approx(0.3, abs=1e-5)
    assert float(SuperResolutionLoss("l1", "y")(ours, target)["l1"]) == pytest.approx(0.3 * 219 / 255, abs=1e-6)
    edge = ours.clone()
    edge[..., 2:-2, 2:-2] = 0.2
    assert float(SuperResolutionLoss("l1", border=2)(edge, target)["l1"]) == pytest.approx(0, abs=1e-6)
    assert float(SuperResolutionLoss("l1", border=1)(edge, target)["l1"]) == pytest.approx(0.3 * 20 / 36, abs=1e-6)
    assert float(SuperResolutionLoss("l1")(edge, target)["l1"]) == pytest.approx(0.3 * 48 / 64, abs=1e-6)


def test_perceptual_loss_compares_features_and_is_no_part_of_the_task():
    task = tiny(perceptual=0.1)
    assert isinstance(task.loss.perceptual, PerceptualLoss) and not list(task.loss.parameters())
    term = PerceptualLoss("vgg11.tv_in1k", 4, weight=2.0, pretrained=False)
    a = torch.rand(1, 3, 32, 32, requires_grad=True)
    assert float(term(a, a.detach()).detach()) == pytest.approx(0, abs=1e-9)
    value = term(a, torch.rand(1, 3, 32, 32))
    value.backward()
    assert value.item() > 0 and a.grad is not None and a.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in term.features._backbone.parameters())
    assert PerceptualLoss("vgg11.tv_in1k", 4, weight=2.0).features.pretrained, "random features compare nothing"
    bright = 1 + torch.rand(1, 3, 32, 32)
    assert float(term(bright, torch.ones_like(bright))) == 0, "it compares what is served, which is at most white"


# ---------------------------------------------------------------------- the task


def test_weights_of_another_scale_can_be_the_beginning(tmp_path):
    double = tiny(scale=2)
    save_bundle(double, tmp_path / "x2", card={})
    triple = tiny(scale=3)
    take_weights(triple, str(tmp_path / "x2"))
    assert torch.equal(triple.network.body.head.weight, double.network.body.head.weight)
    with pytest.raises(UsageError, match="weights fit"):
        take_weights(tiny("espcn", scale=3), str(tmp_path / "x2"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"architecture": "edsr_basline"}, "did you mean 'edsr_baseline'"),
        ({"compact": {"widht": 3}}, "did you mean 'width'"),
        ({"compact": {"blocks": "many"}}, "compact.blocks: 'many' is not a whole number"),
        ({"scale": 1}, "allowed are 2 to 8"),
        ({"loss": "l3"}, "allowed are l1, l2, charbonnier"),
        ({"input": InputSpec(size=(48, 48))}, "resize_mode native"),
        ({"perceptual": -1.0}, "a weight above it"),
    ],
)
def test_mistakes_are_reported(arguments, said):
    with pytest.raises(UsageError, match=said):
        SuperResolutionTask(**arguments)


def test_data_of_another_scale_is_reported():
    task = tiny(scale=3)
    outputs = task(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(UsageError, match="x3; set"):
        task.losses(outputs, {"high_res": torch.zeros(1, 3, 16, 16, dtype=torch.uint8)})

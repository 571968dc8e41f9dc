"""Losses of restoration: values worked out by hand, what a mask changes, and precision."""

import math

import pytest
import torch
import torch.nn.functional as F
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure, total_variation

from tasks.restoration.loss import RestorationLoss, gram
from tasks.restoration.loss import total_variation as variation
from visionkit.errors import UsageError
from visionkit.families.restoration.quality import ms_ssim, similarity

TINY = "resnet18"


def value(name, restored, target, weight=1.0, **options):
    loss = RestorationLoss({name: weight}, has_mask="mask" in options)
    return float(loss(restored, target, **options)[name])


def test_pixel_terms_have_the_values_worked_out_by_hand():
    ours, target = torch.full((2, 1, 4, 4), 0.5), torch.full((2, 1, 4, 4), 51, dtype=torch.uint8)
    target[1] = 102  # errors of 0.3 and 0.1
    assert value("l1", ours, target, 2.0) == pytest.approx(2 * 0.2, abs=1e-6)
    assert value("l2", ours, target) == pytest.approx((0.09 + 0.01) / 2, abs=1e-6)
    wanted = (10 * math.log10(0.09 + 1e-8) + 10 * math.log10(0.01 + 1e-8)) / 2
    assert value("psnr", ours, target) == pytest.approx(wanted, abs=1e-4), "decibels are averaged, not errors"
    assert value("psnr", ours, torch.full((2, 1, 4, 4), 127.5)) == pytest.approx(-80.0, abs=1e-3)


def test_coarser_outputs_are_compared_with_means_of_the_target():
    target = torch.zeros(1, 1, 4, 4)
    target[..., ::2] = 255.0  # half of it, at every place of the coarser image
    coarse, ours = torch.full((1, 1, 2, 2), 0.4), target / 255
    assert value("l1", ours, target, coarser=(coarse,)) == pytest.approx(0.1 / 2, abs=1e-6)
    assert value("ssim", torch.rand(1, 1, 12, 12), torch.zeros(1, 1, 12, 12), coarser=()) > 0.5


def test_coarser_outputs_of_a_padded_image_are_compared_where_the_image_is():
    """Six of eight pixels are the image's: at half the size three, at a quarter one and a half."""
    target = 255 * torch.arange(6.0).expand(1, 1, 6, 6) / 10
    padded = F.pad(target / 255, (0, 2, 0, 2), value=9.0)
    coarser = tuple(F.avg_pool2d(padded, factor) for factor in (2, 4))
    assert value("l1", padded, target, coarser=coarser) == pytest.approx(0, abs=1e-6)
    wrong = (coarser[0] + 0.3, coarser[1] + 0.6)
    assert value("l1", padded, target, coarser=wrong) == pytest.approx(0.9 / 3, abs=1e-6)
    assert value("l1", padded[..., :4, :4], target[..., :3, :3], coarser=(wrong[1][..., :1, :1],)) == 0
    mask = torch.ones(1, 1, 8, 8)
    assert value("hole", padded + 0.5, target, mask=mask) == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_similarities_are_those_of_other_libraries(channels):
    generator = torch.Generator().manual_seed(0)
    target = F.interpolate(torch.rand(2, channels, 30, 30, generator=generator), size=(190, 200), mode="bicubic")
    ours = (target + 0.3 * torch.randn(target.shape, generator=generator)).clamp(0, 1).double()
    target = target.clamp(0, 1).double()
    # Theirs flips the border where ours takes the valid region alone.
    wanted = float(multiscale_structural_similarity_index_measure(ours, target, data_range=1.0))
    assert wanted < 0.9 and float(ms_ssim(ours, target, 1.0).mean()) == pytest.approx(wanted, abs=1e-3)
    assert value("ms_ssim", ours, target * 255) == pytest.approx(1 - float(ms_ssim(ours, target, 1.0).mean()), abs=1e-5)
    for one, goal, whole in zip(ours, target, similarity(ours, target, 1.0)[0], strict=True):
        options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
        wanted = structural_similarity(one.numpy(), goal.numpy(), channel_axis=0, **options)
        assert float(whole) == pytest.approx(wanted, abs=1e-9)
    whole = similarity(ours, target, 1.0)[0].mean()
    assert value("ssim", ours, target * 255) == pytest.approx(1 - float(whole), abs=1e-5)


def test_opposite_images_have_gradients_without_nan():
    ours = torch.rand(1, 1, 176, 176, requires_grad=True)
    loss = RestorationLoss({"ms_ssim": 1.0, "ssim": 1.0, "charbonnier": 1.0, "psnr": 1.0})
    terms = loss(ours, 255 * (1 - ours.detach()))
    assert float(terms["ms_ssim"].detach()) == 1.0 and float(terms["ssim"].detach()) > 1
    sum(terms.values()).backward()
    assert torch.isfinite(ours.grad).all() and ours.grad.abs().sum() > 0


def test_small_images_are_reported():
    image = torch.rand(1, 1, 175, 200)
    with pytest.raises(UsageError, match="175x200 are too small, it needs 176"):
        value("ms_ssim", image, image)
    with pytest.raises(UsageError, match="it needs 11 pixels"):
        value("ssim", image[..., :10, :10], image[..., :10, :10])
    with pytest.raises(UsageError, match="as many channels"):
        value("l1", image, image.expand(-1, 3, -1, -1))


def test_total_variation_is_that_of_torchmetrics_and_of_holes_around_them_alone():
    image = torch.rand(2, 3, 7, 9)
    wanted = total_variation(image, reduction="sum") / image.numel()
    assert float(variation(image)) == pytest.approx(float(wanted), abs=1e-6)
    assert float(variation(image, torch.ones(2, 1, 7, 9))) == pytest.approx(float(wanted), abs=1e-6)
    hole = torch.zeros(1, 1, 7, 9)
    hole[..., 3, 4] = 1  # the 3x3 around it has 6 pairs across and 6 down
    ramp = torch.arange(9.0).expand(1, 1, 7, 9) + 10 * torch.arange(7.0)[:, None]
    assert float(variation(ramp, hole)) == pytest.approx((6 * 1 + 6 * 10) / 63, abs=1e-5)


def test_holes_and_known_pixels_have_their_own_terms():
    target, mask = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    mask[..., :1, :] = 1  # 4 of 16
    ours = torch.where(mask == 1, 0.8, 0.2)
    assert value("hole", ours, target, 6.0, mask=mask) == pytest.approx(6 * 0.8 * 4 / 16, abs=1e-6)
    assert value("valid", ours, target, mask=mask) == pytest.approx(0.2 * 12 / 16, abs=1e-6)


def test_inpainting_smooths_the_composed_image():
    """Known pixels of what the network made are replaced by those of the image, or of the target where it has none."""
    mask = torch.zeros(1, 1, 5, 5)
    mask[..., 2, 2] = 1
    target, ours = torch.full((1, 1, 5, 5), 102.0), torch.rand(1, 1, 5, 5)
    ours[..., 2, 2] = 1.0
    assert value("tv", ours, target, mask=mask) == pytest.approx(4 * 0.6 / 25, abs=1e-6)
    given = torch.full((1, 1, 5, 5), 0.7)
    assert value("tv", ours, target, mask=mask, image=given) == pytest.approx(4 * 0.3 / 25, abs=1e-6)


def test_gram_matrices_have_the_values_worked_out_by_hand():
    features = torch.tensor([[1.0, 2.0], [0.0, 4.0]]).view(1, 2, 1, 2)
    assert torch.allclose(gram(features), torch.tensor([[[5.0, 8.0], [8.0, 16.0]]]) / 4)


@pytest.mark.parametrize("channels", [1, 3])
def test_features_are_compared_of_the_restored_and_of_the_composed_image(channels):
    target, mask = torch.rand(2, channels, 32, 32) * 255, torch.zeros(2, 1, 32, 32)
    mask[..., 8:16, 8:20] = 1
    terms = {"perceptual": 1.0, "style": 2.0}
    loss = RestorationLoss(terms, TINY, (2, 4), has_mask=True, pretrained=False)
    ours = (1 - target / 255).requires_grad_()
    plain, holed = loss(ours, target), loss(ours, target, mask=mask)
    composed = torch.where(mask == 1, ours, target / 255)
    alone = loss(composed, target)
    for name in terms:
        assert float(plain[name]) > 0
        assert float(holed[name]) == pytest.approx(float(plain[name] + alone[name]), rel=1e-4)
    sum(holed.values()).backward()
    assert torch.isfinite(ours.grad).all() and ours.grad.abs().sum() > 0
    assert all(float(v) == pytest.approx(0, abs=1e-6) for v in loss(target / 255, target).values())
    with torch.no_grad():
        found, goal = loss.features(ours), loss.features(target / 255)
    wanted = sum(float((a - b).abs().mean()) for a, b in zip(found, goal, strict=True))
    assert float(plain["perceptual"]) == pytest.approx(wanted, rel=1e-4)
    assert not list(loss.parameters()), "the backbone is no part of what is trained or stored"


def test_half_precision_loses_nothing():
    ours, target = torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16) * 255
    terms = {"psnr": 1.0, "ssim": 1.0, "perceptual": 1.0, "style": 1.0}
    loss = RestorationLoss(terms, TINY, (4,), pretrained=False)
    wanted = loss(ours, target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(ours, target)
    assert all(found[name].dtype == torch.float32 and torch.equal(found[name], wanted[name]) for name in terms)


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ({"charbonier": 1.0}, "did you mean 'charbonnier'"),
        ({"hole": 6.0, "valid": 1.0}, "'hole': needs a network with a mask"),
        ({"l1": 0.0}, "a weight is above 0"),
        ({"l1": float("nan")}, "a weight is above 0"),
        ({}, "at least one of l1"),
    ],
)
def test_mistakes_are_reported(terms, said):
    with pytest.raises(UsageError, match=said):
        RestorationLoss(terms)
    assert "hole" in RestorationLoss({"hole": 6.0}, has_mask=True).terms

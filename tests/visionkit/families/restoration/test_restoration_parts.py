"""Parts that image-to-image tasks share: the ensemble of flipped forms, and images of gray and RGB networks."""

from collections import namedtuple

import pytest
import torch

from visionkit.families.restoration.images import to_images
from visionkit.families.restoration.pixel_losses import pixel_loss
from visionkit.families.restoration.tiles import ensembled, find_reach
from visionkit.geometry import Geometry

Outputs = namedtuple("Outputs", ["restored", "coarser"])


def test_a_mask_turns_with_its_image():
    image = torch.rand(1, 3, 6, 9)
    mask = (torch.rand(1, 1, 6, 9) > 0.5).float()
    seen = []

    def run(image, mask):
        seen.append(tuple(image.shape[2:]))
        return Outputs(image * 0.5 + mask * 0.25, None)

    found = ensembled(run, "restored")(image, mask).restored
    assert torch.allclose(found, image * 0.5 + mask * 0.25, atol=1e-6)
    assert seen == [(6, 9)] * 2 + [(9, 6)] * 2 + [(6, 9)] * 2 + [(9, 6)] * 2


def test_the_ensemble_is_a_mean_over_eight_forms_and_clips_each():
    image = torch.zeros(1, 1, 4, 4)

    def run(image):  # bright in the first row as the network sees it
        restored = torch.zeros_like(image)
        restored[:, :, 0] = 8.0
        return Outputs(restored, None)

    found = ensembled(run, "restored")(image).restored[0, 0]
    assert float(found[0, 0]) == pytest.approx(4 / 8)  # a corner lies in the first row of four of the forms
    assert float(found[0, 1]) == pytest.approx(2 / 8) and float(found[1, 1]) == 0


@pytest.mark.parametrize("channels", [1, 3])
def test_networks_of_one_channel_give_gray_images(channels):
    values = torch.full((2, channels, 6, 8), 99.6)
    values[1] = 300
    geometry = [Geometry(size, (0, 0, size[1], size[0]), size, (0, 0), (6, 8)) for size in ((5, 7), (6, 8))]
    first, second = to_images(values, geometry)
    assert first.pixels.shape == (5, 7, channels) and second.size == (6, 8) and first.scale == 1
    assert (first.pixels == 100).all() and (second.pixels == 255).all()


def test_the_reach_of_a_gray_network_is_found():
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3, padding=1), torch.nn.Conv2d(2, 1, 5, padding=2))
    assert find_reach(network, channels=1).halo == 4


def test_pixel_losses_are_of_their_names():
    ours, wanted = torch.tensor([0.0, 0.4]), torch.tensor([0.0, 0.0])
    assert float(pixel_loss("l1", ours, wanted)) == pytest.approx(0.2)
    assert float(pixel_loss("l2", ours, wanted)) == pytest.approx(0.08)
    assert float(pixel_loss("charbonnier", ours, wanted)) == pytest.approx((1e-3 + (0.16 + 1e-6) ** 0.5) / 2, abs=1e-7)

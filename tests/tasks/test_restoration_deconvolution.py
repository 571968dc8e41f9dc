"""The deconvolution network: what it begins with, its size, borders, and what a checkpoint keeps of it."""

import numpy as np
import pytest
import torch

from tasks.restoration import RestorationTask
from tasks.restoration.architectures import Deconvolution
from tasks.restoration.deconvolution import DeconvolutionCNN, pseudo_inverse
from visionkit.errors import DataError, UsageError
from visionkit.families.restoration.classical import blurred, wiener
from visionkit.images import ImageSource
from visionkit.predictor import Predictor


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    """Two asymmetric kernels, so that convolution and correlation differ, in one file."""
    values = {f"k{n}": np.random.default_rng(n).random((5, 7)) ** 3 for n in (1, 2)}
    path = tmp_path_factory.mktemp("kernels") / "kernels.npz"
    np.savez(path, **values)
    return str(path), [each / each.sum() for each in values.values()]


@pytest.mark.parametrize("between", [0, 1])
@pytest.mark.parametrize("number", [1, 2])
def test_it_begins_as_the_wiener_filter(kernels, number, between):
    path, values = kernels
    clean = np.random.default_rng(0).random((40, 50, 3))
    given = blurred(clean, values[number - 1])
    net = DeconvolutionCNN(3, path, number, 0.05, maps=41, side=41, width=3, between=between, circular=True)
    with torch.no_grad():
        found = net(torch.from_numpy(given).permute(2, 0, 1)[None].float())[0].permute(1, 2, 0).numpy()
    wanted = wiener(given - 0.5, values[number - 1], 0.05) + 0.5
    assert np.abs(wanted - given).max() > 0.2
    assert np.abs(found - wanted).max() < 0.02, "tanh bends it a little"
    assert np.square(found - clean).mean() < np.square(given - clean).mean() / 2


def test_fewer_kernels_are_the_largest_singular_values(kernels):
    path, values = kernels
    clean = np.random.default_rng(0).random((40, 50))
    given = blurred(clean, values[0])
    errors = []
    for maps in (1, 3, 8):
        net = DeconvolutionCNN(1, path, 1, 0.05, maps=maps, side=21, width=2, between=1, circular=True)
        with torch.no_grad():
            found = net(torch.from_numpy(given)[None, None].float())[0, 0].numpy()
        errors.append(np.square(found - clean).mean())
    assert errors[0] > errors[1] > errors[2]


def test_the_inverse_of_no_blur_is_one_pixel():
    inverse = pseudo_inverse(np.ones((1, 1)), 1e-9, 9)
    assert inverse[4, 4] == pytest.approx(1) and np.abs(np.delete(inverse.ravel(), 40)).max() < 1e-9


def test_parameters_are_those_of_the_papers_layers():
    with torch.device("meta"):
        net = DeconvolutionCNN()
    first = 38 * 121 + 38 + 38 * 121 + 38
    denoiser = 16 * 16 * 38 * 512 + 512 + 512 * 512 + 512 + 8 * 8 * 512 + 1
    assert sum(p.numel() for p in net.parameters()) == first + denoiser


def test_borders_repeat_or_go_on_at_the_other_side():
    torch.manual_seed(0)
    plain = DeconvolutionCNN(1, side=9, maps=2, width=2, between=1)
    wrapped = DeconvolutionCNN(1, side=9, maps=2, width=2, between=1, circular=True)
    wrapped.load_state_dict(plain.state_dict())
    image = torch.rand(2, 1, 11, 5)  # smaller than what is added at the border
    with torch.no_grad():
        moved = wrapped(image.roll((3, 2), (2, 3))).roll((-3, -2), (2, 3))
        assert plain(image).shape == image.shape
        assert torch.allclose(moved, wrapped(image), atol=1e-5)
        assert not torch.allclose(plain(image.roll(3, 2)).roll(-3, 2), plain(image), atol=1e-5)
        flat = plain(torch.full((1, 1, 30, 30), 0.7))
    assert flat.std() < 1e-5, "a flat image has no border"


def test_a_checkpoint_needs_no_file_of_the_kernel(kernels):
    given = Deconvolution(kernel=kernels[0], number=2, maps=2, side=9, width=2)
    network = given.build(None, 1)
    again = given.stored().build(None, 1)
    again.load_state_dict(network.state_dict())
    assert given.stored().kernel == "" and given.thin().kernel == ""
    image = torch.rand(1, 1, 12, 12)
    with torch.no_grad():
        assert torch.equal(network(image).restored, again(image).restored)


def test_mistakes_are_reported(kernels, tmp_path):
    with pytest.raises(UsageError, match="has kernels 1 to 2"):
        Deconvolution(kernel=kernels[0], number=3).build(None, 1)
    with pytest.raises(UsageError, match="give an odd number"):
        Deconvolution(side=120).build(None, 1)
    with pytest.raises(DataError, match="no such file"):
        Deconvolution(kernel=str(tmp_path / "absent.npy")).build(None, 1)


def task_of(kernels, **arguments):
    own = {"kernel": kernels[0], "noise": 0.05, "maps": 15, "side": 15, "width": 2, **arguments}
    return RestorationTask("deconvolution", input={"channels": 1}, deconvolution=own).eval()


def test_an_image_that_goes_on_at_its_opposite_border_is_taken_whole(kernels):
    clean = np.random.default_rng(0).random((500, 40))
    image = (255 * blurred(clean, kernels[1][0])).round().clip(0, 255).astype(np.uint8)[:, :, None]
    task = task_of(kernels, circular=True)
    found = Predictor(task)(image).pixels.astype(int)
    assert len(task.plan(ImageSource(image)).views) == 1 and task.reach.halo is None
    rolled = Predictor(task)(np.roll(image, 100, axis=0)).pixels.astype(int)
    assert np.abs(np.roll(rolled, -100, axis=0) - found).max() <= 1, "no border is one"
    with pytest.raises(UsageError, match=r"tile 64: this deconvolution network .* takes them whole; leave tile out"):
        Predictor(task)(image, tile=64)
    assert len(task_of(kernels).plan(ImageSource(image)).views) > 1


def test_one_kernel_allows_no_flipped_images(kernels):
    task = task_of(kernels)
    assert not task.allows_flips and RestorationTask("dncnn", dncnn={"width": 4, "depth": 3}).allows_flips
    with pytest.raises(UsageError, match=r"ensemble: deconvolution is made for one kernel.*leave ensemble out"):
        Predictor(task)(np.zeros((20, 20, 1), np.uint8), ensemble=True)

"""Restoration without training: known decibels, and the same as other libraries."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.restoration import richardson_lucy as reference

from tests.real_data import real_data
from visionkit.errors import UsageError
from visionkit.families.restoration.classical import (
    blurred,
    inpaint,
    non_local_means,
    richardson_lucy,
    taper_edges,
    wiener,
)
from visionkit.images import ImageSource


def decibels(ours, truth, top=1.0):
    return 10 * np.log10(top**2 / np.square(np.asarray(ours, float) - truth).mean())


@pytest.fixture(scope="module")
def kernel():
    """Asymmetric, so that convolution and correlation differ, and with sides that differ."""
    values = np.random.default_rng(1).random((5, 7)) ** 4
    values[0, 0] = 3
    return values / values.sum()


@pytest.fixture(scope="module")
def photo():
    from skimage.data import astronaut

    return astronaut()[100:228:2, 160:308:2] / 255


@pytest.mark.parametrize(
    ("noise", "c", "input_db", "wiener_db"), [(2.55, 0.003, 16.51, 23.15), (7.65, 0.015, 16.31, 19.36)]
)
def test_wiener_has_the_known_decibels_on_set3c(noise, c, input_db, wiener_db):
    folder, found = real_data("restoration/dpir_deblur"), []
    kernels = np.load(folder / "kernels" / "Levin09.npz")
    for name in sorted(kernels.files):
        for path in sorted((folder / "set3c").glob("*.png")):
            clean = ImageSource(path).read() / 255
            given = blurred(clean, kernels[name])
            given = given + np.random.default_rng(0).normal(0, noise / 255, clean.shape)
            restored = wiener(given, kernels[name], c).clip(0, 1)
            found.append((decibels(given, clean), decibels(restored, clean)))
    assert np.mean(found, axis=0) == pytest.approx((input_db, wiener_db), abs=0.01)


def test_blur_is_a_circular_convolution(photo, kernel):
    wanted = np.stack([ndimage.convolve(photo[:, :, c], kernel, mode="wrap") for c in range(3)], axis=2)
    assert np.allclose(blurred(photo, kernel), wanted, atol=1e-12)
    assert np.allclose(blurred(photo[:, :, 0], kernel), wanted[:, :, 0], atol=1e-12)


def test_without_noise_wiener_inverts_the_blur(photo, kernel):
    assert decibels(wiener(blurred(photo, kernel), kernel, 1e-9), photo) > 60
    assert np.allclose(wiener(photo, kernel, 1e9), 0, atol=1e-6)


def test_richardson_lucy_is_that_of_scikit_image_and_restores(photo, kernel):
    gray = photo[:, :, 0]
    given = blurred(gray, kernel)
    # Theirs sees zeros beyond the border, and begins from one half, which steps forget.
    ours, theirs = richardson_lucy(given, kernel, 60), reference(given, kernel, num_iter=60, clip=False)
    inner = (slice(24, -24), slice(24, -24))
    assert decibels(ours[inner], gray[inner]) > decibels(given[inner], gray[inner]) + 5
    assert decibels(ours[inner], theirs[inner]) > 40
    assert richardson_lucy(given - 0.5, kernel, 2).min() >= 0


def test_one_step_of_richardson_lucy_has_the_value_worked_out_by_hand():
    image, kernel = (
        np.array([[4.0, 2.0, 0.0, 2.0]]),
        np.array([[0.5, 0.5, 0.0]]),
    )  # each the mean with its right neighbor
    again = np.array([[3.0, 1.0, 1.0, 3.0]])
    ratio = image / again
    spread = np.array([(ratio[0, j] + ratio[0, j - 1]) / 2 for j in range(4)])
    assert np.allclose(blurred(image, kernel), again)
    assert np.allclose(richardson_lucy(image, kernel, 1), image * spread)


@pytest.mark.parametrize("channels", [1, 3])
def test_tapered_edges_ring_less(photo, kernel, channels):
    large = np.concatenate([photo, 1 - photo], axis=1)
    image = large if channels == 3 else large[:, :, 0]
    box = np.full((9, 9), 1 / 81)
    valid = ndimage.convolve(image, box if channels == 1 else box[:, :, None])[8:-8, 8:-8]
    clean = image[8:-8, 8:-8]
    plain, tapered = (wiener(valid, box, 1e-3, circular=circular) for circular in (True, False))
    assert decibels(tapered, clean) > decibels(plain, clean) + 1
    middle = taper_edges(valid, box)[12:-12, 12:-12]
    assert np.allclose(middle, valid[12:-12, 12:-12]), "only the border is changed"
    assert decibels(richardson_lucy(valid, box, 20, False), clean) > decibels(richardson_lucy(valid, box, 20), clean)


def test_non_local_means_has_the_known_decibels_on_set12():
    generator, found = np.random.default_rng(0), []
    for path in sorted(real_data("restoration/set12").glob("*.png")):
        clean = ImageSource(path).read(1)[:, :, 0]
        noisy = (clean + generator.normal(0, 25, clean.shape)).round().clip(0, 255).astype(np.uint8)
        found.append(decibels(non_local_means(noisy, 25), clean.astype(float), 255))
    assert len(found) == 12 and np.mean(found) == pytest.approx(27.80, abs=0.01)


def test_color_is_denoised_in_its_order(photo):
    """A flat color: its hue survives, which it would not with red and blue in each other's place."""
    flat = np.full((32, 32, 3), (200, 60, 20), np.uint8)
    noisy = (flat + np.random.default_rng(0).normal(0, 15, flat.shape)).round().clip(0, 255).astype(np.uint8)
    done = non_local_means(noisy, 15)
    assert np.abs(done.astype(float) - flat).mean() < np.abs(noisy.astype(float) - flat).mean() / 3
    assert np.abs(done.reshape(-1, 3).mean(axis=0) - (200, 60, 20)).max() < 6


@pytest.mark.parametrize("method", ["telea", "navier_stokes"])
@pytest.mark.parametrize("channels", [1, 3])
def test_holes_are_filled_and_the_rest_stays(photo, method, channels):
    image = (photo * 255).round().astype(np.uint8)
    image = image if channels == 3 else image[:, :, 0]
    mask = np.zeros(image.shape[:2], bool)
    mask[20:24, 10:50] = True
    holed = image.copy()
    holed[mask] = 255
    done = inpaint(holed, mask, method)
    assert np.array_equal(done[~mask], image[~mask]) and done.shape == image.shape
    missing = image[mask].astype(float)
    assert decibels(done[mask], missing, 255) > decibels(holed[mask], missing, 255) + 6
    assert decibels(done[mask], missing, 255) > 16


def test_methods_of_inpainting_differ_and_unknown_ones_are_reported(photo):
    image, mask = (photo * 255).astype(np.uint8), np.zeros(photo.shape[:2], bool)
    mask[20:30, 10:30] = True
    assert not np.array_equal(inpaint(image, mask, "telea"), inpaint(image, mask, "navier_stokes"))
    with pytest.raises(UsageError, match="did you mean 'telea'"):
        inpaint(image, mask, "tellea")

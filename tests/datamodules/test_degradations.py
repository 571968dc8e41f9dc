"""Each degradation does what its formula states, from its generator alone, and a patch is that of the whole image."""

import io

import numpy as np
import pytest
import scipy.io
import scipy.ndimage
from PIL import Image

from datamodules import degradations
from datamodules.degradations import (
    JPEG,
    Blur,
    BoxHoles,
    CameraShake,
    DegradationChain,
    Degraded,
    FreeFormHoles,
    GaussianBlur,
    GaussianNoise,
    LevinKernels,
    LinearMotionBlur,
    MaskFolder,
    PoissonGaussianNoise,
    Quantize,
)
from datamodules.degradations.kernels import line_kernel, shake_kernel
from datamodules.patches import cut_with_surroundings
from tests.real_data import real_data
from visionkit.errors import DataError, UsageError
from visionkit.families.restoration.blur_kernels import read_kernels
from visionkit.loading import rng_for

UNEVEN = np.random.default_rng(5).random((5, 4)).tolist()


def photo(height, width, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 11, 3), dtype=np.uint8)).resize((width, height), 3)
    noisy = np.clip(np.asarray(coarse) + rng.normal(0, 12, (height, width, 3)), 0, 255).astype(np.uint8)
    return noisy[:, :, :channels]


def degrade(part, image, seed=0):
    return DegradationChain([part])(image, rng_for(seed, 0, 3))


@pytest.fixture
def masks(tmp_path):
    Image.fromarray((photo(40, 50)[:, :, 0] > 160).astype(np.uint8) * 255).save(tmp_path / "a.png")
    return str(tmp_path)


def parts(masks):
    return [
        GaussianNoise((5, 50)),
        PoissonGaussianNoise((0.5, 2), (1, 5)),
        Blur(UNEVEN),
        GaussianBlur((0.5, 3)),
        LinearMotionBlur(),
        CameraShake(size=15),
        JPEG((5, 60)),
        Quantize(),
        FreeFormHoles(),
        BoxHoles(),
        MaskFolder(masks),
    ]


def test_every_part_draws_from_its_generator_alone_and_leaves_what_it_is_given(masks):
    image = photo(48, 56).astype(np.float32)
    for part in parts(masks):
        before = image.copy()
        first, again, other = (part(Degraded(image), rng_for(seed, 0, 3)) for seed in (0, 0, 1))
        assert np.array_equal(first.image, again.image) and first.image.dtype == np.float32, part
        assert np.array_equal(image, before), part
        fixed = isinstance(part, (Blur, Quantize))
        assert np.array_equal(first.image, other.image) == fixed, part
        if part.leaves_levels(True):
            assert (
                np.array_equal(first.image, np.rint(first.image)) and 0 <= first.image.min() <= first.image.max() <= 255
            )
        for name, known in (("mask", first.mask), ("noise_level", first.noise_level)):
            assert (known is not None) == (part.condition == name), part
            assert known is None or known.shape == image.shape[:2]
    no_parts = {"DegradationChain", "DegradationPart", "Degraded", "Degradations", "LevinKernels"}
    exported = {name for name in vars(degradations) if name[0].isupper()} - no_parts
    assert {type(part).__name__ for part in parts(masks)} == exported


def test_gaussian_noise():
    image = np.full((200, 200, 3), 10, np.uint8)
    noisy = degrade(GaussianNoise(25), image)
    noise = noisy.image - 10
    assert noise.std() == pytest.approx(25, rel=0.01) and noise.min() < -60, "not clipped"
    assert np.abs(np.corrcoef(noise.reshape(-1, 3).T) - np.eye(3)).max() < 0.02, "each channel by itself"
    assert (noisy.noise_level == 25).all()
    levels = degrade(GaussianNoise(25, quantize=True), image).image
    assert levels.min() == 0 and np.array_equal(levels, np.rint(levels))
    drawn = [float(degrade(GaussianNoise((5, 50)), image[:4, :4], seed).noise_level[0, 0]) for seed in range(40)]
    assert 5 <= min(drawn) < 12 and 43 < max(drawn) <= 50


def test_noise_of_sensors_grows_with_brightness_and_levels_add_up():
    image = np.repeat(np.array([0, 200], np.uint8), 30000).reshape(200, 300, 1)
    noisy = degrade(PoissonGaussianNoise(0.5, 3), image)
    dark, bright = noisy.image[:100] - 0.0, noisy.image[100:] - 200.0
    assert dark.std() == pytest.approx(3, rel=0.02) and bright.std() == pytest.approx(109**0.5, rel=0.02)
    assert noisy.noise_level[150, 5] == pytest.approx(109**0.5, rel=1e-5)
    both = DegradationChain([GaussianNoise(3), GaussianNoise(4)])(image, rng_for(0, 0, 0))
    assert both.noise_level[0, 0] == pytest.approx(5)


@pytest.mark.parametrize("after", [GaussianNoise(25), GaussianBlur(2), JPEG(20)])
def test_holes_come_last(after):
    """What came after them would carry what they are filled with into known pixels."""
    with pytest.raises(UsageError, match=f"BoxHoles stands before {type(after).__name__}.*put parts that make holes"):
        DegradationChain([BoxHoles(0.5), after])
    image, mask = photo(40, 40), np.zeros((40, 40), bool)
    mask[10:20, 10:20] = True
    degraded = DegradationChain([after])(image, rng_for(0, 0, 0), mask)
    unmasked = DegradationChain([after])(image, rng_for(0, 0, 0)).image
    assert (degraded.image[mask] == 128).all() and np.array_equal(degraded.image[~mask], unmasked[~mask])
    assert DegradationChain([after, BoxHoles(0.5), BoxHoles(0.2)])


@pytest.mark.parametrize(("boundary", "mode"), [("circular", "wrap"), ("reflect", "reflect")])
@pytest.mark.parametrize("shape", [(5, 3), (4, 6), (1, 7), (17, 13)])
def test_blur_is_a_convolution(boundary, mode, shape):
    image, kernel = photo(33, 41), np.random.default_rng(0).random(shape)
    ours = degrade(Blur(kernel.tolist(), boundary=boundary), image).image
    rows, columns = (side // 2 for side in shape)
    # A convolution by its definition: the middle of n numbers is number n // 2 from 0.
    wanted, weights = np.zeros(image.shape), kernel / kernel.sum()
    padded = np.pad(image, ((20, 20), (20, 20), (0, 0)), mode="wrap" if mode == "wrap" else "symmetric").astype(float)
    for y in range(shape[0]):
        for x in range(shape[1]):
            top, left = 20 - y + rows, 20 - x + columns
            wanted += weights[y, x] * padded[top : top + 33, left : left + 41]
    assert np.abs(ours - wanted).max() < 1e-3
    if shape[0] % 2 and shape[1] % 2:
        theirs = scipy.ndimage.convolve(image.astype(float), weights[:, :, None], mode=mode)
        assert np.abs(ours - theirs).max() < 1e-3


@pytest.mark.parametrize(
    "chain",
    [
        [Blur(UNEVEN)],
        [Blur(UNEVEN, boundary="circular")],
        [GaussianBlur(1.7), Blur(UNEVEN)],
        [JPEG(30)],
        [JPEG(30, "4:4:4")],
        [GaussianBlur(1.2), JPEG(20), LinearMotionBlur(9, 30)],
    ],
    ids=lambda chain: "-".join(type(part).__name__ for part in chain),
)
def test_a_patch_is_that_of_the_whole_image(chain):
    image, chain = photo(97, 118), DegradationChain(chain)
    whole = chain(image, rng_for(0, 0, 0)).image
    for top, left in ((0, 0), (3, 21), (40, 50), (97 - 24, 118 - 24), (60, 1)):
        tile, y, x = cut_with_surroundings(image, top, left, 24, chain.reach, chain.grid, chain.wraps)
        patch = chain(tile, rng_for(0, 0, 0)).image[y : y + 24, x : x + 24]
        assert np.abs(patch - whole[top : top + 24, left : left + 24]).max() < 2e-3


def test_kernels_of_motion():
    straight = line_kernel(7, 0)
    assert straight.shape == (7, 7) and np.allclose(straight[3], 1 / 7) and straight.sum() == pytest.approx(1)
    rising = line_kernel(9, 45)
    assert rising[1].argmax() > 4 > rising[-2].argmax(), "counter-clockwise as seen"
    assert line_kernel(1, 30).tolist() == [[1.0]]
    shakes = [shake_kernel(40, 21, rng_for(0, 0, k)) for k in range(12)]
    for kernel in shakes:
        assert kernel.shape == (21, 21) and kernel.sum() == pytest.approx(1, abs=1e-5) and kernel.min() >= 0
        y, x = (np.indices(kernel.shape) * kernel).sum(axis=(1, 2))
        assert abs(y - 10) < 0.1 and abs(x - 10) < 0.1 and (kernel > 0).sum() > 12
    assert np.abs(shakes[0] - shakes[1]).max() > 0.01


def test_kernel_files(tmp_path):
    kernels = {f"k{k}": np.random.default_rng(k).random((k, k + 2)) for k in (2, 10)}
    np.savez(tmp_path / "k.npz", **kernels)
    np.save(tmp_path / "one.npy", kernels["k2"])
    cells = np.empty((1, 2), object)
    cells[0] = list(kernels.values())
    scipy.io.savemat(tmp_path / "k.mat", {"kernels": cells})
    np.savetxt(tmp_path / "k.txt", kernels["k2"])
    Image.fromarray((kernels["k2"] * 255).astype(np.uint8)).save(tmp_path / "k.png")
    for name, count in (("k.npz", 2), ("k.mat", 2), ("one.npy", 1), ("k.txt", 1), ("k.png", 1)):
        found = read_kernels(tmp_path / name)
        assert len(found) == count and found[0].shape == (2, 4), name
        assert np.abs(found[0] - kernels["k2"] / kernels["k2"].sum()).max() < 0.01
    assert Blur(str(tmp_path / "k.npz"), number=2).kernels[0].shape == (10, 12)
    drawn = {Blur(str(tmp_path / "k.npz")).kernel_of(rng_for(0, 0, k)).shape for k in range(9)}
    assert drawn == {(2, 4), (10, 12)}


def test_levins_kernels_have_the_known_numbers():
    folder = real_data("restoration/dpir_deblur")
    images = [np.asarray(Image.open(path).convert("RGB")) for path in sorted((folder / "set3c").glob("*.png"))]
    decibels = []
    for number in range(1, 9):
        chain = DegradationChain([LevinKernels(str(folder / "kernels/Levin09.npz"), number), GaussianNoise(2.55)])
        for k, image in enumerate(images):
            error = chain(image, rng_for(0, 0, k)).image.astype(float) - image
            decibels.append(10 * np.log10(255**2 / (error**2).mean()))
    assert np.mean(decibels) == pytest.approx(16.51, abs=0.02) and np.mean(decibels[:3]) == pytest.approx(
        18.58, abs=0.02
    )
    assert len(read_kernels(folder / "kernels/kernels_12.mat")) == 12
    with pytest.raises(DataError, match=r"MATLAB 7\.3"):
        read_kernels(folder / "kernels/Levin09.mat")


def test_jpeg_is_pillows():
    image = photo(37, 50)
    Image.fromarray(image).save(path := io.BytesIO(), "JPEG", quality=25, subsampling=2)
    assert np.array_equal(degrade(JPEG(25), image + np.float32(0.2)).image, np.asarray(Image.open(path), np.float32))
    coarse, fine = (np.abs(degrade(JPEG(quality), image).image - image).mean() for quality in (5, 90))
    assert coarse > 2 * fine and degrade(JPEG(25), image[:, :, :1]).image.shape == (37, 50, 1)


def test_holes(masks):
    image = photo(64, 80)
    for part in (FreeFormHoles((0.2, 0.3)), BoxHoles((0.3, 0.6)), MaskFolder(masks)):
        found = degrade(part, image)
        assert (found.image[found.mask] == 128).all() and np.array_equal(found.image[~found.mask], image[~found.mask])
        assert 0.02 < found.mask.mean() < 0.7
    fractions = [degrade(FreeFormHoles((0.2, 0.3)), image, seed).mask.mean() for seed in range(30)]
    assert 0.15 < min(fractions) < 0.24 and 0.26 < max(fractions) <= 0.3 + 1e-6
    center = degrade(BoxHoles(0.5, center=True, fill=0), image)
    assert center.mask[16:48, 20:60].all() and center.mask.sum() == 32 * 40 and center.image[20, 30, 0] == 0
    both = DegradationChain([BoxHoles(0.5, center=True), FreeFormHoles()])(image, rng_for(0, 0, 0))
    assert both.mask[16:48, 20:60].all() and both.mask.sum() > 32 * 40
    whole = Image.open(f"{masks}/a.png")
    exact = degrade(MaskFolder(masks, flips=False), photo(40, 50)).mask
    assert np.array_equal(exact, np.asarray(whole) > 0)
    assert np.array_equal(degrade(MaskFolder(masks, True, False), photo(40, 50)).mask, ~exact)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: GaussianNoise(-1), r"GaussianNoise\.sigma -1: .* from 0 to 255"),
        (lambda path: GaussianNoise(256), r"from 0 to 255"),
        (lambda path: GaussianNoise((50, 5)), r"the smallest and the largest"),
        (lambda path: JPEG(0), r"JPEG\.quality 0"),
        (lambda path: JPEG(10, "4:1:1"), r"4:4:4, 4:2:2, 4:2:0"),
        (lambda path: Blur([[0.0, 0.0]]), r"must sum to more than 0"),
        (lambda path: Blur([[1.0, 2.0], [1.0]]), r"rows of equally many numbers"),
        (lambda path: Blur([[1.0]], boundary="circula"), r"did you mean 'circular'"),
        (lambda path: Blur([[1.0]], number=2), r"there are kernels 1 to 1"),
        (lambda path: Blur(str(path / "absent.npz")), r"no such file of kernels"),
        (lambda path: Blur(str(path / "zero.txt")), r"zero\.txt: .* sum to 0"),
        (lambda path: Blur(str(path / "text.npz")), r"cannot be read as kernels"),
        (lambda path: LevinKernels(str(path / "one.txt")), r"1 kernels, and Levin's are 8"),
        (lambda path: CameraShake(size=8), r"an odd number"),
        (lambda path: MaskFolder(str(path)), r"no images of masks"),
        (lambda path: FreeFormHoles(1.5), r"FreeFormHoles\.coverage 1\.5"),
        (lambda path: BoxHoles(fill=300), r"BoxHoles\.fill 300"),
    ],
)
def test_mistakes(tmp_path, make, message):
    (tmp_path / "zero.txt").write_text("0 0\n0 0\n")
    (tmp_path / "one.txt").write_text("1 2\n3 4\n")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises((UsageError, DataError), match=message):
        make(tmp_path)


def test_common_noise_is_that_of_a_gray_file() -> None:
    image = Degraded(np.full((32, 48, 3), 128, np.float32))
    rng = np.random.default_rng(0)
    for common, gray in ((0.0, False), (1.0, True)):
        noise = GaussianNoise(25, common=common)(image, rng).image - 128
        assert noise.shape == (32, 48, 3) and 23 < noise.std() < 27
        assert bool((noise == noise[:, :, :1]).all()) == gray
    found = [GaussianNoise(25, common=0.3)(image, rng).image for _ in range(200)]
    assert 40 <= sum(bool((each == each[:, :, :1]).all()) for each in found) <= 80
    with pytest.raises(UsageError, match="a fraction of the images"):
        GaussianNoise(25, common=2)

"""Clean and degraded images: made or read, whole or in patches, the same for the same seed."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.degradations import Blur, BoxHoles, GaussianNoise
from datamodules.restoration import RestorationData
from tests.real_data import real_data
from visionkit.errors import DataError, UsageError
from visionkit.geometry import InputSpec
from visionkit.loading import rng_for

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
    for a, b in zip(drawn(data, 0, "val"), drawn(data_of(folder, seed=1), 0, "val"), strict=True):
        assert torch.equal(a["inputs"]["image"], b["inputs"]["image"]), "two seeds are measured on the same noise"
    assert torch.equal(first, drawn(data_of(folder, num_workers=2), 0)), "as without workers"


def test_gray_networks_get_gray_images(folder):
    gray = InputSpec(size=(32, 32), resize_mode="native", divisor=1, channels=1, bits=32)
    data = data_of(folder, input=gray)
    assert next(iter(data.loader("train")))["target"]["clean"].shape == (4, 1, 16, 16)
    sample = data.samples("val")[0]
    wanted = np.asarray(Image.open(sample.id).convert("L"))
    assert np.array_equal(sample.target["clean"][0], wanted) and pixels(sample).shape[2] == 1


def test_gray_files_have_gray_noise_for_a_network_of_three_channels(tmp_path):
    for number in range(2):
        Image.fromarray(photo(60, 66, number, channels=1)).save(tmp_path / f"gray{number}.png")
        Image.fromarray(photo(60, 66, number)).save(tmp_path / f"color{number}.png")
    data = data_of(tmp_path, val_root=str(tmp_path), val_fraction=0)
    for sample in data.samples("val"):
        is_gray = Path(sample.id).name.startswith("gray")
        assert sample.target["gray"] == is_gray and sample.target["clean"].shape == (3, 60, 66)
        assert pixels(sample).shape[2] == (1 if is_gray else 3) and abs(psnr(sample) - 20.17) < 0.25
    batch = next(iter(data.loader("train")))
    assert batch["inputs"]["image"].shape == batch["target"]["clean"].shape == (4, 3, 16, 16)
    noise = torch.cat([b["inputs"]["image"] - b["target"]["clean"].float() for b in data.loader("train")])
    assert sorted({bool((each[0] == each[1]).all()) for each in noise}) == [False, True]


def test_a_gray_clean_file_beside_a_colored_degraded_one_has_three_channels(tmp_path):
    for name, channels in (("clean", 1), ("noisy", 3)):
        (tmp_path / name).mkdir()
        Image.fromarray(photo(30, 36, channels=channels)).save(tmp_path / name / "1.png")
    folders = {"val_root": str(tmp_path / "clean"), "val_degraded": str(tmp_path / "noisy")}
    sample = data_of(tmp_path / "clean", val_fraction=0, **folders).samples("val")[0]
    assert not sample.target["gray"] and pixels(sample).shape == (30, 36, 3)


def test_noise_of_the_protocol():
    for name, known in (("set12", 20.17), ("bsd68", 20.18)):
        gray = InputSpec(size=(32, 32), resize_mode="native", divisor=1, channels=1, bits=32)
        data = data_of(real_data(f"restoration/{name}"), val_fraction=1, input=gray)
        assert np.mean([psnr(sample) for sample in data.samples("val")]) == pytest.approx(known, abs=0.05)


def test_a_blurred_patch_is_that_of_its_image(folder):
    kernel = np.random.default_rng(1).random((7, 7)).tolist()
    for boundary in ("reflect", "valid"):
        data = data_of(folder, degradations=Blur(kernel, boundary=boundary), flips=False, val_root=str(folder))
        margin = 3 if boundary == "valid" else 0
        wholes = {sample.id: (pixels(sample), sample.target["clean"]) for sample in data.samples("val")}
        for index, sample in enumerate(data.samples("train")):
            patch = data.augment(sample, rng_for(0, 0, index))
            blurred, clean = wholes[patch.id]
            assert blurred.shape[:2] == clean.shape[1:] == tuple(side - 2 * margin for side in sample.image.size)
            hits = [
                (y, x)
                for y in range(clean.shape[1] - 15)
                for x in range(clean.shape[2] - 15)
                if np.array_equal(clean[:, y, x : x + 16], patch.target["clean"][:, 0])
            ]
            ((y, x),) = hits
            assert np.array_equal(clean[:, y : y + 16, x : x + 16], patch.target["clean"])
            assert np.abs(blurred[y : y + 16, x : x + 16] - pixels(patch)).max() < 2e-3


def test_further_inputs_are_those_that_are_asked_for(folder):
    both = [GaussianNoise((5, 50)), BoxHoles(0.5)]
    assert list(data_of(folder, degradations=both).samples("val")[0].inputs) == ["image", "mask"], "by default"
    data = data_of(folder, degradations=both, conditions=["noise_level"])
    batch = next(iter(data.loader("train")))
    assert list(batch["inputs"]) == ["image", "noise_level"]
    assert 5 <= batch["inputs"]["noise_level"].min() < batch["inputs"]["noise_level"].max() <= 50
    mask = next(iter(data_of(folder, degradations=both).loader("train")))["inputs"]["mask"]
    assert sorted(mask.unique().tolist()) == [0, 255] and mask.float().mean() / 255 == pytest.approx(0.25)
    blind = data_of(folder, degradations=both)
    blind.trainer = SimpleNamespace(lightning_module=SimpleNamespace(inputs=("image",)))
    assert list(blind.samples("val")[0].inputs) == ["image"], "as the model takes them"


@pytest.mark.parametrize(
    ("clean", "degraded"),
    [
        (("sharp/1.png", "sharp/2.png"), ("blur/1.png", "blur/2.png")),  # GoPro
        (("a/GT_SRGB_010.PNG", "b/GT_SRGB_010.PNG"), ("a/NOISY_SRGB_010.PNG", "b/NOISY_SRGB_010.PNG")),  # SIDD
        (("0001_GT_SRGB_010.PNG", "0002_GT_SRGB_010.PNG"), ("0001_NOISY_SRGB_010.PNG", "0002_NOISY_SRGB_010.PNG")),
        (("norain-1.png", "norain-12.png"), ("rain-1.png", "rain-12.png")),  # Rain100
        (("target/1.png", "target/2.png"), ("input/1.png", "input/2.png")),
        (("a/sharp/1.png", "b/sharp/1.png"), ("a/blur/1.png", "b/blur/1.png")),  # as GoPro is handed out
        (("a/sharp/1.png", "b/sharp/1.png"), ("a/blur_gamma/1.png", "b/blur_gamma/1.png")),
        (("a/gt/gt_1.png", "b/gt/gt_1.png"), ("a/blur/blur_1.png", "b/blur/blur_1.png")),  # RealBlur
        (("train_sharp/000/1.png", "train_sharp/001/1.png"), ("train_blur/000/1.png", "train_blur/001/1.png")),  # REDS
        (("Canon_1_mean.JPG", "Canon_2_mean.JPG"), ("Canon_1_real.JPG", "Canon_2_real.JPG")),  # PolyU
    ],
)
def test_pairs_of_published_sets(tmp_path, clean, degraded):
    for number in range(2):
        for side, name, level in (("clean", clean[number], 100), ("degraded", degraded[number], 50)):
            path = tmp_path / side / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((20, 24, 3), level + number, np.uint8)).save(path)
    roots = [str(tmp_path / "clean"), str(tmp_path / "degraded")]
    if clean[0].startswith(("sharp/", "target/")):
        roots = [f"{root}/{Path(names[0]).parent}" for root, names in zip(roots, (clean, degraded), strict=True)]
    folders = {"degraded": roots[1], "val_root": roots[0], "val_degraded": roots[1]}
    data = data_of(roots[0], degradations=None, val_fraction=0, **folders)
    for split in ("train", "val"):
        for index, sample in enumerate(data.samples(split)):
            sample = data.augment(sample, rng_for(0, 0, index)) if split == "train" else sample
            assert pixels(sample).dtype == np.uint8 and (pixels(sample) + 50 == sample.target["clean"][0, 0, 0]).all()
    batch = next(iter(data.loader("train")))
    assert batch["inputs"]["image"].shape == (4, 3, 16, 16) and batch["inputs"]["image"].dtype == torch.uint8


def test_both_forms_in_one_folder(tmp_path):
    for scene in ("GOPR0372_07_00", "GOPR0372_07_01"):
        for number, name in enumerate(("sharp", "blur", "blur_gamma")):
            (tmp_path / scene / name).mkdir(parents=True)
            for frame in range(2):
                image = np.full((20, 24, 3), 100 * number + frame + (10 if scene[-1] == "1" else 0), np.uint8)
                Image.fromarray(image).save(tmp_path / scene / name / f"{frame:06d}.png")
    both = {"degradations": None, "degraded": str(tmp_path), "val_fraction": 1, "pattern": "sharp/*"}
    for pattern, difference in (("blur/*", 100), ("blur_gamma/*", 200)):
        samples = data_of(tmp_path, **both, degraded_pattern=pattern).samples("val")
        assert len(samples) == 4
        assert all((pixels(each) == each.target["clean"][0, 0, 0] + difference).all() for each in samples)
    with pytest.raises(DataError, match=r"its own degraded one; .*--data\.pattern 'sharp/\*'"):
        data_of(tmp_path, **{**both, "pattern": "*"}).samples("val")


def test_pairs_that_do_not_fit(folder, tmp_path):
    other = tmp_path / "noisy"
    shutil.copytree(folder, other)
    Image.fromarray(photo(40, 50)).save(other / "3.png")
    with pytest.raises(DataError, match=r"noisy/3\.png: a degraded image of 50 x 40 .*clean/3\.png of 67 x 64"):
        data_of(folder, degradations=None, degraded=str(other)).samples("train")
    (other / "3.png").unlink()
    with pytest.raises(DataError, match=r"no degraded image for 1 of 5 images: 3\.png"):
        data_of(folder, degradations=None, degraded=str(other)).samples("train")


def test_masks_of_images(folder, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    for path in sorted(folder.iterdir()):
        bright = np.asarray(Image.open(path).convert("L")) > 150  # so a mask shows whether it was cut with its image
        Image.fromarray(bright.astype(np.uint8) * 255).save(masks / f"{path.stem}_mask.png")
    data = data_of(folder, degradations=[BoxHoles()], masks=str(masks))
    for split in ("train", "val"):
        for index, sample in enumerate(data.samples(split)):
            sample = data.augment(sample, rng_for(0, 0, index)) if split == "train" else sample
            clean, mask = sample.target["clean"].transpose(1, 2, 0), sample.inputs["mask"].read(1)[:, :, 0] > 0
            gray = np.asarray(Image.fromarray(np.ascontiguousarray(clean)).convert("L"))
            assert list(sample.inputs) == ["image", "mask"] and np.array_equal(mask, gray > 150)
            assert (pixels(sample)[mask] == 128).all() and np.array_equal(pixels(sample)[~mask], clean[~mask])
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(masks / "2_mask.png")
    with pytest.raises(DataError, match=r"2_mask\.png: a mask of 9 x 9 pixels does not fit the image .*2\.png"):
        data_of(folder, degradations=None, masks=str(masks), val_fraction=0).samples("train")


def test_images_of_16_bit_keep_their_depth(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (40, 48)).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    gray = InputSpec(size=(32, 32), resize_mode="native", divisor=1, channels=1, bits=32)
    sample = data_of(tmp_path, val_fraction=1, input=gray, degradations=GaussianNoise(0)).samples("val")[0]
    assert sample.target["clean"].dtype == np.float32
    assert np.abs(sample.target["clean"][0] - values / 257).max() < 1e-4
    assert np.array_equal(pixels(sample)[:, :, 0], sample.target["clean"][0])


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
        ({"degraded": "noisy"}, r"read from noisy \(data\.degraded\), so nothing would be done.*eval_degradations"),
        (
            {"degradations": None, "degraded": "noisy", "eval_degradations": GaussianNoise(5)},
            r"data\.eval_degradations: the degraded val images are read from noisy",
        ),
        ({"input": replace(SPEC, divisor=8), "patch_size": 20}, "patch_size 20: .*multiples of 8.*give 16 or 24"),
        ({"input": replace(SPEC, divisor=32)}, "patch_size 16: .*give 32"),
        ({"degradations": None, "degraded": "absent"}, "no such file, folder or pattern"),
    ],
)
def test_mistakes(folder, arguments, message):
    with pytest.raises((UsageError, DataError), match=message):
        data_of(folder, **arguments).samples("train")


def test_pairs_are_not_flipped_for_a_network_of_one_kernel(folder):
    def data(**arguments):
        data = data_of(folder, val_fraction=0, **arguments)
        task = SimpleNamespace(inputs=("image",), allows_flips=False, chosen="deconvolution")
        data.trainer = SimpleNamespace(lightning_module=task)
        return data

    read = {"degradations": None, "degraded": str(shutil.copytree(folder, folder.parent / "blurred"))}
    with pytest.raises(UsageError, match=r"deconvolution is made for one kernel.*set --data\.flips false"):
        data(**read).samples("train")
    assert data(**read, flips=False).samples("train")
    assert data(degradations=Blur([[1.0, 2.0]])).samples("train"), "what is made is blurred after it was flipped"

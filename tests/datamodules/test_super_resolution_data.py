"""Pairs for super-resolution: made or read, whole or in patches, always of one geometry."""

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.degradation import Degradation, modulo_crop, shrink
from datamodules.super_resolution import PatchAugment, SuperResolutionData
from visionkit.errors import DataError, UsageError
from visionkit.geometry import InputSpec
from visionkit.images import ImageSource
from visionkit.loading import rng_for
from visionkit.types import Sample

SPEC = InputSpec(size=(48, 48), resize_mode="native", divisor=1)


def photo(height, width, seed=0):
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 11, 3), dtype=np.uint8))
    noise = rng.normal(0, 12, (height, width, 3))
    return np.clip(np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)) + noise, 0, 255).astype(
        np.uint8
    )


@pytest.fixture
def folder(tmp_path):
    for number in range(5):
        Image.fromarray(photo(61 + number, 70 - number, number)).save(tmp_path / f"{number}.png")
    return tmp_path


def test_low_resolution_is_that_of_pillow():
    image = photo(60, 72)
    ours = shrink(image, 3)
    theirs = np.asarray(Image.fromarray(image).resize((24, 20), Image.Resampling.BICUBIC))
    assert ours.shape == (20, 24, 3) and np.abs(ours.astype(int) - theirs).max() <= 1
    exact = shrink(image, 3, exact=True)
    assert exact.dtype == np.uint16 and np.abs(exact / 257 - ours).mean() < 0.5


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_patch_s_low_resolution_is_that_of_the_whole_image(scale):
    image = photo(67, 90)
    whole = shrink(modulo_crop(image, scale), scale)
    patches_per_image = PatchAugment(scale, patch_size=7, flips=False)
    for number in range(20):
        sample = patches_per_image(Sample.of(ImageSource(image), {}), rng_for(0, 0, number))
        low, high = sample.image.read(), np.asarray(sample.target["high_res"]).transpose(1, 2, 0)
        assert low.shape == (7, 7, 3) and high.shape == (7 * scale, 7 * scale, 3)
        places = [
            (y, x)
            for y in range(image.shape[0] // scale - 6)
            for x in range(image.shape[1] // scale - 6)
            if np.array_equal(image[y * scale : (y + 7) * scale, x * scale : (x + 7) * scale], high)
        ]
        assert len(places) == 1
        y, x = places[0]
        assert np.array_equal(whole[y : y + 7, x : x + 7], low)


def test_flipped_and_turned_patches_still_fit():
    patches_per_image, seen = PatchAugment(2, patch_size=16), set()
    for number in range(40):
        sample = patches_per_image(Sample.of(ImageSource(photo(50, 60)), {}), rng_for(1, 0, number))
        low, high = sample.image.read().astype(float), np.asarray(sample.target["high_res"]).transpose(1, 2, 0)
        mean = high.reshape(16, 2, 16, 2, 3).mean(axis=(1, 3))
        right = np.abs(mean - low).mean()
        assert right < 8 and all(np.abs(np.rot90(mean, k) - low).mean() > 2 * right for k in (1, 2, 3))
        seen.add(high.tobytes())
    assert len(seen) > 30


def test_training_gives_patches_and_validation_whole_images(folder):
    data = SuperResolutionData(
        str(folder), scale=3, patch_size=8, patches_per_image=4, batch_size=6, val_fraction=0.4, input=SPEC
    )
    assert len(data.samples("train")) == 12 and len(data.samples("val")) == 2
    batch = next(iter(data.loader("train")))
    assert batch["inputs"]["image"].shape == (6, 3, 8, 8) and batch["inputs"]["image"].dtype == torch.uint8
    assert batch["target"]["high_res"].shape == (6, 3, 24, 24)
    for batch in data.loader("val"):
        height, width = batch["inputs"]["image"].shape[-2:]
        assert batch["target"]["high_res"].shape == (1, 3, 3 * height, 3 * width)
    names = {sample.id for split in ("train", "val") for sample in data.samples(split)}
    assert len(names) == 5, "no image is in both"
    again = SuperResolutionData(
        str(folder), scale=3, patch_size=8, patches_per_image=4, batch_size=6, val_fraction=0.4, input=SPEC
    )
    first, second = (next(iter(each.loader("train"))) for each in (data, again))
    assert torch.equal(first["inputs"]["image"], second["inputs"]["image"]), "(seed, epoch, index) alone decides"


def test_pairs_from_folders(folder, tmp_path):
    low = tmp_path / "low"
    low.mkdir()
    for path in sorted(folder.glob("?.png")):
        Image.fromarray(255 - shrink(modulo_crop(np.asarray(Image.open(path)), 2), 2)).save(low / f"{path.stem}x2.png")
    arguments = {
        "pattern": "?.png",
        "low_res": str(low),
        "patch_size": 12,
        "patches_per_image": 2,
        "batch_size": 4,
        "input": SPEC,
    }
    data = SuperResolutionData(str(folder), scale=2, **arguments)
    for split in ("train", "val"):
        batch = next(iter(data.loader(split)))
        large = batch["target"]["high_res"].float()
        mean = torch.nn.functional.avg_pool2d(large, 2)
        assert (255 - mean - batch["inputs"]["image"]).abs().mean() < 8, "what lies there is taken"
    with pytest.raises(DataError, match=r"divided by 3.*give the folder of that scale"):
        SuperResolutionData(str(folder), scale=3, **arguments).samples("train")
    (low / "1x2.png").unlink()
    with pytest.raises(DataError, match=r"no low resolution for 1 of 5 images: 1\.png"):
        SuperResolutionData(
            str(folder), scale=2, **{**arguments, "val_fraction": 0.0, "val_root": str(folder)}
        ).samples("train")


def pair_of_folders(root, names, low_names, scale=2):
    """Pairs whose low resolution is that of their own image; the number of the image is its brightness."""
    for number, (name, low_name) in enumerate(zip(names, low_names, strict=True)):
        for folder, each, side in (("hr", name, 24 * scale), ("lr", low_name, 24)):
            path = root / folder / each
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((side, side, 3), 20 * number, np.uint8)).save(path)
    arguments = {"low_res": str(root / "lr"), "patch_size": 8, "val_root": str(root / "hr"), "input": SPEC}
    return SuperResolutionData(str(root / "hr"), scale=scale, **arguments)


@pytest.mark.parametrize(
    ("names", "low_names"),
    [
        (["000/0.png", "001/0.png", "002/0.png"], ["000/0.png", "001/0.png", "002/0.png"]),  # clips of REDS
        (["box1.png", "box2.png", "box3.png"], ["box1.png", "box2.png", "box3.png"]),
        (["box1.png", "box2.png", "box3.png"], ["box1x2.png", "box2x2.png", "box3x2.png"]),
        (["0801.png", "0802.png"], ["0801x2.png", "0802x2.png"]),  # DIV2K
        (["Canon_1_HR.png", "Canon_2_HR.png"], ["Canon_1_LR2.png", "Canon_2_LR2.png"]),  # RealSR
        (["img_1_SRF_2_HR.png", "img_2_SRF_2_HR.png"], ["img_1_SRF_2_LR.png", "img_2_SRF_2_LR.png"]),  # Set5
        (["matrix2.png", "matrix4.png"], ["matrix2.png", "matrix4.png"]),
        (["a/1.png", "b/2.png"], ["1_LR.png", "2_LR.png"]),
    ],
)
def test_every_image_gets_its_own_low_resolution(tmp_path, names, low_names):
    data = pair_of_folders(tmp_path, names, low_names)
    for sample in data.samples("train"):
        assert sample.image.read().mean() == np.asarray(sample.target["high_res"]).mean()
    assert len(data.samples("val")) == len(names) == len(data.files("train"))


def test_low_resolutions_that_are_not_clear_are_refused(tmp_path):
    with pytest.raises(DataError, match="have one name"):
        pair_of_folders(tmp_path / "a", ["1.png", "2.png"], ["1x2.png", "1_LR.png"]).samples("train")
    with pytest.raises(DataError, match="no low resolution for 1 of 2"):
        pair_of_folders(tmp_path / "b", ["box1.png", "box2.png"], ["box1.png", "box3.png"]).samples("train")
    data = pair_of_folders(tmp_path / "c", ["1.png", "2.png"], ["1x2.png", "2x2.png"])
    for name in ("1x4.png", "2x4.png", "._1x2.png"):  # another scale beside, and what macOS leaves
        (tmp_path / "c/lr" / name).write_bytes(b"no image")
    assert len(data.samples("val")) == 2


@pytest.mark.parametrize("orientation", [3, 6])
def test_an_image_that_exif_turns_and_its_low_resolution_does_not(tmp_path, caplog, orientation):
    data = pair_of_folders(tmp_path, ["1.png"], ["1.png"])
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.zeros((48, 60, 3), np.uint8)).save(tmp_path / "hr/1.png", exif=exif)
    Image.fromarray(np.zeros((24, 30, 3), np.uint8)).save(tmp_path / "lr/1.png")
    if orientation == 6:
        with pytest.raises(DataError, match="EXIF turns one of the two alone"):
            data.samples("train")
    else:
        data.samples("train")
        assert "EXIF turns 1 images and not their low resolution" in caplog.text


def test_what_the_summary_states(tmp_path, capsys):
    data = pair_of_folders(tmp_path, ["1.png", "2.png"], ["1.png", "2.png"])
    (tmp_path / "hr/notes.txt").write_text("x")
    data.report(["train"])
    out = capsys.readouterr().out
    assert "train  2 images" in out and "1 not an image (.txt)" in out and "16 patches of 8x8" in out


def test_an_image_smaller_than_a_patch_is_refused_or_padded(folder):
    with pytest.raises(DataError, match=r"smaller than a patch of 90x90.*lower data.patch_size to"):
        SuperResolutionData(str(folder), scale=3, patch_size=30, input=SPEC).samples("train")
    data = SuperResolutionData(
        str(folder), scale=3, patch_size=30, small="reflect", patches_per_image=1, batch_size=2, input=SPEC
    )
    assert next(iter(data.loader("train")))["inputs"]["image"].shape == (2, 3, 30, 30)


def test_degradations_are_drawn_for_each_patch_and_fixed_for_validation(folder):
    hard = Degradation(blur=(0.5, 2.0), noise=(2.0, 10.0), jpeg=(30, 60))
    data = SuperResolutionData(
        str(folder), scale=2, patch_size=16, patches_per_image=4, batch_size=4, degradation=hard, input=SPEC
    )
    plain = SuperResolutionData(str(folder), scale=2, patch_size=16, patches_per_image=4, batch_size=4, input=SPEC)
    assert len(data.loader("train")) == len(plain.loader("train"))
    a, b = (next(iter(each.loader("val"))) for each in (data, plain))
    assert torch.equal(a["target"]["high_res"], b["target"]["high_res"])
    assert 1 < (a["inputs"]["image"].float() - b["inputs"]["image"].float()).abs().mean() < 40
    assert torch.equal(a["inputs"]["image"], next(iter(data.loader("val")))["inputs"]["image"])
    other = SuperResolutionData(str(folder), scale=2, patch_size=16, degradation=hard, input=SPEC, seed=1)
    assert torch.equal(a["inputs"]["image"], next(iter(other.loader("val")))["inputs"]["image"]), "for every seed"
    with pytest.raises(UsageError, match=r"lies in small \(data\.low_res\), so nothing would be done to it"):
        SuperResolutionData(str(folder), low_res="small", degradation=hard, input=SPEC)
    with pytest.raises(UsageError, match="the smallest and the largest"):
        Degradation(blur=(3.0, 1.0))
    with pytest.raises(UsageError, match="begins at 1"):
        Degradation(jpeg=(0, 50))


def test_gray_files_have_gray_noise(tmp_path):
    Image.fromarray(photo(60, 66)[:, :, 0]).save(tmp_path / "gray.png")
    noise = Degradation(noise=(10.0, 10.0))
    data = SuperResolutionData(str(tmp_path), scale=2, val_fraction=1, degradation=noise, input=SPEC)
    batch = next(iter(data.loader("val")))
    image, clean = batch["inputs"]["image"][0].float(), batch["target"]["high_res"][0].float()
    assert torch.equal(image[0], image[1]) and torch.equal(image[0], image[2])
    assert 8 < (image[0] - torch.nn.functional.avg_pool2d(clean[None], 2)[0, 0]).std() < 14


def test_blur_is_a_gaussian():
    from datamodules.degradation import _blurred

    dot = np.zeros((21, 21, 3), np.uint8)
    dot[10, 10] = 255
    out = _blurred(dot, 1.0)[:, :, 0].astype(float)
    assert out.sum() == pytest.approx(255, abs=12) and out[10, 10] == pytest.approx(255 / (2 * np.pi), abs=1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, r"give their folder with --data\.root"),
        ({"root": "here", "pattern": "*.tif"}, "matches data.pattern"),
        ({"root": "here", "patch_size": 2}, "patch_size 2 at least 4"),
        ({"root": "here", "small": "pad"}, "refuse, reflect"),
    ],
)
def test_mistakes(folder, arguments, said):
    if "root" in arguments:
        arguments = {**arguments, "root": str(folder)}
    with pytest.raises((UsageError, DataError), match=said):
        SuperResolutionData(input=SPEC, **arguments).samples("train")

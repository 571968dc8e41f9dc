"""Blur of averaged frames: linear light, the frame in the middle, and videos that are held back."""

import numpy as np
import pytest
from PIL import Image

from datamodules.degradations import GaussianNoise
from datamodules.degradations.frames import average_frames
from datamodules.frame_blur import FrameBlurData
from tests.real_data import real_data
from visionkit.errors import DataError, UsageError
from visionkit.geometry import InputSpec
from visionkit.video import VideoWriter

SPEC = InputSpec(size=(32, 32), resize_mode="native", divisor=1, bits=32)


def frames(count, seed=0):
    """A bright bar that moves by a pixel a frame."""
    out = np.full((count, 40, 48, 3), 30 + seed, np.uint8)
    for k in range(count):
        out[k, :, 5 + k : 15 + k] = 220
    return out


def write(folder, images):
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:03d}.png")


def data_of(root, **arguments):
    defaults = {"frames": 5, "patch_size": 16, "patches_per_image": 2, "batch_size": 4, "input": SPEC}
    return FrameBlurData(str(root), **{**defaults, "val_fraction": 0, **arguments})


def test_the_mean_is_one_of_light():
    dark, bright = np.zeros((1, 1, 3), np.uint8), np.full((1, 1, 3), 255, np.uint8)
    assert average_frames([dark, bright])[0, 0, 0] == round(255 * 0.5 ** (1 / 2.2)) == 186
    assert average_frames([dark, bright], gamma=1)[0, 0, 0] == 128
    assert np.array_equal(average_frames([frames(1)[0]] * 3), frames(1)[0])
    with pytest.raises(DataError, match="a frame of 1x1 pixels among frames of 48x40"):
        average_frames([frames(1)[0], dark])


def test_windows_of_folders(tmp_path):
    for number, count in enumerate((23, 12)):
        write(tmp_path / f"v{number}", frames(count, number))
    data = data_of(tmp_path, val_fraction=0.25)
    train, val = ([sample.id for sample in data.samples(split)] for split in ("train", "val"))
    names = {name.split("/", len(tmp_path.parts))[-1] for name in val}
    assert len(set(train)) == 5 and names == {"v0/017.png"}, "the last window of the longer video"
    sample = data.samples("val")[0]
    wanted = average_frames(frames(20)[15:20])
    assert np.array_equal(sample.image.read(), wanted)
    assert np.array_equal(sample.target["clean"].transpose(1, 2, 0), frames(20)[17])
    batch = next(iter(data.loader("train")))
    assert batch["inputs"]["image"].shape == batch["target"]["clean"].shape == (4, 3, 16, 16)
    overlapping = data_of(tmp_path, stride=2)
    assert len(overlapping.files("train")) == 10 + 4
    noisy = data_of(tmp_path, val_root=str(tmp_path), degradations=GaussianNoise(10), cache_mb=0).samples("val")[0]
    noise = noisy.image.undecoded_values() - average_frames(frames(5))
    assert noise.std() == pytest.approx(10, rel=0.05)


def test_frames_of_a_video_file(tmp_path):
    with VideoWriter(tmp_path / "v.mp4", 30) as writer:
        for frame in frames(11):
            writer.write(frame)
    data = data_of(tmp_path)
    assert [name.rpartition("#")[2] for name in data.files("train")] == ["2", "7"]
    samples = data_of(tmp_path, val_root=str(tmp_path)).samples("val")
    assert np.abs(samples[1].target["clean"].transpose(1, 2, 0).astype(float) - frames(11)[7]).mean() < 12
    assert np.abs(samples[1].image.read().astype(float) - average_frames(frames(11)[5:10])).mean() < 12
    with pytest.raises(DataError, match=r"more memory than data\.cache_mb 0"):
        data_of(tmp_path, cache_mb=0).samples("train")


def test_frames_of_published_videos():
    data = data_of(real_data("video/davis_car_shadow"), frames=7, pattern="*.jpg", val_fraction=0.2)
    assert (len(data.files("train")), len(data.files("val"))) == (4, 1)
    sample = data.samples("val")[0]
    clean = sample.target["clean"].transpose(1, 2, 0).astype(float)
    assert sample.image.size == (480, 854)
    assert 18 < 10 * np.log10(255**2 / ((sample.image.read() - clean) ** 2).mean()) < 32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frames": 4}, "frames 4 must be an odd number"),
        ({"gamma": 0}, "gamma 0 above 0"),
        ({"frames": 9}, r"no video of at least 9 frames .*the longest folder of images has 6"),
        ({"degraded": "here"}, "makes the blurred images"),
        ({"patch_size": 41}, r"002\.png: 48x40 is smaller than a patch of 41x41"),
    ],
)
def test_mistakes(tmp_path, arguments, message):
    write(tmp_path / "v", frames(6))
    with pytest.raises((UsageError, DataError), match=message):
        data_of(tmp_path, **arguments).samples("train")

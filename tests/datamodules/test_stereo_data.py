"""Stereo pairs: the files of disparity, the layouts of the public sets, and what is reported of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from datamodules.disparity_files import read_disparity
from datamodules.rectification import displacement
from datamodules.stereo_data import StereoData
from tests.real_data import real_data
from visionkit.errors import DataError, UsageError
from visionkit.geometry import InputSpec
from visionkit.predictions import DisparityMap

SIZE = (40, 64)
SPEC = InputSpec(SIZE, "native", divisor=16, fill=None)


def disparity_of(number: int) -> np.ndarray:
    values = np.full(SIZE, 3.0 + number, np.float32)
    values[:, :4] = 0
    return values


def write(path: Path, number: int = 0, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".pfm":
        path.write_bytes(DisparityMap(disparity_of(number)).pfm())
    elif path.parent.name.startswith("disp"):
        Image.fromarray((disparity_of(number) * 256).astype(np.uint16)).save(path)
    elif path.stem.startswith("disp"):
        Image.fromarray((disparity_of(number) * 4).astype(np.uint8)).save(path)
    else:
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)


def folders(root: Path, split: str = "", ending: str = ".pfm", count: int = 4) -> None:
    for number in range(count):
        for name, kind in (("left", ".png"), ("right", ".png"), ("disparity", ending)):
            write(root / split / name / f"{number}{kind}", number)


def test_every_type_of_file_gives_pixels(tmp_path: Path) -> None:
    values = np.array([[0.0, 1.5, 40.25]], np.float32)
    Image.fromarray((values * 256).astype(np.uint16)).save(tmp_path / "kitti.png")
    Image.fromarray((values * 4).astype(np.uint8)).save(tmp_path / "middlebury.pgm")
    tifffile.imwrite(tmp_path / "a.tif", values)
    np.save(tmp_path / "a.npy", np.where(values > 0, values, np.nan))
    (tmp_path / "a.pfm").write_bytes(DisparityMap(values).pfm())
    for name, scale in (
        ("kitti.png", None),
        ("middlebury.pgm", 4.0),
        ("a.tif", None),
        ("a.npy", None),
        ("a.pfm", None),
    ):
        assert np.array_equal(read_disparity(tmp_path / name, scale), values), name
    with pytest.raises(DataError, match=r"8-bit numbers; KITTI's disparity is a png of 16 bits.*--data\.scale"):
        read_disparity(tmp_path / "middlebury.pgm")


def test_folders_of_one_name_with_and_without_splits(tmp_path: Path) -> None:
    folders(tmp_path / "a")
    data = StereoData(str(tmp_path / "a"), val_every=4, input=SPEC)
    assert [len(data.samples("train")), len(data.samples("val"))] == [3, 1]
    with pytest.raises(UsageError, match="no test split"):
        data.samples("test")
    sample = data.samples("val")[0]
    assert list(sample.inputs) == ["left", "right"] and np.array_equal(sample.target["disparity"], disparity_of(3))
    assert sample.target["valid"].mean() == pytest.approx(60 / 64)
    note = data.summary("train").lines()[1].strip()
    assert note == "disparity: 3 to 5 px in 3 pairs; 6.2% not measured"
    for split in ("train", "val"):
        folders(tmp_path / "b", split, ".png", 2)
    assert len(StereoData(str(tmp_path / "b"), input=SPEC).samples("val")) == 2


def test_middlebury_and_eth3d(tmp_path: Path) -> None:
    for number, scene in enumerate(("cones", "teddy")):
        for name in ("im2.png", "im6.png", "disp2.pgm", "disp6.pgm"):
            write(tmp_path / "2003" / scene / name, number)
        for name in ("im0.png", "im1.png", "disp0.pfm"):
            write(tmp_path / "2014" / scene / name, number)
    mask = np.full(SIZE, 255, np.uint8)
    mask[:, :10] = 128
    Image.fromarray(mask).save(tmp_path / "2014" / "cones" / "mask0nocc.png")
    Image.fromarray(mask).save(tmp_path / "2014" / "teddy" / "mask0nocc.png")
    old = StereoData(str(tmp_path / "2003"), val_every=0, input=SPEC).samples("train")
    assert np.array_equal(old[1].target["disparity"], disparity_of(1)) and "right_disparity" in old[1].target
    new = StereoData(str(tmp_path / "2014"), val_every=0, input=SPEC).samples("train")[0].target
    assert np.array_equal(new["disparity"], disparity_of(0)) and "right_disparity" not in new
    assert np.array_equal(new["occluded"], (disparity_of(0) > 0) & (mask == 128))


@pytest.mark.parametrize("year", [2015, 2012])
def test_kitti(year: int, tmp_path: Path) -> None:
    names = ("image_2", "image_3", "disp_occ_0", "disp_noc_0")
    if year == 2012:
        names = ("colored_0", "colored_1", "disp_occ", "disp_noc")
    for number in range(2):
        for name in names:
            write(tmp_path / "training" / name / f"00000{number}_10.png", number)
        for name in names[:2]:
            write(tmp_path / "training" / name / f"00000{number}_11.png", number)
    visible = disparity_of(0)
    visible[:5] = 0
    Image.fromarray((visible * 256).astype(np.uint16)).save(tmp_path / "training" / names[3] / "000000_10.png")
    samples = StereoData(str(tmp_path), val_every=0, input=SPEC).samples("train")
    assert len(samples) == 2 and samples[0].id.endswith(f"{names[0]}/000000_10.png")
    assert np.array_equal(samples[0].target["disparity"], disparity_of(0))
    assert samples[0].target["occluded"].sum() == 5 * 60 and not samples[1].target["occluded"].any()


def test_scene_flow(tmp_path: Path) -> None:
    for split in ("TRAIN", "TEST"):
        place = Path(split, "A", "0000")
        for side in ("left", "right"):
            write(tmp_path / "frames_cleanpass" / place / side / "0006.png")
            write(tmp_path / "disparity" / place / side / "0006.pfm")
    data = StereoData(str(tmp_path), val_every=0, input=SPEC)
    assert len(data.samples("train")) == len(data.samples("test")) == 1
    assert np.array_equal(data.samples("test")[0].target["right_disparity"], disparity_of(0))


def test_what_is_missing_or_does_not_fit_is_one_line(tmp_path: Path) -> None:
    folders(tmp_path / "a")
    (tmp_path / "a" / "right" / "2.png").unlink()
    with pytest.raises(DataError, match=r"no right image for 1 of 4 images: 2\.png"):
        StereoData(str(tmp_path / "a")).samples("train")
    folders(tmp_path / "b", count=1)
    write(tmp_path / "b" / "right" / "0.png", size=(40, 60))
    with pytest.raises(DataError, match="a right image of 60 x 40 pixels does not fit"):
        StereoData(str(tmp_path / "b"), val_every=0).samples("train")[0]
    with pytest.raises(DataError, match="no stereo pairs; the layouts are left/"):
        StereoData(str(tmp_path / "b" / "left")).samples("train")
    write(tmp_path / "c" / "im2.png")
    write(tmp_path / "c" / "disp2.png")
    with pytest.raises(DataError, match=r"im2\.png is there, and its partner im6 is not"):
        StereoData(str(tmp_path / "c")).samples("train")


def test_cones_fit_their_own_truth_and_exchanged_or_tilted_pairs_are_reported(tmp_path: Path, caplog) -> None:
    folder = real_data("stereo/middlebury_cones")
    left, right = (np.asarray(Image.open(folder / f"{side}.png")) for side in ("left", "right"))
    disparity = read_disparity(folder / "disp_left.tif")
    assert (disparity == 0).mean() == pytest.approx(0.032, abs=5e-4) and disparity.max() == 55
    rows, columns = np.nonzero(disparity)
    for sign, expected in ((-1, 7.7), (1, 39.0)):
        moved = np.rint(columns + sign * disparity[rows, columns]).astype(int)
        there = (moved >= 0) & (moved < left.shape[1])
        error = np.abs(left[rows, columns].astype(float) - right[rows, moved.clip(0, left.shape[1] - 1)])
        assert error[there].mean() == pytest.approx(expected, rel=0.05)

    found = displacement(left, right)
    assert found is not None and found.vertical < 0.5 and 20 < found.disparity < 40
    for name, one, other in (("tilted", left, np.roll(right, 4, axis=0)), ("exchanged", right, left)):
        for side, image in (("left", one), ("right", other)):
            (tmp_path / name / side).mkdir(parents=True)
            Image.fromarray(image).save(tmp_path / name / side / "0.png")
        (tmp_path / name / "disparity").mkdir()
        tifffile.imwrite(tmp_path / name / "disparity" / "0.tif", disparity)
        caplog.clear()
        StereoData(str(tmp_path / name), val_every=0, input=SPEC).summary("train")
        words = {"tilted": "not rectified (0.png)", "exchanged": "most likely exchanged"}
        assert len(caplog.records) == 1 and words[name] in caplog.text

"""Files and sets of optical flow."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.flow_data import FlowData
from datamodules.flow_files import read_flow, write_flow
from datamodules.flow_layouts import find_pairs
from tests.real_data import real_data
from visionkit.errors import DataError, UsageError
from visionkit.geometry import InputSpec
from visionkit.predictions import FlowField
from visionkit.predictions.image import encode_png

SIZE = (12, 16)
SPEC = InputSpec((64, 64), "native", divisor=64, fill=None)


def image(path: Path, number: int = 0, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)


def flow(number: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(number).normal(0, 20, (2, *size)).astype(np.float32)


def put(path: Path, number: int = 0, valid: np.ndarray | None = None, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_flow(path, flow(number, size), valid)


# ---------------------------------------------------------------------- files


def test_a_flo_file_is_exact_and_keeps_what_is_not_known(tmp_path: Path) -> None:
    valid = np.ones(SIZE, bool)
    valid[3, 4] = False
    put(tmp_path / "a.flo", 1, valid)
    values, known = read_flow(tmp_path / "a.flo")
    assert values.dtype == np.float32 and np.array_equal(known, valid)
    np.testing.assert_array_equal(values, np.where(valid, flow(1), 0))
    data = (tmp_path / "a.flo").read_bytes()
    assert struct.unpack("<fii", data[:12]) == (202021.25, 16, 12)
    assert struct.unpack("<ff", data[12:20]) == pytest.approx(flow(1)[:, 0, 0])


def test_kittis_png_is_in_64ths_of_a_pixel(tmp_path: Path) -> None:
    codes = np.zeros((1, 3, 3), np.uint16)
    codes[0] = [(32768 + 64, 32768 - 32, 1), (32768, 32768 + 1, 1), (5, 6, 0)]  # +1, -0.5; 0, 1/64; not known
    (tmp_path / "a.png").write_bytes(encode_png(codes))
    values, known = read_flow(tmp_path / "a.png")
    np.testing.assert_array_equal(values[:, 0], [[1, 0, 0], [-0.5, 1 / 64, 0]])
    assert known.tolist() == [[True, True, False]]
    put(tmp_path / "b.png", 2)
    np.testing.assert_allclose(read_flow(tmp_path / "b.png")[0], flow(2), atol=0.5 / 64 + 1e-6)


def test_pfm_of_three_channels_is_read_from_the_bottom_up(tmp_path: Path) -> None:
    rows = np.arange(12, dtype=">f4").reshape(2, 2, 3)
    (tmp_path / "a.pfm").write_bytes(b"PF\n2 2\n1.0\n" + rows.tobytes())
    values, known = read_flow(tmp_path / "a.pfm")
    assert values[:, 0, 0].tolist() == [6, 7] and values[:, 1, 1].tolist() == [3, 4] and known.all()


def test_files_that_cannot_be_are_refused(tmp_path: Path) -> None:
    put(tmp_path / "a.flo")
    whole = (tmp_path / "a.flo").read_bytes()
    (tmp_path / "magic.flo").write_bytes(struct.pack("<f", 1.5) + whole[4:])
    (tmp_path / "short.flo").write_bytes(whole[:-8])
    (tmp_path / "head.flo").write_bytes(whole[:7])
    (tmp_path / "gray.pfm").write_bytes(b"Pf\n2 2\n-1.0\n" + bytes(16))
    (tmp_path / "cut.pfm").write_bytes(b"PF\n2 2\n-1.0\n" + bytes(16))
    image(tmp_path / "colors.png")
    put(tmp_path / "b.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "b.png").read_bytes()[:60])
    for name, message in (
        ("magic.flo", r"begins with 1\.5 and not with 202021\.25"),
        ("short.flo", "1,528 bytes of flow; 16 x 12 pixels have 1,536"),
        ("head.flo", "truncated"),
        ("gray.pfm", "one channel; flow has three"),
        ("cut.pfm", "truncated"),
        ("colors.png", "a png of 8 bits; KITTI's flow has 16 bits"),
        ("cut.png", "truncated or damaged"),
        ("a.tif", r"flow is read from \.flo"),
        ("none.flo", "no such|does not exist"),
    ):
        with pytest.raises(DataError, match=message):
            read_flow(tmp_path / name)
    with pytest.raises(DataError, match="written as"):
        write_flow(tmp_path / "a.npy", flow())


# ---------------------------------------------------------------------- layouts


def test_sintel(tmp_path: Path) -> None:
    top = tmp_path / "training"
    for scene, count in (("alley_1", 3), ("cave_2", 2)):
        for number in range(1, count + 1):
            image(top / "clean" / scene / f"frame_{number:04d}.png", number)
        for number in range(1, count):
            put(top / "flow" / scene / f"frame_{number:04d}.flo", number)
            for kind, row in (("occlusions", 1), ("invalid", 2)):
                mask = np.zeros(SIZE, np.uint8)
                mask[row] = 255
                (top / kind / scene).mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(top / kind / scene / f"frame_{number:04d}.png")
    data = FlowData(str(tmp_path), val_sequences=["cave_2"], input=SPEC)
    train, val = data.samples("train"), data.samples("val")
    assert [len(train), len(val)] == [2, 1]
    assert Path(train[1].inputs["second"].name).name == "frame_0003.png"
    target = train[0].target
    assert target["occluded"][1].all() and target["occluded"].sum() == 16
    assert not target["valid"][2].any() and target["valid"].sum() == 11 * 16
    assert data.summary("train").notes == ["what is occluded is known"]
    with pytest.raises(UsageError, match="did you mean 'cave_2'"):
        FlowData(str(tmp_path), val_sequences=["cave2"], input=SPEC).samples("val")
    with pytest.raises(DataError, match="renderings clean and final"):
        FlowData(str(tmp_path), rendering="final", input=SPEC).samples("train")


def test_flying_chairs(tmp_path: Path) -> None:
    for number in range(1, 4):
        put(tmp_path / "data" / f"{number:05d}_flow.flo", number)
        for k in (1, 2):
            image(tmp_path / "data" / f"{number:05d}_img{k}.ppm", 10 * number + k)
    (tmp_path / "FlyingChairs_train_val.txt").write_text("1\n2\n1\n")
    data = FlowData(str(tmp_path), input=SPEC)
    assert [Path(name).name for name in data.samples("val").names()] == ["00002_img1.ppm"]
    assert len(data.samples("train")) == 2 and data.samples("train")[1].target["flow"] == pytest.approx(flow(3))
    (tmp_path / "FlyingChairs_train_val.txt").write_text("1\n2\n")
    with pytest.raises(DataError, match=r"2 lines, and .* has 3 pairs"):
        FlowData(str(tmp_path), input=SPEC).samples("train")
    (tmp_path / "data" / "00002_img2.ppm").unlink()
    (tmp_path / "FlyingChairs_train_val.txt").write_text("1\n2\n1\n")
    with pytest.raises(DataError, match=r"missing of 3 pairs \(chairs\): data/00002_img2.ppm"):
        FlowData(str(tmp_path), input=SPEC).samples("train")


@pytest.mark.parametrize("folder", ["image_2", "colored_0", "image_0"])
def test_kitti(folder: str, tmp_path: Path) -> None:
    every, visible = np.ones(SIZE, bool), np.ones(SIZE, bool)
    every[0], visible[:2] = False, False
    put(tmp_path / "training" / "flow_occ" / "000007_10.png", 3, every)
    put(tmp_path / "training" / "flow_noc" / "000007_10.png", 3, visible)
    for name in ("000007_10.png", "000007_11.png", "000008_10.png"):
        image(tmp_path / "training" / folder / name)
    (sample,) = FlowData(str(tmp_path), val_fraction=1.0, input=SPEC).samples("val")
    assert Path(sample.inputs["second"].name).name == "000007_11.png"
    assert np.array_equal(sample.target["valid"], every)
    assert sample.target["occluded"][1].all() and sample.target["occluded"].sum() == 16


def test_folders_by_name_with_splits(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for number in range(2):
            image(tmp_path / "first" / split / f"{number}.jpg", number)
            image(tmp_path / "second" / split / f"{number}.png", number)
            put(tmp_path / "flow" / split / f"{number}.png", number)
    data = FlowData(str(tmp_path), input=SPEC)
    assert [len(data.samples(split)) for split in ("train", "val")] == [2, 2]
    with pytest.raises(UsageError, match="no test split"):
        data.samples("test")
    (tmp_path / "second" / "val" / "1.png").unlink()
    with pytest.raises(DataError, match=r"no second image for 1 of 4 images: val/1.jpg"):
        FlowData(str(tmp_path), input=SPEC).samples("train")


def test_frames_of_a_folder(tmp_path: Path) -> None:
    for number in range(3):
        image(tmp_path / "frames" / "a" / f"{number}.png", number)
    put(tmp_path / "flow" / "a" / "0.flo")
    put(tmp_path / "flow" / "a" / "1.flo", 1)
    name, pairs = find_pairs(tmp_path, None, "clean")
    assert name == "frames" and [(p.first.stem, p.second.stem, p.sequence) for p in pairs] == [
        ("0", "1", "a"),
        ("1", "2", "a"),
    ]
    put(tmp_path / "flow" / "a" / "2.flo", 2)
    with pytest.raises(DataError, match=r"no frame of that name in .*, or none after it"):
        find_pairs(tmp_path, None, "clean")


def test_sizes_that_differ_and_folders_without_pairs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no pairs of images with flow in any of the layouts sintel, chairs, kitti"):
        find_pairs(tmp_path, None, "clean")
    for name in ("frame10.png", "frame11.png"):
        image(tmp_path / name, size=(13, 16))
    put(tmp_path / "flow10.flo")
    samples = FlowData(str(tmp_path), val_fraction=1.0, input=SPEC).samples("val")
    with pytest.raises(DataError, match=r"a flow of 16 x 12 pixels does not fit the image .* of 16 x 13"):
        samples[0]
    with pytest.raises(UsageError, match="allowed are sintel, chairs, kitti"):
        FlowData(str(tmp_path), layout="sintl", input=SPEC)


def test_the_middlebury_pair() -> None:
    """Mean length and errors as its index states them."""
    folder = real_data("optical_flow/middlebury_pair")
    (sample,) = FlowData(str(folder), val_fraction=1.0, input=SPEC).samples("val")
    truth = sample.target["flow"]
    assert sample.target["valid"].all() and np.hypot(*truth).mean() == pytest.approx(7.307, abs=5e-4)
    zero = FlowField(np.zeros_like(truth))
    assert zero.row(zero.truth(sample.target))["epe"] == pytest.approx(7.307, abs=5e-4)

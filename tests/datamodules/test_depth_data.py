"""Readers of depth: units, layouts, splits, and what is wrong with files."""

from __future__ import annotations

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from datamodules.depth_data import unit_advice
from datamodules.depth_files import read_depth
from datamodules.depth_folders import DepthFolderData
from datamodules.depth_lists import DepthListData
from datamodules.kitti_depth import KittiDepthData
from datamodules.nyu_depth import NyuDepthData
from tests.real_data import real_data
from visionkit.errors import DataError, UsageError
from visionkit.geometry import InputSpec
from visionkit.loading import rng_for

SPEC = InputSpec(size=(24, 32), resize_mode="stretch")


def meters(seed: int = 0, size: tuple[int, int] = (24, 32)) -> np.ndarray:
    depth = np.random.default_rng(seed).integers(500, 5000, size).astype(np.float32) / 1000
    depth[:3, :4] = 0
    return depth


def save_pair(image: Path, depth: Path, values: np.ndarray, unit: float = 1000) -> None:
    for path in (image, depth):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*values.shape, 3), 90, np.uint8)).save(image)
    if depth.suffix == ".npy":
        np.save(depth, values)
    else:
        Image.fromarray(np.rint(values * unit).astype(np.uint16)).save(depth)


# ---------------------------------------------------------------------- one file


def test_png_npy_and_tiff_give_the_same_meters(tmp_path):
    depth = meters()
    Image.fromarray(np.rint(depth * 1000).astype(np.uint16)).save(tmp_path / "a.png")
    Image.fromarray(np.rint(depth * 256 * 20).astype(np.uint16)).save(tmp_path / "b.png")
    Image.fromarray(depth).save(tmp_path / "c.tif")
    np.save(tmp_path / "d.npy", depth.astype(np.float64))
    np.save(tmp_path / "e.npy", np.rint(depth * 1000).astype(np.uint16))
    np.save(tmp_path / "f.npy", depth[None])
    for name, unit in (
        ("a.png", None),
        ("b.png", 5120.0),
        ("c.tif", None),
        ("d.npy", None),
        ("e.npy", None),
        ("f.npy", None),
    ):
        got = read_depth(tmp_path / name, unit)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, depth, atol=2e-4, err_msg=name)
        assert (got[:3, :4] == 0).all()


def test_nan_infinity_and_negative_are_not_measured(tmp_path):
    values = np.array([[np.nan, np.inf], [-1.0, 2.0]], dtype=np.float32)
    np.save(tmp_path / "a.npy", values)
    np.testing.assert_array_equal(read_depth(tmp_path / "a.npy"), [[0, 0], [0, 2]])


def test_what_is_no_depth_is_reported(tmp_path):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "rgb.png")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "eight.png")
    np.save(tmp_path / "three.npy", np.zeros((4, 4, 3)))
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    (tmp_path / "text.png").write_text("no")
    (tmp_path / "text.npy").write_text("no")
    whole = tmp_path / "whole.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 9000, (64, 64)).astype(np.uint16)).save(whole)
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:2000])
    for name, line in (
        ("rgb.png", "an image in color"),
        ("eight.png", "8-bit numbers"),
        ("three.npy", "one number per pixel"),
        ("objects.npy", "cannot be read as .npy"),
        ("text.png", "not an image"),
        ("text.npy", "cannot be read as .npy"),
        ("cut.png", "truncated or damaged"),
        ("none.png", "no such depth file"),
        ("none.npy", "no such file"),
    ):
        with pytest.raises(DataError, match=line):
            read_depth(tmp_path / name)


@pytest.mark.parametrize(
    ("median", "used", "likely"),
    [(1532.0, 1, "units_per_meter 1000"), (0.0015, 1000, "units_per_meter 1$"), (200.0, 1, "units_per_meter 256")],
)
def test_a_wrong_unit_is_reported_with_the_likely_one(median, used, likely):
    import re

    assert re.search(likely, unit_advice(median, used))


# ---------------------------------------------------------------------- folders


def test_flipped_folders_with_splits(tmp_path):
    for split, count in (("train", 5), ("val", 2), ("test", 1)):
        for k in range(count):
            suffix = ".npy" if k % 2 else ".png"
            save_pair(tmp_path / f"images/{split}/{k}.jpg", tmp_path / f"depth/{split}/{k}{suffix}", meters(k))
    data = DepthFolderData(str(tmp_path), input=SPEC)
    assert [len(data.samples(split)) for split in ("train", "val", "test")] == [5, 2, 1]
    for k, sample in enumerate(data.samples("train")):
        np.testing.assert_allclose(sample.target["depth"], meters(k), atol=1e-3)
    batch = next(iter(data.val_dataloader()))
    assert batch["target"]["depth"].shape == (2, 24, 32) and batch["inputs"]["image"].shape == (2, 3, 24, 32)


def test_frames_side_by_side_with_every_fifth_held_out(tmp_path):
    for k in range(10):
        frame = tmp_path / "frames" / f"frame-{k:03d}"
        save_pair(Path(f"{frame}.color.png"), Path(f"{frame}.depth.png"), meters(k))
        Path(f"{frame}.pose.txt").write_text("1 0 0 0")
    data = DepthFolderData(str(tmp_path), input=SPEC, test_every=5, val_every=4)
    names = {split: [Path(sample.id).name[6:9] for sample in data.samples(split)] for split in ("train", "val", "test")}
    assert names == {"test": ["004", "009"], "val": ["003", "008"], "train": ["000", "001", "002", "005", "006", "007"]}
    with pytest.raises(UsageError, match=r"no test split and data.test_every is 0"):
        DepthFolderData(str(tmp_path), input=SPEC).samples("test")


def test_sizes_that_differ_and_pairs_that_lack_are_errors(tmp_path):
    save_pair(tmp_path / "a/images/0.jpg", tmp_path / "a/depth/0.png", meters())
    Image.fromarray(np.zeros((24, 31, 3), np.uint8)).save(tmp_path / "a/images/0.jpg")
    with pytest.raises(
        DataError, match=r"0\.png: a depth map of 32 x 24 pixels does not fit the image .*0\.jpg of 31 x 24"
    ):
        DepthFolderData(str(tmp_path / "a"), input=SPEC, val_every=0).samples("train")
    save_pair(tmp_path / "b/images/0.jpg", tmp_path / "b/depth/0.png", meters())
    Image.fromarray(np.zeros((24, 32, 3), np.uint8)).save(tmp_path / "b/images/1.jpg")
    with pytest.raises(DataError, match=r"no depth for 1 of 2 images: 1\.jpg"):
        DepthFolderData(str(tmp_path / "b"), input=SPEC).samples("train")
    Image.fromarray(np.zeros((24, 32, 3), np.uint8)).save(tmp_path / "x.color.png")
    with pytest.raises(DataError, match=r"no depth for 1 of 1 image: x\.color\.png"):
        DepthFolderData(str(tmp_path), input=SPEC).samples("train")
    (tmp_path / "c").mkdir()
    with pytest.raises(DataError, match="no pairs"):
        DepthFolderData(str(tmp_path / "c"), input=SPEC).samples("train")
    for options, line in (({"test_every": 1}, "test_every 1"), ({"units_per_meter": 0.0}, "above 0")):
        with pytest.raises(UsageError, match=line):
            DepthFolderData(str(tmp_path), **options)


def test_a_wrong_unit_and_empty_depth_are_counted_warnings(tmp_path, caplog):
    for k in range(4):
        save_pair(tmp_path / f"images/{k}.jpg", tmp_path / f"depth/{k}.npy", meters(k) * 1000 * (k != 2))
    with caplog.at_level("WARNING"):
        DepthFolderData(str(tmp_path), input=SPEC, val_every=0).samples("train")
    assert "train: 1 of 4 images have no measured depth" in caplog.text and "2.jpg" in caplog.text
    assert "--data.units_per_meter 1000" in caplog.text
    caplog.clear()
    with caplog.at_level("WARNING"):
        DepthFolderData(str(tmp_path), input=SPEC, val_every=0, units_per_meter=1000).samples("train")
    assert "most likely wrong" not in caplog.text


def test_samples_do_not_depend_on_the_cache(tmp_path):
    for k in range(3):
        save_pair(tmp_path / f"images/{k}.png", tmp_path / f"depth/{k}.png", meters(k))
    kept, anew = (
        DepthFolderData(str(tmp_path), input=SPEC, val_every=0, cache_mb=mb).samples("train") for mb in (64, 0)
    )
    for _ in range(2):
        for a, b in zip(kept, anew, strict=True):
            np.testing.assert_array_equal(a.image.read(), b.image.read())
            np.testing.assert_array_equal(a.target["depth"], b.target["depth"])
    assert pickle.loads(pickle.dumps(anew))[1].id == anew[1].id


def test_the_kinect_frames_of_a_kitchen(tmp_path):
    root = real_data("depth/tsdf_fusion_rgbd25")
    data = DepthFolderData(str(root), input=SPEC, test_every=5, val_every=5)
    assert [len(data.samples(split)) for split in ("train", "val", "test")] == [16, 4, 5]
    depth = data.samples("train")[0].target["depth"]
    assert depth.shape == (480, 640) and 0.5 < np.median(depth[depth > 0]) < 4


def test_the_scene_generator_s_depth_is_cut_and_flipped_with_the_image():
    from datamodules.augmentation import DenseAugment
    from datamodules.scene_data import SceneData
    from visionkit.preprocess import Preprocessor

    data = SceneData("depth", count=1, eval_count=1, size=(48, 64))
    sample = data.samples("train")[0]
    augment = DenseAugment(scale=(1.0, 1.5), horizontal_flip=1.0)
    moved = Preprocessor(InputSpec(size=(48, 64), resize_mode="stretch"))(augment(sample, rng_for(0, 0, 0)))
    assert set(np.unique(moved["target"]["depth"].numpy())) <= set(np.unique(sample.target["depth"])), (
        "meters stay meters"
    )


# ---------------------------------------------------------------------- lists, NYU, KITTI


@pytest.mark.parametrize("separator", ["\t", ",", " "])
def test_lists_of_pairs(tmp_path, separator):
    lines = ["image depth split".replace(" ", separator)]
    for k, split in enumerate(["train", "train", "val", "test"]):
        save_pair(tmp_path / f"p{k}.jpg", tmp_path / f"d{k}.png", meters(k), unit=5000)
        lines.append(separator.join([f"p{k}.jpg", f"d{k}.png", split]))
    (tmp_path / "list.tsv").write_text("# a comment\n" + "\n".join(lines) + "\n\n")
    data = DepthListData(str(tmp_path / "list.tsv"), units_per_meter=5000, input=SPEC)
    assert [len(data.samples(split)) for split in ("train", "val", "test")] == [2, 1, 1]
    np.testing.assert_allclose(data.samples("test")[0].target["depth"], meters(3), atol=3e-4)


def test_a_list_with_focal_lengths_is_for_training(tmp_path):
    for k in range(2):
        save_pair(tmp_path / f"p{k}.jpg", tmp_path / f"d{k}.png", meters(k))
    (tmp_path / "list.txt").write_text("p0.jpg d0.png 518.8579\np1.jpg d1.png 518.8579\n")
    assert len(DepthListData(str(tmp_path / "list.txt"), val_every=0, input=SPEC).samples("train")) == 2


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("p0.jpg\td0.png\ttrian\n", "line 1: split 'trian'.*did you mean 'train'"),
        ("p0.jpg\td0.png\np0.jpg\n", "line 2: an image and its depth"),
        ("p0.jpg\td9.png\n", r"1 of 1 depth files are missing: d9.png \(line 1\)"),
        ("p0.jpg\td0.png\np0.jpg\td0.jpg\n", "line 2: 'd0.jpg' is no depth"),
        ("\n", "no pairs"),
    ],
)
def test_lists_that_are_wrong_state_where(tmp_path, text, line):
    save_pair(tmp_path / "p0.jpg", tmp_path / "d0.png", meters())
    (tmp_path / "list.tsv").write_text(text)
    with pytest.raises(DataError, match=line):
        DepthListData(str(tmp_path / "list.tsv"), input=SPEC).samples("train")


def write_nyu(folder: Path, count: int = 6) -> list[np.ndarray]:
    depths = [meters(k, (48, 64)) for k in range(count)]
    images = np.random.default_rng(0).integers(0, 256, (count, 48, 64, 3), dtype=np.uint8)
    with h5py.File(folder / "nyu.mat", "w") as file:  # columns first, as MATLAB writes
        file["images"] = images.transpose(0, 3, 2, 1)
        file["depths"] = np.stack(depths).transpose(0, 2, 1)
        file["rawDepths"] = np.stack(depths).transpose(0, 2, 1) * 0
    np.save(folder / "images.npy", images)
    savemat(folder / "splits.mat", {"trainNdxs": np.array([[1], [2], [4], [6]]), "testNdxs": np.array([[3], [5]])})
    return depths


def test_nyu_s_labeled_file_with_its_splits(tmp_path):
    depths = write_nyu(tmp_path)
    data = NyuDepthData(
        str(tmp_path / "nyu.mat"), splits=str(tmp_path / "splits.mat"), val_every=4, input=SPEC, num_workers=1
    )
    assert [len(data.samples(split)) for split in ("train", "val", "test")] == [3, 1, 2]
    sample = data.samples("test")[1]
    np.testing.assert_allclose(sample.target["depth"], depths[4])
    np.testing.assert_array_equal(sample.image.read(), np.load(tmp_path / "images.npy")[4])
    assert sample.id.endswith("nyu.mat[5]")
    batch = next(iter(data.test_dataloader()))  # in another process, which opens the file for itself
    assert batch["target"]["depth"].shape == (2, 24, 32)


def test_nyu_files_that_are_wrong_are_reported(tmp_path):
    write_nyu(tmp_path)
    (tmp_path / "text.mat").write_text("no")
    with h5py.File(tmp_path / "other.mat", "w") as file:
        file["other"] = np.zeros(3)
    savemat(tmp_path / "wrong.mat", {"trainNdxs": np.array([7]), "testNdxs": np.array([1])})
    for options, line in (
        ({"mat": "none.mat"}, "no such file"),
        ({"mat": "text.mat"}, "cannot be opened as HDF5"),
        ({"mat": "other.mat"}, "holds no 'images'; it holds other"),
        ({"mat": "nyu.mat", "splits": "wrong.mat"}, "names image 7 of 6"),
        ({"mat": "nyu.mat", "splits": "text.mat"}, "cannot be read as .mat"),
    ):
        paths = {name: str(tmp_path / value) for name, value in options.items()}
        with pytest.raises(DataError, match=line):
            NyuDepthData(**paths, input=SPEC).samples("train")


def test_kitti_s_layout(tmp_path, caplog):
    drive = "2011_09_26_drive_0001_sync"
    for split, names in (("train", ["0000000005", "0000000006"]), ("val", ["0000000007"])):
        for name in names:
            for camera in ("image_02", "image_03"):
                save_pair(
                    tmp_path / f"raw/2011_09_26/{drive}/{camera}/data/{name}.png",
                    tmp_path / f"data_depth_annotated/{split}/{drive}/proj_depth/groundtruth/{camera}/{name}.png",
                    meters(int(name)) * 8,
                    unit=256,
                )
    chosen = tmp_path / "depth_selection/val_selection_cropped"
    save_pair(
        chosen / f"image/{drive}_image_0000000009_image_02.png",
        chosen / f"groundtruth_depth/{drive}_groundtruth_depth_0000000009_image_02.png",
        meters(9) * 8,
        unit=256,
    )
    data = KittiDepthData(str(tmp_path), raw=str(tmp_path / "raw"), input=SPEC, cameras=(2,))
    assert [len(data.samples(split)) for split in ("train", "val", "test")] == [2, 1, 1]
    np.testing.assert_allclose(data.samples("val")[0].target["depth"], meters(7) * 8, atol=1 / 256)
    np.testing.assert_allclose(data.samples("test")[0].target["depth"], meters(9) * 8, atol=1 / 256)
    assert len(KittiDepthData(str(tmp_path), raw=str(tmp_path / "raw"), input=SPEC).samples("train")) == 4
    with pytest.raises(DataError, match="images are missing"):
        KittiDepthData(str(tmp_path), input=SPEC).samples("train")

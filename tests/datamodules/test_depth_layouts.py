"""Depth as people have it: endings, names, units, twins, sequences of TUM and lists of BTS."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datamodules.depth_files import read_depth
from datamodules.depth_folders import DepthFolderData
from datamodules.depth_lists import DepthListData
from datamodules.kitti_depth import KittiDepthData
from datamodules.tum_depth import TumDepthData, associate
from visionkit.errors import DataError, UsageError
from visionkit.geometry import InputSpec

SPEC = InputSpec(size=(24, 32), resize_mode="stretch")


def depth(number: int = 0) -> np.ndarray:
    return np.linspace(1, 2 + number, 24 * 32, dtype=np.float32).reshape(24, 32)


def save_image(path: Path, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((24, 32, 3), 90, np.uint8)).save(path, **options)


def save_depth(path: Path, values: np.ndarray, unit: float = 1000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = np.rint(values * unit).astype(np.uint16)
    match path.suffix:
        case ".npy":
            np.save(path, values)
        case ".npz":
            np.savez_compressed(path, depth=values, mask=values > 0)
        case ".pfm":
            height, width = values.shape
            path.write_bytes(f"Pf\n{width} {height}\n-1.0\n".encode() + values[::-1].astype("<f4").tobytes())
        case ".pgm":
            height, width = values.shape
            path.write_bytes(f"P5\n{width} {height}\n{whole.max()}\n".encode() + whole.astype(">u2").tobytes())
        case ".exr":
            path.write_bytes(exr(values))
        case ".tif":
            import tifffile

            tifffile.imwrite(path, values.astype(np.float16))
        case _:
            Image.fromarray(whole).save(path)


def exr(values: np.ndarray, compression: int = 3, names: tuple[str, ...] = ("A", "Z"), half: bool = False) -> bytes:
    """An OpenEXR file of scan lines; every channel but Z is 7."""
    height, width = values.shape

    def text(*words: str) -> bytes:
        return b"".join(word.encode() + b"\0" for word in words)

    def attribute(name: str, kind: str, content: bytes) -> bytes:
        return text(name, kind) + struct.pack("<I", len(content)) + content

    channels = b"".join(text(name) + struct.pack("<iIii", 1 if half else 2, 0, 1, 1) for name in names) + b"\0"
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    head = struct.pack("<II", 20000630, 2) + attribute("channels", "chlist", channels)
    head += attribute("compression", "compression", bytes([compression]))
    head += attribute("dataWindow", "box2i", window) + attribute("displayWindow", "box2i", window) + b"\0"
    rows, blocks = 16 if compression == 3 else 1, []
    for y in range(0, height, rows):
        lines = [
            (row if name == "Z" else row * 0 + 7).astype("<f2" if half else "<f4").tobytes()
            for row in values[y : y + rows]
            for name in names
        ]
        raw = np.frombuffer(b"".join(lines), np.uint8)
        mixed = np.concatenate([raw[::2], raw[1::2]])
        steps = np.concatenate([mixed[:1], mixed[1:] - mixed[:-1] + 128]).astype(np.uint8).tobytes()
        if compression == 1:  # literal runs
            packed = b"".join(
                struct.pack("b", -len(part)) + part for part in (steps[k : k + 127] for k in range(0, len(steps), 127))
            )
        else:
            packed = zlib.compress(steps) if compression else raw.tobytes()
        packed = packed if len(packed) < len(raw) else raw.tobytes()
        blocks.append(struct.pack("<ii", y, len(packed)) + packed)
    start = len(head) + 8 * len(blocks)
    places = np.cumsum([start, *(len(block) for block in blocks[:-1])]).astype("<u8")
    return head + places.tobytes() + b"".join(blocks)


# ---------------------------------------------------------------------- files


@pytest.mark.parametrize("ending", [".png", ".npy", ".npz", ".pfm", ".pgm", ".exr", ".tif"])
def test_every_ending_gives_the_same_meters(tmp_path: Path, ending: str) -> None:
    save_image(tmp_path / "images/0.jpg")
    save_depth(tmp_path / f"depth/0{ending}", depth())
    data = DepthFolderData(str(tmp_path), input=SPEC, val_every=0)
    (sample,) = data.samples("train")
    assert "not measured" in data.summary("train").notes[0]
    np.testing.assert_allclose(sample.target["depth"], depth(), atol=1e-3)


@pytest.mark.parametrize("compression", [0, 1, 2, 3])
@pytest.mark.parametrize("half", [False, True])
def test_openexr_of_every_simple_compression(tmp_path: Path, compression: int, half: bool) -> None:
    (tmp_path / "a.exr").write_bytes(exr(depth(), compression, half=half))
    np.testing.assert_allclose(read_depth(tmp_path / "a.exr"), depth(), atol=2e-3 if half else 0)


def test_damaged_arrays_are_reported_and_nothing_else_happens(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a.exr", "a.pfm", "a.npz", "a.npy", "a.pgm", "a.tif", "a.png"):
        save_depth(tmp_path / name, depth())
        whole = (tmp_path / name).read_bytes()
        for number in range(40):
            broken = bytearray(whole if number % 2 else whole[: int(rng.integers(1, len(whole)))])
            for place in rng.integers(0, min(len(broken), 300), 3):
                broken[place] = int(rng.integers(256))
            (tmp_path / name).write_bytes(broken)
            try:
                read_depth(tmp_path / name)
            except DataError as error:
                assert name in str(error)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.exr", exr(depth(), names=("B", "G", "X")), r"has the channels B, G, X; depth is called Z or depth"),
        ("a.exr", exr(depth(), compression=4), "compressed in a way that is not read; save it with ZIP"),
        ("a.exr", b"x" * 200, "no OpenEXR file"),
        ("a.pfm", b"PF\n2 2\n-1.0\n" + b"\0" * 48, "three channels"),
        ("a.pfm", b"Pf\n200000 200000\n-1.0\n", "200000 x 200000 pixels"),
        ("a.pfm", b"Pf\n20 20\n-1.0\nabc", "truncated or damaged"),
    ],
)
def test_arrays_that_are_no_depth(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_depth(tmp_path / name)


def test_an_archive_of_several_arrays_needs_one_called_depth(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", left=depth(), right=depth())
    with pytest.raises(DataError, match="holds left, right; depth is called 'depth' there"):
        read_depth(tmp_path / "a.npz")


# ---------------------------------------------------------------------- names


def test_an_image_of_depth_beside_its_array_is_refused_and_an_option_chooses(tmp_path: Path) -> None:
    for k in range(3):
        save_image(tmp_path / f"images/{k}.jpg")
        save_depth(tmp_path / f"depth/{k}.npy", depth())
        Image.fromarray((depth() / 2 * 65535).astype(np.uint16)).save(tmp_path / f"depth/{k}.png")
    with pytest.raises(
        DataError, match=r"0\.npy and 0\.png have one name, so which depth .* --data\.depth_names '\*\.npy'"
    ):
        DepthFolderData(str(tmp_path), input=SPEC).samples("train")
    data = DepthFolderData(str(tmp_path), input=SPEC, depth_names="*.npy", val_every=0)
    np.testing.assert_allclose(data.samples("train")[0].target["depth"], depth())


@pytest.mark.parametrize(
    ("image", "beside", "options"),
    [
        ("{}.png", "{}_depth.png", {"images": ".", "depths": ".", "depth_names": "*_depth"}),
        ("{}.jpg", "{}.npy", {"images": ".", "depths": "."}),
        (
            "rgb_{}.png",
            "depth_{}.png",
            {"images": ".", "depths": ".", "image_names": "rgb_*", "depth_names": "depth_*"},
        ),
        ("left/{}.png", "disp/{}.exr", {"images": "left", "depths": "disp"}),
        ("{}_rgb.png", "{}_depth.png", {}),
        ("a/{}.color.png", "a/{}.depth.pgm", {}),
        ("rgb/{}.png", "depth/{}.png", {}),
    ],
)
def test_layouts(tmp_path: Path, image: str, beside: str, options: dict[str, str]) -> None:
    for k in range(3):
        save_image(tmp_path / image.format(k))
        save_depth(tmp_path / beside.format(k), depth(k))
    (tmp_path / "._0.png").write_bytes(b"x")
    samples = DepthFolderData(str(tmp_path), input=SPEC, val_every=0, **options).samples("train")
    assert [float(sample.target["depth"].max()) for sample in samples] == pytest.approx([2, 3, 4], abs=1e-3)


@pytest.mark.parametrize("layout", ["{split}/rgb", "rgb/{split}"])
def test_folders_of_splits(tmp_path: Path, layout: str) -> None:
    for word, count in (("training", 3), ("valid", 2), ("test_set", 1)):
        for k in range(count):
            save_image(tmp_path / layout.format(split=word) / f"{k}.png")
            save_depth(tmp_path / layout.replace("rgb", "depth").format(split=word) / f"{k}.png", depth())
    for options in ({}, {"images": layout, "depths": layout.replace("rgb", "depth")}):
        data = DepthFolderData(str(tmp_path), input=SPEC, **options)
        assert [len(data.samples(split)) for split in ("train", "val", "test")] == [3, 2, 1]


def test_names_that_are_not_recognized_are_refused_with_the_option(tmp_path: Path) -> None:
    save_image(tmp_path / "1.png")
    save_depth(tmp_path / "1_depth.png", depth())
    with pytest.raises(DataError, match=r"--data\.images \. --data\.depths \. --data\.depth_names '\*_depth'"):
        DepthFolderData(str(tmp_path), input=SPEC).samples("train")
    with pytest.raises(UsageError, match="give both images and depths"):
        DepthFolderData(str(tmp_path), input=SPEC, images=".")


# ---------------------------------------------------------------------- what is stated


@pytest.mark.parametrize("orientation", [3, 6])
def test_an_image_that_exif_turns_and_its_depth_does_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    save_image(tmp_path / "images/0.jpg", exif=exif)
    save_depth(tmp_path / "depth/0.png", depth())
    data = DepthFolderData(str(tmp_path), input=SPEC, val_every=0)
    if orientation == 6:
        with pytest.raises(DataError, match="turned by its EXIF orientation 6 and the depth map is not"):
            data.summary("train")
    else:
        data.summary("train")
        assert "EXIF turns 1 images and not their depth" in caplog.text


def test_the_summary_states_the_range_and_the_unit_and_tums_unit_is_suspected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for k in range(3):
        save_image(tmp_path / f"images/{k}.jpg")
        save_depth(tmp_path / f"depth/{k}.png", depth(2), unit=5000)
    (tmp_path / "images/notes.txt").write_text("x")
    DepthFolderData(str(tmp_path), input=SPEC, val_every=0).report(["train"])
    out = capsys.readouterr().out
    assert "train  3 images" in out and "1000 units per meter, the default for whole numbers" in out
    assert "1 not an image (.txt)" in out
    assert "TUM's files have 5000" in caplog.text
    caplog.clear()
    DepthFolderData(str(tmp_path), input=SPEC, val_every=0, units_per_meter=5000).report(["train"])
    assert "depth: 1.15 to 3.85 m, median 2.5 m; 0.0% not measured; 5000 units" in capsys.readouterr().out
    assert not caplog.text


# ---------------------------------------------------------------------- TUM


def sequence(folder: Path, stamps: list[float], later: list[float]) -> None:
    for name, times in (("rgb", stamps), ("depth", later)):
        (folder / name).mkdir(parents=True)
        lines = [f"# {name} images", "# timestamp filename"]
        for k, time in enumerate(times):
            path = folder / name / f"{time:.6f}.png"
            if name == "rgb":
                save_image(path)
            else:
                save_depth(path, depth(k), unit=5000)
            lines.append(f"{time:.6f} {name}/{path.name}")
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")


def test_tum_sequences_are_matched_by_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sequence(tmp_path / "desk", [1.0, 1.033, 1.066, 5.0], [1.01, 1.04, 1.071])
    sequence(tmp_path / "room", [2.0], [2.001])
    data = TumDepthData(str(tmp_path), test_sequences=["room"], val_every=3, input=SPEC)
    assert [len(data.samples(split)) for split in ("train", "val", "test")] == [2, 1, 1]
    assert float(data.samples("train")[1].target["depth"].max()) == pytest.approx(3, abs=1e-3)
    data.report(["train"])
    out = capsys.readouterr().out
    assert "1 images without a depth within 0.02 s" in out and "5000 units per meter" in out
    assert len(TumDepthData(str(tmp_path / "desk"), val_every=0, input=SPEC).samples("train")) == 3
    for folder in (tmp_path, tmp_path / "desk"):
        with pytest.raises(DataError, match="TumDepthData"):
            DepthFolderData(str(folder), input=SPEC).samples("train")
    with pytest.raises(UsageError, match="there is no sequence 'rom'; did you mean 'room'"):
        TumDepthData(str(tmp_path), test_sequences=["rom"], input=SPEC).samples("train")
    with pytest.raises(DataError, match=r"one is a folder with rgb\.txt and depth\.txt"):
        TumDepthData(str(tmp_path / "desk/rgb"), input=SPEC).samples("train")


def test_association_takes_the_nearest_pairs_first_and_each_time_once() -> None:
    first, second = np.array([0.0, 0.010, 0.5, 0.9]), np.array([0.9, 0.012, 0.51])
    assert associate(first, second, 0.02) == [(1, 1), (2, 2), (3, 0)]
    assert associate(first, second, 0.005) == [(1, 1), (3, 0)]


# ---------------------------------------------------------------------- lists, KITTI


def test_bts_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for k in range(2):
        save_image(tmp_path / f"raw/kitchen 1/rgb_{k}.jpg")
        save_depth(tmp_path / f"truth/kitchen 1/sync_{k}.png", depth(k))
    lines = [f"/kitchen 1/rgb_{k}.jpg\t/kitchen 1/sync_{k}.png\t518.8579" for k in range(2)]
    (tmp_path / "list.txt").write_bytes("\ufeff".encode() + "\r\n".join([*lines, "/x.jpg\tNone\t721.5377"]).encode())
    data = DepthListData(
        str(tmp_path / "list.txt"),
        root=str(tmp_path / "raw"),
        depth_root=str(tmp_path / "truth"),
        val_every=0,
        input=SPEC,
    )
    assert [float(sample.target["depth"].max()) for sample in data.samples("train")] == pytest.approx([2, 3])
    data.report(["train"])
    assert "passed over: 1 images whose depth is None" in capsys.readouterr().out


def test_what_macos_leaves_is_no_depth_of_kitti(tmp_path: Path) -> None:
    drive = "2011_09_26_drive_0001_sync"
    save_image(tmp_path / f"2011_09_26/{drive}/image_02/data/0000000005.png")
    folder = tmp_path / f"train/{drive}/proj_depth/groundtruth/image_02"
    save_depth(folder / "0000000005.png", depth() * 8, unit=256)
    (folder / "._0000000005.png").write_bytes(b"x")
    assert len(KittiDepthData(str(tmp_path), input=SPEC).samples("train")) == 1

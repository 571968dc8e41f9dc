"""Label files as people's tools write them: what their values mean, and what is refused."""

from __future__ import annotations

import logging
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datamodules.label_maps import LabelReader
from datamodules.segmentation import LabelMapData
from datamodules.value_files import read_values
from visionkit.errors import DataError, UsageError
from visionkit.geometry import InputSpec

SPEC = InputSpec(size=(16, 16), resize_mode="stretch")
TWO = ["ground", "square"]


def drawn(values: tuple[int, ...] = (0, 1, 2), dtype: Any = np.uint8) -> np.ndarray:
    out = np.full((12, 10), values[0], dtype)
    out[2:6, 2:8] = values[1]
    out[8:, :4] = values[-1]
    return out


def save(root: Path, name: str, labels: np.ndarray, ending: str = ".png", **options: Any) -> None:
    for folder, pixels, end in (("images", np.full((*labels.shape[:2], 3), 90, np.uint8), ".jpg"),
                                ("label_maps", labels, ending)):  # fmt: skip
        path = root / folder / "train" / f"{name}{end}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, **(options if folder == "label_maps" else {}))


def data(root: Path, **arguments: Any) -> LabelMapData:
    return LabelMapData(str(root), **{"classes": TWO, "input": SPEC, "val_fraction": 0.0, "cache_mb": 0, **arguments})


def maps(read: LabelMapData) -> list[np.ndarray]:
    return [np.asarray(sample.target["label_map"]) for sample in read.samples("train")]


def gray_png(path: Path, values: np.ndarray, bits: int) -> None:
    """A PNG of 1, 2 or 4 bits, which Pillow does not write."""
    rows = np.zeros((values.shape[0], -(-values.shape[1] * bits // 8) * 8), np.uint8)
    for bit in range(bits):
        rows[:, bit : values.shape[1] * bits : bits] = values >> (bits - 1 - bit) & 1
    raw = b"".join(b"\0" + row.tobytes() for row in np.packbits(rows, axis=1))

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, 0, 0, 0, 0)
    parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(raw)), chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


# ---------------------------------------------------------------------- values as the file has them


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_gray_pngs_of_few_bits_keep_their_values(tmp_path: Path, bits: int) -> None:
    values = (np.arange(35).reshape(5, 7) % (1 << bits)).astype(np.uint8)
    gray_png(tmp_path / "a.png", values, bits)
    assert np.array_equal(read_values(tmp_path / "a.png").array, values)


@pytest.mark.parametrize("top", [1, 3, 19, 100, 255, 300, 5000, 65535])
@pytest.mark.parametrize("plain", [False, True])
def test_pgm_files_keep_their_values(tmp_path: Path, top: int, plain: bool) -> None:
    values = np.linspace(0, top, 35).astype(int).reshape(5, 7)
    pixels = (
        " ".join(map(str, values.ravel())).encode() if plain else values.astype(">u2" if top > 255 else "u1").tobytes()
    )
    (tmp_path / "a.pgm").write_bytes(f"P{2 if plain else 5}\n# made\n7 5\n{top}\n".encode() + pixels)
    assert np.array_equal(read_values(tmp_path / "a.pgm").array, values)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float16", "float32", "float64"])
def test_tiffs_of_every_type_keep_their_values(tmp_path: Path, dtype: str) -> None:
    import tifffile

    tifffile.imwrite(tmp_path / "a.tif", drawn(dtype=dtype))
    assert np.array_equal(LabelReader(["a", "b", "c"]).read(tmp_path / "a.tif"), drawn())
    save(tmp_path, "a", drawn())
    (tmp_path / "label_maps/train/a.png").unlink()
    (tmp_path / "a.tif").rename(tmp_path / "label_maps/train/a.tif")
    assert data(tmp_path, classes=["a", "b", "c"]).summary("train").images == 1
    tifffile.imwrite(tmp_path / "a.tif", drawn(dtype=dtype), photometric="miniswhite")
    if dtype == "uint8":
        assert np.array_equal(LabelReader(["a", "b", "c"]).read(tmp_path / "a.tif"), drawn())


def test_numbers_saved_as_colors_or_with_transparency_are_numbers(tmp_path: Path) -> None:
    for name, pixels in (("rgb", np.stack([drawn()] * 3, axis=2)), ("la", np.stack([drawn(), drawn() * 0], axis=2))):
        Image.fromarray(pixels, "LA" if name == "la" else None).save(tmp_path / f"{name}.png")
        assert np.array_equal(LabelReader(["a", "b", "c"]).read(tmp_path / f"{name}.png"), drawn())


def test_fractions_are_no_labels(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"a\.tif: the values are fractions"):
        LabelReader(TWO).read(tmp_path / "a.tif")


# ---------------------------------------------------------------------- 0 and 255


@pytest.mark.parametrize("mode", ["gray", "palette", "color"])
def test_masks_of_0_and_255_are_two_classes_and_it_is_said(
    tmp_path: Path, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = drawn((0, 255, 0))
    for k in range(3):
        save(tmp_path, str(k), np.stack([mask] * 3, axis=2) if mode == "color" else mask)
        if mode == "palette":
            image = Image.frombytes("P", (10, 12), mask.tobytes())
            image.putpalette([0, 0, 0] * 256)
            image.save(tmp_path / f"label_maps/train/{k}.png")
    read = data(tmp_path)
    assert np.array_equal(maps(read)[0], mask // 255)
    for one in (data(tmp_path, val_fraction=0.34), data(tmp_path, val_fraction=0.34)):
        one.report(["train", "val"])
        message = capsys.readouterr().out
        assert "classes: ground 2, square 2" in message and "val    1 image " in message
        assert message.index("data (LabelMapData)") < message.index("0 is 'ground' and 255 is 'square', not ignored")
        assert message.count("0 is 'ground'") == 1


@pytest.mark.parametrize("values", [(0, 255, 0), (0, 1, 0), (0, 1, 255)])
def test_binary_masks_need_no_class_names(
    tmp_path: Path, values: tuple[int, int, int], caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, "a", drawn(values))
    read = data(tmp_path, classes=None)
    assert read.classes == ("background", "foreground")
    assert f"0 is 'background' and {values[1]} is 'foreground'; --data.classes" in caplog.text
    assert set(np.unique(maps(read)[0])) == ({0, 1, 255} if values[2] else {0, 1})


def test_values_that_nobody_named_are_listed_and_a_missing_folder_is_said(tmp_path: Path) -> None:
    save(tmp_path, "a", drawn((0, 7, 3)))
    with pytest.raises(DataError, match=r"the label files hold the values 0, 3, 7; give --data.classes"):
        data(tmp_path, classes=None)
    with pytest.raises(DataError, match=r"masks/train: no such folder of label files; --data.labels states where"):
        data(tmp_path, classes=None, labels="masks/{split}")
    (tmp_path / "label_maps").rename(tmp_path / "masks")
    (tmp_path / "images").rename(tmp_path / "photos")
    with pytest.raises(DataError, match=r"--data\.labels .*--data\.images .*folders there: masks/, photos/$"):
        data(tmp_path, classes=None)


def test_255_stays_ignored_where_other_labels_are_there_or_it_is_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, "a", drawn((0, 255, 0)))
    ignored = data(tmp_path, ignore=[255])
    assert set(np.unique(maps(ignored)[0])) == {0, 255} and not caplog.text
    ignored.summary("train")
    assert (
        "every pixel of the label maps is 'ground' or ignored (20.0%), "
        "so "
        "there "
        "is "
        "nothing "
        "to "
        "distinguish" in caplog.text
    )
    save(tmp_path, "b", drawn((0, 1, 255)))
    assert set(np.unique(maps(data(tmp_path))[1])) == {0, 1, 255}


def test_the_training_labels_decide_for_every_split(tmp_path: Path) -> None:
    save(tmp_path, "a", drawn((0, 1, 255)))
    for folder in ("images", "label_maps"):
        (tmp_path / folder / "val").mkdir()
    Image.fromarray(drawn((0, 255, 0))).save(tmp_path / "label_maps/val/a.png")
    Image.fromarray(np.zeros((12, 10, 3), np.uint8)).save(tmp_path / "images/val/a.png")
    assert set(np.unique(data(tmp_path).samples("val")[0].target["label_map"])) == {0, 255}


def test_a_validation_set_of_ignored_pixels_is_a_warning_and_one_without_training_labels_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, "a", drawn((0, 1, 0)))
    for folder in ("images", "label_maps"):
        (tmp_path / folder / "val").mkdir()
    Image.fromarray(drawn((0, 255, 0))).save(tmp_path / "label_maps/val/a.png")
    Image.fromarray(np.zeros((12, 10, 3), np.uint8)).save(tmp_path / "images/val/a.png")
    data(tmp_path).summary("val")
    assert "every pixel of the label maps is 'ground' or ignored (20.0%)" in caplog.text
    (tmp_path / "label_maps/train/a.png").unlink()
    assert set(np.unique(data(tmp_path).samples("val")[0].target["label_map"])) == {0, 1}


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["square"], r"there is one class \(square\): name what 0 is too, --data\.classes '\[background, square\]'"),
        (["a", "b", "c"], r"are 3 classes .* --data\.values '\{a: 0, b: 255, \.\.\.\}'.* --data\.ignore \[255\]"),
    ],
)
def test_masks_of_0_and_255_with_another_number_of_classes_are_refused(
    tmp_path: Path, classes: list[str], message: str
) -> None:
    save(tmp_path, "a", drawn((0, 255, 0)))
    with pytest.raises(DataError, match=message):
        data(tmp_path, classes=classes).samples("train")


# ---------------------------------------------------------------------- values that are not 0, 1, 2


def test_values_by_name(tmp_path: Path) -> None:
    save(tmp_path, "a", drawn((0, 128, 200)))
    read = data(tmp_path, classes=None, values={"square": 128, "ground": [0, 200]})
    assert read.classes == ("square", "ground")
    assert np.array_equal(maps(read)[0], drawn((1, 0, 1)))
    assert np.array_equal(
        maps(data(tmp_path, values={"ground": 0, "square": 128}, ignore=[200]))[0], drawn((0, 1, 255))
    )
    save(tmp_path, "a", drawn((0, 255, 7)))
    assert np.array_equal(maps(data(tmp_path, values={"ground": [0, 7], "square": 255}))[0], drawn((0, 1, 0)))


def test_labels_that_start_at_1(tmp_path: Path) -> None:
    save(tmp_path, "a", drawn((1, 2, 0)))
    assert np.array_equal(maps(data(tmp_path, label_offset=1))[0], drawn((0, 1, 255)))
    with pytest.raises(DataError, match=r"value 2 .* is no class; .* set --data\.label_offset 1"):
        data(tmp_path).summary("train")


@pytest.mark.parametrize(
    ("values", "advice"),
    [
        ((0, 128, 0), r"--data\.values '\{ground: 0, square: 128\}'"),
        ((0, 85, 170), r"--data\.values '\{NAME: VALUE, \.\.\.\}', or name what means nothing in data\.ignore"),
    ],
)
def test_values_that_are_no_class_are_refused_with_the_option_that_maps_them(
    tmp_path: Path, values: tuple[int, ...], advice: str
) -> None:
    save(tmp_path, "a", drawn(values))
    with pytest.raises(DataError, match=advice):
        data(tmp_path).summary("train")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"values": {"ground": 0}}, "'square' has no color or value"),
        (
            {"values": {"ground": 0, "square": 1, "squre": 2}},
            r"'squre' is not among data\.classes; did you mean 'square'",
        ),
        ({"values": {"ground": 3, "square": 3}}, "3 is the value of class 'ground'"),
        ({"values": {"ground": 0, "square": 70000}}, "70000 is no value"),
        ({"values": {"ground": 0, "square": 1}, "label_offset": 1}, "give one of colors, values and label_offset"),
        ({"lossy_labels": "near"}, "allowed are refuse, nearest; did you mean"),
    ],
)
def test_options_that_contradict_each_other(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    save(tmp_path, "a", drawn((0, 1, 0)))
    with pytest.raises(UsageError, match=message):
        data(tmp_path, **arguments).samples("train")


# ---------------------------------------------------------------------- lossy files


@pytest.mark.parametrize("ending", [".jpg", ".webp"])
def test_lossy_label_files_are_refused_or_thresholded(tmp_path: Path, ending: str) -> None:
    save(tmp_path, "a", drawn((0, 255, 255)), ending, quality=80)
    with pytest.raises(DataError, match=r"a label file in (JPEG|lossy WebP).*--data\.lossy_labels nearest"):
        data(tmp_path).summary("train")
    assert (maps(data(tmp_path, lossy_labels="nearest"))[0] == drawn((0, 1, 1))).all()


def test_lossy_values_that_are_near_to_each_other_are_refused_and_lossless_webp_is_not(tmp_path: Path) -> None:
    save(tmp_path, "a", drawn((0, 1, 2)), ".jpg")
    with pytest.raises(
        DataError, match=r"values as near to each other as 0, 1, 2, 255 cannot be distinguished in JPEG"
    ):
        data(tmp_path, classes=["a", "b", "c"], lossy_labels="nearest").summary("train")
    (tmp_path / "label_maps/train/a.jpg").unlink()
    save(tmp_path, "a", drawn((0, 1, 0)), ".webp", lossless=True)
    assert np.array_equal(maps(data(tmp_path))[0], drawn((0, 1, 0)))


# ---------------------------------------------------------------------- which file belongs to which image


def test_labels_are_found_by_their_path_and_not_by_their_stem(tmp_path: Path) -> None:
    for number, sequence in enumerate(("seq1", "seq2")):
        save(tmp_path, f"{sequence}/0000", np.full((12, 10), number, np.uint8))
    assert [int(labels[0, 0]) for labels in maps(data(tmp_path))] == [0, 1]


def test_two_images_for_one_label_file_are_refused(tmp_path: Path) -> None:
    save(tmp_path, "a", drawn((0, 1, 0)))
    Image.fromarray(np.zeros((12, 10, 3), np.uint8)).save(tmp_path / "images/train/a.png")
    with pytest.raises(DataError, match=r"a\.jpg and a\.png have one name.*--data\.image_names '\*\.jpg'"):
        data(tmp_path).samples("train")


def test_hidden_files_are_passed_over_and_unused_label_files_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path, "a", drawn((0, 1, 0)))
    (tmp_path / "images/train/._a.jpg").write_bytes(b"x")
    (tmp_path / "label_maps/train/.ipynb_checkpoints").mkdir()
    Image.fromarray(drawn()).save(tmp_path / "label_maps/train/.ipynb_checkpoints/a.png")
    Image.fromarray(drawn((0, 1, 0))).save(tmp_path / "label_maps/train/b.png")
    data(tmp_path).report(["train"])
    assert "passed over: 1 hidden, 1 label files without an image" in capsys.readouterr().out


def test_one_flat_folder_with_endings(tmp_path: Path) -> None:
    for k in range(4):
        Image.fromarray(np.zeros((12, 10, 3), np.uint8)).save(tmp_path / f"{k}.jpg")
        Image.fromarray(drawn((0, 255, 0))).save(tmp_path / f"{k}_mask.png")
    read = data(tmp_path, images=".", labels=".", label_names="*_mask", val_fraction=0.25)
    assert (len(read.samples("train")), len(read.samples("val"))) == (3, 1)
    with pytest.raises(UsageError, match="test_fraction"):
        read.samples("test")  # one folder is not every split


def test_names_that_differ_as_those_of_cityscapes_do(tmp_path: Path) -> None:
    for k in range(2):
        save(tmp_path, f"aachen/{k}", np.full((12, 10), k, np.uint8))
    for folder, ending in (("images", "_leftImg8bit"), ("label_maps", "_gtFine_labelIds")):
        for path in (tmp_path / folder / "train/aachen").iterdir():
            path.rename(path.with_stem(path.stem + ending))
    Image.fromarray(drawn()).save(tmp_path / "label_maps/train/aachen/0_gtFine_color.png")
    read = data(tmp_path, image_names="*_leftImg8bit.jpg", label_names="*_gtFine_labelIds.png")
    assert [int(labels[0, 0]) for labels in maps(read)] == [0, 1]
    with pytest.raises(UsageError, match=r"data\.label_names '_mask': give a file name with one \*"):
        data(tmp_path, label_names="_mask")


@pytest.mark.parametrize("words", [("training", "validation", "testing"), ("training_set", "dev", "test_set")])
def test_splits_by_other_words(tmp_path: Path, words: tuple[str, ...]) -> None:
    save(tmp_path, "a", drawn((0, 1, 0)))
    for folder in ("images", "label_maps"):
        for word in words[1:]:
            (tmp_path / folder / word).mkdir()
            for path in (tmp_path / folder / "train").iterdir():
                (tmp_path / folder / word / path.name).write_bytes(path.read_bytes())
        (tmp_path / folder / "train").rename(tmp_path / folder / words[0])
    assert [len(data(tmp_path).samples(split)) for split in ("train", "val", "test")] == [1, 1, 1]


def test_names_from_a_file_of_tiles(tmp_path: Path) -> None:
    save(tmp_path, "a", drawn())
    (tmp_path / "label_maps/classes.txt").write_bytes("\ufeffground\r\ntree\r\nhouse\r\n".encode())
    assert data(tmp_path, classes=None).classes == ("ground", "tree", "house")
    (tmp_path / "colors.txt").write_bytes("\ufeff10 20 30 ground\r\n".encode("utf-16-le"))
    assert data(tmp_path, classes=None, colors=str(tmp_path / "colors.txt")).classes == ("ground",)


# ---------------------------------------------------------------------- images that EXIF turns


@pytest.mark.parametrize("orientation", [3, 6])
def test_an_image_that_exif_turns(tmp_path: Path, caplog: pytest.LogCaptureFixture, orientation: int) -> None:
    save(tmp_path, "a", drawn((0, 1, 0)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.zeros((12, 10, 3), np.uint8)).save(tmp_path / "images/train/a.jpg", exif=exif)
    if orientation == 6:
        with pytest.raises(DataError, match="turned by its EXIF orientation 6 and the label map is not"):
            data(tmp_path).summary("train")
    else:
        data(tmp_path).summary("train")
        assert "EXIF turns 1 images and not their label map" in caplog.text
        caplog.clear()
        Image.fromarray(drawn((0, 1, 0))).save(tmp_path / "label_maps/train/a.png", exif=exif)
        assert np.array_equal(maps(data(tmp_path))[0], drawn((0, 1, 0))[::-1, ::-1])
        data(tmp_path).summary("train")
        assert not caplog.text


def test_the_summary_warns_of_classes_that_never_occur(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path, "a", drawn((0, 1, 255)))
    save(tmp_path, "b", drawn((255, 255, 255)))
    with caplog.at_level(logging.WARNING):
        data(tmp_path, classes=["ground", "tree", "house"]).report(["train"])
    out = capsys.readouterr().out
    assert "train  2 images, 1 without labels" in out and "pixels: ground" in out
    assert "no images of class house" in caplog.text

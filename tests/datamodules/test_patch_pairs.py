"""Pairs of patches in files: a csv, folders of two views, and the sets of Brown et al."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image

from datamodules.patch_pairs import CsvPairData, FolderPairData
from datamodules.photo_tour import PhotoTour, PhotoTourData
from visionkit.errors import DataError, UsageError
from visionkit.geometry import InputSpec
from visionkit.loading import SampleDataset, rng_for
from visionkit.preprocess import Preprocessor

GRAY = InputSpec(size=(64, 64), resize_mode="stretch", channels=1)


def save(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(path)


# ---------------------------------------------------------------------- csv


@pytest.fixture
def listed(tmp_path):
    for number in range(6):
        save(tmp_path / "p" / f"{number}.png", number)
    rows = ["first,second,label,split"]
    rows += [
        f"p/{k}.png,p/{(k + j) % 6}.png,{int(j == 1)},{'val' if k > 3 else 'train'}" for k in range(6) for j in (1, 2)
    ]
    (tmp_path / "pairs.csv").write_text("\n".join(rows))
    return tmp_path / "pairs.csv"


def test_a_csv_of_pairs(listed):
    data = CsvPairData(str(listed), input=GRAY)
    train, val = data.samples("train"), data.samples("val")
    assert [int(sample.target["match"]) for sample in train] == [1, 0] * 4 and len(val) == 4
    assert train[1].inputs["second"].name.endswith("2.png")
    assert np.array_equal(train[0].inputs["first"].read(), np.asarray(Image.open(listed.parent / "p" / "0.png")))
    assert "4 pairs match, 4 do not" in " ".join(data.summary("train").lines())
    with pytest.raises(UsageError, match="no test split"):
        data.samples("test")


def test_pairs_of_one_image_stay_in_one_split(listed):
    text = listed.read_text().splitlines()
    listed.write_text("\n".join(",".join(line.split(",")[:3]) for line in text))
    data = CsvPairData(str(listed), val_fraction=0.5)
    firsts = [{sample.inputs["first"].name for sample in data.samples(split)} for split in ("train", "val")]
    assert len(firsts[0]) == len(firsts[1]) == 3 and not firsts[0] & firsts[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("first,secnd,label\n", "no column 'second'.*did you mean 'secnd'"),
        ("first,second,label\n", "no pairs below"),
        ("first,second,label\np/0.png,p/9.png,1\n", "line 2: .*9.png does not exist"),
        ("first,second,label\np/0.png,p/1.png,2\n", "line 2: label is '2'; allowed are 0 and 1"),
        ("first,second,label,split\np/0.png,p/1.png,1,tain\n", "did you mean 'train'"),
        ("first,second,label\np/0.png,p/1.png\n", "2 cells where the header has 3"),
    ],
)
def test_lists_that_cannot_be_read(listed, text, message):
    listed.write_text(text)
    with pytest.raises(DataError, match=message):
        CsvPairData(str(listed)).samples("train")


# ---------------------------------------------------------------------- two views of each place


@pytest.fixture
def views(tmp_path):
    for number in range(10):
        save(tmp_path / "ground" / f"place{number}.jpg", number)
        save(tmp_path / "aerial" / f"place{number}.png", 100 + number)
    return tmp_path


def stems(sample):
    return [sample.inputs[name].name.rpartition("/")[2].partition(".")[0] for name in ("first", "second")]


def test_two_views_of_a_place_match_and_others_are_drawn(views):
    data = FolderPairData(str(views), val_fraction=0.3, negatives=2, input=GRAY)
    train, val = data.samples("train"), data.samples("val")
    assert (len(train), len(val)) == (21, 9)
    for samples in (train, val):
        for index in range(len(samples)):
            first, second = stems(samples[index])
            assert (first == second) == bool(samples[index].target["match"]) == (index % 3 == 0)
    assert [stems(val[k]) for k in range(9)] == [stems(val[k]) for k in range(9)]
    drawn = {stems(train.drawn(1, rng_for(0, epoch, 1)))[1] for epoch in range(30)}
    assert len(drawn) == 6 and stems(train[0])[0] not in drawn, "every other place, and no place of validation"
    assert not {stems(each)[0] for each in train} & {stems(each)[0] for each in val}
    assert "7 places" in " ".join(data.summary("train").lines())


def test_folders_with_other_names_and_of_their_own(views):
    data = FolderPairData(str(views), val_root=str(views), first_folder="aerial", second_folder="ground", negatives=0)
    assert len(data.samples("train")) == len(data.samples("val")) == 10
    assert data.samples("train")[0].inputs["first"].name.endswith("png")
    (views / "ground" / "place3.jpg").unlink()
    with pytest.raises(DataError, match="no image in ground"):
        FolderPairData(str(views), first_folder="aerial", second_folder="ground").samples("train")


# ---------------------------------------------------------------------- Brown et al.


def write_mosaic(path, pixels, top_down=False):
    """An 8-bit bitmap of 1024 x 1024 with a gray palette, by the format's own definition."""
    palette = b"".join(bytes((level, level, level, 0)) for level in range(256))
    offset = 54 + len(palette)
    head = b"BM" + struct.pack("<IHHI", offset + pixels.size, 0, 0, offset)
    head += struct.pack("<IiiHHIIiiII", 40, 1024, -1024 if top_down else 1024, 1, 8, 0, pixels.size, 0, 0, 256, 0)
    path.write_bytes(head + palette + (pixels if top_down else pixels[::-1]).tobytes())


@pytest.fixture(scope="module")
def tour(tmp_path_factory):
    """A set of 300 patches in two mosaics, three of each point."""
    root = tmp_path_factory.mktemp("liberty")
    rng = np.random.default_rng(0)
    patches = rng.integers(0, 256, (512, 64, 64), dtype=np.uint8)
    for number in range(2):
        grid = patches[number * 256 : (number + 1) * 256].reshape(16, 16, 64, 64).transpose(0, 2, 1, 3)
        write_mosaic(root / f"patches{number:04}.bmp", np.ascontiguousarray(grid.reshape(1024, 1024)), number == 1)
    (root / "info.txt").write_text("".join(f"{number // 3} 0\n" for number in range(300)))
    (root / "m50_4_4_0.txt").write_text("0 0 0 1 0 0 0\n0 0 0 3 1 0 0\n299 99 0 298 99 0 0\n257 85 0 10 3 0 0\n")
    return root, patches


def test_patches_lie_in_mosaics(tour):
    root, patches = tour
    known = PhotoTour.read(root)
    assert Image.open(root / "patches0000.bmp").mode in ("L", "P")
    for number in (0, 17, 255, 256, 299):
        assert np.array_equal(known.patch(number)[..., 0], patches[number])


def test_a_list_of_pairs_and_drawn_ones(tour):
    root, patches = tour
    data = PhotoTourData(
        str(root), test_root=str(root), pairs="m50_4_4_0.txt", pairs_per_epoch=40, eval_count=20, val_fraction=0.2,
        input=GRAY,
    )  # fmt: skip
    test = data.samples("test")
    assert [int(sample.target["match"]) for sample in test] == [1, 0, 1, 0]
    assert np.array_equal(test[3].inputs["first"].read(1)[..., 0], patches[257])
    made = SampleDataset(data.samples("train"), Preprocessor(GRAY), training=True)
    ids = [made[(epoch, index)]["id"].split() for epoch in range(2) for index in range(40)]
    held = [sample.id.split() for sample in data.samples("val")]
    assert len(held) == 20 and ids[:40] != ids[40:]
    for number, (_, first, second) in enumerate((*ids, *held)):
        assert first != second and (int(first) // 3 == int(second) // 3) == (number % 2 == 0)
    points = [{int(number) // 3 for row in rows for number in row[1:]} for rows in (ids, held)]
    assert not points[0] & points[1], "no point is in both"
    assert "80 points" in " ".join(data.summary("train").lines())


def test_flips_move_both_patches_alike(tour):
    root, patches = tour
    known = PhotoTour.read(root)
    for ways, change in ((0, lambda each: each), (1, np.rot90), (4, lambda each: each[:, ::-1])):
        sample = known.pair(4, 5, ways)
        for name, number in (("first", 4), ("second", 5)):
            assert np.array_equal(sample.inputs[name].read(1)[..., 0], change(patches[number]))


def test_sets_that_are_not_whole(tmp_path, tour):
    for prepare, message in (
        (lambda: None, "no patches"),
        (lambda: (tmp_path / "patches0000.bmp").write_bytes(b"BM" + bytes(60)), "no such list of points"),
        (lambda: (tmp_path / "info.txt").write_text("0 0\n" * 257), "info.txt states 257 patches"),
        (lambda: (tmp_path / "info.txt").write_text("a 0\n"), "no number of a point"),
    ):
        prepare()
        with pytest.raises(DataError, match=message):
            PhotoTour.read(tmp_path)
    (tmp_path / "info.txt").write_text("0 0\n0 0\n")
    with pytest.raises(DataError, match="no gray bitmap of 1024 x 1024"):
        PhotoTour.read(tmp_path).patch(0)
    with pytest.raises(DataError, match="no pairs can be drawn of 1 points"):
        PhotoTourData(str(tmp_path), val_fraction=0.0).samples("train")
    (tour[0] / "wrong.txt").write_text("0 0 0 300 0 0\n")
    with pytest.raises(DataError, match="a patch beyond the 300"):
        PhotoTourData(test_root=str(tour[0]), pairs="wrong.txt").samples("test")

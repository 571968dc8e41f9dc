import re
import unicodedata
from pathlib import Path

import pytest

from datamodules.csv_labels import CsvData
from tests.datamodules.test_folders import image
from visionkit.errors import DataError, UsageError
from visionkit.geometry import InputSpec
from visionkit.synthetic import OBJECT_CLASSES
from visionkit.synthetic.files import write_scenes


@pytest.fixture
def table(tmp_path: Path) -> Path:
    lines = ["path,label"]
    for k in range(12):
        image(tmp_path / f"p{k:02d}.png", k)
        lines.append(f"p{k:02d}.png,{'cat' if k % 3 else 'dog'}")
    file = tmp_path / "labels.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_path_and_label(table: Path) -> None:
    data = CsvData(str(table), val_fraction=0.25)
    assert data.classes == ("cat", "dog") == tuple(CsvData.discover_classes(csv=str(table)))
    assert len(data.samples("train")) == 9 and len(data.samples("val")) == 3
    for sample in data.samples("train"):
        number = int(re.findall(r"p(\d+)", sample.id)[0])
        assert data.classes[int(sample.target["labels"])] == ("cat" if number % 3 else "dog")


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_separators_byte_order_mark_and_root(table: Path, tmp_path: Path, delimiter: str) -> None:
    elsewhere = tmp_path / "lists" / "labels.csv"
    elsewhere.parent.mkdir()
    elsewhere.write_text(table.read_text().replace(",", delimiter), encoding="utf-8-sig")
    assert len(CsvData(str(elsewhere), root=str(tmp_path), val_fraction=0).samples("train")) == 12


def test_the_scenes_own_tables(tmp_path: Path) -> None:
    write_scenes(tmp_path / "set", 24, size=(40, 48))
    labels = CsvData(str(tmp_path / "set/labels.csv"))
    assert [len(labels.samples(split)) for split in ("train", "val", "test")] == [16, 4, 4]  # type: ignore[arg-type]
    presence = CsvData(str(tmp_path / "set/presence.csv"), input=InputSpec((32, 32)), batch_size=4)
    assert presence.classes == OBJECT_CLASSES
    batch = next(iter(presence.loader("train")))
    assert batch["target"]["labels"].shape == (4, 8) and set(batch["target"]["labels"].unique().tolist()) == {0.0, 1.0}
    turned = CsvData(str(tmp_path / "set/presence.csv"), classes=list(reversed(OBJECT_CLASSES)))
    first, second = presence.samples("train")[0].target["labels"], turned.samples("train")[0].target["labels"]
    assert (first == second[::-1]).all()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("p03.png", "gone.png", r"1 of 12 images are missing: gone\.png \(line 5\); paths are looked for in"),
        ("p03.png", "p02.png", r"line 5: 'p02\.png' is in line 4 already"),
        ("path,", "file,", r"line 1: no column 'path' .* among file, label; set --data\.path_column"),
        ("p03.png,dog", "p03.png", r"line 5: 1 cells where the header has 2 columns"),
        ("p03.png,dog", "p03.png,", r"line 5: no label"),
        ("p03.png,dog", ",dog", r"line 5: no path"),
        ("path,label", "path,path", r"column 'path' is there twice"),
        ("path,label", "path,lable", r"line 2: 'dog' in column 'lable'; .*did you mean 'lable'"),
    ],
)
def test_mistakes_name_file_and_line(table: Path, old: str, new: str, message: str) -> None:
    edit(table, old, new)
    with pytest.raises(DataError, match=message) as error:
        CsvData(str(table)).samples("train")
    assert str(error.value).startswith(str(table)) and "\n" not in str(error.value)


def test_many_missing_images_are_counted(table: Path) -> None:
    for k in range(2, 12):
        (table.parent / f"p{k:02d}.png").unlink()
    with pytest.raises(DataError, match=r"10 of 12 .* p02.png \(line 4\), p03.png .* \.\.\. 10 in all"):
        CsvData(str(table)).samples("val")


def test_empty_images_are_reported(table: Path) -> None:
    (table.parent / "p05.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"1 of 12 images are empty \(0 bytes\): p05.png \(line 7\)"):
        CsvData(str(table)).samples("train")


def test_unknown_class(table: Path) -> None:
    edit(table, "p04.png,cat", "p04.png,cta")
    with pytest.raises(
        DataError, match=r"line 6: class 'cta' is not among data\.classes \(cat, dog\); did you mean 'cat'"
    ):
        CsvData(str(table), classes=["cat", "dog"]).samples("train")


def test_split_column(table: Path) -> None:
    lines = table.read_text().splitlines()
    parts = ["split", *(["train"] * 8), "valid", "valid", "test", "test"]
    table.write_text("\n".join(f"{line},{part}" for line, part in zip(lines, parts, strict=True)))
    data = CsvData(str(table))
    assert [len(data.samples(split)) for split in ("train", "val", "test")] == [8, 2, 2]  # type: ignore[arg-type]
    edit(table, "valid", "vlaid")
    with pytest.raises(
        DataError, match=r"line 10: split 'vlaid'; allowed are train, val and test; did you mean 'valid'"
    ):
        CsvData(str(table)).samples("train")


def test_no_test_rows(table: Path) -> None:
    with pytest.raises(UsageError, match=r"column split: no test split and data\.test_fraction is 0"):
        CsvData(str(table)).samples("test")


def test_multi_label_values_and_columns(tmp_path: Path) -> None:
    image(tmp_path / "a.png", 1)
    file = tmp_path / "marks.csv"
    file.write_text("path,cat,dog\na.png,1,2\n")
    with pytest.raises(DataError, match=r"line 2: '2' in column 'dog'"):
        CsvData(str(file))
    file.write_text("path,cat,dog\na.png,1,0\n")
    with pytest.raises(DataError, match=r"no column for class 'dogs'|class 'dog' is not among"):
        CsvData(str(file), classes=["cat", "dogs"]).samples("train")
    with pytest.raises(DataError, match=r"line 1: no column for class 'owl'"):
        CsvData(str(file), classes=["cat", "dog", "owl"]).samples("train")


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such CSV file"):
        CsvData(str(tmp_path / "none.csv"))
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(DataError, match="no rows"):
        CsvData(str(tmp_path / "empty.csv"))
    (tmp_path / "binary.csv").write_bytes(b"\xff\x80")
    with pytest.raises(DataError, match="not UTF-8 text"):
        CsvData(str(tmp_path / "binary.csv"))


def test_names_of_files_and_classes_as_other_systems_write_them(tmp_path: Path) -> None:
    image(tmp_path / "a b" / unicodedata.normalize("NFD", "é.png"), 0)
    image(tmp_path / "c.png", 1)
    nfd = unicodedata.normalize("NFD", "café")
    (tmp_path / "t.csv").write_text(
        f"path;label;split\na%20b\\é.png;{nfd};training\nc.png;café;valid\n", encoding="utf-8"
    )
    data = CsvData(str(tmp_path / "t.csv"))
    assert data.classes == ("café",)
    assert [len(data.samples(split)) for split in ("train", "val")] == [1, 1]
    assert data.samples("train")[0].image.size == (20, 24)
    assert data.summary("train").classes == {"café": 1}


def test_summary_counts_several_labels_per_image(tmp_path: Path) -> None:
    for k in range(3):
        image(tmp_path / f"{k}.png", k)
    (tmp_path / "t.csv").write_text("path,cat,dog\n0.png,1,1\n1.png,0,1\n2.png,0,0\n")
    data = CsvData(str(tmp_path / "t.csv"), val_fraction=0)
    assert data.summary("train").classes == {"cat": 1, "dog": 2} and data.summary("train").unit == "label"

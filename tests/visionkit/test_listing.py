"""The one listing of folders: hidden files, links, endings, order, and names that annotations write differently."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from visionkit.errors import DataError
from visionkit.listing import list_folders, list_images, resolve_listed


def _image(path: Path, ending: str = "JPEG") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path, format=ending)
    return path


def _names(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in list_images(root).files]


def test_hidden_files_and_folders_of_systems_are_passed_over_and_counted(tmp_path: Path) -> None:
    _image(tmp_path / "a.jpg")
    for name in (
        ".ipynb_checkpoints/a-checkpoint.jpg",
        "._a.jpg",
        "@eaDir/a.jpg",
        "__MACOSX/a.jpg",
        "sub/.thumbs/a.jpg",
    ):
        _image(tmp_path / name)
    (tmp_path / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("x")
    listing = list_images(tmp_path)
    assert [path.name for path in listing.files] == ["a.jpg"]
    assert listing.counts == {"hidden": 6, "not an image (.txt)": 1}


def test_every_ending_of_jpeg_and_files_without_one_count(tmp_path: Path) -> None:
    for name in ("a.jfif", "b.JPE", "c.JPG", "d"):
        _image(tmp_path / name)
    _image(tmp_path / "e", "WEBP")
    (tmp_path / "LICENSE").write_text("text")
    assert _names(tmp_path) == ["a.jfif", "b.JPE", "c.JPG", "d", "e"]
    assert list_images(tmp_path).counts == {"not an image (no ending)": 1}


def test_linked_folders_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    _image(tmp_path / "elsewhere" / "one.jpg")
    _image(tmp_path / "set" / "own.jpg")
    (tmp_path / "set" / "a").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "set" / "linked.jpg").symlink_to(tmp_path / "elsewhere" / "one.jpg")
    listing = list_images(tmp_path / "set")
    assert sorted(path.name for path in listing.files) == ["linked.jpg", "one.jpg", "own.jpg"]
    assert listing.counts == {"dangling link": 1, "a link to a folder that is listed already": 2}


def test_a_link_to_a_folder_beside_it_does_not_stand_for_the_folder(tmp_path: Path) -> None:
    _image(tmp_path / "z" / "one.jpg")
    (tmp_path / "a").symlink_to(tmp_path / "z")
    assert _names(tmp_path) == ["z/one.jpg"]


def test_order_is_that_of_composed_names(tmp_path: Path) -> None:
    for name in (unicodedata.normalize("NFD", "é.jpg"), "f.jpg", "z.jpg"):
        _image(tmp_path / name)
    assert [unicodedata.normalize("NFC", name) for name in _names(tmp_path)] == ["f.jpg", "z.jpg", "é.jpg"]
    with pytest.raises(DataError, match="no such folder"):
        list_folders(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "written", ["a b/c.jpg", "a%20b/c.jpg", "a b\\c.jpg", "a%20b\\c.jpg", "../a b/c.jpg", "./a b/c.jpg"]
)
def test_a_file_is_found_as_tools_write_its_name(tmp_path: Path, written: str) -> None:
    path = _image(tmp_path / "a b" / "c.jpg")
    assert resolve_listed(tmp_path, written).samefile(path)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_file_is_found_in_either_unicode_form(tmp_path: Path, form: str) -> None:
    other = "NFD" if form == "NFC" else "NFC"
    path = _image(tmp_path / unicodedata.normalize(form, "café") / unicodedata.normalize(other, "thé.jpg"))
    for written in ("NFC", "NFD"):
        assert resolve_listed(tmp_path, unicodedata.normalize(written, "café/thé.jpg")) == path


def test_a_file_that_is_not_there_keeps_its_own_name(tmp_path: Path) -> None:
    assert resolve_listed(tmp_path, "ü.jpg") == tmp_path / "ü.jpg"
    for name in ("x" * 5000, "a\0b", "\ud800", "y" * 256 + "/b"):  # of which no file can be called so
        assert not resolve_listed(tmp_path, name).is_file()
        assert len(resolve_listed(tmp_path, name).name) < 100
    _image(tmp_path / "50%20.jpg")
    assert resolve_listed(tmp_path, "50%20.jpg") == tmp_path / "50%20.jpg"  # as it is comes first

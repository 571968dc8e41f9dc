"""The file of a checkpoint: what is read, what is refused before it costs anything, and each refusal in one line."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from visionkit import checkpoint_files
from visionkit.checkpoint_files import (
    MAX_PICKLE,
    AtomicCheckpointIO,
    first_line,
    header_of,
    open_checkpoint,
    read_checkpoint,
)
from visionkit.errors import CheckpointError, UsageError

HEADER = {"visionkit": {"task": "classification", "config": {}, "format": 1}}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    AtomicCheckpointIO().save_checkpoint({"weight": torch.arange(6.0), "step": 3}, tmp_path / "a.ckpt")
    return tmp_path / "a.ckpt"


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(path, "cpu", **options)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message


def repacked(path: Path, change: Any = None, method: int = zipfile.ZIP_STORED) -> Path:
    """The same archive, each entry as `change` makes it."""
    other = path.with_name("other.ckpt")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(other, "w", method) as new:
        for entry in old.infolist():
            data = old.read(entry)
            new.writestr(entry.filename, data if change is None else change(entry.filename, data))
    return other


def test_what_is_written_is_read(saved: Path):
    io = AtomicCheckpointIO()
    for found in (io.load_checkpoint(saved), io.load_checkpoint(saved, None), open_checkpoint(saved, "cpu", mmap=True)):
        assert torch.equal(found["weight"], torch.arange(6.0)) and found["step"] == 3
    assert io.load_checkpoint(saved, "meta")["weight"].is_meta
    assert io.load_checkpoint(repacked(saved))["step"] == 3
    with pytest.raises(UsageError, match="takes no storage_options"):
        io.save_checkpoint({}, saved, storage_options={})
    assert [path.name for path in saved.parent.iterdir() if path.suffix != ".ckpt"] == []
    io.remove_checkpoint(saved)
    assert not saved.exists()
    io.remove_checkpoint(saved)


def test_a_flipped_bit_is_found_where_every_byte_is_read(saved: Path):
    data = bytearray(saved.read_bytes())
    place = data.index(torch.arange(6.0).numpy().tobytes())
    data[place] ^= 1
    saved.write_bytes(bytes(data))
    assert "damaged (wrong checksum in 'a/data/0'); take another checkpoint" in refused(saved) or "data/0" in refused(
        saved
    )
    assert open_checkpoint(saved, "cpu", mmap=True)["step"] == 3, "which is not read where it is only mapped"


def test_a_file_cut_off_is_damaged(saved: Path):
    saved.write_bytes(saved.read_bytes()[:-40])
    assert "damaged or cut off" in refused(saved) and "take another checkpoint" in refused(saved)


class Harmful:
    def __reduce__(self) -> Any:
        return (print, ("run",))


def test_objects_are_named_and_refused_unread(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    torch.save({"weight": Harmful()}, tmp_path / "a.ckpt")
    assert "it holds Python objects" in refused(tmp_path / "a.ckpt") and "is refused" in refused(tmp_path / "a.ckpt")
    torch.save({"path": Path("x")}, tmp_path / "b.ckpt")
    assert "it holds Python objects (pathlib." in refused(tmp_path / "b.ckpt")
    assert capfd.readouterr().out == ""


def test_a_checkpoint_is_a_dict_with_a_header(tmp_path: Path, saved: Path):
    torch.save([1, 2], tmp_path / "list.ckpt")
    assert "a checkpoint of another program: it holds a list" in refused(tmp_path / "list.ckpt")
    for other in ({}, {"visionkit": "1.0"}):
        with pytest.raises(CheckpointError, match="another program: it has no `visionkit` entry"):
            header_of(other, saved)
    with pytest.raises(CheckpointError, match=r"a\.ckpt: a checkpoint of another program: it has no `visionkit`"):
        read_checkpoint(saved)
    with pytest.raises(CheckpointError, match=r"a\.ckpt"):
        header_of({"visionkit": {"format": 10**6}}, saved)


def test_an_archive_is_looked_at_before_it_is_unpacked(saved: Path, monkeypatch: pytest.MonkeyPatch):
    assert "its entries are compressed" in refused(repacked(saved, method=zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(saved) as archive:
        size = max(entry.file_size for entry in archive.infolist() if entry.filename.endswith(".pkl"))
        total = sum(entry.file_size for entry in archive.infolist())
    with zipfile.ZipFile(saved) as archive:
        checkpoint_files._check_entries(archive, total, saved)  # type: ignore[attr-defined]
        with pytest.raises(CheckpointError, match="its entries state more bytes than the file has"):
            checkpoint_files._check_entries(archive, total - 1, saved)  # type: ignore[attr-defined]
    assert MAX_PICKLE == 8 << 20
    monkeypatch.setattr(checkpoint_files, "MAX_PICKLE", size)
    assert open_checkpoint(saved, "cpu")["step"] == 3, "a description of just that size is read"
    monkeypatch.setattr(checkpoint_files, "MAX_PICKLE", size - 1)
    for mmap in (False, True):
        message = refused(saved, mmap=mmap)
        assert f"{size:,} bytes describe its tensors; at most {size - 1:,} are read, so it is refused" in message


def test_other_entries_may_be_as_large_as_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    AtomicCheckpointIO().save_checkpoint({"weight": torch.zeros(5000)}, tmp_path / "a.ckpt")
    monkeypatch.setattr(checkpoint_files, "MAX_PICKLE", 2000)
    assert len(open_checkpoint(tmp_path / "a.ckpt", "cpu")["weight"]) == 5000


def test_the_first_sentence_of_a_report_is_kept():
    assert first_line(ValueError("  one. two\nthree")) == "one" and first_line(ValueError("")) == "ValueError"
    assert first_line(ValueError("x" * 300)) == "x" * 200
    assert first_line(pickle.UnpicklingError("a.b is one word")) == "a.b is one word"

"""A full disk, wherever it strikes: status 5, nothing cut short, nothing that was there before is lost."""

from __future__ import annotations

import errno
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tiny_training import tiny_task
from tests.ui.conftest import build
from ui.cli import main
from ui.prediction_records import RECORDS, records_of
from visionkit import atomic
from visionkit.atomic import beside, write_whole
from visionkit.bundle import save_bundle
from visionkit.drawing import jpeg
from visionkit.drawing.files import MAX_SIDE
from visionkit.errors import EnvironmentFault
from visionkit.predictions import LabelMap


def full(*args: Any, **options: Any) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_bundle_is_not_written_by_halves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors import SafetensorError

    def save_file(*args: Any, **options: Any) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", save_file)
    with pytest.raises(EnvironmentFault, match="No space left on device"):
        save_bundle(tiny_task(), tmp_path / "model", card={})
    assert list(tmp_path.iterdir()) == []


def test_a_graph_is_not_blamed_for_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.onnx.export", full)
    from visionkit.export import export_bundle

    with pytest.raises(EnvironmentFault, match="No space left"):
        export_bundle(tiny_task(), tmp_path / "model", onnx=True)
    assert list(tmp_path.iterdir()) == []


def test_what_an_earlier_process_left_by_halves_goes(tmp_path: Path) -> None:
    left = tmp_path / beside(tmp_path / "other").name.replace(str(atomic.os.getpid()), "999999")
    left.mkdir()
    save_bundle(tiny_task(), tmp_path / "model", card={})
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_result_is_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.bin"
    write_whole(path, b"old")

    def half(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:1])
        full()
        return 0

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
    label_map = LabelMap(("a", "b"), np.zeros((4, 4), np.uint8))
    with pytest.raises(OSError, match="No space"):
        label_map.save(tmp_path / "b")
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bundle(build(), tmp_path_factory.mktemp("bundle") / "model", card={})


def predict(model: Path, images: list[Path], out: Path, *more: str) -> int:
    return main(["predict", str(model), *map(str, images[:3]), "--out", str(out), "--draw", *more])


def test_old_records_stay_until_the_new_ones_are_whole(
    model: Path, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert predict(model, images, tmp_path) == 0
    before = (tmp_path / RECORDS).read_bytes()
    drawn = {path: path.read_bytes() for path in (tmp_path / "drawn").iterdir()}
    monkeypatch.setattr("visionkit.atomic.write_whole", full)
    assert predict(model, images[3:], tmp_path, "--overwrite") == 5
    assert (tmp_path / RECORDS).read_bytes() == before
    assert {path: path.read_bytes() for path in (tmp_path / "drawn").iterdir()} == drawn
    assert sorted(path.name for path in tmp_path.iterdir()) == ["drawn", RECORDS]


def test_what_was_done_until_then_is_kept_in_whole_lines(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), records_of(tmp_path) as file:
        file.write(json.dumps({"a": 1}) + "\n" + '{"b": ')
        file.flush()
        raise ZeroDivisionError
    assert (tmp_path / RECORDS).read_text() == '{"a": 1}\n'
    (tmp_path / RECORDS).unlink()
    with pytest.raises(ZeroDivisionError), records_of(tmp_path):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []  # where nothing was predicted, the next try finds nothing in its way


@pytest.mark.parametrize("size", [(3, 70_000), (70_000, 3), (2, 65_501)])
def test_a_drawing_larger_than_a_jpeg_may_be_is_reduced(size: tuple[int, int], tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "a.jpg").write_bytes(jpeg(np.full((*size, 3), 90, np.uint8)))
    with Image.open(tmp_path / "a.jpg") as image:
        assert max(image.size) == MAX_SIDE and min(image.size) >= 1
    assert Image.open(io.BytesIO(jpeg(np.zeros((4, 9, 3), np.uint8)))).size == (9, 4)


def test_a_very_wide_image_stops_no_others(model: Path, tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.full((4, 70_000, 3), 90, np.uint8)).save(tmp_path / "a_wide.png")
    Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(tmp_path / "b.png")
    assert predict(model, [tmp_path / "a_wide.png", tmp_path / "b.png"], tmp_path / "out") == 0
    assert len((tmp_path / "out" / RECORDS).read_text().splitlines()) == 2
    assert len(list((tmp_path / "out" / "drawn").iterdir())) == 2

"""`visionkit propagate`: what is written, what goes on after a fault or Ctrl-C, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.visionkit.families.propagation.disks import SIZE, clip, iou
from ui.cli import main
from visionkit.drawing.object_masks import davis_palette
from visionkit.families.propagation.propagator import Propagator, register
from visionkit.video import VideoReader, VideoWriter


@dataclasses.dataclass
class Red(Propagator):
    """Finds what is red, so that no network is needed; stops where it is asked to."""

    stop_at: int = 0

    def open(self, size: Any) -> Any:
        return size

    def start(self, frame: Any, image: Any, masks: Any, progress: Any) -> None:
        self.count = 1
        progress(1, 2)

    def step(self, image: torch.Tensor) -> torch.Tensor:
        self.count += 1
        if self.count == self.stop_at:
            raise KeyboardInterrupt
        red, _, blue = image.float()
        return torch.stack([torch.full_like(red, 60), red - blue])


@pytest.fixture(autouse=True)
def red(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visionkit.families.propagation.propagator.PROPAGATORS._registered", {})
    register("red", Red)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images, masks = clip(5)
    (tmp_path / "disk").mkdir()
    for t, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "disk" / f"{t + 1:04}.png")
    Image.fromarray(255 * masks[0]).save(tmp_path / "first.png")
    return tmp_path / "disk"


def run(source: Path, *more: str, mask: Path | None = None) -> int:
    mask = mask or source.parent / "first.png"
    arguments = ["--mask", str(mask), "--method", "red", "--out", str(source.parent / "out"), "--devices", "0"]
    return main(["propagate", str(source), *arguments, "--set", "short_side=96", *more])


def test_a_folder_gives_masks_records_and_a_drawn_video(folder: Path, capsys: Any) -> None:
    assert run(folder, "--draw") == 0
    out, (_, masks) = folder.parent / "out", clip(5)
    files = sorted((out / "Annotations" / "disk").iterdir())
    assert [each.name for each in files] == [f"{t:04}.png" for t in range(1, 6)]
    for path, truth in zip(files, masks, strict=True):
        with Image.open(path) as image:
            assert image.mode == "P" and image.getpalette()[:12] == davis_palette()[:4].ravel().tolist()
            assert iou(np.asarray(image), truth) > 0.3
    records = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert [each["frame"] for each in records] == list(range(5)) and records[0]["size"] == list(SIZE)
    (first,) = records[0]["prediction"]["objects"]
    y, x = np.nonzero(masks[0])
    assert first == {"id": 1, "pixels": len(y), "box": [x.min(), y.min(), x.max() + 1, y.max() + 1]}
    assert records[2]["files"] == ["Annotations/disk/0003.png"]
    with VideoReader(out / "drawn" / "disk.mp4") as drawn:
        assert len(list(drawn.each())) == 5
    assert "5 frames" in capsys.readouterr().err
    assert run(folder) == 2 and "--overwrite" in capsys.readouterr().err
    (folder / "0005.png").unlink()
    assert run(folder, "--overwrite") == 0 and len(list((out / "Annotations" / "disk").iterdir())) == 4


def test_what_lies_where_masks_go_is_kept(folder: Path, capsys: Any) -> None:
    """The layout of DAVIS and YouTube-VOS: results next to true masks would replace them."""
    truth = folder.parent / "out" / "Annotations" / "disk"
    truth.mkdir(parents=True)
    for name in ("0001.png", "0005.png"):
        Image.fromarray(clip(5)[1][0]).save(truth / name)
    before = {each.name: each.read_bytes() for each in truth.iterdir()}
    assert run(folder) == 2 and "already exists" in capsys.readouterr().err
    for arguments in ((), ("--overwrite",)):
        assert run(folder, *arguments, mask=truth / "0001.png") == 2
        assert "would replace --mask" in capsys.readouterr().err
    Image.new("L", (7, 5), 1).save(folder.parent / "small.png")
    assert run(folder, "--overwrite", mask=folder.parent / "small.png") == 3  # found once the first frame is there
    assert {each.name: each.read_bytes() for each in truth.iterdir()} == before
    assert run(folder, "--overwrite") == 0 and len(list(truth.iterdir())) == 5


def test_what_was_done_stays_at_ctrl_c(folder: Path, capsys: Any) -> None:
    video = folder.parent / "disk.mp4"
    with VideoWriter(video, 10) as writer:
        for image in clip(5)[0]:
            writer.write(image)
    assert run(video, "--set", "stop_at=4", "--draw") == 130
    out = folder.parent / "out"
    assert "interrupted after 3 frames" in capsys.readouterr().err
    assert [each.name for each in sorted((out / "Annotations" / "disk").iterdir())] == [f"{t:05}.png" for t in range(3)]
    assert len((out / "predictions.jsonl").read_text().splitlines()) == 3
    with VideoReader(out / "drawn" / "disk.mp4") as drawn:
        assert len(list(drawn.each())) == 3


def test_a_frame_that_cannot_be_used_is_skipped(folder: Path, capsys: Any) -> None:
    (folder / "0002.png").write_bytes(b"no image")
    Image.new("RGB", (50, 40)).save(folder / "0004.png")
    assert run(folder) == 3
    said = capsys.readouterr().err
    assert "0002.png" in said and "frame 3: a frame of 50x40 pixels" in said
    names = [each.name for each in sorted((folder.parent / "out" / "Annotations" / "disk").iterdir())]
    assert names == ["0001.png", "0003.png", "0005.png"]
    (folder / "0001.png").write_bytes(b"no image")
    assert run(folder, "--overwrite") == 3 and "first frame, to which the mask belongs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros(SIZE, np.uint8), "no object in it"),
        (np.ones((40, 50), np.uint8), "50x40 pixels, and the frame has 128x96"),
        (np.arange(96 * 128, dtype=np.uint8).reshape(SIZE), "gray levels"),
        (np.full(SIZE, 300, np.uint16), "value 300: objects are 1 to 254"),
        (np.dstack([np.arange(128, dtype=np.uint8)[None].repeat(96, 0)] * 2 + [np.zeros(SIZE, np.uint8)]), "in color"),
    ],
)
def test_masks_that_are_refused_are_named(folder: Path, pixels: np.ndarray, message: str, capsys: Any) -> None:
    path = folder.parent / "odd.png"
    Image.fromarray(pixels).save(path)
    assert run(folder, mask=path) == 3
    said = capsys.readouterr().err
    assert message in said and "odd.png" in said and len(said.splitlines()) == 1


def test_mistakes_are_one_line(folder: Path, tmp_path: Path, capsys: Any) -> None:
    cases = [
        (2, "camera:0", [], "record it"),
        (3, str(folder), ["--mask", str(tmp_path / "firts.png")], "did you mean 'first.png'"),
        (2, str(folder), ["--method", "reds"], "did you mean 'red'"),
        (2, str(folder), ["--set", "steps"], "--set steps: give NAME=VALUE"),
        (2, str(folder), ["--set", "stop=4"], "did you mean 'stop_at'"),
        (3, str(tmp_path / "none.mp4"), [], "no such video file"),
    ]
    for status, source, more, message in cases:
        mask = [] if "--mask" in more else ["--mask", str(tmp_path / "first.png")]
        method = [] if "--method" in more else ["--method", "red"]
        found = main(["propagate", source, *mask, *method, "--out", str(tmp_path / "x"), *more, "--devices", "0"])
        said = capsys.readouterr().err
        assert (found, len(said.splitlines())) == (status, 1) and message in said, said
    assert main(["propagate", "runs/none.ckpt", str(folder), "--mask", str(tmp_path / "first.png"), "--out", "x"]) == 4

"""`visionkit follow`: what is written, measured, skipped, kept and refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ui.commands.follow as command
from tests.real_data import ROOT
from tests.visionkit.following.drawn_clips import drawn, growing, moving
from ui.cli import main
from visionkit.following.one_pass import overlaps
from visionkit.following.otb_files import read_boxes
from visionkit.video import VideoReader, VideoWriter

COUNT = 8
TRUTH = np.array([[x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in map(moving, range(COUNT))])
BOX = ",".join(f"{value:g}" for value in TRUTH[0])


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    return [drawn(t, moving(t)) for t in range(COUNT)]


@pytest.fixture
def video(tmp_path: Path, frames) -> Path:
    with VideoWriter(tmp_path / "walk.mp4", 10) as writer:
        for frame in frames:
            writer.write(frame)
    return tmp_path / "walk.mp4"


@pytest.fixture
def otb(tmp_path: Path, frames) -> Path:
    """Two sequences, one object each, positions from 1."""
    for name, delimiter in (("Walk", ","), ("Again", "\t")):
        images = tmp_path / "otb" / name / "img"
        images.mkdir(parents=True)
        for t, frame in enumerate(frames):
            Image.fromarray(frame).save(images / f"{t + 1:04}.png")
        lines = [delimiter.join(f"{value:g}" for value in box + np.array([1, 1, 0, 0])) for box in TRUTH]
        (images.parent / "groundtruth_rect.txt").write_text("\n".join(lines))
    return tmp_path / "otb"


def records(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]


def one_line(capsys) -> str:
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1, shown
    return shown


@pytest.mark.parametrize("tracker", ["hcf", "kcf"])
def test_a_video_gives_records_text_and_a_drawn_video(video: Path, tmp_path: Path, tracker: str, capsys) -> None:
    out = tmp_path / "out"
    assert main(["follow", str(video), "--box", BOX, "--tracker", tracker, "--out", str(out), "--draw"]) == 0
    text = (out / "boxes" / "walk.txt").read_text().splitlines()
    assert len(text) == COUNT and text[0] == BOX
    assert overlaps(read_boxes(out / "boxes" / "walk.txt"), TRUTH).min() > 0.75
    found = records(out)
    assert [each["frame"] for each in found] == list(range(COUNT)) and found[1]["seconds"] == pytest.approx(0.1)
    (each,) = found[-1]["prediction"]["objects"]
    x1, y1, x2, y2 = each["box"]
    assert each["id"] == 1 and 0 < each["score"] <= 1
    assert [x1, y1, x2 - x1, y2 - y1] == pytest.approx(read_boxes(out / "boxes" / "walk.txt")[-1], abs=0.01)
    with VideoReader(out / "drawn" / "walk.mp4") as shown:
        assert len(list(shown.each())) == COUNT and shown.rate == pytest.approx(10)
    assert "8 frames" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["boxes/walk.txt", "drawn/walk.mp4"])
def test_what_lies_where_results_go_is_kept(name: str, video: Path, tmp_path: Path, capsys) -> None:
    there = tmp_path / "out" / name
    there.parent.mkdir(parents=True)
    there.write_text("mine")
    arguments = ["--tracker", "kcf", "--draw", "--out", str(tmp_path / "out")]
    assert main(["follow", str(video), "--box", BOX, *arguments]) == 2 and "already exists" in one_line(capsys)
    assert main(["follow", str(video), "--box", "900,10,20,20", *arguments, "--overwrite"]) == 2
    assert there.read_text() == "mine"  # nothing was followed, so nothing is replaced
    assert main(["follow", str(video), "--box", BOX, *arguments, "--overwrite"]) == 0
    assert there.read_bytes() != b"mine"


def test_without_a_folder_records_are_printed(video: Path, capsys) -> None:
    assert main(["follow", str(video), "--box", BOX, "--tracker", "kcf", "--tracker-set", "padding=2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == COUNT


def test_data_of_otb_is_followed_and_measured(otb: Path, tmp_path: Path, capsys) -> None:
    out, results = tmp_path / "out", tmp_path / "otb.json"
    arguments = ["--tracker", "kcf", "--out", str(out), "--results", str(results)]
    assert main(["follow", str(otb), *arguments]) == 0
    record = json.loads(results.read_text())
    assert record["metrics"]["precision_20"] == 1 and record["metrics"]["success_auc"] > 0.8
    assert [row["sequence"] for row in record["tables"]["per sequence"]] == ["Again", "Walk"]
    assert "mean over 2 sequences" in record["protocol"] and len(record["tables"]["per image"]) == 2 * COUNT
    # In the numbers of the ground truth, whose positions count from 1.
    assert np.allclose(read_boxes(out / "boxes" / "Walk.txt")[0], TRUTH[0] + np.array([1, 1, 0, 0]), atol=0.01)
    again = tmp_path / "again.json"
    assert main(["evaluate", "following", "--gt", str(otb), "--pred", str(out), "--results", str(again)]) == 0
    measured = json.loads(again.read_text())["metrics"]
    assert measured == pytest.approx(record["metrics"], abs=1e-3)


def test_a_frame_that_cannot_be_read_keeps_its_line(otb: Path, tmp_path: Path, capsys) -> None:
    (otb / "Walk" / "img" / "0004.png").write_bytes(b"\x89PNG broken")
    out = tmp_path / "out"
    assert main(["follow", str(otb / "Walk"), "--tracker", "kcf", "--out", str(out)]) == 3
    assert "skipped: " in capsys.readouterr().err
    boxes = read_boxes(out / "boxes" / "Walk.txt")
    assert len(boxes) == COUNT and np.isnan(boxes[3]).all() and np.isfinite(np.delete(boxes, 3, 0)).all()
    Image.new("RGB", (50, 40)).save(otb / "Walk" / "img" / "0006.png")  # of another size
    (otb / "Walk" / "img" / f"{COUNT:04}.png").write_bytes(b"\x89PNG broken")
    assert main(["follow", str(otb), "--tracker", "kcf", "--out", str(out), "--overwrite"]) == 3
    assert "frame 5: a frame of 50 x 40 pixels" in capsys.readouterr().err
    boxes = read_boxes(out / "boxes" / "Walk.txt")
    assert np.flatnonzero(np.isnan(boxes).any(axis=1)).tolist() == [3, 5, 7] and len(boxes) == COUNT
    (otb / "Walk" / "img" / "0001.png").write_bytes(b"\x89PNG broken")
    assert main(["follow", str(otb / "Walk"), "--tracker", "kcf"]) == 3
    assert "the first frame, to which the box belongs" in capsys.readouterr().err


def test_an_interruption_leaves_what_was_done(video: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    write = command.ObjectFiles.write

    def interrupted(self, frame, lines, draw) -> None:
        if frame.number == 5:
            raise KeyboardInterrupt
        write(self, frame, lines, draw)

    monkeypatch.setattr(command.ObjectFiles, "write", interrupted)
    out = tmp_path / "out"
    assert main(["follow", str(video), "--box", BOX, "--tracker", "kcf", "--out", str(out), "--draw"]) == 130
    assert "interrupted after 5 frames" in one_line(capsys)
    with VideoReader(out / "drawn" / "walk.mp4") as shown:
        assert len(list(shown.each())) == 5
    assert len(records(out)) == 5 and len(read_boxes(out / "boxes" / "walk.txt")) == 5


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "--box: give the object's box"),
        (["--box", "1,2,3"], 2, "--box 1,2,3: give left,top,width,height"),
        (["--box", "1,2,x,4"], 2, "--box 1,2,x,4: give"),
        (["--box", "1,2,nan,4"], 2, "--box 1,2,nan,4: give"),
        (["--box", "1,2,0,4"], 2, "width and height are at least 1 pixel"),
        (["--box", "128,0,20,20"], 2, "--box 128,0,20,20: lies outside of the first frame, which has 128 x 96"),
        (["--box", BOX, "--tracker", "hfc"], 2, "did you mean 'hcf'"),
        (["--box", BOX, "--tracker-set", "paddin=3"], 2, "did you mean 'padding'"),
        (["--box", BOX, "--draw"], 2, "--draw: name a folder"),
        (["--box", BOX, "--results", "a.json"], 2, "--results: is for data of OTB"),
    ],
)
def test_mistakes_are_one_line(video: Path, capsys, arguments, status: int, message: str) -> None:
    given = arguments if "hfc" in arguments else ["--tracker", "kcf", *arguments]
    assert main(["follow", str(video), *given]) == status
    assert message in one_line(capsys)


def test_what_is_no_video_or_model_is_one_line(video: Path, tmp_path: Path, frames, capsys) -> None:
    (tmp_path / "a.mp4").write_text("no video")
    with VideoWriter(tmp_path / "one.mp4", 10) as writer:
        writer.write(frames[0])
    for given, status, message in (
        ([str(tmp_path / "a.mp4")], 3, "not a video that can be read"),
        ([str(tmp_path / "b.mp4")], 3, "no such video file"),
        ([str(tmp_path / "one.mp4")], 3, "one frame; an object is followed through at least two"),
        (["timm:resnet18", str(video)], 2, "takes no model"),
    ):
        assert main(["follow", *given, "--box", BOX, "--tracker", "kcf"]) == status
        assert message in one_line(capsys)
    for model, status, message in (("no.ckpt", 4, "no such checkpoint"), ("resnet118", 2, "did you mean 'resnet18'")):
        assert main(["follow", model, str(video), "--box", BOX]) == status
        assert message in one_line(capsys)


def test_the_size_is_followed_by_the_network_alone(tmp_path: Path) -> None:
    folder = tmp_path / "grow"
    folder.mkdir()
    for t in range(10):
        Image.fromarray(drawn(t, growing(t, 1.03))).save(folder / f"{t}.png")
    x1, y1, x2, y2 = growing(0)
    widths = {}
    for tracker in ("hcf", "kcf"):
        out = tmp_path / tracker
        box = f"{x1},{y1},{x2 - x1},{y2 - y1}"
        assert main(["follow", str(folder), "--box", box, "--tracker", tracker, "--out", str(out)]) == 0
        widths[tracker] = read_boxes(out / "boxes" / "grow.txt")[-1, 2]
    assert widths["kcf"] == pytest.approx(x2 - x1) and widths["hcf"] > 1.15 * widths["kcf"]


def test_raw_pixels_are_followed_without_torch() -> None:
    code = (
        "import sys\nfrom ui.cli import main\n"
        "assert main(['follow', 'none.mp4', '--box', '1,2,3,4', '--tracker', 'kcf']) == 3\n"
        "print([name for name in ('torch', 'timm') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"

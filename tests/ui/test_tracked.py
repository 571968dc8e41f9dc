"""`visionkit predict --track`: what is written, counted, skipped and refused; frames of files, folders and streams."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from lightning import LightningModule
from PIL import Image

import ui.tracked
from tests.toy_detector import Cells
from ui.cli import main
from ui.video_results import RATE, DrawnVideo
from visionkit.errors import DataError
from visionkit.families.detection.task import DetectorTask
from visionkit.frame_sources import FolderFrames, is_live, open_frames
from visionkit.predictions import Detections, Tracks
from visionkit.results import Result
from visionkit.streams import in_background
from visionkit.tracking.counts import LineCounter
from visionkit.tracking.mot_files import read_tracks
from visionkit.video import HELD, Frame, VideoReader, VideoWriter

SIZE = (96, 160)


def frame(t: int) -> np.ndarray:
    """A red box that goes to the right and a green one that goes to the left, below."""
    pixels = np.full((*SIZE, 3), 230, np.uint8)
    pixels[10:40, 2 * t : 2 * t + 24] = (200, 20, 20)
    pixels[55:85, 130 - 2 * t : 154 - 2 * t] = (20, 180, 20)
    return pixels


class ColorTask(DetectorTask):
    """Stands for a trained detector."""

    name = "colors"

    def decode(self, outputs: Any) -> Any: ...

    def restore(self, decoded: Any, geometry: Any) -> Any: ...


class Colors:
    """Finds red and green boxes."""

    def __init__(self) -> None:
        self.task = ColorTask.__new__(ColorTask)  # without a network
        LightningModule.__init__(self.task)
        self.task.architecture = Cells()

    def stream(self, images: Any, batch_size: int, num_workers: int, **options: Any) -> Any:
        for image in images:
            try:
                pixels = image.read().astype(int)
            except DataError as error:
                yield Result(image, None, error)
                continue
            boxes, labels = [], []
            for label, channel in enumerate((0, 1)):
                there = pixels[..., channel] - pixels[..., 1 - channel] > 80
                if there.any():
                    y, x = np.flatnonzero(there.any(1)), np.flatnonzero(there.any(0))
                    boxes.append([x[0], y[0], x[-1] + 1, y[-1] + 1])
                    labels.append(label)
            found = np.array(boxes, float).reshape(-1, 4)
            yield Result(image, Detections(("red", "green"), SIZE, found, np.full(len(boxes), 0.9), labels), None)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(ui.tracked, "open_predictors", lambda *_: [Colors()])
    monkeypatch.setattr("ui.commands.predict.check_model", lambda _: None)
    return "model"


@pytest.fixture
def video(tmp_path: Path) -> Path:
    with VideoWriter(tmp_path / "walk.mp4", 10) as writer:
        for t in range(40):
            writer.write(frame(t))
    return tmp_path / "walk.mp4"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "walk" / "img1"
    images.mkdir(parents=True)
    for t in range(20):
        Image.fromarray(frame(t)).save(images / f"{t + 1:06}.png")
    (tmp_path / "walk" / "seqinfo.ini").write_text("[Sequence]\nname=walk\nframeRate=5\nseqLength=20\n")
    return tmp_path / "walk"


def records(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]


def test_a_video_gives_records_text_counts_and_a_drawn_video(model: str, video: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    arguments = ["--track", "bytetrack", "--out", str(out), "--draw", "--line", "80,0,80,96"]
    assert main(["predict", model, str(video), *arguments]) == 0
    found = records(out)
    assert [each["frame"] for each in found] == list(range(40)) and found[10]["seconds"] == pytest.approx(1.0, abs=0.01)
    ids = {each["class"]: each["id"] for each in found[-1]["prediction"]["objects"]}
    assert set(ids) == {"red", "green"}
    assert all({o["class"]: o["id"] for o in each["prediction"]["objects"]} == ids for each in found[1:])
    tracks = read_tracks(out / "tracks" / "walk.txt")
    assert set(tracks.ids) == set(ids.values()) and tracks.frames.max() == 40
    again = read_tracks(out / "predictions.jsonl")
    assert np.array_equal(np.sort(again.frames), tracks.frames) and set(again.classes) == {1, 2}
    counts = json.loads((out / "counts.json").read_text())[str(video)]
    assert counts["frames"] == 40 and counts["objects"] == {"green": 1, "red": 1}
    # Seen along the line, which goes down, what is to the left lies to the right in the image.
    assert counts["lines"][0]["right_to_left"] == {"red": 1} and counts["lines"][0]["left_to_right"] == {"green": 1}
    with VideoReader(out / "drawn" / "walk.mp4") as drawn:
        assert len(list(drawn.each())) == 40 and drawn.rate == pytest.approx(10)
    assert "40 frames, 1 green, 1 red" in capsys.readouterr().err


def test_a_folder_of_frames_and_a_broken_one(model: str, folder: Path, tmp_path: Path, capsys) -> None:
    (folder / "img1" / "000008.png").write_bytes(b"\x89PNG broken")
    out = tmp_path / "out"
    assert main(["predict", model, str(folder), "--track", "sort", "--out", str(out)]) == 3
    found = records(out)
    assert len(found) == 19 and 7 not in [each["frame"] for each in found]
    assert found[-1]["seconds"] == pytest.approx(19 / 5)
    assert "000008.png" in capsys.readouterr().err
    assert set(read_tracks(out / "tracks" / "walk.txt").ids) == {1, 2}


def test_several_videos_begin_anew_and_a_rate_leaves_frames_out(
    model: str, video: Path, folder: Path, tmp_path
) -> None:
    out = tmp_path / "out"
    arguments = ["--track", "ocsort", "--out", str(out), "--rate", "5", "--tracker-set", "min_hits=1"]
    assert main(["predict", model, str(video), str(folder), *arguments]) == 0
    found = records(out)
    assert [each["frame"] for each in found][:4] == [0, 2, 4, 6] and len(found) == 20 + 20
    assert set(read_tracks(out / "tracks" / "walk-2.txt").ids) == {1, 2}


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_what_was_done(
    model: str, video: Path, tmp_path: Path, capsys, monkeypatch, number: int, status: int
) -> None:
    update = ui.tracked.ObjectFiles.write
    before = signal.getsignal(number)

    def write(self, shown, lines, draw) -> None:
        if shown.number == 11:
            os.kill(os.getpid(), number)  # in the middle of a frame, whose files are written to their end
        update(self, shown, lines, draw)

    monkeypatch.setattr(ui.tracked.ObjectFiles, "write", write)
    out = tmp_path / "out"
    assert main(["predict", model, str(video), "--track", "sort", "--out", str(out), "--draw"]) == status
    assert "after 12 frames of" in capsys.readouterr().err and signal.getsignal(number) == before
    with VideoReader(out / "drawn" / "walk.mp4") as drawn:
        assert len(list(drawn.each())) == 12
    assert len(records(out)) == 12 and read_tracks(out / "tracks" / "walk.txt").frames.max() == 12
    assert json.loads((out / "counts.json").read_text())[str(video)]["frames"] == 12


def test_a_stream_that_stalls_is_not_released_while_it_is_read(video: Path) -> None:
    grabs, go_on, entered = iter(range(100)), threading.Event(), threading.Event()
    with VideoReader(video) as reader:
        capture, calls = reader._capture, []

        class Stalls:
            def __getattr__(self, name: str) -> Any:
                return getattr(capture, name)

            def grab(self) -> bool:
                if next(grabs) == 3:
                    entered.set()
                    go_on.wait(10)
                    calls.append("grabbed")
                return capture.grab()

            def release(self) -> None:
                calls.append("released")
                capture.release()

        reader._capture, frames = Stalls(), []
        thread = threading.Thread(target=lambda: frames.extend(reader.each()))
        thread.start()
        entered.wait(10)
    assert calls == []  # OpenCV would crash the process
    go_on.set()
    thread.join(10)
    assert calls == ["grabbed"] and len(frames) <= 4 and list(reader.each()) == []


def test_time_stamps_that_jump_make_no_endless_video(video: Path, tmp_path: Path) -> None:
    with VideoReader(video) as reader:
        reader._time = lambda number, before: number / 10 + (1e9 if number >= 20 else 0)  # type: ignore[method-assign]
        kept = [each.number for each in reader.each(rate=5)]
    assert kept == list(range(0, 40, 2))
    with VideoWriter(tmp_path / "out.mp4", 10) as writer:
        for number, seconds in enumerate((0, 0.1, 0.5, 3600, 3600.1, 7200)):
            writer.show(frame(number), seconds)
        assert writer.left_out == pytest.approx(7200 - 0.5 - 0.1 - 2 * HELD, abs=0.2)
    with VideoReader(tmp_path / "out.mp4") as drawn:
        pixels = [each.pixels for each in drawn.each()]
    assert len(pixels) == writer.count == pytest.approx(6 + 2 * 10 * HELD, abs=6)
    assert np.abs(pixels[3].astype(int) - frame(1)).mean() < 4 < np.abs(pixels[6].astype(int) - frame(1)).mean()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--track", "bytetrak"], 2, "did you mean 'bytetrack'"),
        (["--track", "sort", "--line", "1,2,3"], 2, "--line 1,2,3: give x1,y1,x2,y2"),
        (["--track", "sort", "--tracker-set", "max_agee=3"], 2, "did you mean 'max_age'"),
        (["--track", "sort", "--boxes", "b.json"], 2, "--boxes: is not for --track"),
        (["--line", "1,2,3,4"], 2, "--line: needs --track"),
        (["--track", "sort", "--rate", "0"], 2, "--rate 0: allowed are numbers from 0.01 to 1000"),
        (["--track", "sort", "--rate", "0.009"], 2, "--rate 0.009"),
        (["--track", "sort", "--rate", "1000.1"], 2, "--rate 1000.1"),
        (["--track", "sort", "--rate", "-5"], 2, "--rate -5"),
        (["--track", "sort", "--rate", "nan"], 2, "--rate nan"),
        (["--track", "sort", "--line", "-1,2,3"], 2, "--line -1,2,3: give x1,y1,x2,y2"),
    ],
)
def test_mistakes_are_one_line(model: str, video: Path, capsys, arguments, status: int, message: str) -> None:
    assert main(["predict", model, str(video), *arguments]) == status
    shown = capsys.readouterr().err
    assert message in shown and shown.count("\n") == 1


@pytest.mark.parametrize("name", ["tracks/walk.txt", "drawn/walk.mp4", "predictions.jsonl"])
def test_what_lies_where_results_go_is_kept(name: str, model: str, video: Path, tmp_path: Path, capsys) -> None:
    there = tmp_path / "out" / name
    there.parent.mkdir(parents=True)
    there.write_text("mine")
    arguments = ["--track", "sort", "--draw", "--rate", "1", "--out", str(tmp_path / "out")]
    assert main(["predict", model, str(video), *arguments]) == 2
    shown = capsys.readouterr().err
    assert f"{there}: already exists" in shown and shown.count("\n") == 1 and there.read_text() == "mine"
    assert main(["predict", model, str(video), *arguments, "--overwrite"]) == 0
    assert there.read_bytes() != b"mine"


def test_what_was_found_but_not_followed_is_stated(model: str, video: Path, capsys) -> None:
    arguments = ["--rate", "1", "--tracker-set"]
    assert main(["predict", model, str(video), "--track", "bytetrack", *arguments, "new_score=0.95"]) == 0
    shown = capsys.readouterr().err
    assert "4 frames, no objects" in shown
    assert (
        "tracks begin at a score of 0.95 (new_score), and the highest one found was 0.90; --tracker-set new_" in shown
    )
    assert main(["predict", model, str(video), "--track", "bytetrack", *arguments, "new_score=0.85"]) == 0
    assert "tracks begin" not in capsys.readouterr().err


@pytest.mark.parametrize(("stated", "asked", "written"), [(1000.0, None, RATE), (25.0, None, 25.0), (25.0, 5.0, 5.0)])
def test_a_drawn_video_has_60_frames_per_second_at_most(stated, asked, written, tmp_path: Path) -> None:
    """Headers of recordings from browsers state 1000, and players would have to be that fast."""
    source = SimpleNamespace(name="a.webm", rate=stated, is_live=False)
    with DrawnVideo(tmp_path / "a.mp4", source, asked) as video:  # type: ignore[arg-type]
        for number in range(2):
            video.write(Frame(number, number / written, frame(number)), lambda: frame(0))
    with VideoReader(tmp_path / "a.mp4") as reader:
        assert reader.rate == pytest.approx(written)


def test_a_damaged_video_is_one_line(video: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """OpenCV writes what it thinks of a file past Python."""
    video.write_bytes(video.read_bytes()[:600])
    with pytest.raises(DataError, match="the video is damaged"):
        open_frames(str(video))
    assert capfd.readouterr() == ("", "")


def test_what_is_no_video_is_reported(model: str, tmp_path: Path, capsys) -> None:
    (tmp_path / "a.mp4").write_text("no video")
    assert main(["predict", model, str(tmp_path / "a.mp4"), "--track", "sort"]) == 3
    assert main(["predict", model, str(tmp_path / "b.mp4"), "--track", "sort"]) == 3
    shown = capsys.readouterr().err
    assert "not a video that can be read" in shown and "no such video file" in shown
    with pytest.raises(DataError, match="no such camera"):
        open_frames("camera:77")


def test_a_video_without_a_tracker_is_an_error_that_names_one(model: str, video: Path, capsys) -> None:
    for source in (str(video), "rtsp://host/x"):
        assert main(["predict", model, source]) == 2
        assert "a video; follow its objects with --track" in capsys.readouterr().err


def test_a_frame_that_cannot_be_decoded_is_passed_over(video: Path) -> None:
    faults: list[str] = []
    with VideoReader(video) as reader:
        capture, calls = reader._capture, iter(range(100))

        class Broken:
            def __getattr__(self, name: str) -> Any:
                return getattr(capture, name)

            def retrieve(self) -> Any:
                return (False, None) if next(calls) == 3 else capture.retrieve()

        reader._capture = Broken()
        numbers = [each.number for each in reader.each(on_fault=faults.append)]
    assert numbers == [0, 1, 2, *range(4, 40)] and faults == ["walk.mp4: frame 3 cannot be decoded"]


def test_addresses_and_cameras_are_known_and_show_no_password(tmp_path: Path, monkeypatch) -> None:
    assert is_live("rtsp://u:p@host/stream") and is_live("camera:0") and is_live("0") and not is_live("walk.mp4")
    monkeypatch.chdir(tmp_path)
    Path("0").mkdir()
    assert not is_live("0")
    with pytest.raises(DataError, match=r"^rtsp://127\.0\.0\.1:9/x: nothing there"):
        open_frames("rtsp://user:secret@127.0.0.1:9/x")


def test_frames_are_made_ahead_in_order_and_faults_come_through() -> None:
    assert list(in_background(range(50), 3)) == list(range(50))
    assert list(in_background(range(500), 1, newest=True))[-1] == 499

    def broken():
        yield 1
        raise DataError("here")

    taken = in_background(broken(), 2)
    assert next(taken) == 1
    with pytest.raises(DataError, match="here"):
        next(taken)
    endless = in_background(iter(int, 1), 2)
    next(endless)
    endless.close()  # ends the thread


def test_the_rate_of_a_folder_is_stated_beside_it(folder: Path) -> None:
    assert FolderFrames(folder).rate == 5 and FolderFrames(folder / "img1").rate == 5
    assert [each.number for each in FolderFrames(folder).each(rate=2.5)] == list(range(0, 20, 2))


def tracks_at(*centers: tuple[float, float]) -> Tracks:
    boxes = np.array([[x - 2, y - 2, x + 2, y + 2] for x, y in centers])
    count = len(centers)
    return Tracks(("a",), SIZE, boxes, np.ones(count), np.zeros(count), ids=np.arange(1, count + 1))


@pytest.mark.parametrize(
    ("way", "right", "left"),
    [
        ([(50, 40), (50, 60)], 1, 0),
        ([(50, 60), (50, 40)], 0, 1),
        ([(50, 40), (50, 50), (50, 60)], 1, 0),  # once on the line itself
        ([(50, 40), (50, 50), (50, 40)], 0, 0),
        ([(120, 40), (120, 60)], 0, 0),  # beside the line
        ([(50, 40), (50, 60), (50, 40), (50, 60)], 2, 1),
    ],
)
def test_lines_are_crossed_between_their_ends(way, right: int, left: int) -> None:
    line = LineCounter((0, 50, 100, 50))
    for center in way:
        line.update(tracks_at(center))
    assert (line.right["a"], line.left["a"]) == (right, left)

"""`visionkit predict --rescore`: what is written, kept and refused."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.ui.test_tracked import SIZE, Colors, frame, records
from ui.cli import main
from visionkit.masks import decode_masks, encode_masks
from visionkit.predictions import Detections, Instances
from visionkit.video import VideoReader, VideoWriter

COUNT = 12


@pytest.fixture
def video(tmp_path: Path) -> Path:
    with VideoWriter(tmp_path / "walk.mp4", 10) as writer:
        for t in range(COUNT):
            writer.write(frame(3 * t))
    return tmp_path / "walk.mp4"


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("ui.commands.predict.check_model", lambda _: None)
    monkeypatch.setattr("ui.rescored.open_predictors", lambda *_: [Fading()])
    return "model"


def test_rescoring_goes_through_the_whole_video(model: str, video: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    assert main(["predict", model, str(video), "--rescore", "seq-nms", "--out", str(out), "--draw"]) == 0
    found = records(out)
    assert [each["frame"] for each in found] == list(range(COUNT)) and found[0]["size"] == list(SIZE)
    scores = {each["class"]: set() for each in found[0]["prediction"]["objects"]}
    for record in found:
        assert record["prediction"]["kind"] == "detections"
        for each in record["prediction"]["objects"]:
            scores[each["class"]].add(round(each["score"], 4))
    assert scores == {"red": {0.7}, "green": {0.7}}  # .9 and .5 by turns
    with VideoReader(out / "drawn" / "walk.mp4") as drawn:
        assert sum(1 for _ in drawn.each()) == COUNT
    assert f"{COUNT} frames, {2 * COUNT} objects" in capsys.readouterr().err
    assert main(["predict", model, str(video), "--rescore", "tubelets", "--rate", "5"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == COUNT // 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rescore", "seqnms"], "did you mean 'seq-nms'"),
        (["--rescore", "seq-nms", "--track", "sort"], "is not for --track"),
        (["--rescore", "seq-nms", "--camera", "1,1,1,1", "--out", "o"], "--camera: is not for --rescore"),
        (["--rescore", "seq-nms", "--rate", "0"], "--rate 0"),
    ],
)
def test_what_contradicts_rescoring_is_refused(
    model: str, video: Path, arguments: list[str], message: str, capsys
) -> None:
    assert main(["predict", model, str(video), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_camera_has_no_whole_video_to_rescore(model: str, capsys) -> None:
    assert main(["predict", model, "camera:0", "--rescore", "seq-nms"]) == 2
    assert "has no end; record it first" in capsys.readouterr().err


def test_masks_go_with_their_boxes(model: str, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ui.rescored.open_predictors", lambda *_: [Outlined()])
    out = tmp_path / "out"
    assert main(["predict", model, str(video), "--rescore", "tubelets", "--out", str(out)]) == 0
    for record in records(out):
        assert record["prediction"]["kind"] == "instances" and len(record["prediction"]["objects"]) == 2
        for each in record["prediction"]["objects"]:
            mask = decode_masks([each["mask"]], SIZE)[0]
            y, x = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            assert [x[0], y[0], x[-1] + 1, y[-1] + 1] == pytest.approx(each["box"]), each["class"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_the_videos_that_are_whole(
    model: str, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, number: int, status: int
) -> None:
    """The whole video is needed, so of the one that was interrupted nothing is written."""
    monkeypatch.setattr("ui.rescored.open_predictors", lambda *_: [Signals(number, COUNT + 5)])
    out, before = tmp_path / "out", signal.getsignal(number)
    assert main(["predict", model, str(video), str(video), "--rescore", "tubelets", "--out", str(out)]) == status
    assert f"before a frame of {video} was written" in capsys.readouterr().err and signal.getsignal(number) == before
    assert [each["frame"] for each in records(out)] == list(range(COUNT))


class Fading(Colors):
    """Scores .9 and .5 by turns."""

    def stream(self, images: Any, batch_size: int, num_workers: int, **options: Any) -> Any:
        for number, result in enumerate(super().stream(images, batch_size, num_workers, **options)):
            found = result.prediction
            scores = np.full(len(found), 0.5 if number % 2 else 0.9)
            yield result._replace(prediction=Detections(found.classes, found.size, found.boxes, scores, found.labels))


class Outlined(Fading):
    """Finds masks, too: all of the box."""

    def stream(self, images: Any, batch_size: int, num_workers: int, **options: Any) -> Any:
        for result in super().stream(images, batch_size, num_workers, **options):
            found, masks = result.prediction, np.zeros((2, *SIZE), bool)
            for mask, (x1, y1, x2, y2) in zip(masks, found.boxes.astype(int), strict=True):
                mask[y1:y2, x1:x2] = True
            parts = (found.classes, found.size, found.boxes, found.scores, found.labels)
            yield result._replace(prediction=Instances(*parts, masks=tuple(encode_masks(masks))))


class Signals(Fading):
    """Sends a signal in the middle of the work."""

    def __init__(self, number: int, at: int) -> None:
        super().__init__()
        self.number, self.at, self.count = number, at, 0

    def stream(self, images: Any, batch_size: int, num_workers: int, **options: Any) -> Any:
        for result in super().stream(images, batch_size, num_workers, **options):
            self.count += 1
            if self.count == self.at:
                with contextlib.suppress(Exception):  # as decoders do, which take all for a damaged file
                    os.kill(os.getpid(), self.number)
            yield result

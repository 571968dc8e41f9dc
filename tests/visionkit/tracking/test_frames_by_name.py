"""Frames of a sequence of MOTChallenge have the numbers of their names, and readers leave the environment alone."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visionkit.frame_sources import FolderFrames
from visionkit.video import open_capture

INFO = "[Sequence]\nname=a\nimDir=img1\nframeRate=10\nseqLength=4\nimWidth=8\nimHeight=8\nimExt=.png\n"


def test_a_missing_frame_keeps_the_others_in_their_place(tmp_path: Path) -> None:
    (tmp_path / "img1").mkdir()
    for number in (1, 2, 4):
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(tmp_path / "img1" / f"{number:06d}.png")
    plain = [frame.number for frame in FolderFrames(tmp_path / "img1").each()]
    assert plain == [0, 1, 2], "of a folder that is no such sequence, the order alone counts"
    (tmp_path / "seqinfo.ini").write_text(INFO, encoding="utf-8")
    for folder in (tmp_path, tmp_path / "img1"):
        frames = list(FolderFrames(folder).each())
        assert [frame.number for frame in frames] == [0, 1, 3]
        assert frames[2].seconds == pytest.approx(0.3)


@pytest.mark.parametrize("stated", [None, "rtsp_transport;udp", "protocol_whitelist;file"])
def test_a_reader_leaves_the_options_of_ffmpeg_as_they_were(
    stated: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
    monkeypatch.delenv(name, raising=False)
    if stated is not None:
        monkeypatch.setenv(name, stated)
    assert not open_capture(str(tmp_path / "nothing.mp4"), "file").isOpened()
    assert os.environ.get(name) == stated

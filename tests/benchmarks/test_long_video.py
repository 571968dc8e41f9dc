"""The long video: what is made, and what is read of a process. Its figures are in the documentation."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.long_video import make_video, observe, slope
from visionkit.video import VideoReader


def test_the_video_is_as_long_as_asked_and_moves(tmp_path: Path) -> None:
    with VideoReader(make_video(tmp_path / "a.mp4", 0.5, (90, 160))) as reader:
        frames = [each.pixels.astype(int) for each in reader.each()]
    assert len(frames) == 15 and reader.rate == 30 and reader.size == (90, 160)
    assert abs(frames[-1] - frames[0]).mean() > 3


def test_a_process_is_observed_and_interrupted(tmp_path: Path) -> None:
    program = "import sys, time\nopen(sys.argv[1], 'w').write('12345')\ntime.sleep(30)"
    run = observe([sys.executable, "-c", program, str(tmp_path / "a")], tmp_path / "a", 5)
    assert run.status != 0 and run.seconds < 20 and run.memory[-1] > 1


def test_the_slope_leaves_the_beginning_out() -> None:
    assert slope([0] * 20 + [100 + 0.5 * second for second in range(80)]) == pytest.approx(30)
    assert slope([5]) == 0

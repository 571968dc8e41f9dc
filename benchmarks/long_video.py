"""A long video, tracked: memory over time, speed beside the detector alone, and what Ctrl-C leaves.

`python -m benchmarks.long_video --out long_video.jsonl --work FOLDER [--seconds 600] [--rate 5] [--model MODEL]`

The video is made here: 1280 x 720 at 30 frames per second, a window that wanders over the photographs of the example
detector. Every frame is decoded; the network sees `--rate` of them per second, in its own input size. Each part is a
process of its own with one thread:

- `alone`: decoding ahead and the detector, nothing else;
- `tracked`: `visionkit predict --track bytetrack`, with its records, text and counts;
- `interrupted`: the same with the drawn video, ended by SIGINT.

What is compared is processor time per frame, which other programs on the machine take less part in than in time by the
clock. Finished parts are kept; a rerun skips them.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

MODEL = "ui/starters/detection/people_and_things"
RATE, SIZE = 30.0, (720, 1280)
PARTS = ("alone", "tracked", "interrupted")
WARM = 0.2
"""Part of a run whose memory does not count: models are loaded and caches filled."""


class Run(NamedTuple):
    """A process that has ended.

    Attributes:
        status: Its exit status.
        seconds: By the clock.
        cpu: Processor seconds of all its threads.
        memory: MB of it, once per second.
    """

    status: int
    seconds: float
    cpu: float
    memory: list[float]


def make_video(path: Path, seconds: float, size: tuple[int, int] = SIZE) -> Path:
    """Writes a video whose window wanders over a row of photographs; MPEG-4 part 2, which is quickly written."""
    import cv2

    from visionkit.images import ImageSource

    height, width = size
    photo = ImageSource(f"{MODEL}/unseen.jpg").read()
    scale = 1.25 * height / photo.shape[0]
    wide = cv2.resize(photo, (round(photo.shape[1] * scale), round(photo.shape[0] * scale)))[..., ::-1]
    room = (wide.shape[0] - height, wide.shape[1] - width)
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), RATE, (width, height))
    for number in range(round(seconds * RATE)):
        now = number / RATE
        x = round(room[1] * (0.5 + 0.5 * math.sin(now / 7)))
        y = round(room[0] * (0.5 + 0.5 * math.sin(now / 3)))
        writer.write(np.ascontiguousarray(wide[y : y + height, x : x + width]))
    writer.release()
    return path


def alone(model: str, video: Path, rate: float) -> int:
    """Runs the detector on the frames of a video and keeps nothing; returns their number."""
    from ui.video_results import read_ahead
    from visionkit.frame_sources import open_frames
    from visionkit.images import ImageSource
    from visionkit.predictor import load

    predictor = load(model)
    with open_frames(str(video)) as frames:
        images = (ImageSource(each.pixels, str(each.number)) for each in read_ahead(frames, rate, print))
        return sum(1 for _ in predictor.stream(images, 1, 1))


def observe(command: Sequence[str], stop_at: Path | None = None, size: int = 0) -> Run:
    """Runs a command with one thread and reads its memory once per second.

    Args:
        command: What is run.
        stop_at: A file; the command gets SIGINT once it has that size.
        size: These bytes.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    memory: list[float] = []
    start, before = time.monotonic(), sum(os.times()[2:4])
    process = subprocess.Popen(command, env=environment)
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        try:
            lines = status.read_text("ascii").splitlines()
        except OSError:
            break
        memory += [float(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmRSS")]
        if stop_at is not None and stop_at.exists() and stop_at.stat().st_size >= size:
            process.send_signal(signal.SIGINT)
            stop_at = None
        time.sleep(1 if stop_at is None else 0.1)
    process.wait()
    return Run(process.returncode, time.monotonic() - start, sum(os.times()[2:4]) - before, memory)


def slope(memory: Sequence[float]) -> float:
    """MB per minute that a process grows by, from a value per second; the first part of them does not count."""
    kept = memory[round(WARM * len(memory)) :]
    return float(np.polyfit(np.arange(len(kept)) / 60, kept, 1)[0]) if len(kept) > 1 else 0.0


def left_by(out: Path) -> dict[str, Any]:
    """What the folder of an interrupted run has: the frames of each of its files."""
    from visionkit.tracking.mot_files import read_tracks
    from visionkit.video import VideoReader

    with VideoReader(next((out / "drawn").glob("*.mp4"))) as reader:
        drawn = sum(1 for _ in reader.each())
    records = [json.loads(line) for line in (out / "predictions.jsonl").read_text("utf-8").splitlines()]
    (counts,) = json.loads((out / "counts.json").read_text("utf-8")).values()
    text = read_tracks(next((out / "tracks").glob("*.txt")))
    return {
        "drawn_frames": drawn,
        "records": len(records),
        "counted_frames": counts["frames"],
        "last_frame_of_records": records[-1]["frame"],
        "last_frame_of_text": int(text.frames.max(initial=0)) - 1,
    }


def part(name: str, given: argparse.Namespace, video: Path) -> dict[str, Any]:
    """Runs one part."""
    out = given.work / name
    if name == "alone":
        command = [sys.executable, "-m", "benchmarks.long_video", "--alone", str(video)]
        run = observe([*command, "--model", given.model, "--rate", str(given.rate)])
        frames = round(given.seconds * given.rate)
    else:
        command = [sys.executable, "-m", "ui.cli", "predict", given.model, str(video), "--track", "bytetrack"]
        command += ["--out", str(out), "--overwrite", "--rate", str(given.rate)]
        if name == "interrupted":
            run = observe([*command, "--draw"], out / "drawn" / f"{video.stem}.mp4", given.drawn_bytes)
            return {"part": name, "status": run.status, **left_by(out)}
        run = observe(command)
        (counts,) = json.loads((out / "counts.json").read_text("utf-8")).values()
        frames = counts["frames"]
    if run.status:
        raise SystemExit(f"{name}: ended with status {run.status}")
    kept = run.memory[round(WARM * len(run.memory)) :]
    return {
        "part": name,
        "frames": frames,
        "seconds": round(run.seconds, 1),
        "cpu_ms_per_frame": round(1000 * run.cpu / frames, 3),
        "memory_mb": [round(min(kept)), round(max(kept))],
        "slope_mb_per_minute": round(slope(run.memory), 3),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the parts that are missing and prints them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="json lines, one per finished part")
    parser.add_argument("--work", type=Path, help="folder of the video and of results")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--rate", type=float, default=5.0, help="frames per second that the network sees")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument(
        "--drawn-bytes", type=int, default=1_000_000, help="size of the drawn video at the interruption"
    )
    parser.add_argument("--alone", metavar="VIDEO", help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.alone:
        alone(given.model, Path(given.alone), given.rate)
        return 0
    given.work.mkdir(parents=True, exist_ok=True)
    video = given.work / f"long-{given.seconds:g}.mp4"
    if not video.exists():
        make_video(video.with_suffix(".part.mp4"), given.seconds).replace(video)
    lines = given.out.read_text("utf-8").splitlines() if given.out.exists() else []
    done = {each["part"]: each for each in map(json.loads, lines)}
    for name in PARTS:
        if name not in done:
            done[name] = part(name, given, video)
            with given.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(done[name]) + "\n")
        print(json.dumps(done[name]))
    ratio = done["tracked"]["cpu_ms_per_frame"] / done["alone"]["cpu_ms_per_frame"]
    print(f"processor time of tracking over the detector alone: {ratio:.3f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

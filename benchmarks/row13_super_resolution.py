"""Row 13: a picture enlarged in windows against the same picture at once, and its memory; one thread.

The network is the starters': 158,692 parameters, x2. Windows answer their surroundings twice; a whole picture's feature
maps do not fit into any cache.

- `whole`, `windows`: `predictor(array)`, the same bytes out (a tie that rounds the other way now and then is counted).
- memory: what a process grows by, at its peak, while it enlarges a picture in windows; the answer is part of it.
- `network`, `predictor` (row 4): the network on a tensor that lies ready, and array in, array out.
- `eager`, `onnx`: torch and ONNX Runtime on one window.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import timing
from benchmarks.memory import Growth
from benchmarks.pictures import jpegs
from benchmarks.timing import Goal, Options, Quartiles, Report, Stopwatch
from tasks.super_resolution import SuperResolutionTask
from visionkit.export import export_bundle
from visionkit.images import read_image
from visionkit.predictor import Predictor, load

SCALE = 2
STARTER = {"width": 32, "blocks": 8, "colour": "y"}
ALLOWED = 250.0
"""MB beside the answer."""


def task(quick: bool) -> SuperResolutionTask:
    """The starters' network with random weights that change the picture."""
    torch.manual_seed(0)
    made = SuperResolutionTask("compact", scale=SCALE, compact={**STARTER, **({"width": 8} if quick else {})}).eval()
    made.setup("predict")
    with torch.no_grad():
        made.network.body.tail[0].weight.mul_(20)
    return made


def grown(size: tuple[int, int], quick: bool) -> tuple[float, float]:
    """Peak growth of a fresh process that enlarges a picture, and the size of the answer, both in MB."""
    command = [sys.executable, "-m", "benchmarks.row13_super_resolution", "--child", json.dumps([*size, quick])]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=Path(__file__).resolve().parent.parent
    )
    peak, answer = json.loads(done.stdout.splitlines()[-1])
    return peak, answer


def _child(width: int, height: int, quick: bool) -> None:
    torch.set_num_threads(1)
    predictor = Predictor(task(quick))
    rng = np.random.default_rng(0)
    predictor(rng.integers(0, 256, (300, 300, 3), dtype=np.uint8))  # what libraries keep for good
    picture = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    growth = Growth()
    answer = predictor(picture)
    print(json.dumps([growth.peak(), answer.pixels.nbytes / 1e6]))


def run(options: Options) -> Report:
    clock, quick = options.clock or "cpu", options.quick
    report = Report(13, "super-resolution: windows against the whole picture, x2", clock)
    rounds, attempts = options.rounds or (2 if quick else 5), 1 if quick else 3
    with timing.watched(report):
        ours = Predictor(task(quick))
        side = (400, 300) if quick else (1280, 960)
        picture = read_image(jpegs(side, 1, options.data)[0][0])

        def whole(watch: Stopwatch) -> Any:
            return ours(picture, tile=0).pixels

        def windows(watch: Stopwatch) -> Any:
            return ours(picture).pixels

        first, second = whole(Stopwatch(clock)), windows(Stopwatch(clock))
        differs = first != second
        assert np.abs(first.astype(int) - second).max() <= 1 and differs.mean() < 1e-4
        times = timing.measure({"whole": whole, "windows": windows}, rounds=rounds, clock=clock, attempts=attempts)
        report.add(
            "windows over the whole, 1280x960", times.ratio("windows", "whole"), Goal(1.0, "at most"), times=times
        )
        report.add(
            "pixels that differ, by one level", Quartiles.of([float(differs.sum())]), Goal(0, "at most"), unit=""
        )

        small = np.ascontiguousarray(picture[:256, :256])
        ready = ours.prepare(small)["inputs"]["image"][None]
        with tempfile.TemporaryDirectory() as folder:
            export_bundle(ours.task, Path(folder) / "bundle", onnx=True, card={}, pictures=[small])
            graph = load(Path(folder) / "bundle", engine="onnx", threads=1).engine

            @torch.inference_mode()
            def network(watch: Stopwatch) -> Any:
                return ours.task(ready).high_res

            sides: dict[str, timing.Arm] = {
                "network": network,
                "predictor": lambda watch: ours(small).pixels,
                "eager": lambda watch: ours.engine(ready).high_res,
                "onnx": lambda watch: graph(ready).high_res,
            }
            torch.testing.assert_close(sides["onnx"](Stopwatch(clock)), network(Stopwatch(clock)), atol=1e-4, rtol=0)
            times = timing.measure(
                sides,
                rounds=3 * rounds,
                clock=clock,
                attempts=attempts,
                wanted=lambda t: [t.ratio("predictor", "network"), t.speed("onnx", "eager")],
            )
        report.add(
            "predict(array 256x256) over the network (row 4)",
            times.ratio("predictor", "network"),
            Goal(1.05, "at most"),
        )
        report.add("ONNX Runtime over eager", times.speed("onnx", "eager"), Goal(1.3), times=times)

        for size in ((600, 400),) if quick else ((1280, 960), (6000, 4000)):
            peak, answer = grown(size, quick)
            name = f"memory beside the answer, {size[0]}x{size[1]}"
            report.add(name, Quartiles.of([peak - answer]), Goal(ALLOWED, "at most"), unit="MB")
            report.note(f"{size[0]}x{size[1]}: {peak:,.0f} MB at its peak, {answer:,.0f} of them the answer")
    return report


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _child(*json.loads(sys.argv[2]))
        raise SystemExit
    raise SystemExit(timing.main(run, __doc__ or ""))

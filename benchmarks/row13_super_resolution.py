"""Row 13: an image enlarged or denoised in tiles against the same image at once, and the memory; one thread.

The networks are those of example models: 158,692 parameters, x2, and DnCNN against noise. Tiles compute their
surroundings twice; a whole image's feature maps do not fit into any cache.

- `whole`, `tiles`: `predictor(array)`, the same bytes out (a tie that rounds the other way now and then is counted).
- memory: what a process grows by, at its peak, while it enlarges an image in tiles; the prediction is part of it.
- denoised: the peak of a whole `visionkit predict`, libraries and decoded file included, less the prediction. The
  network is restoration's default, a NAFNet whose attention sees the whole image, so tiles have 640 pixels.
- `network`, `predictor` (row 4): the network on a tensor that lies ready, and array in, array out.
- `eager`, `onnx`: torch and ONNX Runtime on one tile.
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
from PIL import Image

from benchmarks import timing
from benchmarks.memory import Growth, held
from benchmarks.sample_images import jpegs
from benchmarks.timing import Goal, Options, Quartiles, Report, Stopwatch
from tasks.restoration import RestorationTask
from tasks.super_resolution import SuperResolutionTask
from visionkit.bundle import save_bundle
from visionkit.export import export_bundle
from visionkit.images import read_image
from visionkit.predictor import Predictor, load

SCALE = 2
EXAMPLE_MODEL = {"width": 32, "blocks": 8, "color": "y"}
DENOISER = Path(__file__).parents[1] / "ui/starters/restoration/noise"
ALLOWED = 250.0
"""MB beside the prediction, of what a process grows by."""

DENOISED = 1.5
"""GB beside the prediction, of a process from its start to its end."""


def task(quick: bool) -> SuperResolutionTask:
    """The example models' network with random weights that change the image."""
    torch.manual_seed(0)
    made = SuperResolutionTask(
        "compact", scale=SCALE, compact={**EXAMPLE_MODEL, **({"width": 8} if quick else {})}
    ).eval()
    made.setup("predict")
    tail: Any = made.network.body.tail
    with torch.no_grad():
        tail[0].weight.mul_(20)
    return made


def grown(size: tuple[int, int], quick: bool) -> tuple[float, float]:
    """Peak growth of a fresh process that enlarges an image, and the size of the prediction, both in MB."""
    peak, prediction = _in_process("--child", [*size, quick])
    return peak, prediction


def _in_process(what: str, arguments: list[Any]) -> list[float]:
    """What this module prints in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.row13_super_resolution", what, json.dumps(arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=Path(__file__).resolve().parent.parent
    )
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _child(width: int, height: int, quick: bool) -> None:
    torch.set_num_threads(1)
    predictor: Any = Predictor(task(quick))
    rng = np.random.default_rng(0)
    predictor(rng.integers(0, 256, (300, 300, 3), dtype=np.uint8))  # what libraries keep for good
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    growth = Growth()
    prediction = predictor(image)
    print(json.dumps([growth.peak(), prediction.pixels.nbytes / 1e6]))


def denoised(size: tuple[int, int], quick: bool) -> tuple[float, float]:
    """Peak of a process that denoises a file from the terminal, and the size of the prediction, both in GB."""
    width, height = size
    torch.manual_seed(0)
    arguments: dict[str, Any] = {"nafnet": {"width": 4} if quick else None}
    coarse = np.random.default_rng(0).integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        bundle, file = Path(folder) / "bundle", Path(folder) / "photo.png"
        save_bundle(RestorationTask(**arguments).eval(), bundle, card={})
        Image.fromarray(coarse.repeat(16, axis=0).repeat(16, axis=1)).save(file)
        (peak,) = _in_process("--predict", [str(bundle), str(file), "--out", f"{folder}/out"])
    return peak / 1e3, height * width * 3 / 1e9


def _predict(arguments: list[str]) -> None:
    from ui.cli import main

    status = main(["predict", *arguments])
    print(json.dumps([held("VmHWM")]))
    raise SystemExit(status)


def _tiles(report: Report, name: str, ours: Any, image: np.ndarray, clock: Any, rounds: int, attempts: int) -> None:
    """Adds what one network takes in tiles and as a graph."""

    def whole(watch: Stopwatch) -> Any:
        return ours(image, tile=0).pixels

    def tiles(watch: Stopwatch) -> Any:
        return ours(image).pixels

    first, second = whole(Stopwatch(clock)), tiles(Stopwatch(clock))
    differs = first != second
    assert np.abs(first.astype(int) - second).max() <= 1 and differs.mean() < 1e-4
    assert first.shape != image.shape or (first != image).mean() > 0.1, "the network changes nothing"
    times = timing.measure({"whole": whole, "windows": tiles}, rounds=rounds, clock=clock, attempts=attempts)
    report.add(f"{name}: tiles over the whole", times.ratio("windows", "whole"), Goal(1.0, "at most"), times=times)
    differing = Quartiles.of([float(differs.sum())])
    report.add(f"{name}: pixels that differ, by one level", differing, Goal(0, "at most"), unit="")

    small = np.ascontiguousarray(image[:256, :256])
    ready = ours.prepare(small)["inputs"]["image"][None]
    with tempfile.TemporaryDirectory() as folder:
        export_bundle(ours.task, Path(folder) / "bundle", onnx=True, card={}, images=[small])
        graph = load(Path(folder) / "bundle", engine="onnx", threads=1).engine

        @torch.inference_mode()
        def network(watch: Stopwatch) -> Any:
            return ours.task(ready)[0]

        sides: dict[str, timing.Arm] = {
            "network": network,
            "predictor": lambda watch: ours(small).pixels,
            "eager": lambda watch: ours.engine(ready)[0],
            "onnx": lambda watch: graph(ready)[0],
        }
        torch.testing.assert_close(sides["onnx"](Stopwatch(clock)), network(Stopwatch(clock)), atol=1e-4, rtol=0)
        times = timing.measure(
            sides,
            rounds=3 * rounds,
            clock=clock,
            attempts=attempts,
            wanted=lambda t: [t.ratio("predictor", "network"), t.speed("onnx", "eager")],
        )
    over = times.ratio("predictor", "network")
    report.add(f"{name}: predict(array 256x256) over the network (row 4)", over, Goal(1.05, "at most"))
    report.add(f"{name}: ONNX Runtime over eager", times.speed("onnx", "eager"), Goal(1.3), times=times)


def run(options: Options) -> Report:
    clock, quick = options.clock or "cpu", options.quick
    report = Report(13, "super-resolution x2 and denoising: tiles against the whole image", clock)
    rounds, attempts = options.rounds or (2 if quick else 5), 1 if quick else 3
    with timing.watched(report):
        side = (400, 300) if quick else (1280, 960)
        image = read_image(jpegs(side, 1, options.data)[0][0])
        for name, made in (("super-resolution", task(quick)), ("denoising", load(DENOISER).task)):
            _tiles(report, name, Predictor(made), image, clock, rounds, attempts)
        for size in ((600, 400),) if quick else ((1280, 960), (6000, 4000)):
            peak, prediction = grown(size, quick)
            name = f"memory beside the prediction, {size[0]}x{size[1]}"
            report.add(name, Quartiles.of([peak - prediction]), Goal(ALLOWED, "at most"), unit="MB")
            report.note(f"{size[0]}x{size[1]}: {peak:,.0f} MB at its peak, {prediction:,.0f} of them the prediction")
        size = (600, 400) if quick else (6000, 4000)
        peak, prediction = denoised(size, quick)
        name = f"a {size[0]}x{size[1]} photo denoised by `visionkit predict`: peak memory beside the prediction"
        report.add(name, Quartiles.of([peak - prediction]), Goal(DENOISED, "at most"), unit="GB")
    return report


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _child(*json.loads(sys.argv[2]))
        raise SystemExit
    if sys.argv[1:2] == ["--predict"]:
        _predict(json.loads(sys.argv[2]))
    raise SystemExit(timing.main(run, __doc__ or ""))

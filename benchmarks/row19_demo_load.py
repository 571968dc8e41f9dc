"""Row 19: the demo under load, as forty people meet it who all ask at once and ask again as soon as they are processed.

A detector (FCOS on ResNet-18 at its usual width, 640 x 640, a hundred boxes a response) is served by `visionkit serve`
in a process of its own. Every request is what a browser or `gradio_client` sends: the JPEG is uploaded, the question is
asked, the response streamed.

- One person alone, request after request: how long one takes, and which part of that is not the network. This is the
  part that the demo adds: HTTP, the queue, decoding, resizing, boxes to json.
- Forty people, two minutes (`--rounds` counts quarters of a minute): requests that failed, the 95th percentile, and
  the memory of the server from the second minute on.
- A hundred and fifty at one moment, more than may wait: each is served, or refused in words.

The load itself is made on the same cores.
"""

from __future__ import annotations

import contextlib
import json
import socket
import statistics
import subprocess
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks import timing
from benchmarks.sample_images import jpegs
from benchmarks.timing import Goal, Options, Quartiles, Report

COMMAND = str(Path(sysconfig.get_path("scripts")) / "visionkit")
USERS, CROWD, ALONE = 40, 150, 15
QUARTER = 15.0
"""Seconds of a round."""
PATIENCE = 600.0
MODEL = "detector"
PASSING = 1000
"""Places above the threshold, as on a crowded image: after a network with random weights all would look free."""


@dataclass
class Seen:
    """What the people together have seen.

    Attributes:
        times: Seconds of each served request.
        refused: What was reported to those who were refused.
        failed: What went wrong otherwise.
    """

    times: list[float] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def ask(web: httpx.Client, image: bytes, seen: Seen) -> None:
    """One request from the upload to the whole response."""
    start = time.perf_counter()
    try:
        sent = web.post("/gradio_api/upload", files={"files": ("photo.jpg", image)})
        sent.raise_for_status()
        file = {"path": sent.json()[0], "orig_name": "photo.jpg", "meta": {"_type": "gradio.FileData"}}
        begun = web.post("/gradio_api/call/predict", json={"data": [file, MODEL]})
        if begun.status_code == 503:
            seen.refused.append(begun.text)
            return
        begun.raise_for_status()
        message = web.get(f"/gradio_api/call/predict/{begun.json()['event_id']}").text
        # Whoever waits long is sent a sign of life now and then; the last event is the response.
        event, _, data = message.strip().rpartition("\n\n")[2].partition("\n")
        if event != "event: complete":
            (seen.refused if "waiting" in message else seen.failed).append(message[-200:])
            return
        assert json.loads(data.removeprefix("data: "))[0]["kind"] == "detections"
    except (httpx.HTTPError, AssertionError, ValueError) as error:
        seen.failed.append(f"{type(error).__name__}: {error}")
        return
    seen.times.append(time.perf_counter() - start)


def crowd(address: str, images: list[bytes], users: int, seconds: float) -> Seen:
    """So many people at once; each asks again as soon as it is processed, for so long, and at least once."""
    seen, end = Seen(), time.perf_counter() + seconds

    def person(number: int) -> None:
        with httpx.Client(base_url=address, timeout=PATIENCE) as web:
            ask(web, images[number % len(images)], seen)
            while time.perf_counter() < end:
                ask(web, images[number % len(images)], seen)

    people = [threading.Thread(target=person, args=(number,)) for number in range(users)]
    for each in people:
        each.start()
    for each in people:
        each.join()
    return seen


def bundle(folder: Path, image: bytes, quick: bool) -> None:
    """The detector, with a threshold that lets a hundred boxes through."""
    import torch

    from tasks.detection import DetectionTask
    from visionkit.checkpoint import save_bundle
    from visionkit.geometry import InputSpec
    from visionkit.predictor import Predictor

    def made(**options: Any) -> DetectionTask:
        torch.manual_seed(0)
        size = (64, 64) if quick else (640, 640)
        return DetectionTask(
            "test_resnet" if quick else "resnet18",
            classes=[f"class {number}" for number in range(80)],
            input=InputSpec(size=size, resize_mode="letterbox"),
            fcos={"neck_channels": 32 if quick else 256},
            **options,
        ).eval()

    task = made()
    with torch.inference_mode():
        out: Any = task(Predictor(task).prepare(image)["inputs"]["image"][None])
        scores = (out.logits.sigmoid() * out.centerness[..., None].sigmoid()).sqrt().flatten()
    threshold = float(scores.topk(min(PASSING, len(scores))).values[-1])
    save_bundle(made(score_threshold=threshold), folder / MODEL, card={"name": MODEL})


@contextlib.contextmanager
def server(models: Path) -> Iterator[tuple[str, int]]:
    """`visionkit serve` with the models of a folder: its address and process number, once it responds."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [COMMAND, "serve", "--port", str(port), "--models", str(models)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    address, end = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE
    try:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{address}/gradio_api/queue/status", timeout=PATIENCE).status_code == 200:
                    break
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError("the demo does not respond")
            time.sleep(0.1)
        yield address, process.pid
    finally:
        process.terminate()
        process.wait(60)


def network_seconds(address: str) -> tuple[float, int]:
    """Time in the network of this model so far, and how often it ran, by the server's own figures."""
    total, count = 0.0, 0
    for line in httpx.get(f"{address}/metrics", timeout=PATIENCE).text.splitlines():
        if f'model="{MODEL}"' in line and line.startswith("visionkit_network_seconds_"):
            value = float(line.rpartition(" ")[2])
            total += value if "_sum{" in line else 0.0
            count += int(value) if "_count{" in line else 0
    return total, count


def megabytes(pid: int) -> float:
    """Memory of a process that lies in RAM."""
    return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * 4096 / 2**20


def watch(pid: int, ended: threading.Event, taken: list[tuple[float, float]]) -> None:
    """Notes the memory every quarter of a second."""
    start = time.perf_counter()
    while not ended.wait(0.25):
        taken.append((time.perf_counter() - start, megabytes(pid)))


def alone(address: str, image: bytes, requests: int, report: Report) -> None:
    """One person: what a request costs, and what of it is not the network."""
    fractions, seen = [], Seen()
    with httpx.Client(base_url=address, timeout=PATIENCE) as web:
        for _ in range(3):
            ask(web, image, seen)  # loads the model
        seen.times.clear()
        for _ in range(requests):
            before = network_seconds(address)
            ask(web, image, seen)
            after = network_seconds(address)
            assert after[1] == before[1] + 1, "somebody else asks this server"
            fractions.append(1 - (after[0] - before[0]) / seen.times[-1])
    assert not seen.failed + seen.refused, seen.failed + seen.refused
    report.add("one person: a request", Quartiles.of([1e3 * each for each in seen.times]), unit="ms")
    outside = [1e3 * fraction * each for fraction, each in zip(fractions, seen.times, strict=True)]
    report.add("one person: outside the network", Quartiles.of(outside), unit="ms")
    report.add("one person: share outside the network", Quartiles.of(fractions), Goal(0.25, "at most"), unit="")


def run(options: Options) -> Report:
    report = Report(19, "the demo under load", "wall")
    users, seconds = (4, 1.0) if options.quick else (USERS, QUARTER * (options.rounds or 8))
    with timing.watched(report), tempfile.TemporaryDirectory() as folder:
        images, message = jpegs((64, 64) if options.quick else (640, 480), 8, options.data)
        bundle(Path(folder), images[0], options.quick)
        with server(Path(folder)) as (address, pid):
            alone(address, images[0], 2 if options.quick else ALONE, report)

            ended = threading.Event()
            memory: list[tuple[float, float]] = []
            watcher = threading.Thread(target=watch, args=(pid, ended, memory))
            watcher.start()
            seen = crowd(address, images, users, seconds)
            ended.set()
            watcher.join()
            asked = len(seen.times) + len(seen.refused) + len(seen.failed)
            who = f"{users} people, {seconds:.0f} s"
            report.add(f"{who}: served", Quartiles.of([len(seen.times) / asked]), Goal(1.0), unit="")
            slow = float(np.quantile(seen.times, 0.95))
            report.add(f"{who}: 95th percentile", Quartiles.of([slow]), unit="s")
            report.add(f"{who}: responses a second", Quartiles.of([len(seen.times) / seconds]), unit="")
            middle = min(60.0, seconds / 2)
            early = statistics.median(mb for at, mb in memory if middle - 10 <= at <= middle)
            late = statistics.median(mb for at, mb in memory if at >= memory[-1][0] - 10)
            report.add(f"{who}: memory at {middle:.0f} s", Quartiles.of([early]), unit="MB")
            report.add(f"{who}: memory at the end over that", Quartiles.of([late / early]), Goal(1.02, "at most"))

            many = crowd(address, images, 8 if options.quick else CROWD, 0.0)
            whole = len(many.times) + len(many.refused)
            number = 8 if options.quick else CROWD
            report.add(f"{number} at once: served or refused", Quartiles.of([whole / number]), Goal(1.0), unit="")
            report.note(f"{len(many.refused)} were refused{f': {many.refused[0][:120]}' if many.refused else ''}")
            for fault in (seen.failed + seen.refused + many.failed)[:3]:
                report.note(f"failed: {fault}")
        report.note(f"images from {message}")
    return report


if __name__ == "__main__":
    raise SystemExit(timing.main(run, __doc__ or ""))

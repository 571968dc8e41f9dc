"""Several processes behind one port: all respond, one that dies is replaced, the end waits for what was asked."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from prometheus_client.mmap_dict import MmapedDict

from tests.real_data import ROOT
from ui.cli import build_parser
from ui.commands.serve import listen
from ui.server import workers
from ui.server.metrics_files import ENDED
from ui.server.worker import Worker
from visionkit.errors import EnvironmentFault
from visionkit.predictor import load

NOISE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


class Server:
    """`visionkit serve` in a process, with its temporary folder."""

    def __init__(self, models: Path, temporary: Path, *options: str) -> None:
        self.temporary = temporary
        command = [sys.executable, "-m", "ui.cli", "serve", "--api-only", "--port", "0", "--models", str(models)]
        self.process = subprocess.Popen(
            [*command, *options],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(temporary)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        line = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, line + self.process.stderr.read()
        self.address = found[0]

    def workers(self) -> list[int]:
        """Process ids of the workers."""
        return [
            int(each) for each in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        ]

    def ask(self, image: bytes, model: str = "good") -> httpx.Response:
        return httpx.post(f"{self.address}/api/predict?model={model}", content=image, timeout=120)

    def total(self, name: str) -> float:
        """Sum of a metric's series."""
        lines = httpx.get(f"{self.address}/metrics", timeout=60).text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith((f"{name}{{", f"{name} ")))

    def counted_by(self) -> dict[int, float]:
        """Requests that each worker has counted."""
        found = {}
        for path in self.temporary.glob("visionkit-*/metrics/counter_*.db"):
            values = MmapedDict.read_all_values_from_file(str(path))
            found[int(path.stem.split("_")[1])] = sum(v for key, v, *_ in values if "visionkit_requests_total" in key)
        return found

    def files(self) -> int:
        """Number of the files of metrics."""
        return len(list(self.temporary.glob("visionkit-*/metrics/*.db")))

    def until_each_has_responded(self, image: bytes, count: int) -> int:
        """Asks until `count` workers have responded; gives the number of requests."""
        asked = 0
        with ThreadPoolExecutor(8) as pool:
            while sum(self.counted_by().get(process, 0) > 0 for process in self.workers()) < count:
                assert asked < 2000
                assert {each.status_code for each in pool.map(self.ask, [image] * 16)} == {200}
                asked += 16
        return asked

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(models, tmp_path_factory.mktemp("two"), "--workers", "2")
    yield server
    server.end()


def until(ready: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_all_respond_one_that_dies_is_replaced_and_no_counter_falls(server: Server, models: Path) -> None:
    asked = server.until_each_has_responded(png(NOISE), 2)
    assert server.total("visionkit_requests_total") == server.total("visionkit_request_seconds_count") == asked
    expected = load(models / "good")(NOISE).to_json()
    assert server.ask(png(NOISE)).json() == expected, "the digits of Python"
    first, second = server.workers()
    before = server.total("visionkit_requests_total")
    os.kill(first, signal.SIGKILL)
    until(lambda: first not in server.workers())
    assert [server.ask(png(NOISE)).status_code for _ in range(5)] == [200] * 5
    until(lambda: len(server.workers()) == 2)
    assert second in server.workers()
    server.until_each_has_responded(png(NOISE), 2)
    assert server.counted_by()[ENDED] > 0 and first not in server.counted_by()
    files = server.files()
    for _ in range(3):
        gone = server.workers()[0]
        os.kill(gone, signal.SIGKILL)
        until(lambda gone=gone: gone not in server.workers() and len(server.workers()) == 2)
        asked = server.total("visionkit_requests_total")
        assert server.ask(png(NOISE)).status_code == 200
        assert server.total("visionkit_requests_total") == asked + 1, "no counter falls, and none is counted twice"
    server.until_each_has_responded(png(NOISE), 2)
    assert server.files() == files, "as many as before"
    counted = server.counted_by()
    assert set(counted) == {ENDED, *server.workers()}
    assert server.total("visionkit_requests_total") == sum(counted.values()) > before
    assert server.total("visionkit_request_seconds_count") == server.total("visionkit_requests_total")
    assert server.total("visionkit_workers") == 2
    # Their parent gone, they end by themselves, and leave nobody behind who holds the port.
    ours = server.workers()
    server.process.kill()
    until(lambda: not any(_runs(each) for each in ours))
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{server.address}/health")
    assert "was ended by SIGKILL; it is started again" in server.process.stderr.read()


def _runs(process: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [1, 2])
def test_an_end_waits_for_what_was_asked(models: Path, tmp_path: Path, number: int) -> None:
    server = Server(models, tmp_path, "--workers", str(number))
    try:
        image = png(np.zeros((4000, 5000, 3), np.uint8))
        server.until_each_has_responded(png(NOISE), number) if number > 1 else server.ask(png(NOISE))
        with ThreadPoolExecutor(16) as pool:
            responses = [pool.submit(server.ask, image) for _ in range(16)]
            until(lambda: server.total("visionkit_running") + server.total("visionkit_waiting") > 10)
            server.process.terminate()
            assert [each.result().status_code for each in responses] == [200] * 16
        said = server.process.communicate(timeout=60)[1]
        assert server.process.returncode == 143 and said.count("terminated") == 1
        assert list(tmp_path.glob("visionkit-*")) == []
    finally:
        server.end()


@pytest.mark.parametrize("has_read", [False, True])
def test_a_worker_ends_with_its_parent(monkeypatch: pytest.MonkeyPatch, has_read: bool) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "kill", lambda process, number: ended.append(number))
    theirs, ours = socket.socketpair()
    with ours:
        worker = Worker(ours, is_first=False)
        worker.begin("")
        assert not has_read or theirs.recv(1) == b"1"
        theirs.close()
        worker.watch()
    assert ended == [signal.SIGTERM]


@pytest.mark.timeout(120)
def test_files_of_the_folder_are_no_modules_of_the_workers(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit(9)")
    command = [sys.executable, "-P", "-m", "ui.cli", "serve", "--api-only", "--workers", "2", "--port", "0"]
    given = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=tmp_path, env=given, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout.readline().startswith("visionkit API: http")
        finally:
            server.terminate()
    assert server.returncode == 143


def test_a_taken_port_is_reported_by_the_parent() -> None:
    with listen("127.0.0.1", 0) as door:
        command = [sys.executable, "-m", "ui.cli", "serve", "--api-only", "--workers", "2", "--port"]
        done = subprocess.run(
            [*command, str(door.getsockname()[1])], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 5 and done.stderr.count("address already in use") == 1
    assert len(done.stderr.splitlines()) == 1


def _served_by(script: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(workers, "COMMAND", ("sh", "-c", script))
    monkeypatch.setattr(workers, "PAUSE", 0.01)
    args = build_parser("serve").parse(["--api-only", "--workers", "2"])
    with listen("127.0.0.1", 0) as door:
        return workers.Workers(args, door, folder).run()


def test_a_first_worker_that_cannot_serve_ends_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _served_by("exit 4", tmp_path, monkeypatch) == 4
    folder = tmp_path / "killed"
    folder.mkdir()
    with pytest.raises(EnvironmentFault, match="first worker was ended by SIGKILL before it served"):
        _served_by("kill -9 $$", folder, monkeypatch)


def test_pauses_grow_up_to_a_limit() -> None:
    assert [workers._pause(vain) for vain in (0, 1, 2, 3, 6, 2000)] == [0, 1, 2, 4, 30, 30]


def test_workers_that_end_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first one serves once; after that all end at once."""
    script = (
        f'{sys.executable} -S -c \'import json, os, socket; order = json.loads(os.environ["VISIONKIT_WORKER"]);'
        ' order["is_first"] and socket.socket(fileno=order["line"]).sendall(b"1"); os._exit(7)\''
    )
    with pytest.raises(EnvironmentFault, match="ended with status 7 5 times in a row before it served"):
        _served_by(script, tmp_path, monkeypatch)
    assert capsys.readouterr().err.count("worker 0") >= 1

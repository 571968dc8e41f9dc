"""The interface without the page responds as the demo's does, and needs no gradio."""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from prometheus_client.multiprocess import mark_process_dead

from tests.ui.conftest import Demo
from ui.cli import build_parser
from ui.commands.serve import check
from ui.model_registry import ModelRegistry
from ui.server.api import Settings, api_application
from ui.server.metrics import SHARED
from visionkit.errors import EnvironmentFault, UsageError

pytestmark = pytest.mark.filterwarnings("ignore::Warning:gradio.queueing")


@pytest.fixture(scope="module")
def client(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    settings = Settings(ModelRegistry(models), "http://127.0.0.1:1", tmp_path_factory.mktemp("scratch"))
    with TestClient(api_application(settings), base_url="http://127.0.0.1:1") as client:
        yield client


REQUESTS = {
    "models": ("GET", "/api/models", ""),
    "prediction": ("POST", "/api/predict?model=good", "image"),
    "an option": ("POST", "/api/predict?model=good&top=2", "image"),
    "drawn": ("POST", "/api/predict?model=good&drawn=1", "image"),
    "checkpoint": ("POST", "/api/predict?model=run/checkpoints/last.ckpt", "image"),
    "no image": ("POST", "/api/predict?model=good", ""),
    "damaged image": ("POST", "/api/predict?model=good", "truncated"),
    "bomb": ("POST", "/api/predict?model=good", "bomb"),
    "unknown model": ("POST", "/api/predict?model=nothing", "image"),
    "broken model": ("POST", "/api/predict?model=broken", "image"),
    "unknown option": ("POST", "/api/predict?model=good&shade=1", "image"),
    "no gallery": ("POST", "/api/identify", "image"),
    "no such tracker": ("POST", "/api/track?model=good&tracker=eye", "image"),
    "a tool": ("POST", "/mcp", b'{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}'),
    "no tool": ("POST", "/mcp", b"[1"),
    "a stream of tools": ("GET", "/mcp", ""),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_it_responds_as_the_demo_does(
    client: TestClient, demo: Demo, images: list[Path], bad: dict[str, Path], name: str
) -> None:
    method, path, body = REQUESTS[name]
    content = body if isinstance(body, bytes) else b""
    if body and isinstance(body, str):
        content = (images[0] if body == "image" else bad[body]).read_bytes()
    ours = client.request(method, path, content=content)
    theirs = httpx.request(method, demo.address + path, content=content, timeout=60)
    assert ours.status_code == theirs.status_code and ours.content == theirs.content
    passing = {"date", "server", "connection", "transfer-encoding"}
    assert {k: v for k, v in ours.headers.items() if k not in passing} == {
        k: v for k, v in theirs.headers.items() if k not in passing
    }


def test_it_has_its_own_health_and_metrics_and_no_page(client: TestClient) -> None:
    assert client.get("/health").json()["status"] == "ok"
    assert client.get("/ready").status_code == 200
    assert "visionkit_running 0.0" in client.get("/metrics").text
    assert client.get("/").status_code == 404 and "--api-only" in client.get("/").json()["error"]
    assert client.get("/health", headers={"host": "other.example"}).status_code == 421


_FILE = io.BytesIO()
Image.new("RGB", (8, 8)).save(_FILE, "PNG")
PNG = _FILE.getvalue()
ERRORS = {
    "another name": (421, "GET", "/api/models", {"host": "other.example"}, b""),
    "another site": (403, "POST", "/api/predict", {"sec-fetch-site": "cross-site"}, b""),
    "no such route": (404, "GET", "/api/nothing", {}, b""),
    "no such page": (404, "GET", "/nothing", {}, b""),
    "no page at all": (404, "GET", "/", {}, b""),
    "another method": (405, "GET", "/api/predict", {}, b""),
    "a method of nobody": (405, "BREW", "/api/models", {}, b""),
    "no stream of tools": (405, "GET", "/mcp", {}, b""),
    "a long body": (413, "POST", "/api/models", {"content-length": str(2**30)}, b""),
    "a body of no length": (413, "POST", "/api/predict?model=good", {}, iter([bytes(2**20)] * 300)),
    "no image": (400, "POST", "/api/predict?model=good", {}, b""),
    "no such model": (400, "POST", "/api/predict?model=nothing", {}, PNG),
    "no form": (400, "POST", "/api/predict?model=good", {"content-type": "multipart/form-data"}, b"x"),
    "a broken form": (400, "POST", "/api/predict", {"content-type": "multipart/form-data; boundary=a"}, b"--a\r\nx"),
    "no length that is one": (400, "POST", "/api/identify?top=x", {}, b"x"),
    "damaged image": (422, "POST", "/api/predict?model=good", {}, b"GIF89a"),
    "broken model": (500, "POST", "/api/predict?model=broken", {}, PNG),
}


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_has_one_form(client: TestClient, name: str) -> None:
    status, method, path, headers, body = ERRORS[name]
    response = client.request(method, path, headers=headers, content=body)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert list(response.json()) == ["error"] and len(response.json()["error"]) > 10
    assert (status == 405) == ("allow" in response.headers)


def test_a_browser_reads_the_words_as_they_are(client: TestClient) -> None:
    response = client.get("/health", headers={"host": "other.example", "accept": "text/html,*/*"})
    assert response.status_code == 421 and response.text.startswith("this server is not called by that name")
    for path, status in (("/api/nothing", 404), ("/api/predict", 405)):
        response = client.get(path, headers={"accept": "text/html,*/*"})
        assert response.status_code == status and response.headers["content-type"].startswith("text/plain")
        assert not response.text.startswith("{")


def test_it_imports_no_gradio() -> None:
    code = (
        "import argparse, sys, tempfile\n"
        "from pathlib import Path\n"
        "from ui.cli import build_parser\n"
        "from ui.server.factory import build\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    build(build_parser('serve').parse(['--api-only']), 'http://127.0.0.1:1', Path(folder))\n"
        "print('HEAVY', [name for name in ('gradio', 'pandas', 'torch') if name in sys.modules])\n"
    )
    message = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert message.stdout.strip().endswith("HEAVY []"), message.stdout + message.stderr[-2000:]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--api-only --workers 0", "--workers 0: at least 1"),
        ("--workers 2", "--workers 2: only with --api-only"),
        ("--api-only --data photos", "--api-only leaves out"),
    ],
)
def test_options_that_do_not_go_together(options: str, said: str, tmp_path: Path) -> None:
    words = [str(tmp_path) if word == "photos" else word for word in shlex.split(options)]
    with pytest.raises(UsageError, match=said):
        check(build_parser("serve").parse(words))


@pytest.mark.parametrize("device", ["cuda:77", "mps"])
@pytest.mark.parametrize("more", [["--api-only"], []])
def test_a_device_that_is_not_there_is_reported_before_anything_is_ready(
    device: str, more: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    with pytest.raises(EnvironmentFault, match=f"device {device}: this machine has"):
        check(build_parser("serve").parse([*more, "--device", device]))


def test_other_servers_start_their_own_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    from ui.server import create_app

    monkeypatch.setenv("VISIONKIT_SERVE", "--api-only --workers 2")
    with pytest.raises(UsageError, match="an option of its own"):
        create_app()


def test_metrics_of_several_processes_are_added_up(tmp_path: Path) -> None:
    """Also of one that ended; gauges are those of the processes that run."""
    code = (
        "import sys\n"
        "from ui.server.metrics import Metrics\n"
        "metrics = Metrics()\n"
        "metrics.gauge('running', 'Now.', lambda: 2)\n"
        "metrics.gauge('uptime', 'Seconds.', lambda: float(sys.argv[1]), largest=True)\n"
        "for seconds in (0.02, 0.2, 99.0):\n"
        "    metrics.count('asked_total', 'Requests.', model='a')\n"
        "    metrics.observe('took_seconds', 'Time.', seconds, task='b')\n"
        "print(metrics.text())\n"
        "if len(sys.argv) > 2:\n"
        "    sys.stdout.flush(); sys.stdin.read()\n"
    )
    run = [sys.executable, "-c", code]
    options = {"env": {**os.environ, SHARED: str(tmp_path)}, "text": True, "stdout": subprocess.PIPE}
    ended = subprocess.Popen([*run, "9"], **options)
    ended.communicate(timeout=60)
    mark_process_dead(ended.pid, str(tmp_path))
    with subprocess.Popen([*run, "5", "stays"], stdin=subprocess.PIPE, **options) as stays:
        while stays.stdout.readline().strip():
            pass
        lines = subprocess.run([*run, "7"], **options, timeout=60).stdout.splitlines()
        stays.kill()
    assert {'asked_total{model="a"} 9.0', "running 4.0", "uptime 7.0"} <= set(lines)
    assert {'took_seconds_bucket{le="0.25",task="b"} 6.0', 'took_seconds_count{task="b"} 9.0'} <= set(lines)
    assert sum(float(line.split()[1]) for line in lines if line.startswith("took_seconds_sum")) == pytest.approx(297.66)
    assert "# HELP asked_total Requests." in lines

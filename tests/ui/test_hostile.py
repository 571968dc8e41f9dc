"""Hundreds of hostile inputs: each is refused in words or predicted as what it is, at once, and the demo lives on.

No prediction states a path or a traceback of the server, nothing is written outside its folder, and no memory is lost.
"""

from __future__ import annotations

import dataclasses
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.real_data import ROOT
from tests.ui.conftest import HOSTILE, Demo
from tests.ui.hostile_images import ANSWERED, EITHER, REFUSED, encoded, images, jpeg_size, noise, png
from tests.ui.hostile_requests import CALLS, MODELS, NAMES, RAW, REQUESTS
from ui import inference
from visionkit.errors import VisionKitError

pytestmark = [
    pytest.mark.filterwarnings("ignore::Warning:gradio.queueing"),  # its use of pandas
    pytest.mark.filterwarnings("ignore::UserWarning:PIL"),  # what it states about damaged files
]

PATIENCE = 60.0
"""Seconds after which a prediction counts as a hang; a quiet machine takes hundredths of one."""

GROWTH = 600
"""MB of memory above what the server had that no input may take."""

IMAGES = images()
GOOD = png()


@dataclasses.dataclass(frozen=True)
class Visitor:
    """Somebody without a browser."""

    demo: Demo
    web: httpx.Client
    scratch: Path

    def upload(self, name: str, data: bytes) -> str:
        """Sends a file; gives its path on the server."""
        response = self.web.post("/gradio_api/upload", files={"files": (name, data)})
        response.raise_for_status()
        path: str = response.json()[0]
        return path

    def ask(self, data: Any, name: str = "predict") -> tuple[str, str]:
        """Calls an endpoint as a program does: "predicted" or "refused", and what is reported."""
        begun = self.web.post(f"/gradio_api/call/{name}", json={"data": data})
        if begun.status_code != 200:
            return REFUSED, begun.text
        message = self.web.get(f"/gradio_api/call/{name}/{begun.json()['event_id']}").text
        kind, _, rest = message.partition("\n")
        return (ANSWERED if kind == "event: complete" else REFUSED), rest.removeprefix("data: ").strip()

    def predict(self, path: Any, name: str | None = None, model: Any = "good") -> tuple[str, str]:
        """Asks for the prediction on an uploaded image."""
        file = {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}
        return self.ask([file, model])


def words(report: str) -> str:
    """The message in a refusal."""
    try:
        record = json.loads(report)
    except json.JSONDecodeError:
        return report
    message = record.get("error", record.get("detail")) if isinstance(record, dict) else None
    assert isinstance(message, str), f"no message in {report[:300]}"
    return message


def leaks(message: str) -> list[str]:
    """What a prediction states that is nobody's business."""
    secrets = [r"Traceback", r'File "', r"site-packages", r"root:x:", r"/tmp/", r"object at 0x", r"validation error"]
    secrets += [re.escape(str(ROOT)), re.escape(str(Path.home())), r"\[Errno", r"Internal Server Error", r"pydantic"]
    return [secret for secret in secrets if re.search(secret, message)]


@pytest.fixture(scope="module")
def visitor(demo: Demo) -> Iterator[Visitor]:
    # A line for each request: those that a hostile one has closed are not taken again.
    lines = httpx.Limits(max_keepalive_connections=0)
    with httpx.Client(base_url=demo.address, timeout=PATIENCE, limits=lines) as web:
        visitor = Visitor(demo, web, demo.scratch)
        assert visitor.predict(visitor.upload("good.png", GOOD))[0] == ANSWERED
        yield visitor


@pytest.fixture(scope="module", autouse=True)
def memory(visitor: Visitor) -> Iterator[None]:
    """The most memory that the server took while it was attacked, and what it kept of it."""
    pages, ended = [_megabytes()], threading.Event()
    outside = _outside(visitor)

    def watch() -> None:
        while not ended.wait(0.02):
            pages.append(_megabytes())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    yield
    ended.set()
    watcher.join()
    assert max(pages) < pages[0] + GROWTH, f"from {pages[0]:.0f} to {max(pages):.0f} MB"
    assert _outside(visitor) == outside, "something was written outside the server's own folder"
    assert visitor.predict(visitor.upload("good.png", GOOD))[0] == ANSWERED


@pytest.fixture(autouse=True)
def alive(visitor: Visitor, capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """After each attack the server answers, did so quickly, and its terminal shows no traceback."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start < PATIENCE
    assert visitor.web.get("/gradio_api/queue/status").status_code == 200
    assert "Traceback" not in capfd.readouterr().err


def _megabytes() -> float:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * 4096 / 2**20


def _outside(visitor: Visitor) -> set[str]:
    """Files where a path trick would write: around the server's folder, and where it was started."""
    around = {
        str(path) for folder in (visitor.scratch.parent, Path.cwd()) for path in folder.iterdir() if path.is_file()
    }
    return around | {name for name in ("/tmp/evil", "/evil", "/etc/evil.png") if Path(name).exists()}


def test_the_list_is_long_and_each_entry_its_own() -> None:
    lists = (IMAGES, NAMES, CALLS, MODELS, REQUESTS, RAW)
    assert sum(map(len, lists)) > 400
    names = [name for name, _, _ in IMAGES]
    assert len(set(names)) == len(names) and len({data for _, data, _ in IMAGES}) == len(IMAGES)


# ---------------------------------------------------------------------- images


# Every fourth over HTTP, all of them by the function behind it; the slow ones send the others too.
@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        pytest.param(*entry, id=entry[0], marks=pytest.mark.slow if number % 4 else ())
        for number, entry in enumerate(IMAGES)
    ],
)
def test_images(visitor: Visitor, name: str, data: bytes, expected: str) -> None:
    got, message = visitor.predict(visitor.upload(name, data), name)
    assert got == expected or expected == EITHER, message[:300]
    assert leaks(message) == []
    if got == REFUSED:
        assert words(message).startswith(f"{name}: ") and len(words(message)) < 300


def test_every_image_behind_the_server(demo: Demo, tmp_path: Path) -> None:
    for number, (name, data, expected) in enumerate(IMAGES):
        path = (tmp_path / str(number)).with_suffix(Path(name).suffix)
        path.write_bytes(data)
        got, message = ANSWERED, f"{name}: "
        try:
            inference.predict(demo.model_registry, "good", inference.Upload(str(path), name))
        except VisionKitError as error:
            got, message = REFUSED, str(error)
        assert got == expected or expected == EITHER, f"{name}: {message[:300]}"
        assert message.startswith(f"{name}: ") and len(message) < 300 and leaks(message) == [], name


def test_a_file_above_the_limit_is_refused_before_it_is_sent(visitor: Visitor) -> None:
    """Its length is announced; nobody waits for the bytes."""
    with socket.create_connection(_place(visitor), timeout=PATIENCE) as line:
        line.sendall(
            b"POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
            b"Content-Length: 3000000000\r\n\r\n--x\r\n"
        )
        assert line.recv(2000).startswith(b"HTTP/1.1 413")


def test_a_stream_without_a_length_ends_at_the_limit(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of other bodies: two megabytes and no more are taken."""

    def endless() -> Iterator[bytes]:
        for _ in range(64):
            yield b'{"data": ["' + b"x" * 2**16

    try:
        response = visitor.web.post("/gradio_api/call/predict", content=endless())
    except httpx.HTTPError:
        return  # the connection was closed
    assert response.status_code >= 400 and leaks(response.text) == []


# ---------------------------------------------------------------------- names of files


@pytest.mark.parametrize("name", NAMES, ids=[ascii(name)[1:30] for name in NAMES])
def test_names_of_files(visitor: Visitor, name: str) -> None:
    """A name is a word: the file lies in the server's folder whatever it states, and is processed."""
    try:
        path = visitor.upload(name, GOOD)
    except httpx.HTTPStatusError as error:
        assert error.response.status_code == 400 and leaks(error.response.text) == []
        return
    assert Path(path).resolve().is_relative_to(visitor.scratch) and len(Path(path).name) < 256
    got, message = visitor.predict(path, name)
    assert got == ANSWERED, message
    # And where it is reported back, in a refusal, it is one line.
    got, message = visitor.predict(visitor.upload("text.png", b"no picture"), name)
    assert got == REFUSED and "\n" not in words(message) and len(words(message)) < 400


# ---------------------------------------------------------------------- calls of the interface


@pytest.mark.parametrize("name", CALLS)
def test_calls(visitor: Visitor, name: str) -> None:
    got, message = visitor.ask(CALLS[name])
    assert got == REFUSED and leaks(message) == [] and 5 < len(words(message)) < 400, message[:300]


@pytest.mark.parametrize("model", MODELS, ids=[ascii(model)[:30] for model in MODELS])
def test_names_of_models(visitor: Visitor, model: Any) -> None:
    got, message = visitor.predict(visitor.upload("good.png", GOOD), "good.png", model)
    assert got == REFUSED and leaks(message) == [] and 5 < len(words(message)) < 600, message[:300]


# ---------------------------------------------------------------------- requests


@pytest.mark.parametrize("name", REQUESTS)
def test_requests(visitor: Visitor, name: str) -> None:
    """Each is processed as an error in words; none is served, and none is an error of the server's own."""
    method, path, headers, body = REQUESTS[name]
    url = httpx.URL(visitor.demo.address).copy_with(raw_path=path.encode())
    request = httpx.Request(method, url, headers=headers, content=body)
    response = visitor.web.send(request)
    served = name in {"proxy headers", "range of nonsense", "cancel nobody", "reset nobody", "upload without a file"}
    assert response.status_code < 500, f"{response.status_code}: {response.text[:300]}"
    assert (
        served or response.status_code >= 400 or "event: error" in response.text or response.text in ("", "[]", "{}")
    ), f"{response.status_code}: {response.text[:300]}"
    message = response.text.replace(path.partition("=")[2] or path, "") if not served else ""
    assert leaks(message) == [] and "evil.example" not in response.text


@pytest.mark.parametrize("name", RAW)
def test_what_is_no_request(visitor: Visitor, name: str) -> None:
    """Bytes that no client sends: an error or a closed line, and others are processed meanwhile."""
    with socket.create_connection(_place(visitor), timeout=1) as line:
        try:
            line.sendall(RAW[name])
            message = line.recv(4000)
        except (TimeoutError, ConnectionError):
            message = b""  # it waits for the rest, or has hung up
        assert visitor.web.get("/theme.css").status_code == 200
    assert not message or re.match(rb"HTTP/1\.[01] [34]\d\d", message) or name == "version 9", message[:200]
    assert leaks(message.decode("latin-1")) == [] and b"101 " not in message[:14]


def _place(visitor: Visitor) -> tuple[str, int]:
    place = urlsplit(visitor.demo.address)
    assert place.hostname and place.port
    return place.hostname, place.port


# ---------------------------------------------------------------------- names that come with a model


@pytest.mark.parametrize("name", HOSTILE)
def test_names_of_classes_and_keypoints_inject_nothing(name: str, tmp_path: Path) -> None:
    """Whatever a bundle calls its classes, the words that a page shows as Markdown hold it escaped."""
    import numpy as np

    from ui.downloads import Downloads
    from ui.views import views
    from visionkit.predictions import Detections, Poses
    from visionkit.skeleton import Skeleton

    image, downloads, boxes = np.zeros((40, 60, 3), np.uint8), Downloads(tmp_path), [[1, 2, 21, 22]]
    skeleton = Skeleton(name="evil", keypoints=(name, f"{name}2"), edges=((name, f"{name}2"),), subject=name)
    keypoints = np.array([[[1.0, 2.0], [9.0, 9.0]]], np.float32)
    predictions = [
        Detections((name,), (40, 60), boxes, [0.9], [0]),
        Poses(skeleton, keypoints, np.ones((1, 2), np.float32), np.ones(1, np.float32), np.array(boxes, np.float32)),
    ]
    for response in predictions:
        said = [value for value in views()[response.kind].show(response, image, downloads) if isinstance(value, str)]
        said = [value for value in said if not value.startswith(str(tmp_path))]
        assert said and all("<" not in value and not re.search(r"(?<!\\)[\[*]", value) for value in said), said


# ---------------------------------------------------------------------- the whole


USED = {
    "", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt", "/assets", "/static", "/svelte",
    "/login", "/logout", "/pwa_icon", "/gradio_api/file", "/gradio_api/call", "/gradio_api/queue", "/gradio_api/upload",
    "/gradio_api/upload_progress", "/gradio_api/heartbeat", "/gradio_api/cancel", "/gradio_api/reset",
    "/gradio_api/info", "/gradio_api/startup-events", "/gradio_api/stream", "/gradio_api/theme.css",
    "/gradio_api/app_id", "/gradio_api/token", "/gradio_api/user", "/gradio_api/login_check",
    "/gradio_api/openapi.json",
}  # fmt: skip
"""Roads of gradio that the page or its client need, or that do no harm."""


def test_every_path_of_gradio_is_known_and_those_without_a_use_are_closed(visitor: Visitor) -> None:
    """A new version may bring new roads: then the list is to be processed."""
    from ui.server.gradio_hardening import is_closed

    channels_ = [re.sub(r"{[^}]*}", "x", path) for path in visitor.demo.gradio.openapi()["paths"]]
    assert len(channels_) > 30
    left = {
        re.match(r"(/gradio_api)?(/[^/=]*)?", channel)[0].rstrip("/") for channel in channels_ if not is_closed(channel)
    }
    pages = {f"/{path}" for path, *_ in visitor.demo.gradio.get_blocks().pages}
    assert len(pages) > 10 and left - USED - pages <= {"/gradio_api/run"}, "what is left of `run` refuses queued events"


def test_more_than_may_wait_are_refused_and_nobody_else_is_lost(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above the limit of the queue: a clear refusal at once, and whoever was admitted is processed."""
    monkeypatch.setattr(visitor.demo.gradio.get_blocks()._queue, "max_size", 5)
    path, asked = visitor.upload("good.png", GOOD), 20
    right = visitor.predict(path)
    message: list[tuple[str, str]] = []

    def ask() -> None:
        with httpx.Client(base_url=visitor.demo.address, timeout=100) as web:
            message.append(Visitor(visitor.demo, web, visitor.scratch).predict(path))

    visitors = [threading.Thread(target=ask) for _ in range(asked)]
    # the network is busy; some are at work, some wait, the others go
    with visitor.demo.model_registry.get("good").lock:
        for each in visitors:
            each.start()
        end = time.monotonic() + PATIENCE
        while len(message) < asked - 10 and time.monotonic() < end:
            time.sleep(0.02)
    for each in visitors:
        each.join(100)
    refused = [words(what) for got, what in message if got == REFUSED]
    assert len(message) == asked and 5 <= len(refused) < asked
    assert all(re.search(r"(?i)queue is full|are waiting", each) for each in refused), refused[:3]
    assert all(each == right for each in message if each[0] == ANSWERED)


def test_images_are_refused_alike_where_a_whole_one_is_needed(visitor: Visitor) -> None:
    """What a header promises and the file does not hold is refused without the memory that it promised."""
    liar = jpeg_size(encoded(noise(40, 50), "JPEG"), 6000, 6000)
    got, message = visitor.predict(visitor.upload("liar.jpg", liar), "liar.jpg")
    assert got == REFUSED and "damaged" in words(message)

"""What a server holds out: half requests, bodies that lie in memory, a full disk, an end with pages open."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from tests.ui.conftest import Demo
from ui import strings
from ui.commands.serve import listen, split_root
from ui.server import security_middleware
from ui.server.connections import limited_protocol, most_connections
from ui.server.faults import status_of
from ui.server.limits import Limits
from ui.server.mcp import UploadedImage, read_message
from ui.server.security_middleware import Guard
from visionkit.errors import UsageError

pytestmark = pytest.mark.filterwarnings("ignore::Warning:gradio.queueing")


# ---------------------------------------------------------------------- connections


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Handles at once, with a megabyte, or once the body is there."""
    if scope["type"] == "lifespan":
        return
    message = await receive()
    while message.get("more_body"):
        message = await receive()
    body = bytes(2**24) if scope["path"] == "/large" else b"well"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


@contextlib.contextmanager
def running(most: int, head: float, stall: float = 60.0) -> Iterator[int]:
    door = listen("127.0.0.1", 0)
    protocol = limited_protocol(most, head, stall)
    server = uvicorn.Server(uvicorn.Config(app, http=protocol, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, daemon=True)
    thread.start()
    try:
        yield door.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(10)


def half(port: int, text: bytes = b"GET / HTTP/1.1\r\nHost: x\r\nX-A: ") -> socket.socket:
    line = socket.create_connection(("127.0.0.1", port), 20)
    line.sendall(text)
    return line


def is_closed(line: socket.socket) -> bool:
    try:
        return line.recv(100) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize("text", [b"", b"G", b"GET / HTTP/1.1\r\nHost: x\r\nX-A: "], ids=["silent", "letter", "half"])
def test_a_head_that_does_not_end_is_given_up(text: bytes) -> None:
    with running(most=100, head=0.2) as port:
        assert is_closed(half(port, text))


def test_what_is_no_http_is_refused_as_json() -> None:
    """Uvicorn itself would write plain text, by this method."""
    assert callable(H11Protocol.send_400_response)
    with running(most=100, head=5.0) as port:
        line = half(port, b"no request at all\r\n\r\n")
        head, _, body = b"".join(iter(lambda: line.recv(1000), b"")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400") and b"content-type: application/json" in head.lower()
    assert b'{"error":"Invalid HTTP request received."}' in body


def test_half_of_a_second_request_is_given_up_too() -> None:
    with running(most=100, head=0.2) as port:
        line = half(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in line.recv(1000)
        line.sendall(b"GET / HTTP/1.1\r\nX-A: ")
        while not is_closed(line):
            pass


def test_more_connections_than_may_be_push_out_those_that_have_waited_longest() -> None:
    with running(most=20, head=60.0) as port:
        lines = [half(port) for _ in range(60)]
        for _ in range(3):
            assert httpx.get(f"http://127.0.0.1:{port}/health", timeout=20).text == "well"
        assert is_closed(lines[0]) and is_closed(lines[30])
        lines[-1].settimeout(0.1)
        with pytest.raises(TimeoutError):  # a later one may still go on
            lines[-1].recv(1)


def test_what_works_is_not_pushed_out() -> None:
    with running(most=4, head=60.0) as port:
        working = half(port, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na")
        time.sleep(0.2)
        idle = [half(port) for _ in range(12)]
        assert is_closed(idle[0])
        working.sendall(b"b")
        assert b"200 OK" in working.recv(1000)


def test_a_response_that_nobody_reads_is_given_up() -> None:
    with running(most=100, head=60.0, stall=0.2) as port:
        line = half(port, b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(1.0)
        taken = 0
        with contextlib.suppress(ConnectionError):
            while part := line.recv(2**20):
                taken += len(part)
        assert taken < 2**24


def test_as_many_connections_as_files_allow() -> None:
    assert 16 <= most_connections() <= 1000


# ---------------------------------------------------------------------- bodies


HEADERS = [(b"host", b"localhost")]


def ask(guarded: Guard, messages: list[Any], path: str = "/x") -> list[Any]:
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0) if messages else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(guarded({"type": "http", "method": "POST", "path": path, "headers": list(HEADERS)}, receive, send))
    return sent


def test_all_bodies_together_have_a_limit_and_it_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(security_middleware, "HELD", 1000)
    seen: list[str] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive()).get("more_body"):
            pass
        seen.append(message["type"])

    guarded = Guard(inner, "localhost")
    part = {"type": "http.request", "body": bytes(600), "more_body": True}
    last = {"type": "http.request", "body": b"", "more_body": False}
    ask(guarded, [part, last])
    ask(guarded, [part, part, last])
    ask(guarded, [part, last])
    ask(guarded, [part, part, last], path="/api/predict")  # goes to the disk
    assert seen == ["http.request", "http.disconnect", "http.request", "http.request"]


def test_a_body_that_only_trickles_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(security_middleware, "IDLE", 0.2)

    async def trickle() -> str:
        async def receive() -> Any:
            await asyncio.sleep(0.05)
            return {"type": "http.request", "body": b"x", "more_body": True}

        body = security_middleware._Body(receive, 10**6, asyncio.Event())
        while (message := await body())["type"] == "http.request":
            assert body.taken < 50
        return str(message["type"])

    assert asyncio.run(trickle()) == "http.disconnect"


def test_the_end_of_the_server_ends_what_streams() -> None:
    async def stream() -> str:
        ending = asyncio.Event()
        first = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> Any:
            return first.pop() if first else await asyncio.Event().wait()

        body = security_middleware._Body(receive, 100, ending)
        await body()
        waiting = asyncio.ensure_future(body())
        await asyncio.sleep(0)
        ending.set()
        return str((await waiting)["type"])

    assert asyncio.run(stream()) == "http.disconnect"


def test_a_message_leaves_no_image_in_memory(tmp_path: Path) -> None:
    body, image = tmp_path / "body", tmp_path / "image"

    def read(value: Any) -> Any:
        body.write_text(json.dumps({"params": {"arguments": {"image": value}}}))
        return read_message(body, image)["params"]["arguments"]["image"]

    assert read("data:image/png;base64," + base64.b64encode(b"abc").decode()) == UploadedImage(True)
    assert image.read_bytes() == b"abc"
    assert read("?") == UploadedImage(False) and read(5) == 5
    body.write_text("[" * 10**5)
    assert read_message(body, image) is None


def test_what_is_being_sent_counts_as_what_waits() -> None:
    from ui.model_registry import ModelRegistry
    from ui.server.job_queue import Busy, JobQueue

    job_queue = JobQueue(ModelRegistry(), Limits(queue=1, concurrency=1))
    with (
        job_queue.receiving(),
        job_queue.receiving(),
        pytest.raises(Busy, match="2 requests are being sent"),
        job_queue.receiving(),
    ):
        pass
    with job_queue.receiving():
        pass


# ---------------------------------------------------------------------- whose fault it is


@pytest.mark.parametrize("route", ["/api/predict?model=good", "/mcp", "/gradio_api/upload"])
def test_a_full_disk_is_the_servers_fault(
    route: str, demo: Demo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*args: Any, **options: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ui.server.routes.tempfile.NamedTemporaryFile", full)
    monkeypatch.setattr("gradio.route_utils.GradioMultiPartParser.parse", full)
    files = {"files": ("a.png", b"x")} if "upload" in route else None
    response = httpx.post(demo.address + route, files=files, content=None if files else b"{}", timeout=60)
    assert response.status_code == 503 and strings.LACK in response.text
    assert "No space left" in capsys.readouterr().err


@pytest.mark.parametrize("route", ["/api/predict?model=good", "/mcp"])
def test_a_defect_is_the_servers_fault_and_logged(
    route: str, demo: Demo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*args: Any, **options: Any) -> Any:
        raise KeyError("a defect")

    monkeypatch.setattr("ui.server.job_queue.JobQueue.receiving", broken)
    response = httpx.post(demo.address + route, content=b"x", timeout=60)
    assert response.status_code == 500 and response.json() == {"error": strings.DEFECT}
    assert "a defect" in capsys.readouterr().err


@pytest.mark.parametrize("route", ["/api/predict?model=good", "/mcp"])
def test_a_sender_who_leaves_is_no_fault(route: str, demo: Demo, capfd: pytest.CaptureFixture[str]) -> None:
    port = int(demo.address.rpartition(":")[2])
    line = half(port, f"POST {route} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc".encode())
    time.sleep(0.3)
    line.close()
    assert httpx.get(f"{demo.address}/health", timeout=60).status_code == 200
    time.sleep(0.3)
    assert "Traceback" not in capfd.readouterr().err


def test_memory_and_files_are_lacks_too(capsys: pytest.CaptureFixture[str]) -> None:
    for error in (MemoryError(), OSError(errno.EMFILE, "x"), OSError(errno.EDQUOT, "x")):
        assert status_of(error) == (503, strings.LACK)
    assert status_of(OSError(errno.EACCES, "x"))[0] == 500


def test_other_origins_may_not_read(demo: Demo) -> None:
    origin = {"origin": "http://localhost:1"}
    for path in ("/api/models", "/config", "/gradio_api/info", "/"):
        response = httpx.get(demo.address + path, headers=origin, timeout=60)
        assert not [name for name in response.headers if name.startswith("access-control-")], path
    preflight = {**origin, "access-control-request-method": "POST"}
    response = httpx.options(f"{demo.address}/gradio_api/queue/join", headers=preflight, timeout=60)
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("", ("", "")),
        ("/demo", ("", "/demo")),
        ("/a/b.c", ("", "/a/b.c")),
        ("https://lab.example:8443/demo", ("https://lab.example:8443", "/demo")),
        ("http://[::1]:80", ("http://[::1]:80", "")),
    ],
)
def test_the_path_of_a_proxy_may_be_its_whole_address(given: str, found: tuple[str, str]) -> None:
    assert split_root(given) == found


@pytest.mark.parametrize("given", ["demo", "/demo/", "//demo", "ftp://x/demo", "https:///demo", "/a b", "http://x/?q"])
def test_what_is_no_path_is_refused(given: str) -> None:
    with pytest.raises(UsageError, match="--root-path"):
        split_root(given)

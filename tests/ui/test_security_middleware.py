"""The guard before the demo: names, origins, sizes, headers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from ui.server.security_middleware import BODY_LIMIT, OVERHEAD, Guard


async def _reads_all(scope, receive, send) -> None:
    """An application that takes the whole body and states how much it was."""
    taken = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        taken += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-frame-options", b"ALLOWALL")]})
    await send({"type": "http.response.body", "body": str(taken).encode()})


def _ask(
    headers: dict[str, str],
    *,
    method: str = "GET",
    path: str = "/",
    bodies: Sequence[bytes] = (b"",),
    host: str = "127.0.0.1",
    names: Sequence[str] = (),
    largest: int = 2**20,
) -> list[dict]:
    queue = [
        {"type": "http.request", "body": body, "more_body": number < len(bodies) - 1}
        for number, body in enumerate(bodies)
    ]
    sent: list[dict] = []

    async def receive() -> dict:
        return queue.pop(0)

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(key.encode(), value.encode()) for key, value in headers.items()],
    }
    asyncio.run(Guard(_reads_all, host, names, largest)(scope, receive, send))
    return sent


def _status(headers: dict[str, str], **options) -> int:
    return _ask(headers, **options)[0]["status"]


@pytest.mark.parametrize(
    ("name", "host", "allowed"),
    [
        ("127.0.0.1:7860", "127.0.0.1", True),
        ("localhost:7860", "127.0.0.1", True),
        ("LOCALHOST", "127.0.0.1", True),
        ("[::1]:7860", "127.0.0.1", True),
        ("evil.example", "127.0.0.1", False),
        ("127.0.0.1.evil.example", "127.0.0.1", False),
        ("192.168.1.5:7860", "127.0.0.1", False),
        ("", "127.0.0.1", False),
        ("192.168.1.5:7860", "0.0.0.0", True),
        ("[fe80::1]:7860", "::", True),
        ("evil.example", "0.0.0.0", False),
        ("demo.lab:80", "0.0.0.0", True),
        ("192.168.1.5", "192.168.1.5", True),
    ],
)
def test_only_its_own_names_are_served(name: str, host: str, allowed: bool) -> None:
    assert _status({"host": name}, host=host, names=["demo.lab"]) == (200 if allowed else 421)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "http://localhost:1"}, 200),
        ({"origin": "https://localhost:1"}, 200),  # behind a proxy that ends TLS
        ({"origin": "http://localhost:2"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
    ],
)
def test_only_this_site_may_send(headers: dict[str, str], status: int) -> None:
    assert _status({"host": "localhost:1", **headers}, method="POST") == status
    assert _status({"host": "localhost:1", **headers}) == 200


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        ("/gradio_api/upload", 2**20 + OVERHEAD),
        ("/demo/gradio_api/upload", 2**20 + OVERHEAD),
        ("/api/predict", 2**20 + OVERHEAD),
        ("/gradio_api/queue/join", BODY_LIMIT),
    ],
)
def test_bodies_are_bounded(path: str, limit: int) -> None:
    host = {"host": "localhost"}
    assert _status({**host, "content-length": str(limit)}, method="POST", path=path) == 200
    assert _status({**host, "content-length": str(limit + 1)}, method="POST", path=path) == 413
    part = bytes(limit // 2)
    assert _ask(host, method="POST", path=path, bodies=[part, part])[1]["body"] == str(limit).encode()
    # No length announced: the stream is cut at the limit, and the guard responds in place of the application.
    assert _ask(host, method="POST", path=path, bodies=[part, part, b"x"])[0]["status"] == 413


def test_every_predictions_has_the_headers_once() -> None:
    for status, headers in ((200, {"host": "localhost"}), (421, {"host": "evil.example"})):
        start = _ask(headers)[0]
        names = [name for name, _ in start["headers"]]
        assert start["status"] == status and len(names) == len(set(names))
        found = {name: value.decode() for name, value in start["headers"]}
        assert found[b"x-frame-options"] == "DENY" and found[b"x-content-type-options"] == "nosniff"
        assert (
            "default-src 'self'" in found[b"content-security-policy"] and "://" not in found[b"content-security-policy"]
        )


def test_web_sockets_are_closed() -> None:
    sent: list[dict] = []

    async def send(message: dict) -> None:
        sent.append(message)

    asyncio.run(Guard(_reads_all, "127.0.0.1")({"type": "websocket", "headers": []}, None, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]

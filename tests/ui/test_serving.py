"""What makes the demo a server: the job queue, its figures, the login, the sweeping, and the routes for programs."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import urllib.parse
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.ui.conftest import Demo
from ui.server.limits import Limits
from ui.server.login import COOKIE, TRIES, Accounts, Login, add_account
from ui.server.metrics import Metrics
from ui.server.temp_cleanup import Sweeper
from visionkit.errors import DataError, UsageError

pytestmark = pytest.mark.filterwarnings("ignore::Warning:gradio.queueing")  # its use of pandas


# ---------------------------------------------------------------------- the job queue


def _job_queue(**limits):
    from ui.model_registry import ModelRegistry
    from ui.server.job_queue import JobQueue

    return JobQueue(ModelRegistry(), Limits(**limits))


def test_no_more_run_than_may_and_who_comes_then_is_reported() -> None:
    from ui.server.job_queue import Busy

    job_queue, gate, begun, most = _job_queue(concurrency=2, queue=3, timeout=20), threading.Event(), [], []

    def work(check):
        begun.append(1)
        most.append(job_queue.running)
        gate.wait(20)
        return len(begun)

    results: list[object] = []
    threads = [threading.Thread(target=lambda: results.append(job_queue.run(work, None))) for _ in range(5)]
    for thread in threads[:2]:
        thread.start()
    _until(lambda: job_queue.running == 2)
    for thread in threads[2:]:
        thread.start()
    _until(lambda: job_queue.waiting == 3)
    with pytest.raises(Busy, match="3 requests are waiting"):
        job_queue.run(work, None)
    gate.set()
    for thread in threads:
        thread.join(20)
    assert len(results) == 5 and max(most) == 2
    _until(lambda: job_queue.running == job_queue.waiting == 0)
    assert 'visionkit_failures_total{model="unknown",reason="busy",task="unknown"} 1' in job_queue.metrics.text()


def test_who_waits_too_long_is_reported_and_long_work_ends() -> None:
    from ui.server.job_queue import TooSlow

    def own(check):
        raise TimeoutError("the network of somebody else")

    with pytest.raises(TimeoutError, match="somebody else"):
        _job_queue(timeout=20).run(own, None)
    job_queue, ended = _job_queue(concurrency=1, timeout=0.3), threading.Event()

    def work(check) -> None:
        try:
            for _ in range(1000):
                time.sleep(0.01)
                check()
        except TooSlow:
            ended.set()
            raise

    start = time.monotonic()
    with pytest.raises(TooSlow, match=r"no response within 0\.3 seconds"):
        job_queue.run(work, None)
    assert time.monotonic() - start < 5 and ended.wait(5)
    assert job_queue.run(lambda check: 7, None) == 7, "the seat is free again"


def test_a_failure_reaches_who_asked_and_nobody_else() -> None:
    job_queue = _job_queue(concurrency=1)
    with pytest.raises(ZeroDivisionError):
        job_queue.run(lambda check: 1 // 0, None)
    with pytest.raises(DataError, match="torn"):
        job_queue.run(lambda check: _raise(DataError("torn")), "anything")
    assert job_queue.run(lambda check: "well", None) == "well"
    text = job_queue.metrics.text()
    assert 'reason="defect"' in text and 'reason="image"' in text and 'model="anything"' not in text


def _raise(error: Exception) -> None:
    raise error


def _until(ready, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.005)


# ---------------------------------------------------------------------- figures


def test_the_metrics_read_as_prometheus_requires_them() -> None:
    metrics = Metrics()
    metrics.count("asked_total", "Requests.", model='a"b\\c\nd')
    metrics.count("asked_total", "Requests.", model='a"b\\c\nd')
    for seconds in (0.005, 0.01, 0.3, 1000.0):
        metrics.observe("took_seconds", "Time.", seconds, task="depth")
    metrics.gauge("now", "A reading.", lambda: 2.5)
    lines = metrics.text().splitlines()
    assert 'asked_total{model="a\\"b\\\\c\\nd"} 2.0' in lines
    buckets = [line for line in lines if line.startswith("took_seconds_bucket")]
    assert buckets[0] == 'took_seconds_bucket{le="0.01",task="depth"} 2.0', "the end belongs to the bucket"
    assert buckets[-1] == 'took_seconds_bucket{le="+Inf",task="depth"} 4.0' and len(buckets) == 13
    assert 'took_seconds_sum{task="depth"} 1000.315' in lines and 'took_seconds_count{task="depth"} 4.0' in lines
    assert "now 2.5" in lines
    kinds = {tuple(line.split()[2:]) for line in lines if line.startswith("# TYPE")}
    assert kinds == {("asked_total", "counter"), ("took_seconds", "histogram"), ("now", "gauge")}


def test_made_up_names_cannot_fill_the_memory() -> None:
    metrics = Metrics()
    for number in range(2000):
        metrics.count("asked_total", "Requests.", model=str(number))
    assert len(metrics.text().splitlines()) < 520 and 'model="other"' in metrics.text()


# ---------------------------------------------------------------------- limits and sweeping


def test_limits_are_above_nothing() -> None:
    with pytest.raises(UsageError, match="--keep-minutes"):
        Limits(keep_minutes=0)


def test_old_files_go_and_too_many_do_and_what_everybody_is_shown_stays(tmp_path: Path) -> None:
    (tmp_path / "scene.png").write_bytes(b"example")
    (tmp_path / "gallery").mkdir()
    sweeper = Sweeper(tmp_path, seconds=100, most=2500, spared=(tmp_path / "gallery",))
    now = time.time()
    ages = {
        "cache/a/old.jpg": 101,
        "cache/b/first.jpg": 90,
        "cache/b/second.jpg": 80,
        "c.json": 70,
        "gallery/x.db": 999,
    }
    for name, age in ages.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(1000))
        os.utime(path, (now - age, now - age))
    assert sweeper.sweep(now) == 2
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"scene.png", "cache/b/second.jpg", "c.json", "gallery/x.db"}
    assert not (tmp_path / "cache" / "a").exists(), "an empty folder goes with its file"


# ---------------------------------------------------------------------- login


@pytest.fixture
def accounts(tmp_path: Path) -> Accounts:
    path = tmp_path / "accounts"
    add_account(path, "ada", "correct horse")
    add_account(path, "bob", "battery staple")
    assert path.stat().st_mode & 0o077 == 0 and "horse" not in path.read_text()
    return Accounts(path)


async def _inside(scope, receive, send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"inside"})


def _asker(accounts: Accounts, root: str = ""):
    login = Login(_inside, accounts)

    def ask(path: str, method: str = "GET", form: dict[str, str] | None = None, **headers: str):
        sent: list[dict] = []
        body = urllib.parse.urlencode(form or {}).encode()

        async def receive() -> dict:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict) -> None:
            sent.append(message)

        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "root_path": root,
            "client": ("10.0.0.1", 5),
            "scheme": "https",
            "headers": [(key.replace("_", "-").encode(), value.encode()) for key, value in headers.items()],
        }
        asyncio.run(login(scope, receive, send))
        report = {key.decode(): value.decode() for key, value in sent[0]["headers"]}
        return sent[0]["status"], report, sent[1]["body"].decode()

    return ask


def test_nothing_is_reached_without_a_login(accounts: Accounts) -> None:
    ask = _asker(accounts)
    assert ask("/health")[0] == ask("/ready")[0] == 200
    for path in ("/", "/gradio_api/upload", "/metrics", "/api/models", "/health/../metrics", "/healthy", "/logins"):
        status, headers, body = ask(path)
        assert status == 401 and "inside" not in body and headers["www-authenticate"].startswith("Basic"), path
    status, headers, _ = ask("/detection", accept="text/html")
    assert status == 303 and headers["location"] == "/login?next=%2Fdetection"
    assert "<form" in ask("/login")[2]


def test_a_right_password_opens_and_a_session_holds(accounts: Accounts) -> None:
    ask = _asker(accounts)
    good = {"username": "ada", "password": "correct horse"}
    assert ask("/login", "POST", {**good, "password": "wrong"}, accept="text/html")[0] == 401
    status, headers, _ = ask("/login?next=/detection", "POST", good, accept="text/html")
    assert status == 303 and headers["location"] == "/detection"
    cookie = headers["set-cookie"]
    assert all(word in cookie for word in ("HttpOnly", "SameSite=Lax", "Secure"))
    session = cookie.partition(";")[0]
    assert ask("/", cookie=session)[2] == "inside" and ask("/", cookie=f"other=1; {session}")[2] == "inside"
    for broken in (session[:-1], session.replace("=", "=x", 1), f"{COOKIE}=", f"{COOKIE}=a.b", f"{COOKIE}=é.é"):
        assert ask("/", cookie=broken)[0] == 401
    # A program is reported by a success, and its cookie is the same.
    status, headers, body = ask("/login", "POST", good)
    assert status == 200 and "success" in body and COOKIE in headers["set-cookie"]
    for target in ("//evil.example", "https://evil.example", "/\\evil.example", "javascript:x"):
        query = urllib.parse.urlencode({"next": target})
        assert ask(f"/login?{query}", "POST", good, accept="text/html")[1]["location"] == "/"


def test_basic_opens_for_programs(accounts: Accounts) -> None:
    import base64

    def basic(text: str) -> str:
        return "Basic " + base64.b64encode(text.encode()).decode()

    ask = _asker(accounts)
    assert ask("/api/models", authorization=basic("bob:battery staple"))[2] == "inside"
    start = time.perf_counter()
    assert ask("/api/models", authorization=basic("bob:battery staple"))[2] == "inside"
    assert time.perf_counter() - start < 0.03, "what was right a moment ago is not hashed again"
    for wrong in (
        basic("bob:x"),
        basic("eve:battery staple"),
        basic("bob"),
        "Basic é",
        "Bearer x",
        basic("ada:battery staple"),
    ):
        assert ask("/api/models", authorization=wrong)[0] == 401


def test_guessing_ends(accounts: Accounts) -> None:
    ask = _asker(accounts)
    wrong = {"username": "ada", "password": "guess"}
    message = [ask("/login", "POST", wrong)[0] for _ in range(TRIES["address"][0] + 2)]
    assert message == [401] * TRIES["address"][0] + [429, 429]
    assert ask("/login", "POST", {"username": "ada", "password": "correct horse"})[0] == 429


def test_accounts_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "accounts"
    for text in ("", "ada:secret", "# nobody\n"):
        path.write_text(text)
        with pytest.raises(UsageError, match="--add-user"):
            Accounts(path)
    for name, password in (("a b", "long enough"), ("a:b", "long enough"), ("ada", "short")):
        with pytest.raises(UsageError):
            add_account(path, name, password)


def test_under_a_path_of_a_proxy(accounts: Accounts) -> None:
    ask = _asker(accounts, root="/demo")
    assert ask("/demo/health")[0] == 200 and ask("/demo/")[0] == 401
    status, headers, _ = ask("/demo/pose", accept="text/html")
    assert (status, headers["location"]) == (303, "/demo/login?next=%2Fdemo%2Fpose")


# ---------------------------------------------------------------------- routes


def test_one_request_gives_the_predictions_or_the_drawing(demo: Demo, models: Path, images: list[Path]) -> None:
    from visionkit.predictor import load

    expected = load(models / "good")(images[0]).to_json()
    with httpx.Client(base_url=demo.address, timeout=60) as session:
        sent = session.post("/api/predict?model=good", content=images[0].read_bytes())
        assert sent.status_code == 200 and sent.json() == expected
        part = {"image": (images[0].name, images[0].read_bytes())}
        assert session.post("/api/predict?model=good", files=part).json() == expected
        drawn = session.post("/api/predict?model=good&drawn=1", content=images[0].read_bytes())
        assert drawn.headers["content-type"] == "image/jpeg" and drawn.content[:2] == b"\xff\xd8"
        assert {entry["name"] for entry in session.get("/api/models").json()} >= {"good", "broken"}
        health = session.get("/health").json()
        assert health["status"] == "ok" and health["ready"]
        figures = session.get("/metrics")
        assert figures.headers["content-type"].startswith("text/plain; version=0.0.4")
        line = 'visionkit_requests_total{channel="program",model="good",task="classification"}'
        assert float(next(each for each in figures.text.splitlines() if each.startswith(line)).rpartition(" ")[2]) >= 3


@pytest.mark.parametrize(
    ("model", "body", "status", "said"),
    [
        ("good", b"this is no picture", 422, "not an image"),
        ("good", b"", 400, "curl"),
        ("goud", None, 400, "did you mean 'good'"),
        ("", None, 400, "choose a model"),
        ("broken", None, 500, "cannot be read"),
    ],
)
def test_a_program_is_reported_what_was_wrong(
    demo: Demo, images: list[Path], model: str, body: bytes | None, status: int, said: str
) -> None:
    content = images[0].read_bytes() if body is None else body
    message = httpx.post(f"{demo.address}/api/predict", params={"model": model}, content=content, timeout=60)
    assert message.status_code == status and said in message.json()["error"]
    assert "/tmp" not in message.text


def test_a_program_gives_options_of_the_call_and_is_warned_of_wrong_ones(demo: Demo, images: list[Path]) -> None:
    def ask(model: str, **options: Any) -> httpx.Response:
        address = f"{demo.address}/api/predict"
        return httpx.post(address, params={"model": model, **options}, content=images[0].read_bytes(), timeout=60)

    few = ask("detection/people_and_things", max_detections=2, score_threshold=0.0)
    assert few.status_code == 200 and len(few.json()["objects"]) == 2
    for model, options, said in (
        ("detection/people_and_things", {"nms_treshold": 0.3}, "did you mean 'nms_threshold'"),
        ("detection/people_and_things", {"score_threshold": "high"}, "score_threshold 'high': a number from 0 to 1"),
        ("detection/people_and_things", {"max_detections": 2.5}, "a whole number is required"),
        ("super_resolution/x2", {"tile": 0}, "takes no options by request"),
    ):
        message = ask(model, **options)
        assert message.status_code == 400 and said in message.json()["error"], message.text


# ---------------------------------------------------------------------- tools for assistants


def test_an_assistant_lists_and_calls_the_tools(demo: Demo, models: Path, images: list[Path]) -> None:
    import base64
    import json

    from visionkit.predictor import load

    with httpx.Client(base_url=demo.address, timeout=60) as session:

        def ask(method: str, **params: object) -> dict:
            message = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
            report = session.post(
                "/mcp", json=message, headers={"accept": "application/json, text/event-stream"}
            ).json()
            assert report["jsonrpc"] == "2.0" and report["id"] == 7
            return report

        begun = ask("initialize", protocolVersion="2025-03-26", capabilities={}, clientInfo={})["result"]
        assert begun["protocolVersion"] == "2025-03-26" and begun["serverInfo"]["name"] == "visionkit"
        assert ask("initialize", protocolVersion="1999-01-01")["result"]["protocolVersion"] == "2025-06-18"
        note = session.post("/mcp", json={"jsonrpc": "2.0", "method": "notifications/initialized"})
        assert note.status_code == 202 and not note.content
        assert {tool["name"] for tool in ask("tools/list")["result"]["tools"]} == {"models", "predict"}
        listed = json.loads(ask("tools/call", name="models", arguments={})["result"]["content"][0]["text"])
        assert {"good", "broken"} <= {entry["name"] for entry in listed}
        source_image = base64.b64encode(images[0].read_bytes()).decode()
        report = ask("tools/call", name="predict", arguments={"model": "good", "image": source_image, "drawn": True})
        text, image = report["result"]["content"]
        expected = load(models / "good")(images[0]).to_json()
        assert json.loads(text["text"]) == json.loads(json.dumps(expected))
        assert image["mimeType"] == "image/jpeg" and base64.b64decode(image["data"])[:2] == b"\xff\xd8"
        wrong = ask("tools/call", name="predict", arguments={"model": "goud", "image": source_image})["result"]
        assert wrong["isError"] and "did you mean 'good'" in wrong["content"][0]["text"]
        for arguments in (
            {},
            {"model": "good"},
            {"model": "good", "image": "/etc/passwd"},
            {"model": 1, "image": []},
        ):
            assert ask("tools/call", name="predict", arguments=arguments)["result"]["isError"]
        assert ask("tools/call", name="rm")["error"]["code"] == -32602
        assert ask("resources/list")["error"]["code"] == -32601
        for body in (b"", b"{", b"[]", b"[" * 100_000, b'{"jsonrpc": "1.0"}'):
            assert session.post("/mcp", content=body).json()["error"]["code"] in (-32700, -32600)
        assert session.get("/mcp").status_code == 405

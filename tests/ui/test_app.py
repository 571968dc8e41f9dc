"""The demo over HTTP.

The same predictions as Python's, clear refusals, no markup from data, nothing asked of others.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.ui.conftest import HOSTILE, HOSTILE_CARD, Demo
from ui import strings

pytestmark = pytest.mark.filterwarnings("ignore::Warning:gradio.queueing")  # its use of pandas


@pytest.fixture(scope="module")
def client(demo: Demo):
    from gradio_client import Client

    return Client(demo.address, verbose=False, analytics_enabled=False)


def _predict(client, path: Path, model: str = "good"):
    from gradio_client import handle_file

    return client.predict(handle_file(str(path)), model, api_name="/predict")


def test_twenty_images_get_the_predictors_predictions_to_the_digit(client, models: Path, images: list[Path]) -> None:
    from visionkit.predictor import load

    predictor = load(models / "good")
    for path in images:
        assert _predict(client, path) == json.loads(json.dumps(predictor(path).to_json())), path.name


def test_a_checkpoint_of_a_run_predictions_like_its_bundle(client, images: list[Path]) -> None:
    assert _predict(client, images[0], "run/checkpoints/last.ckpt") == _predict(client, images[0])


def test_the_models_are_listed_with_their_terms_and_faults(client) -> None:
    from ui.model_registry import find_example_models

    listed = {entry["name"]: entry for entry in client.predict(api_name="/models")}
    example_models = {entry.name for entry in find_example_models()}
    assert set(listed) == example_models | {"good", "hostile", "run/checkpoints/last.ckpt", "broken", "no-weights"}
    assert listed["good"] | {} == {
        "name": "good",
        "title": "Six things",
        "task": "classification",
        "example_model": False,
        "terms": "for research alone",
        "fault": None,
    }
    assert "cannot be read" in listed["broken"]["fault"] and "model.safetensors" in listed["no-weights"]["fault"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("truncated", "truncated"),
        ("zero", "0 bytes"),
        ("text", "not an image"),
        ("bomb", "169 megapixels"),
        ("page", "not a"),
    ],
)
def test_bad_images_are_refused_in_words(client, demo: Demo, bad: dict[str, Path], name: str, said: str) -> None:
    with pytest.raises(Exception, match=said) as caught:
        _predict(client, bad[name])
    assert "/tmp" not in str(caught.value), "the server's own paths are nobody's business"


def test_a_bomb_is_refused_from_its_header(demo: Demo, bad: dict[str, Path]) -> None:
    from ui.inference import Upload, predict
    from visionkit.errors import DataError

    assert bad["bomb"].stat().st_size < 40_000
    start = time.perf_counter()
    with pytest.raises(DataError, match="megapixels"):
        predict(demo.model_registry, "good", Upload(str(bad["bomb"]), "bomb.png"))
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize("model", ["nothing", "../good", "/etc/passwd", "broken", "no-weights", "timm:resnt50", ""])
def test_models_that_cannot_be_used(client, images: list[Path], model: str) -> None:
    with pytest.raises(Exception, match=r"unknown model|cannot be read|no model|choose a model|did you mean"):
        _predict(client, images[0], model)


def test_an_address_is_not_fetched(demo: Demo) -> None:
    """The test would also fail by the network guard, were it tried."""
    for path in ("http://outside.example/x.png", "https://outside.example/x.png"):
        data = [{"path": path, "url": path, "meta": {"_type": "gradio.FileData"}}, "good"]
        with httpx.Client(base_url=demo.address) as session:
            event = session.post("/gradio_api/call/predict", json={"data": data}).json()["event_id"]
            message = session.get(f"/gradio_api/call/predict/{event}", timeout=30).text
        assert "event: error" in message


def test_files_of_the_server_are_not_served(demo: Demo, models: Path) -> None:
    with httpx.Client(base_url=demo.address) as session:
        for path in ("/etc/passwd", str(models / "good" / "model.json"), str(Path(strings.__file__))):
            assert session.get(f"/gradio_api/file={path}").status_code in (403, 404)
            data = [{"path": path, "meta": {"_type": "gradio.FileData"}}, "good"]
            event = session.post("/gradio_api/call/predict", json={"data": data}).json()["event_id"]
            assert "event: error" in session.get(f"/gradio_api/call/predict/{event}", timeout=30).text


def test_the_guard_stands_before_the_page(demo: Demo) -> None:
    with httpx.Client(base_url=demo.address) as session:
        page = session.get("/")
        assert page.status_code == 200 and "default-src 'self'" in page.headers["content-security-policy"]
        assert session.get("/", headers={"host": "evil.example"}).status_code == 421
        upload = {"files": {"files": ("a.png", b"x")}}
        assert session.post("/gradio_api/upload", **upload).status_code == 200
        assert (
            session.post("/gradio_api/upload", headers={"origin": "http://evil.example"}, **upload).status_code == 403
        )
        for path in ("/docs", "/redoc", "/openapi.json", "/gradio_api/docs"):
            assert session.get(path).status_code == 404, path


def test_the_page_names_no_other_server(demo: Demo) -> None:
    page = httpx.get(demo.address).text
    loaded = re.findall(r"""(?:src|href)=["'](https?://[^"']+)""", page)
    assert [address for address in loaded if not address.startswith(demo.address)] == []
    css = httpx.get(f"{demo.address}/theme.css").text
    assert "@import" not in css and "fonts.g" not in css


def test_words_from_data_are_words() -> None:
    """Whatever stands in a model card reaches the page with each special character escaped."""
    for text in (
        *HOSTILE,
        *HOSTILE_CARD.values(),
        "1. a\n# b\n---",
        "| a | b |",
        "https://outside.example :smile: a@b.c",
    ):
        shown = strings.plain(text)
        assert "<" not in shown and "\n" not in shown
        assert not re.search(r"(?<!\\)[\[\]*_`|#!:$@~]", shown)
    card = strings.card(HOSTILE_CARD["name"], "classification", HOSTILE_CARD, {"classes": list(HOSTILE)})
    assert "<" not in card and "](" not in card


def test_every_kind_of_prediction_has_a_view_and_words() -> None:
    from ui.views import views
    from visionkit.predictions import Prediction

    kinds = {
        kind: cls for kind, cls in Prediction._kinds.items() if cls.__module__.startswith("visionkit.predictions.")
    }
    assert set(kinds) == set(views())
    for kind, cls in kinds.items():
        assert cls.text is not Prediction.text and cls.draw is not Prediction.draw, kind


def test_what_is_sent_back_is_bounded_and_the_predictions_is_drawn(tmp_path: Path) -> None:
    from ui.downloads import Downloads
    from ui.drawings import SIDE
    from ui.views import views
    from visionkit.predictions import Classification

    prediction = Classification(("cat", "dog"), np.array([0.75, 0.25], np.float32))
    shown = views()["classification"].show(prediction, np.zeros((600, 3000, 3), np.uint8), Downloads(tmp_path))
    labels, drawn, words = shown
    assert words == "" and labels == {"cat": 0.75, "dog": 0.25}
    assert drawn.shape == (SIDE // 5, SIDE, 3) and drawn.any()


def test_a_taken_port_is_reported(demo: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    from ui.cli import main

    port = demo.address.rpartition(":")[2]
    assert main(["serve", "--port", port]) == 5
    message = capsys.readouterr().err
    assert f"port {port}" in message and "--port" in message and message.count("\n") == 1


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_server_that_is_stopped_leaves_nothing_behind(tmp_path: Path, number: int, status: int) -> None:
    code = "import sys; from ui.cli import main; sys.argv = ['visionkit', 'serve', '--port', '0']; sys.exit(main())"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    # A shell that runs the tests in the background has SIGINT ignored, and children inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    try:
        end = time.monotonic() + 60
        while not list(tmp_path.glob("visionkit-*")):  # it listens, and its heavy imports have begun
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.02)
        process.send_signal(number)
        message = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert process.returncode == status and message.startswith("visionkit: ") and message.count("\n") == 1
    assert list(tmp_path.glob("visionkit-*")) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("lost", ["replaced", "dropped"])
def test_a_signal_during_an_import_ends_the_server_as_any_other(
    number: int, lost: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """While an extension module is imported, numpy's C interface replaces what is raised by an ImportError."""
    from ui.cli import main
    from ui.commands import serve

    def interrupted_import(door: object, args: object, scratch: object, check_stopped: Callable[[], None]) -> None:
        with contextlib.suppress(Exception):
            os.kill(os.getpid(), number)
        if lost == "replaced":
            raise ImportError("numpy.core.multiarray failed to import")
        check_stopped()

    monkeypatch.setattr(serve, "serve", interrupted_import)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main(["serve", "--port", "0"]) == 128 + number
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    message = capsys.readouterr().err
    assert message in ("visionkit: interrupted\n", "visionkit: terminated\n")

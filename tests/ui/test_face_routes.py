"""Faces over the interface for programs: the routes give what `visionkit gallery` gives, and no more of a gallery."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from tasks.face_recognition.chain import FaceChain, fingerprint
from tasks.face_recognition.finding import CascadeFinder
from tasks.face_recognition.gallery import Gallery
from tasks.face_recognition.task import FaceRecognitionTask
from ui.model_registry import ModelRegistry
from ui.operating_point import named
from ui.people import People
from ui.server.api import Settings
from ui.server.app import application
from ui.server.face_routes import add_face_routes
from ui.server.job_queue import JobQueue
from ui.server.limits import Limits
from ui.server.security_middleware import FILE_ROUTES
from visionkit.bundle import save_bundle
from visionkit.geometry import InputSpec
from visionkit.predictor import load
from visionkit.synthetic import draw_face
from visionkit.tiling import Located

ROC = [[0.01, 0.8, 0.5], [0.0001, 0.1, 0.7], [0.1, 0.95, 0.3], [1.0, 1.0, -1.0]]
TWO = Located(np.array([[0, 0, 60, 60], [20, 20, 90, 90]], np.float32), np.array([0.7, 0.5], np.float32))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two face models, the second one without a ROC in its model card."""
    folder = tmp_path_factory.mktemp("models")
    for seed, name, card in ((0, "faces", {"roc": ROC}), (1, "others", {})):
        torch.manual_seed(seed)
        task = FaceRecognitionTask(
            "test_resnet", embedding=16, input=InputSpec(size=(32, 32), resize_mode="stretch")
        ).eval()
        save_bundle(task, folder / name, card={"name": name, **card})
    return folder


@pytest.fixture(scope="module")
def chain(models: Path) -> FaceChain:
    return FaceChain(load(models / "faces"))


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    return draw_face(0, 0, 0).aligned().image


@pytest.fixture
def gallery(chain: FaceChain, face: np.ndarray, tmp_path: Path) -> Gallery:
    """Ada alone is enrolled."""
    mark = fingerprint(chain.task.config, chain.task.state_dict())
    gallery = Gallery(tmp_path / "people", model=mark, width=chain.width, create=True)
    gallery.enrol("Ada", chain.faces(face, crop=True).embeddings)
    return gallery


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


@pytest.fixture
def ask(models: Path, face: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Sends a request to the two routes; the finder finds two faces in every image."""
    monkeypatch.setattr(CascadeFinder, "__call__", lambda self, image: TWO)
    job_queue = JobQueue(ModelRegistry(models), Limits(image_mb=1))

    def send(route: str, content: bytes = _png(face), is_readable: bool = True, **asked: Any) -> Any:
        app = FastAPI()
        add_face_routes(app, People(job_queue, tmp_path / "people"), tmp_path, is_readable)
        return TestClient(app).post(f"/api/{route}", params={"model": "faces", **asked}, content=content)

    return send


def test_programs_find_faces(ask: Callable[..., Any], chain: FaceChain, face, monkeypatch, tmp_path) -> None:
    assert ask("find").json() == chain(face).to_json(), "boxes, landmarks and scores of both"
    assert ask("find", drawn=1).content[:2] == b"\xff\xd8"
    none = Located(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
    monkeypatch.setattr(CascadeFinder, "__call__", lambda self, image: none)
    assert ask("find").json() == {"kind": "faces", "faces_found": 0, "whole_image": False, "faces": []}
    assert not (tmp_path / "people").exists(), "finding needs no gallery and makes none"
    assert {"/api/find", "/api/identify"} <= set(FILE_ROUTES), "images are larger than other requests"


def test_programs_identify_people(ask: Callable[..., Any], gallery: Gallery, chain: FaceChain, face) -> None:
    for asked, threshold in (({}, 0.5), ({"far": 0.1}, 0.3), ({"threshold": 0.9}, 0.9)):
        record = ask("identify", **asked).json()
        assert record == {**named(gallery, chain(face), threshold).to_json(), "threshold": threshold}
    known = ask("identify", crop="true").json()
    assert known["faces"][0]["name"] == "Ada" and known["whole_image"] and known["faces_found"] is None
    gallery.remove("Ada")
    response = ask("identify", crop=1)
    assert response.status_code == 400 and "nobody is enrolled" in response.json()["error"]


@pytest.mark.parametrize(
    ("route", "asked", "status", "said"),
    [
        ("find", {"crop": 1}, 400, "allowed are model, drawn"),
        ("find", {"gallery": "/elsewhere"}, 400, "gallery: no such parameter"),
        ("identify", {"gallery": "/elsewhere"}, 400, "gallery: no such parameter"),
        ("identify", {"crop": "yes"}, 400, "allowed are 0 and 1"),
        ("identify", {"far": "low"}, 400, "far=low: not a number"),
        ("identify", {"far": "nan"}, 400, "a rate lies between 0 and 1"),
        ("identify", {"far": "1e-9"}, 400, "supports no rate below"),
        ("identify", {"threshold": "2"}, 400, "threshold 2.0: a cosine lies between -1 and 1"),
        ("identify", {"model": "nobody"}, 400, "unknown model"),
        ("identify", {"model": "others"}, 400, "no ROC in its model card"),
        ("identify", {"model": "others", "threshold": "0.5"}, 400, "the server's gallery: made by another model"),
        ("find", {"model": "pose/people"}, 400, "a face recognition model is needed"),
        ("find", {"content": b"no image"}, 422, "not an image"),
        ("find", {"content": b""}, 400, "send an image"),
        ("identify", {"content": bytes(2**20 + 1)}, 422, "an image may have 1 MB"),
        ("identify", {"is_readable": False}, 400, "started without a gallery"),
    ],
)
def test_requests_that_do_not_fit(
    ask: Callable[..., Any], gallery: Gallery, tmp_path: Path, route: str, asked: dict[str, Any], status: int, said: str
) -> None:
    response = ask(route, **asked)
    assert response.status_code == status and said in response.json()["error"], response.text
    assert str(tmp_path) not in response.text


def test_a_damaged_gallery_is_the_servers_fault(ask: Callable[..., Any], gallery: Gallery, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "people" / "gallery.sqlite") as database:
        database.execute("DELETE FROM facts")
    response = ask("identify")
    assert response.status_code == 503 and "the server's gallery" in response.json()["error"]


def test_only_the_gallery_that_the_server_was_started_with_is_read(
    models: Path, gallery: Gallery, chain: FaceChain, face: np.ndarray, tmp_path: Path
) -> None:
    """Who was enrolled on the page of a server without a gallery is named to no program."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    inside = Gallery(scratch / "gallery", model=gallery.model, width=chain.width, create=True)
    inside.enrol("Bo", chain.faces(face, crop=True).embeddings)
    for given, status in ((None, 400), (tmp_path / "people", 200)):
        app = application(
            Settings(ModelRegistry(models), "http://testserver", scratch, gallery=given), names=["testserver"]
        )
        client = TestClient(app)  # type: ignore[arg-type]
        response = client.post("/api/identify", params={"model": "faces", "crop": 1}, content=_png(face))
        assert response.status_code == status and "Bo" not in response.text
        assert client.get("/api/identify").status_code in (404, 405)
        assert client.get("/api/gallery").status_code == 404
    assert response.json()["faces"][0]["name"] == "Ada"

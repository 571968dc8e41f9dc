"""Tiny models, bad files and one running demo for the tests of the terminal and the browser."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.ui.browser import CAMERA, Watched, chromium
from ui.model_registry import ModelRegistry

CLASSES = ("airplane", "bird", "cat", "dog", "ship", "truck")
HOSTILE = (
    "<script>window.hurt=1</script>",
    "<img src=x onerror='window.hurt=2'>",
    "[a](http://outside.example/) **b** $c$",
)
HOSTILE_CLASS = "<img src=x onerror='window.hurt=6'>"
WINDOW = {"width": 1280, "height": 900}
"""Pixels of the browser's page; a test that changes them need not change them back."""
HOSTILE_CARD = {
    "name": "</script><script>window.hurt=3</script>",
    "summary": "![p](http://outside.example/p.png) <img src=http://outside.example/q.png onerror='window.hurt=4'>",
    "terms": "<b>none</b> | of `them`",
    "data": "http://outside.example/data",
}


def build(classes: tuple[str, ...] = CLASSES, seed: int = 0, **arguments: object):
    from tasks.classification.task import ClassificationTask
    from visionkit.geometry import InputSpec

    torch.manual_seed(seed)
    task = ClassificationTask("test_resnet", classes=classes, input=InputSpec(size=(64, 64)), **arguments).eval()
    with torch.no_grad():
        for parameter in task.network.head.parameters():
            parameter.mul_(20)  # probabilities that differ, so that equal ones mean something
    return task


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bundle, a checkpoint in a run, a hostile bundle and a broken one."""
    from visionkit.analysis.page import Page
    from visionkit.checkpoint import AtomicCheckpointIO, save_bundle

    folder = tmp_path_factory.mktemp("models")
    card = {
        "name": "Six things",
        "summary": "Distinguishes six things.",
        "terms": "for research alone",
        "results": [{"metric": "top1", "value": 0.9512, "split": "test", "protocol": "one center crop"}],
    }
    task = build()
    save_bundle(task, folder / "good", card=card)
    save_bundle(build(HOSTILE, seed=1), folder / "hostile", card=HOSTILE_CARD)
    checkpoint = {"state_dict": task.state_dict(), "global_step": 3, "epoch": 1}
    task.on_save_checkpoint(checkpoint)
    (folder / "run" / "checkpoints").mkdir(parents=True)
    AtomicCheckpointIO().save_checkpoint(checkpoint, folder / "run" / "checkpoints" / "last.ckpt")
    (folder / "run" / "analysis").mkdir()
    report = Page("run, val split")
    report.heading("Error breakdown")
    (folder / "run" / "analysis" / "report.html").write_text(report.render())
    record = {"task": "classification", "split": "val", "images": 12}
    (folder / "run" / "analysis" / "analysis.json").write_text(json.dumps(record))
    (folder / "broken").mkdir()
    (folder / "broken" / "model.json").write_text("{not json")
    (folder / "no-weights").mkdir()
    (folder / "no-weights" / "model.json").write_text((folder / "good" / "model.json").read_text())
    return folder


@contextlib.contextmanager
def shelved(models: Path, **tasks: Any) -> Iterator[Path]:
    """Further models of the running demo, for as long as the block runs: it finds them whenever it lists its models.

    Args:
        models: The folder of its models.
        tasks: Tasks by name, each of which gets a bundle with the title "Tiny NAME".

    Yields:
        The folder that holds them, by name; to the demo they are called FOLDER/NAME.
    """
    from visionkit.checkpoint import save_bundle

    with tempfile.TemporaryDirectory(dir=models, prefix="more-") as folder:
        for name, task in tasks.items():
            save_bundle(task.eval(), Path(folder) / name, card={"name": f"Tiny {name}", "data": "noise"})
        yield Path(folder)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Twenty images of different sizes, modes and orientations."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)

    def smooth(height: int, width: int) -> Image.Image:
        coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
        return coarse.resize((width, height), Image.Resampling.BICUBIC)

    exif = Image.Exif()
    saved = []

    def save(name: str, image: Image.Image, **options: object) -> None:
        image.save(folder / name, **options)
        saved.append(folder / name)

    for orientation in range(1, 9):
        exif[0x0112] = orientation
        save(f"exif-{orientation}.jpg", smooth(90 + orientation, 60), exif=exif, quality=90)
    save("gray.png", smooth(70, 99).convert("L"))
    save("gray.jpg", smooth(71, 45).convert("L"))
    rgba = smooth(64, 80).convert("RGBA")
    rgba.putalpha(Image.fromarray(rng.integers(0, 256, (64, 80), dtype=np.uint8)))
    save("alpha.png", rgba)
    save("alpha.webp", rgba, lossless=True)
    save("ink.jpg", smooth(55, 77).convert("CMYK"))
    save("deep.png", Image.fromarray(rng.integers(0, 65536, (48, 66), dtype=np.uint16)))
    save("palette.png", smooth(120, 40).convert("P", palette=Image.Palette.ADAPTIVE, colors=16))
    save("palette.gif", smooth(33, 44).convert("P"))
    save("bits.png", smooth(50, 50).convert("1"))
    save("plain.bmp", smooth(200, 31))
    save("large.jpg", smooth(900, 1400), quality=85)
    save("tiff.tif", smooth(61, 62))
    assert len(saved) == 20
    return saved


@pytest.fixture(scope="session")
def bad(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files that are no images, by what is wrong with them."""
    folder = tmp_path_factory.mktemp("bad")
    whole = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    Image.fromarray(noise).save(whole, "JPEG")
    contents = {
        "truncated.jpg": whole.getvalue()[:4000],
        "zero.jpg": b"",
        "text.jpg": b"this is a shopping list",
        "bomb.png": bomb(),
        "page.svg": b"<svg xmlns='http://www.w3.org/2000/svg'><script>window.hurt=5</script></svg>",
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return {Path(name).stem: folder / name for name in contents}


def bomb(side: int = 13_000) -> bytes:
    """A png of 20 kB that would decode to 169 megapixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    row = b"\0" + bytes(side // 8 + 1)
    header = side.to_bytes(4, "big") * 2 + b"\x01\0\0\0\0"
    body = zlib.compress(row * side, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.fixture(scope="session")
def labeled_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of classified images, one of which is damaged; a class has a hostile name."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    rng = np.random.default_rng(3)
    for name, count in (("cat", 9), ("dog", 9), (HOSTILE_CLASS, 2)):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
            coarse.resize((60, 48), Image.Resampling.BICUBIC).save(folder / name / f"{number}.png")
    (folder / "cat" / "damaged.png").write_bytes(b"\x89PNG nothing")
    return folder


@dataclasses.dataclass(frozen=True)
class Demo:
    """A running demo.

    Attributes:
        address: Where it listens.
        model_registry: Its models.
        scratch: The folder that it writes into.
        gradio: The application of gradio inside it.
    """

    address: str
    model_registry: ModelRegistry
    scratch: Path
    gradio: Any


@pytest.fixture(scope="session")
def demo(models: Path, labeled_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The demo, predicting over HTTP from a thread of this process."""
    from ui.data_sets import DataSet, DataSets, named_data

    measured = DataSet("measured", "Measured", lambda: measured_browser(labeled_photos))
    data_sets = DataSets([named_data(str(labeled_photos)), measured])
    with served(models, tmp_path_factory.mktemp("scratch"), data_sets=data_sets) as demo:
        yield demo


@pytest.fixture(scope="module")
def visitor(demo: Demo) -> Iterator[Watched]:
    """One page for all tests of a file; its camera is Chromium's test image."""
    with chromium(*CAMERA) as browser:
        context = browser.new_context(viewport=WINDOW, accept_downloads=True, reduced_motion="reduce")
        yield Watched(context.new_page(), demo.address)
        context.close()


@pytest.fixture
def watched(visitor: Watched) -> Iterator[Watched]:
    """The page, on which nothing may go wrong during the test."""
    visitor.faults.clear()
    visitor.page.set_viewport_size(WINDOW)
    yield visitor
    assert visitor.faults == []


def measured_browser(photos: Path) -> Any:
    """The photos with a model for which the last one is the worst, as `visionkit view --model` ranks them."""
    from datamodules.folders import FolderData
    from visionkit.browsing.browser import DataBrowser
    from visionkit.browsing.measured_model import MeasuredModel

    data = FolderData(str(photos), val_fraction=0.0, test_fraction=0.0, cache_mb=0)
    readable = [n for n, name in enumerate(data.samples("train").names()) if "damaged" not in name]  # type: ignore[attr-defined]
    notes = {number: f"badness {number}" for number in readable}
    return DataBrowser(data, model=MeasuredModel(build(), "train", readable[::-1], notes))


@contextlib.contextmanager
def served(models: Path, scratch: Path, **settings: Any) -> Iterator[Demo]:
    """A demo of the models in a folder, for as long as the block runs.

    `settings` are those of `ui.server.app.Settings`.
    """
    import uvicorn
    from gradio.routes import App

    from ui.commands.serve import listen
    from ui.server.api import Settings
    from ui.server.app import application

    door = listen("127.0.0.1", 0)
    address = f"http://127.0.0.1:{door.getsockname()[1]}"
    model_registry = ModelRegistry(models)
    before = os.environ.get("GRADIO_TEMP_DIR")
    os.environ["GRADIO_TEMP_DIR"] = str(scratch / "cache")
    app: Any = application(Settings(model_registry, address, scratch, **settings))
    routes = getattr(app._application, "routes", ())  # behind a login they are not to be reached
    gradio = next((route.app for route in routes if isinstance(getattr(route, "app", None), App)), None)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, daemon=True)
    thread.start()
    _wait(lambda: server.started)
    try:
        yield Demo(address, model_registry, scratch, gradio)
    finally:
        app.end()
        server.should_exit = True
        thread.join(10)
        door.close()
        if before is None:
            del os.environ["GRADIO_TEMP_DIR"]
        else:
            os.environ["GRADIO_TEMP_DIR"] = before


def _wait(ready: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "the demo did not start"
        time.sleep(0.02)

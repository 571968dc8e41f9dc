"""The review of labels: what a person's changes make of annotations, and the page in the browser."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules.coco import CocoData
from datamodules.label_folder import Description, LabelFolder
from datamodules.object_entries import AnnotatedImage
from tests.ui.browser import Watched, chromium, needs_chromium
from tests.ui.labels import CLASSES, draw_images, save_detector
from ui.cli import main
from ui.review import Changed, Review, apply_changes
from visionkit.errors import UsageError
from visionkit.masks import encode_masks

SIZE = (72, 96)


def entry(**more: Any) -> AnnotatedImage:
    boxes = np.array([[1.0, 2, 30, 40], [5, 6, 50, 60], [8, 8, 20, 20]])
    return AnnotatedImage("a.png", "", boxes, np.array([0, 1, 2]), scores=np.array([0.9, 0.8, 0.7]), **more)


def filled(path: Path) -> LabelFolder:
    """A folder with two labeled images."""
    photos = draw_images(path / "photos", 2)
    with LabelFolder(path / "out", Description("coco", "detection", "boxes", CLASSES)) as made:
        for photo in photos:
            made.add(photo, entry(), SIZE, "model")
    return LabelFolder(path / "out")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[LabelFolder]:
    with filled(tmp_path) as made:
        yield made


def test_what_is_kept_keeps_its_score_and_what_is_changed_loses_it() -> None:
    objects = [
        {"row": 0, "label": 0, "box": [1, 2, 30, 40]},
        {"row": 2, "label": 1, "box": [8, 8, 20, 20]},
        {"row": None, "label": 2, "box": [40, 50, 90.5, 200]},
    ]
    found = apply_changes(entry(area=np.array([5.0, 6, 7])), objects, SIZE, 3, "boxes")
    assert found.labels.tolist() == [0, 1, 2]
    assert found.boxes.tolist() == [[1, 2, 30, 40], [8, 8, 20, 20], [40, 50, 90.5, 72]]
    assert found.scores is not None and found.area is not None
    np.testing.assert_array_equal(found.scores, [0.9, np.nan, np.nan])
    np.testing.assert_array_equal(found.area, [5, np.nan, np.nan])
    moved = apply_changes(entry(), [{"row": 1, "label": 1, "box": [5, 6, 50, 55]}], SIZE, 3, "boxes")
    assert moved.boxes.tolist() == [[5, 6, 50, 55]] and moved.scores is not None and np.isnan(moved.scores[0])
    assert len(apply_changes(entry(), [], SIZE, 3, "boxes")) == 0


def test_outlines_are_kept_and_drawn() -> None:
    bitmap = np.zeros((3, *SIZE), dtype=bool)
    bitmap[:, 10:20, 10:20] = True
    masks: Any = [dict(mask) for mask in encode_masks(bitmap)]
    objects = [{"row": 1, "label": 1}, {"row": None, "label": 0, "outline": [1, 1, 30, 1, 20, 40]}]
    found = apply_changes(entry(segments=masks), objects, SIZE, 3, "masks")
    assert found.segments == [masks[1], [[1, 1, 30, 1, 20, 40]]]
    assert found.boxes[1].tolist() == [1, 1, 30, 40]
    with pytest.raises(UsageError, match="needs an outline"):
        apply_changes(entry(segments=masks), [{"row": None, "label": 0, "box": [1, 1, 9, 9]}], SIZE, 3, "masks")


@pytest.mark.parametrize(
    "wrong",
    [
        "text",
        {"row": 3, "label": 0},
        {"row": True, "label": 0},
        {"row": 0, "label": 3},
        {"row": 0, "label": -1},
        {"row": 0, "label": 0.0},
        {"row": 0, "label": None},
        {"row": None, "label": 0},
        {"row": None, "label": 0, "box": [1, 2, 3]},
        {"row": None, "label": 0, "box": [1, 2, "3", 4]},
        {"row": None, "label": 0, "box": [1, 2, float("nan"), 4]},
        {"row": None, "label": 0, "box": [5, 5, 5, 9]},
        {"row": None, "label": 0, "box": [200, 5, 300, 9]},
        {"row": None, "label": 0, "outline": [1, 1, 2, 2]},
        {"row": None, "label": 0, "outline": [1, 1, 2, 1, 3, 1]},
    ],
)
def test_what_makes_no_sense_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError):
        apply_changes(entry(), [{"row": 1, "label": 1}, wrong], SIZE, 3, "boxes")


def test_every_change_is_on_the_disk_and_undone_by_going_back(folder: LabelFolder) -> None:
    review = Review(folder)
    first = review.objects("000.png")
    assert first["size"] == [72, 96] and [each["score"] for each in first["objects"]] == [0.9, 0.8, 0.7]
    rows = [{"row": k, "label": k, "box": first["objects"][k]["box"]} for k in range(3)]
    saved = review.save("000.png", {"version": first["version"], "objects": rows[1:]})
    with pytest.raises(Changed):  # a second page that has not seen it
        review.save("000.png", {"version": first["version"], "objects": rows})
    disk = json.loads((folder.out / "annotations" / "instances_train.json").read_text("utf-8"))
    assert len(disk["annotations"]) == 5 and not any("reviewed" in image for image in disk["images"])
    undone = {"version": saved["version"], "base": first["version"], "objects": rows, "reviewed": True}
    again = review.save("000.png", undone)
    assert again["version"] == first["version"] and again["reviewed"], "with the score of what was deleted"
    disk = json.loads((folder.out / "annotations" / "instances_train.json").read_text("utf-8"))
    assert [image.get("reviewed") for image in disk["images"]] == [True, None]
    overview = review.overview()
    assert [each["reviewed"] for each in overview["images"]] == [True, False]
    assert f"visionkit fit --init_from model --data CocoData --data.root {folder.out}" == overview["command"]
    for name in ("../photos/000.png", "nothing"):
        for ask in (review.objects, review.jpeg):
            with pytest.raises(LookupError):
                ask(name)


# ---------------------------------------------------------------------- in the browser


@contextmanager
def reviewed(folder: LabelFolder, scratch: Path) -> Iterator[str]:
    """The page of a folder, served from a thread of this process."""
    import uvicorn

    from ui.commands.serve import listen
    from ui.server.review import review_application

    before = os.environ.get("GRADIO_TEMP_DIR")
    os.environ["GRADIO_TEMP_DIR"] = str(scratch / "cache")
    door = listen("127.0.0.1", 0)
    app: Any = review_application(Review(folder))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{door.getsockname()[1]}"
    finally:
        app.end()
        server.should_exit = True
        thread.join(10)
        door.close()
        if before is None:
            del os.environ["GRADIO_TEMP_DIR"]
        else:
            os.environ["GRADIO_TEMP_DIR"] = before


class Reviewer:
    """A person at the page."""

    def __init__(self, watched: Watched, folder: LabelFolder) -> None:
        self.watched, self.page, self.folder = watched, watched.page, folder

    def shows(self, name: str) -> None:
        self.page.locator(f'.vk-review[data-shown="{name}"]').wait_for()

    def saved(self) -> None:
        self.page.locator('[data-part="state"]').get_by_text("Saved.").wait_for()

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the image lies on the page."""
        frame = self.page.locator(".vk-review canvas").bounding_box()
        return frame["x"] + x / SIZE[1] * frame["width"], frame["y"] + y / SIZE[0] * frame["height"]

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.page.mouse.move(*self.at(*start))
        self.page.mouse.down()
        self.page.mouse.move(*self.at(*end), steps=4)
        self.page.mouse.up()

    def touch(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """A finger's stroke, as the browser itself makes pointer events of it."""
        client = self.page.context.new_cdp_session(self.page)
        steps = [np.array(start) + (np.array(end) - np.array(start)) * k / 4 for k in range(5)]
        points = [dict(zip("xy", self.at(*step), strict=True)) for step in steps]
        client.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [points[0]]})
        for point in points[1:]:
            client.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [point]})
        client.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    def on_disk(self, name: str) -> AnnotatedImage:
        path = self.folder.out / "annotations" / "instances_train.json"
        disk = json.loads(path.read_text("utf-8"))
        image = next(each for each in disk["images"] if each["file_name"] == name)
        rows = [each for each in disk["annotations"] if each["image_id"] == image["id"]]
        boxes = np.array([each["bbox"] for each in rows], dtype=float).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        return AnnotatedImage(name, "", boxes, np.array([each["category_id"] - 1 for each in rows], dtype=int))


@needs_chromium
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore::Warning:gradio.queueing")
def test_labels_are_corrected_in_the_browser_and_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save_detector(tmp_path / "model")
    draw_images(tmp_path / "photos", 50)
    out = tmp_path / "labels"
    assert main(["label", str(model), str(tmp_path / "photos"), "--out", str(out), "--min_score", "0.5"]) == 0
    assert "50 images labeled" in capsys.readouterr().out
    with LabelFolder(out) as folder, reviewed(folder, tmp_path) as address, chromium() as browser:
        watched = Watched(browser.new_page(viewport={"width": 1100, "height": 900}), address)
        page, person = watched.page, Reviewer(watched, folder)
        full = next(name for name in [*folder.images][1:] if len(person.on_disk(name)) >= 2)
        watched.open()
        person.shows("000.png")

        # The first image: a missing box is drawn by the mouse, then accepted.
        before = person.on_disk("000.png")
        page.locator('[data-part="class"]').select_option("2")
        person.drag((20, 10), (60, 40))
        person.saved()
        drawn = person.on_disk("000.png")
        assert len(drawn) == len(before) + 1 and drawn.labels[-1] == 2
        np.testing.assert_allclose(drawn.boxes[-1], [20, 10, 60, 40], atol=0.5)
        assert not folder.images["000.png"].reviewed, "saved before anybody accepts it"
        # Its corner is dragged, which is undone by a key.
        person.drag((60, 40), (80, 60))
        watched.until(lambda: abs(person.on_disk("000.png").boxes[-1][2] - 80) < 0.5, "the corner was not moved")
        page.keyboard.press("z")
        watched.until(lambda: abs(person.on_disk("000.png").boxes[-1][2] - 60) < 0.5, "it was not undone")
        person.saved()
        page.keyboard.press("Enter")
        person.shows("001.png")
        assert folder.images["000.png"].reviewed

        # An image with objects, by keys alone: the class of the first is changed, the second deleted.
        while page.locator(f'.vk-review[data-shown="{full}"]').count() == 0:
            name = page.locator(".vk-review").get_attribute("data-shown")
            page.keyboard.press("ArrowRight")
            page.locator(f'.vk-review:not([data-shown="{name}"])').wait_for()
        before = person.on_disk(full)
        page.keyboard.press("j")
        page.keyboard.press(str((before.labels[0] + 1) % 3 + 1))
        page.keyboard.press("j")
        page.keyboard.press("Delete")
        person.saved()
        after = person.on_disk(full)
        assert len(after) == len(before) - 1 and after.labels[0] == (before.labels[0] + 1) % 3
        # The browser is closed without a word: nothing is lost.
        page.reload()
        person.shows("001.png")
        assert len(person.on_disk(full)) == len(before) - 1
        page.locator('[data-do="accept"]').click()
        watched.until(lambda: folder.images["001.png"].reviewed, "not accepted")

        # By finger, on the width of a phone: what was deleted last is drawn again.
        phone = browser.new_context(viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True)
        watched_phone = Watched(phone.new_page(), address)
        finger = Reviewer(watched_phone, folder)
        watched_phone.open()
        finger.page.locator(".vk-review[data-shown]").wait_for()
        name = finger.page.locator(".vk-review").get_attribute("data-shown")
        assert finger.page.evaluate("document.documentElement.scrollWidth") <= 390
        before = person.on_disk(name)
        finger.touch((5, 5), (70, 50))  # scrolls, since nobody asked to draw
        finger.page.reload()  # a tap on a page that still glides would stop it alone
        finger.shows(name)
        assert len(person.on_disk(name)) == len(before)
        finger.page.locator('[data-do="draw"]').tap()
        finger.touch((10, 10), (70, 50))
        finger.saved()
        drawn = person.on_disk(name)
        assert len(drawn) == len(before) + 1
        np.testing.assert_allclose(drawn.boxes[-1], [10, 10, 70, 50], atol=2)
        finger.page.locator('[data-do="accept"]').tap()
        watched.until(lambda: folder.images[name].reviewed, "not accepted by tap")
        phone.close()
        assert watched.faults == [] and watched_phone.faults == []
    assert sum(state.reviewed for state in folder.images.values()) == 3

    # What the page states to train on the labels does so, from the model that labeled them.
    command = Review(LabelFolder(out), str(model)).overview()["command"].split()[1:]
    more = ["--trainer.max_epochs", "1", "--data.batch_size", "25", "--run", str(tmp_path / "run")]
    assert main([*command, *more]) == 0
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()
    assert CocoData(str(out)).classes == CLASSES


def test_the_command_serves_until_it_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The routes as programs may use them, and what is printed in the end."""
    from starlette.testclient import TestClient

    from visionkit.errors import Interrupted

    seen: dict[str, Any] = {}

    def run_server(app: Any, door: Any, address: str, *more: Any, **options: Any) -> None:
        client = TestClient(app, base_url=address)
        seen["page"] = client.get("/").text
        seen["image"] = client.get("/api/review/image?name=000.png")
        first = client.get("/api/review/objects?name=000.png").json()
        seen["absent"] = client.get("/api/review/objects?name=../label.jsonl").status_code
        body = json.dumps({"version": first["version"], "objects": [], "reviewed": True})
        elsewhere = {"origin": "http://outside.example", "sec-fetch-site": "cross-site"}
        ways: dict[str, Any] = {"json": "{", "list": "[1]", "old": json.dumps({"version": "x", "objects": []})}
        for name, content in ways.items():
            seen[name] = client.post("/api/review?name=000.png", content=content).status_code
        seen["outside"] = client.post("/api/review?name=000.png", content=body, headers=elsewhere).status_code
        seen["host"] = client.get("/api/review", headers={"host": "outside.example"}).status_code
        seen["saved"] = client.post("/api/review?name=000.png", content=body).json()["reviewed"]
        raise Interrupted("interrupted")

    monkeypatch.setattr("ui.server.review.run_server", run_server)
    with filled(tmp_path) as folder:
        pass
    for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED", "HF_HUB_DISABLE_TELEMETRY", "VISIONKIT_MAX_PIXELS"):
        monkeypatch.setenv(name, os.environ.get(name, ""))  # which serving sets for good
        monkeypatch.delenv(name)
    assert main(["label", "--out", str(folder.out), "--review", "--port", "0"]) == 0
    assert "http://" not in seen["page"].replace("http://127.0.0.1", "").replace("http://www.w3.org", "")
    assert seen["image"].headers["content-type"] == "image/jpeg" and seen["saved"] is True
    known = {name: seen[name] for name in ("absent", "json", "list", "old", "outside", "host")}
    assert known == {"absent": 404, "json": 400, "list": 400, "old": 409, "outside": 403, "host": 421}
    said = capsys.readouterr().out
    assert "1 of 2 images reviewed" in said and "train on them: visionkit fit --init_from model" in said

"""See why, compare, many images, video and camera, in the browser, as a visitor uses them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.ui.browser import PHONE, Watched, needs_chromium
from tests.ui.test_tasks_in_browser import BESIDE
from ui import strings
from ui.model_registry import find_example_models
from ui.pages.tools import tool_pages
from visionkit.registry import task_names
from visionkit.video import VideoWriter

pytestmark = [
    needs_chromium,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::Warning:gradio.queueing"),  # its use of pandas
]


def test_why_an_predictions_came_about_is_drawn(watched: Watched, images: list[Path]) -> None:
    page = watched.page
    watched.open("classification")
    watched.choose("Six things")
    assert not page.locator("#vk-why").is_visible()
    watched.upload(images[0])
    page.locator("#vk-facts").wait_for()
    page.locator("#vk-why > button").click()
    page.locator("#vk-why-button").click()
    page.locator("#vk-why img").wait_for()
    watched.until(lambda: watched.whole("why"), "what it rests on is not drawn")


def test_two_models_are_compared_on_one_image(watched: Watched, images: list[Path]) -> None:
    page = watched.page
    watched.open("compare")
    watched.choose("Six things", "#vk-model-1")
    watched.choose("</script>", "#vk-model-2")
    watched.upload(images[0])
    for side in ("side-1", "side-2"):
        page.locator(f"#vk-{side} img").wait_for()
        watched.until(lambda side=side: watched.whole(side), "no drawing")
    assert "%" in page.locator("#vk-words-1").inner_text() and page.locator("#vk-words-2").inner_text()
    assert page.evaluate("window.hurt") is None
    watched.choose("broken", "#vk-model-2")
    page.locator("#vk-words-2").get_by_text("cannot be read").wait_for()
    assert page.locator("#vk-side-1 img").is_visible()


def test_many_images_give_one_archive(
    watched: Watched, images: list[Path], bad: dict[str, Path], tmp_path: Path
) -> None:
    page = watched.page
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as archive:
        archive.write(images[1], "in/one.jpg")
    watched.open("batch")
    watched.choose("Six things")
    page.locator("#vk-files input[type=file]").first.set_input_files([images[0], bad["text"], tmp_path / "some.zip"])
    page.locator("#vk-files").get_by_text("some").first.wait_for()
    page.locator("#vk-batch-run").click()
    page.locator("#vk-archive").wait_for()
    assert strings.seen(3, 3, "images", 1) in page.locator("#vk-message").inner_text()
    with page.expect_download() as download:
        page.locator("#vk-archive").click()
    download.value.save_as(tmp_path / "results.zip")
    with zipfile.ZipFile(tmp_path / "results.zip") as archive:
        names = set(archive.namelist())
    assert {"predictions.jsonl", "predictions.csv", "drawn/one.jpg"} <= names


def test_a_video_is_drawn_and_plays(watched: Watched, tmp_path: Path) -> None:
    page = watched.page
    with VideoWriter(tmp_path / "clip.mp4", 10.0) as writer:
        for number in range(12):
            writer.write(np.full((96, 128, 3), 20 * number, np.uint8))
    watched.open("video")
    watched.choose("Six things")
    page.locator("#vk-video-file input[type=file]").first.set_input_files(tmp_path / "clip.mp4")
    page.locator("#vk-video-file").get_by_text("clip").first.wait_for()
    page.locator("#vk-video-run").click()
    video = page.locator("#vk-video-drawn video")
    video.wait_for()
    watched.until(lambda: video.evaluate("each => each.readyState >= 2 && each.videoWidth > 0"), "it does not play")
    with page.expect_download() as download:
        page.locator("#vk-video-records").click()
    download.value.save_as(tmp_path / "frames.jsonl")
    records = [json.loads(line) for line in (tmp_path / "frames.jsonl").read_text("utf-8").splitlines()]
    assert [record["frame"] for record in records] == [0, 2, 4, 6, 8, 10]


def test_a_camera_is_processed_as_it_runs(watched: Watched) -> None:
    page = watched.page
    watched.open("video")
    watched.choose("Six things")
    page.get_by_role("tab", name=strings.VIDEO_LIVE).click()
    page.locator("#vk-camera").get_by_text("Click to Access Webcam").click()
    page.locator("#vk-camera video").wait_for()
    page.locator("#vk-camera .button-wrap button").first.click()
    page.locator("#vk-live-words").get_by_text("%").wait_for()
    page.locator("#vk-camera .button-wrap button").first.click()
    watched.go("about:blank")  # which frees the camera


def test_every_page_is_reached_and_fits_a_phone(watched: Watched) -> None:
    """Those of tasks whose example model is gone through are made as narrow in `test_tasks_in_browser.py`."""
    page = watched.page
    page.set_viewport_size(PHONE)
    watched.open()
    links = page.locator("nav a").evaluate_all("all => all.map(each => each.getAttribute('href'))")
    paths = {link.removeprefix(watched.address).strip("/") for link in links}
    assert len(paths) == 1 + len(task_names()) + len(tool_pages())
    gone_through = {entry.task for entry in find_example_models() if not entry.fault} - BESIDE.keys()
    elsewhere = {task.replace("_", "-") for task in gone_through}
    assert elsewhere < paths
    for path in sorted(paths - elsewhere):
        watched.open(path)
        watched.settled(quiet=0.1)
        assert watched.width() <= PHONE["width"], path

"""The pages that take two images, in the browser: a drawn pair, uploads, the controls and the files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.ui.browser import Watched, needs_chromium
from tests.ui.conftest import shelved
from ui.pages.examples import example_pairs, example_views
from visionkit.image_matching.matching import match_images
from visionkit.predictor import load
from visionkit.registry import task_class

pytestmark = [
    needs_chromium,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::Warning:gradio.queueing"),
]

MODELS = {
    "optical_flow": {"architecture": "flownet_s", "flownet_s": {"width": 0.0625, "batch_norm": True}},
    "stereo": {
        "architecture": "psmnet_small",
        "psmnet_small": {"max_disparity": 16, "width": 4, "blocks": (1, 1, 1, 1), "channels": 8},
    },
    "patch_matching": {"architecture": "siamese", "siamese": {"filters": (8, 8, 8), "hidden": 8}},
}


@pytest.fixture(scope="module")
def shelf(models: Path) -> Iterator[Path]:
    torch.manual_seed(0)
    with shelved(models, **{name: task_class(name)(**arguments) for name, arguments in MODELS.items()}) as folder:
        yield folder


@pytest.fixture
def watched(watched: Watched, shelf: Path) -> Watched:
    watched.models = shelf
    return watched


def _pair(folder: Path, second: tuple[int, int] = (48, 64)) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    paths = folder / "one.png", folder / "two.png"
    for path, size in zip(paths, ((48, 64), second), strict=True):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return paths


@pytest.mark.parametrize("name", MODELS)
def test_two_images_are_asked_for_and_compared(name: str, watched: Watched, tmp_path: Path) -> None:
    page, model = watched.page, load(watched.models / name)
    first, second = model.task.inputs
    watched.open(name.replace("_", "-"))
    if f"Tiny {name}" not in page.locator("#vk-model input").input_value():
        watched.choose(f"Tiny {name}")

    # A drawn pair brings both.
    page.locator(".vk-examples img").first.click()
    watched.done()
    watched.result(256, 192)
    kind = model.task.kinds[0]
    watched.until(lambda: watched.whole(kind), "the prediction on the example is not drawn")

    # One image alone is not enough, and of the two that are given the page states what Python does.
    one, two = _pair(tmp_path)
    watched.open(name.replace("_", "-"))
    watched.choose(f"Tiny {name}")
    watched.upload(one)
    page.locator("#vk-message").get_by_text(f"also needs: {second.capitalize()}").wait_for()
    watched.upload(two, f"#vk-input-{second}")
    watched.result(64, 48)
    watched.until(lambda: watched.whole(kind), "the prediction on the uploads is not drawn")
    with page.expect_download() as download:
        page.locator("#vk-download").click()
    download.value.save_as(tmp_path / "prediction.json")
    expected = model({first: one, second: two}).summary()
    assert json.loads((tmp_path / "prediction.json").read_text("utf-8")) == json.loads(json.dumps(expected))


@pytest.mark.parametrize("name, slider", [("optical_flow", "#vk-flow-reach"), ("stereo", "#vk-disparity-baseline")])
def test_the_controls_redraw(name: str, slider: str, watched: Watched) -> None:
    page, kind = watched.page, load(watched.models / name).task.kinds[0]
    watched.open(name.replace("_", "-"))
    watched.choose(f"Tiny {name}")
    page.locator(".vk-examples img").first.click()
    watched.result(256, 192)
    watched.settled()  # two images are two changes, and the second prediction sets the controls back
    watched.until(lambda: watched.whole(kind), "the prediction on the example is not drawn")
    # Of stereo, depth and points follow the distance of the cameras; a page of flow has the wheel at its edge.
    depth = page.locator(".vk-depth").first
    shown = depth.inner_html if name == "stereo" else (lambda: watched.drawn(kind))
    before = shown()
    page.locator(f"{slider} input[type=range]").focus()
    page.keyboard.press("Home")
    watched.until(lambda: shown() != before, "the control changes nothing")


def test_the_files_hold_what_python_gives(watched: Watched, tmp_path: Path) -> None:
    one, two = _pair(tmp_path)
    for name, button in (("optical_flow", "#vk-flow-flo"), ("stereo", "#vk-disparity-pfm")):
        model = load(watched.models / name)
        watched.open(name.replace("_", "-"))
        watched.choose(f"Tiny {name}")
        watched.upload(one)
        watched.upload(two, f"#vk-input-{model.task.inputs[1]}")
        watched.result(64, 48)
        with watched.page.expect_download() as download:
            watched.page.locator(button).click()
        download.value.save_as(tmp_path / "values")
        expected = model(dict(zip(model.task.inputs, (one, two), strict=True)))
        assert (tmp_path / "values").read_bytes() == (expected.flo() if name == "optical_flow" else expected.pfm())


def test_images_of_different_sizes_are_refused_in_words(watched: Watched, tmp_path: Path) -> None:
    one, two = _pair(tmp_path, second=(40, 40))
    watched.open("stereo")
    watched.choose("Tiny stereo")
    watched.upload(one)
    watched.upload(two, "#vk-input-right")
    watched.page.locator("#vk-message").get_by_text("40x40").wait_for()
    assert "64x48" in watched.page.locator("#vk-message").inner_text()


def test_drawn_pairs_belong_to_the_names_of_inputs(tmp_path: Path) -> None:
    pairs = example_pairs(tmp_path, [], "stereo", ["left", "right"])
    assert [[Path(path).stem.split("-")[-1] for path in pair] for pair in pairs] == [["left", "right"]] * 2
    assert example_pairs(tmp_path, [], "stereo", ["left", "right"]) == pairs, "they are drawn once"
    assert example_pairs(tmp_path, [], "another", ["day", "night"]) == []


def test_two_photographs_are_matched_below_the_page(watched: Watched, tmp_path: Path) -> None:
    page = watched.page
    watched.open("patch-matching")
    section = page.locator("#vk-matches")
    section.locator("#vk-matches-run").click()
    section.locator("#vk-matches-words").get_by_text("give both photographs").wait_for()

    # An example brings a photo and its view from the side, of which SIFT finds the homography.
    section.locator("table img").first.click()
    section.locator("#vk-matches-second img").wait_for()
    section.locator("#vk-matches-run").click()
    section.get_by_text("inliers").wait_for()
    with page.expect_download() as download:
        section.locator("#vk-matches-json").click()
    download.value.save_as(tmp_path / "matches.json")
    record = json.loads((tmp_path / "matches.json").read_text("utf-8"))
    photo, view = example_views(tmp_path)[0]
    expected = match_images(photo, view).to_json()
    assert {key: record[key] for key in expected} == json.loads(json.dumps(expected))
    assert record["inliers"] > 0.8 * len(record["matches"]) > 50 and record["first"] == Path(photo).name

    by_sift = section.locator("#vk-matches-words").inner_text()

    # A model describes the points in its place, and has a ratio of its own.
    section.locator("#vk-matches-model input").click()
    page.get_by_role("option", name="Tiny patch_matching").click()
    watched.until(lambda: section.locator("input[type=number]").first.input_value() == "0.95", "the ratio stays")
    section.locator("#vk-matches-run").click()
    words = section.locator("#vk-matches-words")
    watched.until(lambda: "inliers" in words.inner_text() and words.inner_text() != by_sift, "no matches of the model")

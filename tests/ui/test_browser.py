"""The demo in a real browser: Debian's Chromium, by playwright."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.ui import browser
from tests.ui.browser import Watched, needs_chromium
from tests.ui.conftest import CLASSES, HOSTILE
from ui import strings

pytestmark = [
    needs_chromium,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::Warning:gradio.queueing"),  # its use of pandas
]


@pytest.fixture
def watched(watched: Watched) -> Watched:
    """The first page, just opened."""
    watched.open()
    return watched


def test_an_image_is_uploaded_labeled_and_its_predictions_downloaded(
    watched: Watched, models: Path, images: list[Path], bad: dict[str, Path], tmp_path: Path
) -> None:
    from visionkit.predictor import load

    page, image = watched.page, images[5]  # a photo that has to be turned upright
    watched.choose("Six things")
    watched.upload(image)
    page.locator("#vk-facts").wait_for()
    expected = load(models / "good")(image)
    labels = page.locator("#vk-classification .vk-labels").first
    assert labels.locator("h2").inner_text() == expected.best.name
    assert all(label.name in labels.inner_text() for label in expected.top(5))
    assert "96 × 60 pixels" in page.locator("#vk-facts").inner_text()
    with page.expect_download() as download:
        page.locator("#vk-download").click()
    download.value.save_as(tmp_path / "prediction.json")
    assert json.loads((tmp_path / "prediction.json").read_text("utf-8")) == expected.to_json()
    assert download.value.suggested_filename == f"{image.stem}.json"
    shown = page.locator("#vk-classification img").first
    assert shown.evaluate("image => image.complete && image.naturalWidth > 0")

    # A file that is no image takes the place of the prediction, in words.
    watched.upload(bad["text"])
    page.get_by_text("text.jpg: not an image").wait_for()
    assert not page.locator("#vk-facts").is_visible()

    # A change of the model runs a model on the images again; the examples are images as well.
    page.locator(".vk-examples button img").first.click()
    page.locator("#vk-facts").wait_for()
    page.get_by_role("button", name=strings.CARD).click()
    page.locator("#vk-card").get_by_text("for research alone").wait_for()
    assert page.locator("#vk-card").get_by_text(CLASSES[0]).count()


def test_markup_in_names_is_shown_and_never_run(watched: Watched, images: list[Path]) -> None:
    page = watched.page
    watched.upload(images[0])
    page.locator("#vk-facts").wait_for()
    watched.choose("</script>")
    page.get_by_text(HOSTILE[0]).first.wait_for()
    page.get_by_role("button", name=strings.CARD).click()
    page.locator("#vk-card").get_by_text("http://outside.example/data").wait_for()
    page.get_by_role("button", name=strings.RAW).click()
    assert page.evaluate("window.hurt") is None
    assert page.locator("img[src='x'], a[href*='outside.example'], img[src*='outside.example']").count() == 0


def test_a_broken_model_is_listed_as_such_and_an_unknown_one_reported(watched: Watched, images: list[Path]) -> None:
    page = watched.page
    watched.choose("broken")
    page.locator(".vk-note").get_by_text("cannot be used").wait_for()
    page.locator("#vk-model input").fill("timm:resnt50")
    page.locator("#vk-model input").press("Enter")
    watched.upload(images[8])
    page.locator("#vk-message").get_by_text("did you mean 'resnet50").wait_for()


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_it_fits_a_phone_and_the_dark(visitor: Watched, images: list[Path], width: int, scheme: str) -> None:
    page = visitor.page
    visitor.faults.clear()
    page.set_viewport_size({"width": width, "height": 844})
    page.emulate_media(color_scheme=scheme)
    try:
        visitor.open()
        visitor.upload(images[3])
        page.locator("#vk-facts").wait_for()
        wide = page.evaluate("document.documentElement.scrollWidth")
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    finally:
        page.emulate_media(color_scheme="light")
    assert visitor.faults == [] and wide <= width
    channels = [int(value) for value in background.removeprefix("rgb(").rstrip(")").split(",")]
    assert (max(channels) < 60) == (scheme == "dark")


def test_the_watcher_informs_a_page_that_was_left_from_a_failed_request(visitor: Watched) -> None:
    def respond(route: Any) -> None:
        asked = route.request.url.rpartition("/")[2]
        if asked.startswith("page-"):
            script = f"fetch('/{asked.removeprefix('page-')}').catch(error => console.error(`${{error}}`))"
            route.fulfill(body=f"<div class=vk-head>x</div><script>{script}</script>", content_type="text/html")
        elif asked == "reset":
            route.abort("connectionreset")
        # `never` is not predicted at all.

    context = visitor.page.context.browser.new_context()
    watched = Watched(context.new_page(), "http://demo.example")
    watched.page.route("**/*", respond)
    for _ in range(2):
        with watched.page.expect_request("**/never"):
            watched.open("page-never")
    watched.open("page-page-")
    watched.settled()
    assert watched.faults == []
    watched.open("page-reset")
    watched.settled()
    assert "net::ERR_CONNECTION_RESET: http://demo.example/reset" in watched.faults
    watched.faults.clear()
    watched.page.evaluate("console.error('AbortError: the page stays')")
    watched.until(lambda: watched.faults, "an abort on a page that stays is not seen")
    context.close()


def test_a_long_class_name_keeps_its_percentage(watched: Watched, images: list[Path]) -> None:
    page = watched.page
    page.set_viewport_size({"width": 360, "height": 800})
    watched.choose("Six things")
    watched.upload(images[5])
    page.locator("#vk-facts").wait_for()
    labels = page.locator("#vk-classification .vk-labels").first
    for name in ("n02086240_" * 12, "a name of many words that goes on " * 4):
        labels.locator(".text, h2").evaluate_all(f"all => all.forEach(each => each.textContent = {json.dumps(name)})")
        box = labels.bounding_box()
        for each in labels.locator(".confidence").all():
            place = each.bounding_box()
            assert "%" in each.inner_text() and place["width"] > 10
            assert box["x"] <= place["x"] and place["x"] + place["width"] <= box["x"] + box["width"] <= 360
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_without_a_browser_continuous_integration_fails(tmp_path: Path) -> None:
    missing = tmp_path / "chromium"
    assert browser.skipped({}, missing) and browser.skipped({"CI": ""}, missing)
    assert not browser.skipped({"CI": "true"}, missing)
    missing.touch()
    assert not browser.skipped({}, missing) and not browser.skipped({"CI": "1"}, missing)

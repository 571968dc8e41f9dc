"""The pages of data and of what is inside a model, in a real browser: browse, check, errors, inspect."""

from __future__ import annotations

import io
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.ui.browser import Watched, needs_chromium
from tests.ui.conftest import HOSTILE_CLASS, Demo
from ui import data_strings
from ui.reports import POLICY, Reports
from visionkit.browsing.browser import DataBrowser

pytestmark = [
    needs_chromium,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::Warning:gradio.queueing"),  # its use of pandas
]


def shown(watched: Watched) -> Image.Image:
    """A screenshot of the whole page, on which something is to be seen, at the width of the window."""
    watched.settled()
    page = watched.page
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    image = Image.open(io.BytesIO(page.screenshot(full_page=True)))
    assert len(np.unique(np.asarray(image.convert("L").resize((200, 200))))) > 30
    return image


def samples(watched: Watched) -> Any:
    return watched.page.locator("#vk-data-gallery img")


def seen(watched: Watched, count: int) -> None:
    """Waits for that number of samples, whose images come after the words."""
    watched.until(
        lambda: samples(watched).count() == count and watched.whole("data-gallery"),
        lambda: f"{samples(watched).count()} samples in place of {count}, or images that have not come",
    )


def counted(watched: Watched, words: str) -> None:
    watched.page.locator("#vk-data-where").get_by_text(words).wait_for()


def test_samples_are_browsed_chosen_and_shown_large(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    page, epochs, augmented = watched.page, [], DataBrowser.augmented

    def recorded(browser: DataBrowser, item: Any, epoch: int = 0) -> np.ndarray:
        epochs.append(epoch)
        return augmented(browser, item, epoch)

    monkeypatch.setattr(DataBrowser, "augmented", recorded)  # the demo runs in this process
    watched.open("data")
    counted(watched, "1 to 18 of 21")
    seen(watched, 18)
    page.locator("#vk-data-next").click()
    counted(watched, "19 to 21 of 21")
    watched.choose("dog", "#vk-data-class")
    counted(watched, "1 to 9 of 9")
    seen(watched, 9)
    page.locator("#vk-data-gallery button").first.click()
    page.locator("#vk-data-augmented img").wait_for()
    watched.until(lambda: watched.whole("data-labeled"), "the labels are not drawn")
    assert "dog" in page.locator("#vk-data-words").inner_text()
    before = page.locator("#vk-data-augmented img").get_attribute("src")
    page.locator("#vk-data-again").click()
    watched.until(
        lambda: page.locator("#vk-data-augmented img").get_attribute("src") != before, "it is not augmented again"
    )
    assert epochs[-1] == 1, "the epoch after the one that was shown"
    watched.choose("Six things", "#vk-data-model")
    page.locator("#vk-data-predicted img").wait_for()
    shown(watched)
    watched.choose("onerror", "#vk-data-class")
    counted(watched, "1 to 2 of 2")
    page.locator("#vk-data-gallery button").first.click()
    page.locator("#vk-data-words").get_by_text(HOSTILE_CLASS).wait_for()
    assert page.evaluate("window.hurt") is None


def test_drawn_scenes_are_filtered_by_size_and_seen_augmented(watched: Watched) -> None:
    page = watched.page
    watched.open("data")
    counted(watched, "of 21")
    watched.choose("Drawn scenes: boxes", "#vk-data")
    counted(watched, "1 to 18 of 100")
    plain = samples(watched).first.get_attribute("src")
    watched.choose("Augmented", "#vk-data-view")
    watched.until(lambda: samples(watched).first.get_attribute("src") != plain, "they are not augmented")
    watched.choose("small", "#vk-data-size")
    counted(watched, "1 to 18, and more")
    watched.choose("val", "#vk-data-split")
    watched.until(lambda: "1 to 18," not in page.locator("#vk-data-where").inner_text(), "the split is not chosen")
    shown(watched)


def test_predictions_of_a_measured_model_come_the_worst_first(watched: Watched) -> None:
    page = watched.page
    watched.open("data")
    counted(watched, "of 21")
    watched.choose("Measured", "#vk-data")
    counted(watched, "1 to 18, and more")
    assert page.locator("#vk-data-view input").input_value() == data_strings.DATA_VIEWS["prediction"]
    first = samples(watched).first
    watched.until(lambda: first.evaluate("each => each.complete"), "no image")
    assert first.evaluate("each => each.naturalWidth > 2 * each.naturalHeight")  # the prediction beside the labels
    page.locator("#vk-data-gallery button").first.click()
    page.locator("#vk-data-words").get_by_text("badness 20").wait_for()
    page.locator("#vk-data-predicted img").wait_for()
    assert not page.locator("#vk-data-model").is_visible()


def test_data_is_checked_and_samples_with_a_finding_are_chosen(watched: Watched) -> None:
    page = watched.page
    watched.open("doctor")
    page.locator("#vk-message").get_by_text("The report appears here").wait_for()
    page.locator("#vk-doctor-run").click()
    report = page.frame_locator("#vk-doctor-report iframe")
    report.get_by_text("unreadable-image: 1 image in train").wait_for()
    assert "1 error" in page.locator("#vk-message").inner_text()
    assert "photos/" not in report.locator("body").inner_text()
    shown(watched)
    watched.open("data")
    page.locator("#vk-data-finding input").wait_for()
    watched.choose("unreadable-image", "#vk-data-finding")
    counted(watched, "1 to 1 of 1")
    page.locator("#vk-data-gallery button").first.click()
    page.locator("#vk-data-words").get_by_text("damaged.png").first.wait_for()
    words = page.locator("#vk-data-words").inner_text()
    assert "unreadable-image" in words and "photos/" not in words


def test_the_report_of_a_finished_analysis_is_shown(watched: Watched) -> None:
    page = watched.page
    watched.open("analyze")
    page.frame_locator("#vk-analysis-report iframe").get_by_text("Error breakdown").wait_for()
    assert page.locator("#vk-analysis input").input_value() == "run (classification, val, 12 images)"
    shown(watched)


def test_a_model_is_inspected(watched: Watched, images: list[Path]) -> None:
    page = watched.page
    watched.open("inspect")
    watched.choose("Six things")
    page.locator("#vk-inspect-message").get_by_text("3 × 64 × 64").wait_for()
    page.locator("#vk-layers").get_by_text("backbone.model.conv1").first.wait_for(state="attached")
    page.get_by_role("tab", name=data_strings.INSPECT_MAPS).click()
    page.locator("#vk-maps-draw").click()
    page.locator("#vk-maps-words").get_by_text("give an image first").wait_for()
    watched.upload(images[0])
    page.locator("#vk-input img").wait_for()
    for tab, part in (
        (data_strings.INSPECT_FIELD, "field"),
        (data_strings.INSPECT_MAPS, "maps"),
        (data_strings.INSPECT_EVIDENCE, "evidence"),
    ):
        page.get_by_role("tab", name=tab).click()
        page.locator(f"#vk-{part}-draw").click()
        page.locator(f"#vk-{part} img").wait_for()
        watched.until(lambda part=part: watched.whole(part), "no drawing")
        shown(watched)
    assert page.locator("#vk-evidence-words").inner_text()


def test_a_report_runs_nothing_and_is_framed_by_this_server_alone(demo: Demo) -> None:
    token = Reports(demo.scratch).keep("<script>1</script>").split("report/")[1].split('"')[0]
    with urllib.request.urlopen(f"{demo.address}/report/{token}") as response:
        assert response.headers.get_all("content-security-policy") == [POLICY] and "sandbox;" in POLICY
        assert response.headers.get_all("x-frame-options") == ["SAMEORIGIN"]
        assert response.read() == b"<script>1</script>"
    for wrong in ("0" * 32, "..%2f..%2fcache", "x"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{demo.address}/report/{wrong}")
    with urllib.request.urlopen(demo.address) as response:
        assert "frame-ancestors 'none'" in response.headers["content-security-policy"]

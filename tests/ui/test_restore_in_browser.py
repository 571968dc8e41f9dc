"""The page of restoration in the browser: before and after, the brush, and the noise level."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client, handle_file
from PIL import Image

from tests.ui.browser import Watched, needs_chromium
from tests.ui.conftest import shelved
from tests.ui.restorers import denoiser, painter
from visionkit.predictions import ImagePrediction
from visionkit.predictor import load

pytestmark = [
    needs_chromium,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::Warning:gradio.queueing"),
]


@pytest.fixture(scope="module")
def shelf(models: Path) -> Iterator[Path]:
    with shelved(models, painter=painter(), denoiser=denoiser()) as folder:
        yield folder


@pytest.fixture
def watched(watched: Watched, shelf: Path) -> Watched:
    watched.models = shelf
    return watched


def photo_in(folder: Path, size: tuple[int, int] = (48, 64)) -> Path:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / "photo.png")
    return folder / "photo.png"


def restored(watched: Watched, folder: Path) -> np.ndarray:
    with watched.page.expect_download() as download:
        watched.page.locator("#vk-image-file").click()
    assert download.value.suggested_filename == "restored.png"
    download.value.save_as(folder / "restored.png")
    with Image.open(folder / "restored.png") as image:
        return np.asarray(image)


def test_what_is_painted_is_filled_in(watched: Watched, tmp_path: Path) -> None:
    page, photo = watched.page, photo_in(tmp_path)
    watched.open("restoration")
    watched.choose("Tiny painter")
    watched.upload(photo)
    page.locator("#vk-message").get_by_text("also needs: Mask").wait_for()
    page.locator(".vk-brush[data-ready]").wait_for()
    canvas = page.locator(".vk-brush canvas")

    def drag(left: float, right: float, y: float) -> None:
        canvas.scroll_into_view_if_needed()
        place = canvas.bounding_box()
        page.mouse.move(place["x"] + place["width"] * left, place["y"] + place["height"] * y)
        page.mouse.down()
        page.mouse.move(place["x"] + place["width"] * right, place["y"] + place["height"] * y, steps=6)
        page.mouse.up()

    page.locator(".vk-brush input[type=range]").fill("49")  # 5.8 pixels around the way
    drag(0.25, 0.75, 0.5)
    watched.result(64, 48)
    watched.until(lambda: watched.whole("image"), "before and after are not shown")
    assert "left as given" in page.locator("#vk-image-facts").inner_text()
    with Image.open(photo) as image:
        given = np.asarray(image)
    first = (restored(watched, tmp_path) != given).any(axis=2)
    mask = np.zeros((48, 64), bool)
    mask[19:29, 16:48] = True  # all of it lies under the brush
    assert first[mask].mean() > 0.9 and not first[:16].any() and not first[32:].any() and not first[:, 56:].any()

    # What is erased stays as it was; undone, it is filled in again, and a file does what the brush does.
    page.locator('.vk-brush [data-do="erase"]').click()
    before = watched.drawn("image")
    drag(0.5, 0.9, 0.5)
    watched.until(lambda: watched.drawn("image") != before and watched.whole("image"), "the eraser changes nothing")
    second = (restored(watched, tmp_path) != given).any(axis=2)
    assert not second[20:28, 34:].any() and second[20:28, 16:26].mean() > 0.9
    page.locator('.vk-brush [data-do="clear"]').click()
    page.locator("#vk-message").get_by_text("also needs: Mask").wait_for()
    Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / "mask.png")
    watched.upload(tmp_path / "mask.png", "#vk-input-mask")
    watched.result(64, 48)
    expected = load(watched.models / "painter")({"image": photo, "mask": tmp_path / "mask.png"}).pixels
    assert np.array_equal(restored(watched, tmp_path), expected)
    Image.fromarray(mask[:40, :40].astype(np.uint8) * 255).save(tmp_path / "small.png")
    page.locator(
        "#vk-input-mask button[aria-label='Clear'], #vk-input-mask button[aria-label='Remove Image']"
    ).first.click()
    watched.upload(tmp_path / "small.png", "#vk-input-mask")
    page.locator("#vk-message").get_by_text("40x40 pixels").wait_for()
    assert "64x48" in page.locator("#vk-message").inner_text()


def test_the_noise_level_changes_the_result(watched: Watched, tmp_path: Path) -> None:
    page, photo = watched.page, photo_in(tmp_path)
    watched.open("restoration")
    watched.choose("Tiny denoiser")
    slider = page.locator("#vk-number-noise_level")
    slider.get_by_text("trained on 5 to 50").wait_for()
    assert not page.locator("#vk-input-mask").is_visible()
    watched.upload(photo)
    watched.result(64, 48)
    model = load(watched.models / "denoiser")
    client = Client(watched.address, verbose=False, analytics_enabled=False)
    name = f"{watched.models.name}/denoiser"
    sent = client.predict(handle_file(str(photo)), name, {"noise_level": 40}, api_name="/predict_with_options")
    assert ImagePrediction.from_json(sent) == model(photo, noise_level=40)
    assert np.array_equal(restored(watched, tmp_path), model(photo, noise_level=25).pixels)
    assert not page.locator("#vk-message").is_visible()
    before = watched.drawn("image")
    slider.locator("input[type=range]").focus()
    page.keyboard.press("End")
    page.locator("#vk-message").get_by_text("noise_level 75: the network was trained on 5 to 50").wait_for()
    watched.until(lambda: watched.drawn("image") != before and watched.whole("image"), "the level changes nothing")
    assert np.array_equal(restored(watched, tmp_path), model(photo, noise_level=75).pixels)

"""Depth in the demo: what the view gives, and in a real browser the value under the pointer and the turning points."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.ui.browser import Watched, needs_chromium
from tests.ui.conftest import shelved
from ui.downloads import Downloads
from ui.views import views
from ui.views.depth_map import POINTS_SIDE, markup, reduced
from visionkit.predictions import DepthMap

VIEW = views()[DepthMap.kind]


def depth(size: tuple[int, int] = (60, 80)) -> np.ndarray:
    values = np.linspace(4, 1, size[0], dtype=np.float32)[:, None].repeat(size[1], axis=1)
    values[:6, :8] = 0
    return values


def attribute(text: str, name: str) -> str:
    found = re.search(rf'data-{name}="([^"]*)"', text)
    assert found, name
    return found.group(1)


def pixels(url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition("base64,")[2]))))


def test_the_page_gets_the_values_themselves():
    size = (700, 900)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    text = markup(DepthMap(depth(size)), image, 60.0)
    codes = pixels(attribute(text, "codes")).astype(np.int64)
    values = (codes[..., 0] * 256 + codes[..., 1]) * float(attribute(text, "step"))
    assert max(values.shape) <= POINTS_SIDE
    np.testing.assert_allclose(values, reduced(depth(size), POINTS_SIDE), atol=1e-3)
    assert ((values == 0) == (reduced(depth(size), POINTS_SIDE) == 0)).all(), "nothing is mixed with the unknown"
    np.testing.assert_array_equal(pixels(attribute(text, "colors")), reduced(image, POINTS_SIDE))
    assert "data-fov" not in markup(DepthMap(depth(), metric=False), image[:60, :80], None)


@pytest.mark.parametrize("prediction", [DepthMap(depth()), DepthMap(depth(), metric=False), DepthMap(depth() * 0)])
def test_every_component_gets_a_value_and_files_can_be_opened(prediction: DepthMap, tmp_path: Path):
    import gradio as gr

    downloads = Downloads(tmp_path)
    with gr.Blocks():
        components = VIEW.build(downloads)
    image = np.zeros((60, 80, 3), np.uint8)
    values = VIEW.show(prediction, image, downloads)
    assert len(values) == len(components)
    png, npy, ply = (value.get("value") for value in values[3:6])
    assert np.asarray(Image.open(png)).dtype == np.uint16
    np.testing.assert_array_equal(np.load(npy), prediction.values)
    assert (ply is not None) == prediction.metric
    if prediction.metric:
        assert f"element vertex {int(prediction.known.sum())}\n".encode() in Path(ply).read_bytes()[:300]


# ---------------------------------------------------------------------- in a browser


@needs_chromium
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore::Warning:gradio.queueing")
def test_pointing_shows_the_depth_and_dragging_turns_the_points(watched: Watched, models: Path, tmp_path: Path):
    from tasks.depth import DepthTask
    from visionkit.geometry import InputSpec
    from visionkit.predictor import load

    torch.manual_seed(0)
    task = DepthTask("test_resnet", architecture="fpn", input=InputSpec(size=(64, 64), resize_mode="stretch"))
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((160, 120))
    photo.save(tmp_path / "photo.png")
    page = watched.page
    page.set_viewport_size({"width": 1280, "height": 1600})
    with shelved(models, deep=task) as folder:
        watched.open()
        watched.choose("Tiny deep")
        watched.upload(tmp_path / "photo.png")
        page.locator(".vk-depth-box[data-ready]").wait_for(timeout=150_000)  # the model is loaded first
        image, message = page.locator(".vk-depth-box img"), page.locator(".vk-depth-box output")
        frame = image.bounding_box()
        image.hover(position={"x": frame["width"] * 0.3, "y": frame["height"] * 0.7})
        message.get_by_text("m under the pointer").wait_for()
        number = float(message.inner_text().split()[0])
        prediction = load(folder / "deep")(tmp_path / "photo.png")
        around = prediction.values[82:87, 46:51]
        assert around.min() - 0.01 <= number <= around.max() + 0.01

        canvas = page.locator(".vk-depth-box canvas")
        images: list[str] = []

        def turned() -> bool:
            now = canvas.evaluate("c => c.toDataURL()")
            if now in images:
                return False
            images.append(now)
            return True

        assert turned()
        canvas.scroll_into_view_if_needed()
        frame = canvas.bounding_box()
        middle = frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 2
        page.mouse.move(*middle)
        page.mouse.down()
        page.mouse.move(middle[0] + 120, middle[1] + 30, steps=4)
        page.mouse.up()
        watched.until(turned, "dragging turns nothing")
        watched.until(lambda: not turned(), "the points turn on by themselves")
        canvas.focus()
        page.keyboard.press("ArrowLeft")
        watched.until(turned, "a key turns nothing")
        painted = np.asarray(Image.open(io.BytesIO(base64.b64decode(images[0].partition(",")[2]))))[..., 3] > 0
        assert painted.mean() > 0.2, "points are seen"
        with page.expect_download() as download:
            page.locator("#vk-depth-ply").click()
        assert download.value.suggested_filename.endswith(".ply")

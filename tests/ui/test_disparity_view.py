"""Disparity in the demo: what the view gives, and the depth that follows from its two controls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ui.downloads import Downloads
from ui.views import views
from ui.views.disparity_map import depth_of
from visionkit.camera import CameraIntrinsics
from visionkit.predictions import DisparityMap

VIEW = views()[DisparityMap.kind]


def disparity(size: tuple[int, int] = (60, 80)) -> np.ndarray:
    values = np.linspace(2, 20, size[0], dtype=np.float32)[:, None].repeat(size[1], axis=1)
    values[:6, :8] = 0
    return values


def test_depth_follows_from_the_width_of_the_file_whatever_is_kept_of_it() -> None:
    focal = CameraIntrinsics.of_view((60, 80), 60.0).fx
    whole = depth_of(disparity(), (60, 80), 60.0, 0.1).values
    assert whole[30, 30] == pytest.approx(focal * 0.1 / disparity()[30, 30], rel=1e-5)
    assert np.array_equal(depth_of(disparity()[::2, ::2], (60, 80), 60.0, 0.1).values, whole[::2, ::2])


@pytest.mark.parametrize("values", [disparity(), disparity() * 0])
def test_every_component_gets_a_value_and_files_can_be_opened(values: np.ndarray, tmp_path: Path) -> None:
    import gradio as gr

    downloads = Downloads(tmp_path)
    with gr.Blocks():
        components = VIEW.build(downloads)
    prediction, image = DisparityMap(values), np.zeros((60, 80, 3), np.uint8)
    shown = VIEW.show(prediction, image, downloads)
    assert len(shown) == len(components)
    drawn, words, _, _, box, png, pfm, ply, kept = shown
    assert drawn.shape[2] == 3 and words == f"{prediction.text()}."
    assert Path(png).read_bytes() == prediction.png() and Path(pfm).read_bytes() == prediction.pfm()
    assert 'class="vk-depth-box"' in box and kept[2] == (60, 80)
    points = int((values > 0).sum())
    assert f"element vertex {points}\n".encode() in Path(ply).read_bytes()[:400]

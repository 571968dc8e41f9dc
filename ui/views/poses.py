"""Skeletons on the image, a slider of confidence that redraws them without the network, and a table of keypoints."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gradio as gr
import numpy as np

from ui.downloads import Downloads
from ui.drawings import as_sent, drawing
from ui.strings import plain
from ui.views.base import PredictionView, drawing_component
from visionkit.predictions import Poses, Prediction
from visionkit.wording import counted

COLUMNS = ["person", "keypoint", "x", "y", "score"]
ROWS = 400
"""Keypoints that are listed, at most."""


def _build(downloads: Downloads) -> list[Any]:
    kept = gr.State(None)
    shown = drawing_component("jpeg")
    slider = gr.Slider(
        0, 1, 0.3, step=0.01, label="Show people and keypoints from this score on", elem_id="vk-poses-score"
    )
    words = gr.Markdown(elem_classes="vk-facts", elem_id="vk-poses-facts")
    with gr.Accordion("Keypoints", open=False):
        table = gr.Dataframe(
            headers=COLUMNS, interactive=False, show_label=False, max_height=360, elem_id="vk-keypoints"
        )
    slider.input(
        _redraw,
        [kept, slider],
        [shown, words, table],
        show_progress="hidden",
        trigger_mode="always_last",
        api_visibility="private",
    )
    return [kept, shown, slider, words, table]


def _show(prediction: Poses, image: np.ndarray, downloads: Downloads) -> list[Any]:
    kept = (prediction.to_json(), as_sent(image), image.shape[:2])
    drawn, words, table = _redraw(kept, prediction.keypoint_threshold)
    return [kept, drawn, prediction.keypoint_threshold, words, table]


def _redraw(kept: tuple[dict[str, Any], np.ndarray, tuple[int, int]] | None, score: float) -> tuple[Any, str, Any]:
    """The drawing, the sentence and the table for another score; the network does not run."""
    if kept is None:
        return None, "", []
    record, image, size = kept
    prediction = Prediction.from_json(record)
    assert isinstance(prediction, Poses)
    prediction = replace(prediction, threshold=float(score), keypoint_threshold=float(score))
    factor = image.shape[1] / size[1]
    scaled = replace(prediction, keypoints=prediction.keypoints * factor, boxes=prediction.boxes * factor)
    shown = prediction.above()
    subject = plain(prediction.skeleton.subject)
    count = counted(len(shown), subject)
    return drawing(scaled, image), f"{count}, {int(shown.visible.sum())} keypoints", _rows(shown)


def _rows(poses: Poses) -> list[list[Any]]:
    rows = [
        [
            person + 1,
            poses.skeleton.keypoints[joint],
            *np.round(poses.keypoints[person, joint], 1).tolist(),
            round(score, 2),
        ]
        for person in range(len(poses))
        for joint, score in enumerate(poses.keypoint_scores[person].tolist())
        if poses.visible[person, joint]
    ]
    return rows[:ROWS]


VIEW = PredictionView(_build, _show)

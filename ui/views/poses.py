"""Skeletons on the picture, a slider of confidence that redraws them without the network, and a table of joints."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gradio as gr
import numpy as np

from ui.downloads import Downloads
from ui.texts import plain
from ui.views.base import View, as_sent, drawing, drawing_component
from visionkit.predictions import Poses, Prediction
from visionkit.wording import counted

COLUMNS = ["person", "joint", "x", "y", "score"]
ROWS = 400
"""Joints that are listed, at most."""


def _build(downloads: Downloads) -> list[Any]:
    kept = gr.State(None)
    shown = drawing_component("jpeg")
    slider = gr.Slider(
        0, 1, 0.3, step=0.01, label="Show persons and joints from this score on", elem_id="vk-poses-score"
    )
    words = gr.Markdown(elem_classes="vk-facts", elem_id="vk-poses-facts")
    with gr.Accordion("Joints", open=False):
        table = gr.Dataframe(headers=COLUMNS, interactive=False, show_label=False, max_height=360, elem_id="vk-joints")
    slider.input(
        _redraw,
        [kept, slider],
        [shown, words, table],
        show_progress="hidden",
        trigger_mode="always_last",
        api_visibility="private",
    )
    return [kept, shown, slider, words, table]


def _show(answer: Poses, picture: np.ndarray, downloads: Downloads) -> list[Any]:
    kept = (answer.to_json(), as_sent(picture), picture.shape[:2])
    drawn, words, table = _redraw(kept, answer.joint_threshold)
    return [kept, drawn, answer.joint_threshold, words, table]


def _redraw(kept: tuple[dict[str, Any], np.ndarray, tuple[int, int]] | None, score: float) -> tuple[Any, str, Any]:
    """The drawing, the sentence and the table for another score; the network is not asked."""
    if kept is None:
        return None, "", []
    record, picture, size = kept
    answer = Prediction.from_json(record)
    assert isinstance(answer, Poses)
    answer = replace(answer, threshold=float(score), joint_threshold=float(score))
    factor = picture.shape[1] / size[1]
    scaled = replace(answer, joints=answer.joints * factor, boxes=answer.boxes * factor)
    shown = answer.above()
    subject = plain(answer.skeleton.subject)
    count = counted(len(shown), subject)
    return drawing(scaled, picture), f"{count}, {int(shown.visible.sum())} joints", _rows(shown)


def _rows(poses: Poses) -> list[list[Any]]:
    rows = [
        [
            person + 1,
            poses.skeleton.keypoints[joint],
            *np.round(poses.joints[person, joint], 1).tolist(),
            round(score, 2),
        ]
        for person in range(len(poses))
        for joint, score in enumerate(poses.joint_scores[person].tolist())
        if poses.visible[person, joint]
    ]
    return rows[:ROWS]


VIEW = View(_build, _show)

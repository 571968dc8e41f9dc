"""Boxes and masks over the image: classes to switch, a score slider that does not run the network, a table."""

from __future__ import annotations

import csv
import io
from collections import Counter
from typing import Any, NamedTuple

import gradio as gr
import numpy as np

from ui import strings
from ui.downloads import Downloads
from ui.drawings import as_sent, drawing
from ui.strings import plain
from ui.views.base import CallOption, PredictionView, drawing_component
from visionkit.masks import mask_areas
from visionkit.predictions import Detections, Instances

ROWS = 400
"""Objects that are listed, at most; the file holds all."""

OVERLAP = CallOption("nms_threshold", strings.OVERLAP, strings.OVERLAP_NOTE, (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0))
"""Non-maximum suppression; it comes before what the page keeps, so the network runs again."""

COLUMNS = ("class", "score", "x1", "y1", "x2", "y2")


class _Kept(NamedTuple):
    """What redrawing needs.

    Attributes:
        prediction: Everything that was found, in file pixels.
        small: The image at the size in which drawings are sent.
    """

    prediction: Detections
    small: np.ndarray


def view_of(name: str) -> PredictionView:
    """A view; boxes and instances have one each, so that the page finds them by kind.

    Args:
        name: Distinguishes the components of the two.
    """

    def build(downloads: Downloads) -> list[Any]:
        kept = gr.State(None)
        shown = drawing_component("jpeg")
        slider = gr.Slider(0, 1, 0.5, step=0.01, label="Show objects from this score on", elem_id=f"vk-{name}-score")
        classes = gr.CheckboxGroup([], label="Classes", elem_id=f"vk-{name}-classes")
        words = gr.Markdown(elem_classes="vk-facts", elem_id=f"vk-{name}-facts")
        with gr.Accordion("Objects", open=False):
            headers = [*COLUMNS, *(["pixels"] if name == Instances.kind else [])]
            table = gr.Dataframe(
                headers=headers, interactive=False, show_label=False, max_height=360, elem_id=f"vk-{name}-table"
            )
            file = gr.DownloadButton("Download the table (csv)", size="sm", elem_id=f"vk-{name}-file")
        quiet: dict[str, Any] = {
            "show_progress": "hidden",
            "trigger_mode": "always_last",
            "api_visibility": "private",
        }
        controls = [kept, slider, classes]
        slider.input(_redraw, controls, [shown, words, table], **quiet)
        classes.input(_redraw, controls, [shown, words, table], **quiet)
        gr.on([slider.input, classes.input], lambda *given: _file(downloads, *given), controls, file, **quiet)
        return [kept, shown, slider, classes, words, table, file]

    return PredictionView(build, _show, classes=_named, option=OVERLAP)


def _show(prediction: Detections, image: np.ndarray, downloads: Downloads) -> list[Any]:
    kept = _Kept(prediction, as_sent(image))
    counts = Counter(prediction.names)
    found = sorted(counts, key=lambda name: (-counts[name], prediction.classes.index(name)))
    drawn, words, table = _redraw(kept, prediction.threshold, found)
    switches = gr.update(choices=found, value=found, visible=len(found) > 1)
    return [
        kept,
        drawn,
        prediction.threshold,
        switches,
        words,
        table,
        _file(downloads, kept, prediction.threshold, found),
    ]


def _named(prediction: Detections) -> list[str]:
    return list(dict.fromkeys(prediction.above().names))


def _chosen(kept: _Kept, score: float, classes: list[str]) -> Detections:
    prediction = kept.prediction
    wanted = np.isin(prediction.labels, [k for k, name in enumerate(prediction.classes) if name in set(classes)])
    return prediction.chosen((prediction.scores >= np.float32(score)) & wanted)


def _redraw(kept: _Kept | None, score: float, classes: list[str]) -> tuple[Any, str, Any]:
    """The drawing, the sentence and the table for other controls; the network does not run."""
    if kept is None:
        return None, "", []
    chosen = _chosen(kept, score, classes)
    height, width = kept.small.shape[:2]
    there = chosen if chosen.size == (height, width) else chosen.resized((height, width))
    # What is chosen is drawn, whatever the score from which the prediction itself would be.
    lowered = there.with_threshold(float(score))
    counts = Counter(chosen.names).most_common(8)
    message = ", ".join(f"{number} {plain(name)}" for name, number in counts)
    words = f"{len(chosen)} of {len(kept.prediction)} objects{': ' if message else ''}{message}"
    return drawing(lowered, kept.small), words, rows_of(chosen)[:ROWS]


def rows_of(prediction: Detections) -> list[list[Any]]:
    """One row per object: class, score, box in file pixels, and the pixels of its mask where there is one."""
    areas = mask_areas(prediction.masks).tolist() if isinstance(prediction, Instances) else None
    rows: list[list[Any]] = []
    for number, name in enumerate(prediction.names):
        box = [round(float(value), 1) for value in prediction.boxes[number]]
        pixels = [] if areas is None else [areas[number]]
        rows.append([name, round(float(prediction.scores[number]), 3), *box, *pixels])
    return rows


def _file(downloads: Downloads, kept: _Kept | None, score: float, classes: list[str]) -> Any:
    if kept is None:
        return None
    chosen = _chosen(kept, score, classes)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*COLUMNS, *(["pixels"] if isinstance(chosen, Instances) else [])])
    writer.writerows(rows_of(chosen))
    return downloads.save("objects", ".csv", text.getvalue())


BOXES, INSTANCES = view_of(Detections.kind), view_of(Instances.kind)

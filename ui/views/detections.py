"""Boxes and masks over the picture: classes to switch, a score slider that does not ask the network, a table."""

from __future__ import annotations

import csv
import io
from collections import Counter
from typing import Any, NamedTuple

import gradio as gr
import numpy as np

from ui import texts
from ui.downloads import Downloads
from ui.texts import plain
from ui.views.base import CallOption, View, as_sent, drawing, drawing_component
from visionkit.masks import mask_areas
from visionkit.predictions import Detections, Instances

ROWS = 400
"""Objects that are listed, at most; the file holds all."""

OVERLAP = CallOption("nms_threshold", texts.OVERLAP, texts.OVERLAP_TOLD, (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0))
"""Non-maximum suppression; it comes before what the page keeps, so the network is asked again."""

COLUMNS = ("class", "score", "x1", "y1", "x2", "y2")


class _Kept(NamedTuple):
    """What redrawing needs.

    Attributes:
        answer: Everything that was found, in file pixels.
        small: The picture at the size in which drawings are sent.
    """

    answer: Detections
    small: np.ndarray


def view_of(name: str) -> View:
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
        knobs = [kept, slider, classes]
        slider.input(_redraw, knobs, [shown, words, table], **quiet)
        classes.input(_redraw, knobs, [shown, words, table], **quiet)
        gr.on([slider.input, classes.input], lambda *given: _file(downloads, *given), knobs, file, **quiet)
        return [kept, shown, slider, classes, words, table, file]

    return View(build, _show, classes=_named, option=OVERLAP)


def _show(answer: Detections, picture: np.ndarray, downloads: Downloads) -> list[Any]:
    kept = _Kept(answer, as_sent(picture))
    counts = Counter(answer.names)
    found = sorted(counts, key=lambda name: (-counts[name], answer.classes.index(name)))
    drawn, words, table = _redraw(kept, answer.threshold, found)
    switches = gr.update(choices=found, value=found, visible=len(found) > 1)
    return [kept, drawn, answer.threshold, switches, words, table, _file(downloads, kept, answer.threshold, found)]


def _named(answer: Detections) -> list[str]:
    return list(dict.fromkeys(answer.above().names))


def _chosen(kept: _Kept, score: float, classes: list[str]) -> Detections:
    answer = kept.answer
    wanted = np.isin(answer.labels, [k for k, name in enumerate(answer.classes) if name in set(classes)])
    return answer.chosen((answer.scores >= np.float32(score)) & wanted)


def _redraw(kept: _Kept | None, score: float, classes: list[str]) -> tuple[Any, str, Any]:
    """The drawing, the sentence and the table for other knobs; the network is not asked."""
    if kept is None:
        return None, "", []
    chosen = _chosen(kept, score, classes)
    height, width = kept.small.shape[:2]
    there = chosen if chosen.size == (height, width) else chosen.resized((height, width))
    # What is chosen is drawn, whatever the score from which the answer itself would be.
    lowered = there.with_threshold(float(score))
    counts = Counter(chosen.names).most_common(8)
    told = ", ".join(f"{number} {plain(name)}" for name, number in counts)
    words = f"{len(chosen)} of {len(kept.answer)} objects{': ' if told else ''}{told}"
    return drawing(lowered, kept.small), words, rows_of(chosen)[:ROWS]


def rows_of(answer: Detections) -> list[list[Any]]:
    """One row an object: class, score, box in file pixels, and the pixels of its mask where there is one."""
    areas = mask_areas(answer.masks).tolist() if isinstance(answer, Instances) else None
    rows: list[list[Any]] = []
    for number, name in enumerate(answer.names):
        box = [round(float(value), 1) for value in answer.boxes[number]]
        pixels = [] if areas is None else [areas[number]]
        rows.append([name, round(float(answer.scores[number]), 3), *box, *pixels])
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

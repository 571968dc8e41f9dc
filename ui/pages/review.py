"""The page on which labels are reviewed: image by image, by mouse, touch or keyboard."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from ui import strings
from ui.server.gradio_hardening import Page

SCRIPT = Path(__file__).with_name("review.html")
"""Runs in the page and asks the routes of `ui.server.review`."""

KEYS = (
    ("Enter", "accept the image and go on"),
    ("← →", "previous and next image"),
    ("J K", "next and previous object"),
    ("1 to 9", "class of the object, or of the next one"),
    ("Delete", "delete the object"),
    ("D", "draw by touch, on and off; a mouse draws at any time"),
    ("N", "add a box in the middle"),
    ("Shift + arrows", "move the box"),
    ("Alt + arrows", "change its size"),
    ("Z", "undo"),
)


def page() -> Page:
    """The page with its markup; what it shows comes by requests of its script."""
    with Page(title=strings.REVIEW, analytics_enabled=False) as blocks:
        gr.Markdown(f"# {strings.REVIEW}\n{strings.REVIEW_LEAD}", elem_classes="vk-head")
        # `gr.HTML` evaluates its template as a program, which the page's policy forbids; this shows it as it is.
        gr.Markdown(_markup(), sanitize_html=False, latex_delimiters=[], container=False)
    return blocks  # type: ignore[no-any-return]


def _markup() -> str:
    keys = " · ".join(f"<kbd>{key}</kbd> {what}" for key, what in KEYS)

    def button(name: str, words: str, more: str = "") -> str:
        return f'<button type="button" data-do="{name}" {more}>{words}</button>'

    return (
        '<div class="vk-review"><div class="vk-review-bar">'
        + button("previous", "‹", 'aria-label="Previous image"')
        + '<span class="vk-review-where" data-part="where" role="status"></span>'
        + button("next", "›", 'aria-label="Next image"')
        + '</div><div class="vk-review-stage"><canvas tabindex="0" role="img" aria-label="Image"></canvas></div>'
        + '<div class="vk-review-tools"><select data-part="class" aria-label="Class"></select>'
        + button("draw", "Draw", 'aria-pressed="false"')
        + button("remove", "Delete")
        + button("undo", "Undo")
        + button("accept", "Accept", 'class="vk-primary"')
        + '</div><div class="vk-review-objects" data-part="objects" role="group" aria-label="Objects"></div>'
        + '<p class="vk-review-state" data-part="state" role="status"></p>'
        + f'<div class="vk-review-end" data-part="end" hidden>{strings.REVIEW_END}'
        + '<code data-part="command"></code></div>'
        + f"<details><summary>Keys</summary>{keys}</details></div>"
    )

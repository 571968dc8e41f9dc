"""What the pages share: what they are made for, the picture that is given, and the choice of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import ImageData

from ui import texts
from ui.answering import Upload
from ui.catalogue import Catalogue, Entry
from ui.downloads import Downloads
from ui.serving.desk import Desk
from ui.serving.faults import status_of
from ui.serving.limits import Limits
from visionkit.errors import UsageError
from visionkit.predictions import Detections, Instances
from visionkit.registry import task_pages

BOXES = {Detections.kind, Instances.kind}
"""Kinds of predictions that crops can be taken from."""


@dataclass(frozen=True)
class Context:
    """What a page is made for.

    Attributes:
        desk: Where work is admitted; knows the models and the limits.
        downloads: Where files for visitors are written.
        scratch: Folder of the server.
        address: Of the server, for the text on how to use it from a program.
        gallery: Where people are kept.
        keeps: Whether the gallery outlives the server.
    """

    desk: Desk
    downloads: Downloads
    scratch: Path
    address: str
    gallery: Path
    keeps: bool

    @property
    def catalogue(self) -> Catalogue:
        """The models."""
        return self.desk.catalogue

    @property
    def limits(self) -> Limits:
        """What visitors may ask."""
        return self.desk.limits


class PictureInput(gr.Image):
    """`gr.Image` that hands over the file as it was sent.

    Gradio's own would open it, change its mode and fetch addresses. Here nothing is opened: the one decoder does that,
    with its check of the header.
    """

    is_template = True  # shown by gr.Image's own front end

    async def async_move_resource_to_block_cache(self, url_or_file_path: str | Path | None) -> str | None:
        """Refuses an address: this server asks nothing of others on behalf of a visitor."""
        if "://" in str(url_or_file_path):
            raise gr.Error("send the picture itself, not an address", print_exception=False)
        moved: str | None = await super().async_move_resource_to_block_cache(url_or_file_path)
        return moved

    def preprocess(self, payload: ImageData | None) -> Upload | None:  # type: ignore[override]
        """The file's place and its name."""
        if payload is None:
            return None
        if not payload.path:
            raise gr.Error("send the picture as a file", print_exception=False)
        return Upload(payload.path, Path(payload.orig_name or payload.path).name)


def picture_input(label: str = texts.PICTURE, height: int = 320, **options: Any) -> PictureInput:
    """The place where a picture is dropped, pasted, chosen or taken."""
    given: dict[str, Any] = {
        "type": "filepath",
        "format": "png",
        "image_mode": None,
        "label": label,
        "sources": ["upload", "clipboard", "webcam"],
        "buttons": ["fullscreen"],
        "placeholder": texts.DROP,
        "height": height,
        "webcam_options": gr.WebcamOptions(mirror=False),
        **options,
    }
    return PictureInput(**given)


def told(work: Callable[..., Any], *given: Any) -> tuple[Any, str]:
    """What the work gives and no words, or None and the failure in words for the page."""
    try:
        return work(*given), ""
    except Exception as error:
        return None, failure(error)


def failure(error: Exception) -> str:
    """A failure in words for the page; of one that nobody expected the traceback goes to who runs the server."""
    return texts.fault(status_of(error)[1])


# ---------------------------------------------------------------------- models


def offered(catalogue: Catalogue, task: str | None) -> list[Entry]:
    """Models of a task; of all tasks where none is given. A checkpoint that tells its task when loaded is of any."""
    return [entry for entry in catalogue.entries() if not task or entry.task in (task, "")]


def choices(entries: Sequence[Entry]) -> tuple[list[tuple[str, str]], str | None]:
    """What the dropdown offers, and what it begins with."""
    found = []
    pages = task_pages() if len({entry.task for entry in entries if entry.task}) > 1 else {}
    for entry in entries:
        told = (pages[entry.task].title if entry.task in pages else entry.task) if pages else ""
        what = "cannot be used" if entry.fault else told
        found.append((f"{entry.title} ({what})" if what else entry.title, entry.name))
    usable = [entry.name for entry in entries if not entry.fault]
    return found, (usable or [None])[0]  # type: ignore[list-item]


def model_choice(context: Context, task: str | None, label: str = texts.MODEL, **options: Any) -> tuple[Any, Any]:
    """A dropdown of models and the line about the chosen one, wired; `chosen` picks another one at first.

    Args:
        context: Of the page.
        task: See `offered`.
        label: Of the dropdown.
        **options: Of the dropdown.
    """
    found, first = choices(offered(context.catalogue, task))
    options.setdefault("value", first)
    model = gr.Dropdown(found, label=label, info=texts.MODEL_HINT, allow_custom_value=True, **options)
    note = gr.Markdown(note_of(context.catalogue, options["value"]), elem_classes="vk-note")
    return model, note


def detectors(catalogue: Catalogue, opened: bool = False) -> list[tuple[str, str]]:
    """Models that find boxes, after the choice of none.

    Args:
        catalogue: Of the models.
        opened: Checkpoints too, of which only the file tells; that imports torch.
    """
    finders = {name for name, page in task_pages().items() if page.kinds and BOXES.issuperset(page.kinds)}
    entries = [catalogue.known(entry) if opened else entry for entry in catalogue.entries()]
    found = [entry for entry in entries if entry.task in finders and not entry.fault]
    return [(texts.NO_DETECTOR, ""), *((entry.title, entry.name) for entry in found)]


def takes_crops(catalogue: Catalogue, name: str | None, opened: bool = False) -> bool:
    """Whether a model runs on one crop at a time, for which a detector can be chosen; `opened` as in `detectors`."""
    entry = entry_of(catalogue, name)
    if entry is not None and opened:
        entry = catalogue.known(entry)
    return entry is not None and bool(entry.config.get("crop"))


def detector_choice(catalogue: Catalogue, name: str | None) -> Any:
    """The dropdown of detectors for the chosen model: hidden where it takes none."""
    if not takes_crops(catalogue, name, opened=True):
        return gr.update(visible=False)
    return gr.update(choices=detectors(catalogue, opened=True), visible=True)


def entry_of(catalogue: Catalogue, name: str | None) -> Entry | None:
    """The model of that name; one that cannot be used for a name that nobody knows."""
    try:
        return catalogue.entry(name.strip()) if name and name.strip() else None
    except UsageError as error:
        return Entry(str(name), "", title=str(name), fault=str(error))


def note_of(catalogue: Catalogue, name: str | None) -> str:
    """The line under the choice of a model."""
    entry = entry_of(catalogue, name)
    return texts.note(entry.fault, entry.summary, str(entry.card.get("terms") or "")) if entry else ""


def card_of(catalogue: Catalogue, name: str | None) -> str:
    """The model's card."""
    entry = entry_of(catalogue, name)
    if entry is None:
        return ""
    if not entry.config:
        return texts.no_card(entry.name, public=entry.path == entry.name)
    return texts.card(entry.title, entry.task, entry.card, entry.config)

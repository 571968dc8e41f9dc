"""What the pages share: what they are made for, the image that is given, and the choice of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import ImageData

from ui import strings
from ui.data_sets import DataSets
from ui.downloads import Downloads
from ui.inference import FACES, Upload
from ui.model_registry import ModelEntry, ModelRegistry, finds_boxes
from ui.reports import Reports
from ui.server.faults import status_of
from ui.server.job_queue import JobQueue
from ui.server.limits import Limits
from visionkit.errors import UsageError
from visionkit.registry import task_pages

STAGE = Path(__file__).with_name("stage.html")
"""What pages on whose images something is drawn share; goes into the page's head before their own scripts."""


@dataclass(frozen=True)
class ToolPage:
    """A page that is of no task; a module of this package states it as `PAGE`, and that is all that it takes.

    Attributes:
        name: Name in the navigation.
        path: Path of its address.
        order: Position in the navigation, among the pages that are of no task.
        build: Makes the page inside the block that is open.
        head: A file of html for the page's head, where it brings a script.
    """

    name: str
    path: str
    order: int
    build: Callable[[Context], None]
    head: Path | None = None


@dataclass(frozen=True)
class Context:
    """What a page is made for.

    Attributes:
        job_queue: Where work is admitted; knows the models and the limits.
        downloads: Where files for visitors are written.
        scratch: Folder of the server.
        address: Address of the server, for the text on how to use it from a program.
        gallery: Where people are kept.
        keeps: Whether the gallery outlives the server.
        data_sets: Data sets that can be browsed and examined.
        reports: Where reports are kept that a page shows.
        models: Folder of the operator's own models and runs; None where there is none.
    """

    job_queue: JobQueue
    downloads: Downloads
    scratch: Path
    address: str
    gallery: Path
    keeps: bool
    data_sets: DataSets
    reports: Reports
    models: Path | None = None

    @property
    def model_registry(self) -> ModelRegistry:
        """The models."""
        return self.job_queue.model_registry

    @property
    def limits(self) -> Limits:
        """What visitors may ask."""
        return self.job_queue.limits


class ImageInput(gr.Image):
    """`gr.Image` that hands over the file as it was sent.

    Gradio's own would open it, change its mode and fetch addresses. Here nothing is opened: the one decoder does that,
    with its check of the header.
    """

    is_template = True  # shown by gr.Image's own front end

    async def async_move_resource_to_block_cache(self, url_or_file_path: str | Path | None) -> str | None:
        """Refuses an address: this server asks nothing of others on behalf of a visitor."""
        if "://" in str(url_or_file_path):
            raise gr.Error("send the image itself, not an address", print_exception=False)
        moved: str | None = await super().async_move_resource_to_block_cache(url_or_file_path)
        return moved

    def preprocess(self, payload: ImageData | None) -> Upload | None:  # type: ignore[override]
        """The file's place and its name."""
        if payload is None:
            return None
        if not payload.path:
            raise gr.Error("send the image as a file", print_exception=False)
        return Upload(payload.path, Path(payload.orig_name or payload.path).name)


def image_input(label: str = strings.IMAGE, height: int = 320, **options: Any) -> ImageInput:
    """The place where an image is dropped, pasted, chosen or taken."""
    given: dict[str, Any] = {
        "type": "filepath",
        "format": "png",
        "image_mode": None,
        "label": label,
        "sources": ["upload", "clipboard", "webcam"],
        "buttons": ["fullscreen"],
        "placeholder": strings.DROP,
        "height": height,
        "webcam_options": gr.WebcamOptions(mirror=False),
        **options,
    }
    return ImageInput(**given)


def attempt(work: Callable[..., Any], *given: Any) -> tuple[Any, str]:
    """What the work gives and no words, or None and the failure in words for the page."""
    try:
        return work(*given), ""
    except Exception as error:
        return None, failure(error)


def failure(error: Exception) -> str:
    """A failure in words for the page; of one that nobody expected the traceback goes to who runs the server."""
    return strings.fault(status_of(error)[1])


# ---------------------------------------------------------------------- models


def offered(model_registry: ModelRegistry, task: str | None) -> list[ModelEntry]:
    """Models of a task; of all tasks where none is given. A checkpoint that states its task when loaded is of any.

    Those that may be of another task come last, so that no page begins with one.
    """
    found = [entry for entry in model_registry.entries() if not task or entry.task in (task, "")]
    return sorted(found, key=lambda entry: bool(task) and not entry.task)


def choices(entries: Sequence[ModelEntry]) -> tuple[list[tuple[str, str]], str | None]:
    """What the dropdown offers, and what it begins with."""
    found = []
    pages = task_pages() if len({entry.task for entry in entries if entry.task}) > 1 else {}
    for entry in entries:
        attempt = (pages[entry.task].title if entry.task in pages else entry.task) if pages else ""
        what = "cannot be used" if entry.fault else attempt
        found.append((f"{entry.title} ({what})" if what else entry.title, entry.name))
    usable = [entry.name for entry in entries if not entry.fault]
    return found, (usable or [None])[0]  # type: ignore[list-item]


def model_choice(context: Context, task: str | None, label: str = strings.MODEL, **options: Any) -> tuple[Any, Any]:
    """A dropdown of models and the line about the chosen one, wired; `chosen` picks another one at first.

    Args:
        context: Context of the page.
        task: See `offered`.
        label: Label of the dropdown.
        **options: Options of the dropdown.
    """
    found, first = choices(offered(context.model_registry, task))
    options.setdefault("value", first)
    model = gr.Dropdown(found, label=label, info=strings.MODEL_HINT, allow_custom_value=True, **options)
    note = gr.Markdown(note_of(context.model_registry, options["value"]), elem_classes="vk-note")
    return model, note


def detectors(model_registry: ModelRegistry, name: str | None = None, opened: bool = False) -> list[tuple[str, str]]:
    """Models that find what a model processes, after the choice of none.

    Args:
        model_registry: Model registry of the models.
        name: Name of the model; before one of face recognition, models that find faces.
        opened: Checkpoints too, of which only the file states; that imports torch.
    """
    entry = entry_of(model_registry, name)
    if entry is not None and opened:
        entry = model_registry.known(entry)
    faces = entry is not None and entry.task == FACES
    finds = finds_faces if faces else finds_boxes
    entries = [model_registry.known(entry) if opened else entry for entry in model_registry.entries()]
    found = [entry for entry in entries if finds(entry) and not entry.fault]
    none = strings.BUILT_IN_FINDER if faces else strings.NO_DETECTOR
    return [(none, ""), *((entry.title, entry.name) for entry in found)]


def finds_faces(entry: ModelEntry) -> bool:
    """Whether a model finds faces in whole images: objects of a class of that name, or their keypoints."""
    skeleton = entry.config.get("skeleton")
    subjects = [skeleton.get("subject")] if isinstance(skeleton, dict) and not entry.config.get("crop") else []
    return "face" in (*subjects, *((entry.config.get("classes") or ()) if finds_boxes(entry) else ()))


def takes_crops(model_registry: ModelRegistry, name: str | None, opened: bool = False) -> bool:
    """Whether a model runs on one crop at a time, for which a detector can be chosen; `opened` as in `detectors`."""
    entry = entry_of(model_registry, name)
    if entry is not None and opened:
        entry = model_registry.known(entry)
    return entry is not None and (bool(entry.config.get("crop")) or entry.task == FACES)


def detector_choice(model_registry: ModelRegistry, name: str | None, chosen: str | None = None) -> Any:
    """The dropdown of detectors for the chosen model: hidden where it takes none; one that still fits stays chosen."""
    if not takes_crops(model_registry, name, opened=True):
        return gr.update(visible=False)
    choices = detectors(model_registry, name, opened=True)
    value = chosen if chosen in dict(choices).values() else ""
    return gr.update(choices=choices, value=value, visible=True)


def detector_of(model_registry: ModelRegistry, name: str | None, chosen: str | None) -> str | None:
    """The chosen detector where the model takes it: it may have been chosen for the model before."""
    fits = chosen and takes_crops(model_registry, name, opened=True)
    return chosen if fits and chosen in dict(detectors(model_registry, name, opened=True)).values() else None


def entry_of(model_registry: ModelRegistry, name: str | None) -> ModelEntry | None:
    """The model of that name; one that cannot be used for a name that nobody knows."""
    try:
        return model_registry.entry(name.strip()) if name and name.strip() else None
    except UsageError as error:
        return ModelEntry(str(name), "", title=str(name), fault=str(error))


def note_of(model_registry: ModelRegistry, name: str | None) -> str:
    """The line under the choice of a model."""
    entry = entry_of(model_registry, name)
    return strings.note(entry.fault, entry.summary, str(entry.card.get("terms") or "")) if entry else ""


def card_of(model_registry: ModelRegistry, name: str | None) -> str:
    """The model's model card."""
    entry = entry_of(model_registry, name)
    if entry is None:
        return ""
    if not entry.card and not entry.config:
        return strings.no_card(entry.name, public=entry.path == entry.name)
    return strings.card(entry.title, entry.task, entry.card, entry.config)

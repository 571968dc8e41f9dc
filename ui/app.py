"""The demo as a web application: the page, its programming interface, and the guard around both.

The page knows no kind of prediction; `ui.views` has one view for each. The interface has two stable names, `predict` (a
picture and a model's name, giving what `Prediction.to_json` gives) and `models`.
"""

from __future__ import annotations

import json
import sys
import traceback
from abc import ABCMeta
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI
from gradio.component_meta import ComponentMeta
from gradio.data_classes import ImageData

from ui import gallery_page, texts
from ui.answering import Upload, answer
from ui.catalogue import Catalogue, Entry
from ui.downloads import Downloads
from ui.guard import UPLOAD_LIMIT, Application, Guard
from ui.refusals import Page, is_closed, speak
from ui.views import VIEWS
from visionkit.errors import UsageError, VisionKitError

SYSTEM_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
MONO_FONTS = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")
PHOTOS = ("chelsea.png", "coffee.png", "rocket.jpg", "astronaut.png")
"""CC0 or public-domain photos that scikit-image ships; its `data/README.txt` names their authors."""

FINDERS = ("detection", "instance_segmentation")
"""Tasks whose answers are boxes."""

SCENES = (3, 8)
"""Numbers of generated scenes among the examples."""


class _NoStub(ComponentMeta):
    """Makes a component class without writing a `.pyi` file beside this module, which gradio does at import."""

    def __new__(cls, name: str, bases: tuple[type, ...], attrs: dict[str, Any]) -> Any:
        return ABCMeta.__new__(cls, name, bases, attrs)


class PictureInput(gr.Image, metaclass=_NoStub):
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


@dataclass(frozen=True)
class Settings:
    """What the page is made for.

    Attributes:
        catalogue: The models.
        address: Of this server, for the text on how to use it from a program.
        scratch: A folder for files that visitors download.
        gallery: Where people are kept; forgotten with the server where left out.
    """

    catalogue: Catalogue
    address: str
    scratch: Path
    gallery: Path | None = None


def application(settings: Settings, host: str = "127.0.0.1", names: Sequence[str] = ()) -> Application:
    """The whole ASGI application.

    Args:
        settings: Of the page.
        host: The address that is listened on.
        names: Further names that browsers may use.
    """
    bare = {"docs_url": None, "redoc_url": None, "openapi_url": None}  # their pages load scripts from elsewhere
    app = FastAPI(**bare)  # type: ignore[arg-type]
    gr.mount_gradio_app(
        app,
        page(settings),
        path="/",
        app_kwargs=dict(bare),
        footer_links=[],
        run_history=False,
        show_error=True,
        max_file_size=UPLOAD_LIMIT,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        theme=theme(),
        css_paths=Path(__file__).with_name("page.css"),
        head_paths=[view.head for view in VIEWS.values() if view.head],
        favicon_path=str(Path(__file__).with_name("favicon.png")),
    )
    speak(app)
    return Guard(app, host, names, closed=is_closed)


def theme() -> Any:
    """Calm, in light and dark, with the fonts that the visitor's system has."""
    return gr.themes.Base(
        primary_hue="teal",
        neutral_hue="slate",
        radius_size="md",
        font=list(SYSTEM_FONTS),
        font_mono=list(MONO_FONTS),
    ).set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        block_border_width="1px",
        block_shadow="none",
        block_shadow_dark="none",
        block_label_text_weight="500",
        block_title_text_weight="500",
        # Gradio's own subdued grey has too little contrast to be read.
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
        block_info_text_color="*neutral_500",
        block_info_text_color_dark="*neutral_400",
    )


def page(settings: Settings) -> Page:
    """The page with its events."""
    catalogue, downloads = settings.catalogue, Downloads(settings.scratch)
    with Page(title=texts.TITLE, analytics_enabled=False, delete_cache=(600, 3600)) as blocks:
        gr.Markdown(f"# {texts.TITLE}\n{texts.LEAD}", elem_classes="vk-head")
        with gr.Row(equal_height=False, elem_classes="vk-main"):
            with gr.Column(elem_classes="vk-ask"):
                choices, chosen = _choices(catalogue.entries())
                model = gr.Dropdown(
                    choices,
                    value=chosen,
                    label=texts.MODEL,
                    info=texts.MODEL_HINT,
                    allow_custom_value=True,
                    elem_id="vk-model",
                )
                detector = gr.Dropdown(
                    _detectors(catalogue),
                    value="",
                    label=texts.DETECTOR,
                    info=texts.DETECTOR_HINT,
                    visible=_takes_crops(catalogue, chosen),
                    elem_id="vk-detector",
                )
                note = gr.Markdown(_note(catalogue, chosen), elem_classes="vk-note")
                picture = PictureInput(
                    type="filepath",
                    format="png",
                    image_mode=None,
                    label=texts.PICTURE,
                    sources=["upload", "clipboard", "webcam"],
                    buttons=["fullscreen"],
                    placeholder=texts.DROP,
                    height=320,
                    elem_id="vk-picture",
                    webcam_options=gr.WebcamOptions(mirror=False),
                )
            with gr.Column(elem_classes="vk-examples"):
                offered = examples(settings.scratch, catalogue.entries())
                gr.Examples(offered, picture, label=texts.EXAMPLES, cache_examples=False, examples_per_page=24)
            with gr.Column(elem_classes="vk-answer"):
                message = gr.Markdown(texts.EMPTY if choices else texts.NO_MODELS, elem_id="vk-message")
                columns, components = [], []
                for kind, view in VIEWS.items():
                    with gr.Column(visible=False, elem_id=f"vk-{kind}") as column:
                        components.append(list(view.build(downloads)))
                    columns.append(column)
                facts = gr.Markdown(visible=False, elem_classes="vk-facts", elem_id="vk-facts")
                download = gr.DownloadButton(texts.DOWNLOAD, visible=False, size="sm", elem_id="vk-download")
                with gr.Accordion(texts.RAW, open=False, visible=False) as raw_box:
                    raw = gr.JSON(show_label=False, max_height=320, open=False)
        with gr.Accordion(texts.CARD, open=False, elem_id="vk-card"):
            card = gr.Markdown(_card(catalogue, chosen))
        with gr.Accordion(texts.PEOPLE, open=False, elem_id="vk-people"):
            people = gallery_page.People(catalogue, settings.gallery or settings.scratch / "gallery")
            gallery_page.build(people, PictureInput, kept=settings.gallery is not None)
        with gr.Accordion(texts.USE, open=False):
            gr.Markdown(texts.program(settings.address))

        shown = [message, *columns, *(each for group in components for each in group), facts, download, raw_box, raw]

        def show(
            upload: Upload | None,
            name: str | None,
            finds: str | None = None,
            progress: Any = gr.Progress(),  # noqa: B008
        ) -> dict[Any, Any]:
            hidden: dict[Any, Any] = {each: gr.update(visible=False) for each in (*columns, facts, download, raw_box)}
            if upload is None:
                return {**hidden, message: gr.update(value=texts.EMPTY, visible=True)}
            try:
                told = answer(
                    catalogue,
                    name,
                    upload,
                    finds if _takes_crops(catalogue, name) else None,
                    lambda done, total: progress((done, total), unit="parts"),
                )
                number = list(VIEWS).index(told.prediction.kind)
                values = VIEWS[told.prediction.kind].show(told.prediction, told.picture, downloads)
            except VisionKitError as error:
                return {**hidden, message: gr.update(value=texts.fault(str(error)), visible=True)}
            except Exception:
                traceback.print_exc(file=sys.stderr)
                return {**hidden, message: gr.update(value=texts.fault(texts.DEFECT), visible=True)}
            record = told.prediction.summary()
            text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
            height, width = told.picture.shape[:2]
            return {
                **hidden,
                message: gr.update(visible=False),
                columns[number]: gr.update(visible=True),
                **dict(zip(components[number], values, strict=True)),
                facts: gr.update(value=texts.facts(told.decode, told.network, told.total, height, width), visible=True),
                download: gr.update(value=downloads.save(upload.name, ".json", text), visible=True),
                raw_box: gr.update(visible=True),
                raw: record,
            }

        def predict(picture: Upload | None, model: str) -> dict[str, Any]:
            if not isinstance(model, str):
                raise gr.Error(texts.UNFIT, print_exception=False)
            try:
                return answer(catalogue, model, picture).prediction.to_json()
            except VisionKitError as error:
                # To a program, as it stands: what is shown on a page is escaped there.
                raise gr.Error(" ".join(str(error).split()), print_exception=False) from None

        def models() -> list[dict[str, Any]]:
            return [_listed(entry) for entry in catalogue.entries()]

        def renew(name: str | None) -> Any:
            found, default = _choices(catalogue.entries())
            # A name that is sent back would undo what a visitor chose while the list was being read.
            return gr.update(choices=found) if name else gr.update(choices=found, value=default)

        private: dict[str, Any] = {"api_visibility": "private"}
        gr.on(
            [picture.change, model.change, detector.input],
            show,
            [picture, model, detector],
            shown,
            trigger_mode="always_last",
            concurrency_id="network",
            concurrency_limit=2,
            show_progress_on=[message],
            **private,
        )
        model.change(
            lambda name: (
                _note(catalogue, name),
                _card(catalogue, name),
                gr.update(choices=_detectors(catalogue), visible=_takes_crops(catalogue, name)),
            ),
            model,
            [note, card, detector],
            show_progress="hidden",
            **private,
        )
        blocks.load(renew, model, model, show_progress="hidden", **private)
        # What programs call: components that no page shows, so that the names and types stay as they are.
        outlet = gr.JSON(visible=False)
        gr.Button(visible=False).click(
            predict,
            [picture, model],
            outlet,
            api_name="predict",
            concurrency_id="network",
            api_description="The answer of one model on one picture: what Prediction.to_json() gives.",
        )
        gr.Button(visible=False).click(
            models, None, outlet, api_name="models", api_description="The models to choose from."
        )
    blocks.queue(max_size=64)
    return blocks  # type: ignore[no-any-return]


def examples(scratch: Path, entries: Sequence[Entry]) -> list[str]:
    """Pictures to click: what the starters bring, free photos, and generated scenes."""
    found = [path for entry in entries if entry.starter for path in sorted(Path(entry.path).glob("examples/*.*"))]
    skimage = find_spec("skimage")
    if skimage is not None and skimage.submodule_search_locations:
        data = Path(skimage.submodule_search_locations[0]) / "data"
        found += [data / name for name in PHOTOS if (data / name).is_file()]
    from PIL import Image

    from datamodules.scenes.generate import make_scene

    for number in SCENES:
        path = scratch / f"scene-{number}.png"
        Image.fromarray(make_scene(seed=0, index=number, size=(240, 320)).image).save(path)
        found.append(path)
    return [str(path) for path in found]


def _choices(entries: Sequence[Entry]) -> tuple[list[tuple[str, str]], str | None]:
    """What the dropdown offers, and what it begins with."""
    offered = []
    for entry in entries:
        told = entry.title + (" (cannot be used)" if entry.fault else f" ({entry.task})" if entry.task else "")
        offered.append((told, entry.name))
    usable = [entry.name for entry in entries if not entry.fault]
    return offered, (usable or [None])[0]  # type: ignore[list-item]


def _detectors(catalogue: Catalogue) -> list[tuple[str, str]]:
    """Models that find boxes, after the choice of none."""
    found = [entry for entry in catalogue.entries() if entry.task in FINDERS and not entry.fault]
    return [(texts.NO_DETECTOR, ""), *((entry.title, entry.name) for entry in found)]


def _takes_crops(catalogue: Catalogue, name: str | None) -> bool:
    """Whether a model looks at one crop at a time, for which a detector can be chosen."""
    entry = _entry(catalogue, name)
    return entry is not None and bool(entry.config.get("crop"))


def _entry(catalogue: Catalogue, name: str | None) -> Entry | None:
    try:
        return catalogue.entry(name.strip()) if name and name.strip() else None
    except UsageError as error:
        return Entry(str(name), "", title=str(name), fault=str(error))


def _note(catalogue: Catalogue, name: str | None) -> str:
    entry = _entry(catalogue, name)
    return texts.note(entry.fault, entry.summary, str(entry.card.get("terms") or "")) if entry else ""


def _card(catalogue: Catalogue, name: str | None) -> str:
    entry = _entry(catalogue, name)
    if entry is None:
        return ""
    if not entry.config:
        return texts.no_card(entry.name, public=entry.path == entry.name)
    return texts.card(entry.title, entry.task, entry.card, entry.config)


def _listed(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "title": entry.title,
        "task": entry.task,
        "starter": entry.starter,
        "terms": entry.card.get("terms"),
        "fault": entry.fault or None,
    }

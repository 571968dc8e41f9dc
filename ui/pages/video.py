"""The page for videos: a file whose objects are followed, or frame by frame, and a camera."""

from __future__ import annotations

import base64
import binascii
import html
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.data_classes import ImageData

from ui import strings
from ui.batch import uploads_of
from ui.drawings import drawing
from ui.inference import Upload
from ui.model_registry import finds_boxes
from ui.one_object import ObjectRequest, box_under, follow, mask_in, read_place
from ui.pages import timeline
from ui.pages.base import (
    Context,
    ImageInput,
    ToolPage,
    attempt,
    entry_of,
    failure,
    model_choice,
    note_of,
    offered,
)
from ui.pages.batch import LONG
from ui.pages.stops import Stops
from ui.video_files import MASKS, RECORDS, SUMMARY, TEXT, VIDEO
from ui.videos import VideoProgress, VideoRequest, first_frame, read_lines, watch
from ui.views import drawing_component
from ui.views.base import data_url
from visionkit.plugins import installed
from visionkit.video import SUFFIXES

SCRIPT = Path(__file__).with_name("video.html")
"""Runs in the page: lines on the first frame, and the timeline."""

EVERY = 0.4
"""Seconds between two images that are sent while a video is processed."""

LIVE_EVERY = 0.5
"""Seconds between two frames of a camera that are processed."""

LIVE_SECONDS = 120
"""Seconds after which a camera's stream ends and has to be started again."""


class CameraInput(ImageInput):
    """A camera whose frames come within the request, not as files."""

    def get_block_name(self) -> str:
        """`gr.Image`'s own front end shows it; gradio would take the name of the class above, which has none."""
        return "image"

    def preprocess(self, payload: ImageData | None) -> Any:
        """The frame, decoded by the one decoder."""
        if payload is None or not (payload.url or "").startswith("data:"):
            return super().preprocess(payload)
        from visionkit.images import ImageSource

        try:
            return ImageSource(base64.b64decode(str(payload.url).partition(",")[2], validate=True), name="camera")
        except binascii.Error:
            raise gr.Error("send the image as it is", print_exception=False) from None


WHAT = [(strings.VIDEO_TRACK, "track"), (strings.VIDEO_FOLLOW, "follow"), (strings.VIDEO_CUT, "cut")]
RATES = {"track": 5, "follow": 15, "cut": 5}
"""What can be done with a video, and how many frames per second it takes by default."""


def build(context: Context) -> None:
    """Makes the page inside the block that is open."""
    gr.Markdown(f"# {strings.VIDEO}\n{strings.VIDEO_LEAD}", elem_classes="vk-head")
    entries = offered(context.model_registry, None)
    first = next((each.name for each in entries if finds_boxes(each) and not each.fault), None)
    chosen = {"value": first} if first else {}
    model, note = model_choice(context, None, elem_id="vk-model", **chosen)
    private: dict[str, Any] = {"api_visibility": "private"}
    model.change(lambda name: note_of(context.model_registry, name), model, note, show_progress="hidden", **private)
    with gr.Tabs():
        with gr.Tab(strings.VIDEO_FILE):
            _build_file(context, model)
        with gr.Tab(strings.VIDEO_LIVE), gr.Row(equal_height=False):
            _build_camera(context, model)


def _build_file(context: Context, model: Any) -> None:
    """A file and what becomes of it."""
    limits, stops = context.limits, Stops()
    private: dict[str, Any] = {"api_visibility": "private"}
    allowed = strings.limits(limits.images, limits.image_mb, limits.upload_mb, limits.seconds, limits.keep_minutes)
    plain: dict[str, Any] = {"sanitize_html": False, "latex_delimiters": [], "container": False}
    with gr.Row(equal_height=False, elem_classes="vk-video"):
        with gr.Column():
            file = gr.File(file_types=list(SUFFIXES), label=strings.VIDEO_INPUT, height=130, elem_id="vk-video-file")
            frame = gr.Markdown(visible=False, elem_id="vk-video-frame", **plain)
            what = gr.Radio(WHAT, value="track", label=strings.VIDEO_WHAT, elem_id="vk-video-what")
            tracker = gr.Dropdown(**tracker_choice(context, model.value), elem_id="vk-video-tracker")
            lines = gr.Textbox(
                label=strings.VIDEO_LINES,
                info=strings.VIDEO_LINES_HINT,
                lines=1,
                max_lines=4,
                visible=False,
                elem_id="vk-video-lines",
            )
            methods = [
                (strings.VIDEO_METHODS.get(each, each), each) for each in sorted(_names("visionkit.visual_trackers"))
            ]
            method = gr.Dropdown(
                methods, value="hcf", label=strings.VIDEO_METHOD, visible=False, elem_id="vk-video-method"
            )
            place = gr.Textbox(
                label=strings.VIDEO_OBJECT,
                info=strings.VIDEO_OBJECT_HINT,
                max_lines=1,
                visible=False,
                elem_id="vk-video-object",
            )
            preview = gr.Markdown("", elem_id="vk-video-preview", **plain)
            rate = gr.Slider(0.5, 30, 5, step=0.5, label=strings.VIDEO_RATE, elem_id="vk-video-rate")
            with gr.Row():
                start = gr.Button(strings.VIDEO_RUN, variant="primary", elem_id="vk-video-run")
                stop = gr.Button(strings.STOP, elem_id="vk-video-stop")
            gr.Markdown(allowed, elem_classes="vk-facts")
        with gr.Column():
            message = gr.Markdown(strings.EMPTY, elem_id="vk-message")
            progress = gr.Markdown(visible=False, elem_id="vk-video-progress", **plain)
            seen = drawing_component("jpeg", visible=False)
            drawn = gr.Video(
                label=strings.VIDEO_DRAWN,
                show_label=False,
                visible=False,
                interactive=False,
                buttons=["download"],
                elem_id="vk-video-drawn",
            )
            with gr.Row():
                files = {
                    name: gr.DownloadButton(label, visible=False, size="sm", elem_id=f"vk-video-{elem}")
                    for name, label, elem in (
                        (RECORDS, strings.VIDEO_RECORDS, "records"),
                        (TEXT, strings.VIDEO_TEXT, "text"),
                        (SUMMARY, strings.VIDEO_SUMMARY, "summary"),
                        (MASKS, strings.VIDEO_MASKS, "masks"),
                    )
                }
    followed = gr.Markdown(visible=False, elem_id="vk-video-followed", **plain)

    hidden = gr.update(visible=False)
    rest = [gr.update(visible=False)] * (2 + len(files))

    def looks(
        folder: Path, stopped: threading.Event, path: str | None, name: str | None, kind: str, *given: Any
    ) -> Iterator[VideoProgress]:
        follows, text, by, where, rate = given
        upload = next(iter(uploads_of([path] if path else [])), None)
        if kind != "track":
            box = read_place(where)
            asked = ObjectRequest(upload, box, name, by if kind == "follow" else None, float(rate))
            return follow(context.job_queue, asked, folder, stopped.is_set)
        if not tracker_choice(context, name, opened=True)["visible"]:
            follows = None  # a model that was chosen a moment ago
        lines = read_lines(text) if follows else ()
        return watch(
            context.job_queue, VideoRequest(name, upload, float(rate), follows or None, lines), folder, stopped.is_set
        )

    def work(request: gr.Request, *given: Any) -> Iterator[tuple[Any, ...]]:
        folder, stopped = Path(tempfile.mkdtemp(dir=context.scratch)), stops.take(request)
        last: VideoProgress | None = None
        sent = 0.0
        try:
            for last in looks(folder, stopped, *given):
                if time.monotonic() - sent > EVERY:
                    sent = time.monotonic()
                    now = strings.plain(f"{last.seconds:.1f} s: {last.message}")
                    yield now, bar(last), gr.update(value=last.drawn, visible=True), *rest
        except Exception as error:
            yield failure(error), hidden, hidden, *rest
            return
        finally:
            stops.end(request)
        assert last is not None
        is_short = stopped.is_set()
        words = [strings.seen(last.done, last.total if is_short else last.done, "frames")]
        words += [strings.VIDEO_STOPPED] if is_short else []
        words += [strings.incomplete(last.fault)] if last.fault else []
        hint = last.followed.tracker.hint() if last.followed else ""
        words += [strings.nothing_followed(hint)] if hint else []
        there = [
            gr.update(value=str(folder / each), visible=True) if (folder / each).exists() else hidden for each in files
        ]
        summary = gr.update(value=timeline.markup(last.followed), visible=True) if last.followed else hidden
        film = gr.update(value=str(folder / VIDEO), visible=True)
        yield "  \n".join(words), hidden, hidden, film, *there, summary

    def begun(path: str | None) -> tuple[Any, ...]:
        if not path:
            return hidden, "", "", "", gr.skip()
        upload = next(iter(uploads_of([path])))
        pixels, fault = attempt(first_frame, upload, limits.megapixels)
        if pixels is None:
            return hidden, "", "", "", fault
        return gr.update(value=frame_markup(pixels), visible=True), "", "", "", strings.EMPTY

    def controls(path: str | None, kind: str, name: str | None, follows: str | None) -> tuple[Any, ...]:
        tracks = kind == "track"
        choice = tracks and tracker_choice(context, name, opened=True)["visible"]
        shown = [choice, path and tracks and choice and follows, kind == "follow", path and not tracks]
        return tuple(gr.update(visible=bool(each)) for each in shown)

    def marked(path: str | None, kind: str, name: str | None, text: str) -> tuple[Any, ...]:
        is_whole = text.startswith("@") or len(text.replace(",", " ").split()) == 4  # nobody is still typing
        if not path or kind == "track" or not is_whole:
            return gr.skip(), "", gr.skip()
        found, fault = attempt(_marked, context, path, kind, name, text)
        if found is None:
            return gr.skip(), "", fault
        words, outline = found
        if not words:
            return "", "", strings.VIDEO_NOTHING_THERE
        return (gr.skip() if words == text else words), outline, strings.EMPTY if outline else gr.skip()

    quiet: dict[str, Any] = {"show_progress": "hidden", **private}
    asked_for = [file, what, model, tracker]
    varying = [tracker, lines, method, place]
    marking = {"fn": marked, "inputs": [file, what, model, place], "outputs": [place, preview, message], **quiet}
    file.change(begun, file, [frame, lines, place, preview, message], **quiet).then(
        controls, asked_for, varying, **quiet
    )
    what.change(controls, asked_for, varying, **quiet).then(**marking)
    what.change(RATES.get, what, rate, **quiet)
    tracker.change(controls, asked_for, varying, **quiet)
    place.change(**marking, trigger_mode="always_last")
    model.change(lambda name: gr.update(**tracker_choice(context, name, opened=True)), model, tracker, **quiet).then(
        controls, asked_for, varying, **quiet
    )
    start.click(stops.begin, None, None, queue=False, **private).then(
        work,
        [file, model, what, tracker, lines, method, place, rate],
        [message, progress, seen, drawn, *files.values(), followed],
        concurrency_id="long",
        concurrency_limit=LONG,
        show_progress="hidden",
        **private,
    )
    stop.click(stops.stop, None, None, queue=False, **private)


def tracker_choice(context: Context, name: str | None, opened: bool = False) -> dict[str, Any]:
    """The dropdown of trackers for the chosen model: hidden where it finds no objects.

    Args:
        context: Context of the page.
        name: Name of the model.
        opened: Whether a checkpoint may be opened to know of its task, which imports torch.
    """
    from visionkit.tracking.tracker import tracker_names

    entry = entry_of(context.model_registry, name)
    if entry is not None and opened:
        entry = context.model_registry.known(entry)
    found = entry is not None and finds_boxes(entry)
    known = [each for each in strings.VIDEO_TRACKERS if each in tracker_names()]
    names = [*known, *(each for each in tracker_names() if each not in known)]
    choices = [(strings.VIDEO_TRACKERS.get(each, each), each) for each in names]
    return {
        "choices": [*choices, (strings.VIDEO_NO_TRACKER, "")],
        "value": names[0] if found else "",
        "label": strings.VIDEO_TRACKER,
        "info": strings.VIDEO_TRACKER_HINT,
        "visible": found or (entry is not None and not entry.task),
    }


def _names(group: str) -> list[str]:
    """Names of a registry, without importing what they name."""
    return [point.name for point in installed(group)]


def _marked(context: Context, path: str, kind: str, name: str | None, text: str) -> tuple[str, str]:
    """The box of what the visitor has marked, as text, and its outline as markup; of a point the box alone.

    Empty where nothing was found under the point.
    """
    from visionkit.masks import encode_masks, mask_polygons

    upload = next(iter(uploads_of([path])))
    pixels = first_frame(upload, context.limits.megapixels)
    box = read_place(text)
    if len(box) == 2:
        found = box_under(context.job_queue, name, pixels, box)
        return (_written(found), "") if found else ("", "")
    outlines = []
    if kind == "cut":
        mask = mask_in(context.job_queue, name, pixels, box)
        outlines = mask_polygons(encode_masks(mask[None])[0])
    data = html.escape(json.dumps(outlines))
    words = html.escape(" ".join(text.split()))
    return text, f'<div class="vk-object" data-box="{words}" data-outlines="{data}"></div>'


def _written(box: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in box)


def frame_markup(pixels: np.ndarray) -> str:
    """The first frame for the script of the page, which draws lines on it in pixels of the video.

    Args:
        pixels: (h, w, 3) uint8 RGB.
    """
    height, width = pixels.shape[:2]
    return (
        f'<div class="vk-frame" data-height="{height}" data-width="{width}"><div class="vk-frame-stage">'
        f'<img alt="" src="{data_url(pixels)}">'
        f'<canvas tabindex="0" role="img" aria-label="{strings.VIDEO_FRAME}"></canvas></div>'
        f'<p><span role="status"></span><button type="button" hidden>{strings.VIDEO_CLEAR}</button></p></div>'
    )


def bar(look: VideoProgress) -> Any:
    """How far a video is."""
    words = strings.seen(look.done, look.total, "frames")
    markup = (
        f'<div class="vk-progress"><progress max="{look.total}" value="{look.done}" aria-label="Progress"></progress>'
        f"<small>{words}</small></div>"
    )
    return gr.update(value=markup, visible=True)


def _build_camera(context: Context, model: Any) -> None:
    """What a camera sees now."""
    with gr.Column():
        gr.Markdown(strings.VIDEO_LIVE_NOTE)
        camera = CameraInput(
            type="filepath",
            format="jpeg",
            image_mode=None,
            label=strings.VIDEO_LIVE_INPUT,
            sources=["webcam"],
            streaming=True,
            elem_id="vk-camera",
            webcam_options=gr.WebcamOptions(mirror=False),
        )
    with gr.Column():
        live_message = gr.Markdown(strings.EMPTY, elem_id="vk-live-words")
        live = drawing_component("jpeg")

    def look(given: Upload | Any, name: str | None) -> tuple[Any, str]:
        if given is None:
            return gr.skip(), gr.skip()
        found, fault = attempt(lambda: context.job_queue.ask(name, given, channel="video"))
        if found is None:
            return None, fault
        return drawing(found.prediction, found.image), strings.plain(found.prediction.text(5))

    camera.stream(
        look,
        [camera, model],
        [live, live_message],
        stream_every=LIVE_EVERY,
        time_limit=LIVE_SECONDS,
        concurrency_id="camera",
        concurrency_limit=4,
        show_progress="hidden",
        api_visibility="private",
    )


PAGE = ToolPage(strings.VIDEO, "video", 30, build, SCRIPT)

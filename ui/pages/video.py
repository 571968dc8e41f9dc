"""The page for videos: a file frame by frame, and a camera."""

from __future__ import annotations

import base64
import binascii
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import ImageData

from ui import texts, videos
from ui.answering import Upload
from ui.batch import uploads_of
from ui.pages.base import Context, PictureInput, failure, model_choice, note_of, told
from ui.pages.batch import LONG
from ui.views import drawing, drawing_component
from visionkit.video import SUFFIXES

EVERY = 0.4
"""Seconds between two pictures that are sent while a video is answered."""

LIVE_EVERY = 0.5
"""Seconds between two frames of a camera that are looked at."""

LIVE_SECONDS = 120
"""Seconds after which a camera's stream ends and has to be started again."""


class CameraInput(PictureInput):
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
            raise gr.Error("send the picture as it is", print_exception=False) from None


def build(context: Context) -> None:
    """Makes the page inside the block that is open."""
    limits = context.limits
    allowed = texts.limits(limits.pictures, limits.picture_mb, limits.upload_mb, limits.seconds, limits.keep_minutes)
    gr.Markdown(f"# {texts.VIDEO}\n{texts.VIDEO_LEAD}", elem_classes="vk-head")
    model, note = model_choice(context, None, elem_id="vk-model")
    private: dict[str, Any] = {"api_visibility": "private"}
    model.change(lambda name: note_of(context.catalogue, name), model, note, show_progress="hidden", **private)
    with gr.Tabs():
        with gr.Tab(texts.VIDEO_FILE), gr.Row(equal_height=False):
            with gr.Column():
                file = gr.File(file_types=list(SUFFIXES), label=texts.VIDEO_INPUT, height=160, elem_id="vk-video-file")
                rate = gr.Slider(0.5, 30, 5, step=0.5, label=texts.VIDEO_RATE, elem_id="vk-video-rate")
                gr.Markdown(allowed, elem_classes="vk-facts")
                with gr.Row():
                    start = gr.Button(texts.VIDEO_RUN, variant="primary", elem_id="vk-video-run")
                    stop = gr.Button(texts.STOP, elem_id="vk-video-stop")
            with gr.Column():
                message = gr.Markdown(texts.EMPTY, elem_id="vk-message")
                seen = drawing_component("jpeg")
                drawn = gr.Video(label=texts.VIDEO_DRAWN, visible=False, interactive=False, elem_id="vk-video-drawn")
                records = gr.DownloadButton(texts.VIDEO_RECORDS, visible=False, size="sm", elem_id="vk-video-records")
        with gr.Tab(texts.VIDEO_LIVE), gr.Row(equal_height=False):
            with gr.Column():
                gr.Markdown(texts.VIDEO_LIVE_TOLD)
                camera = CameraInput(
                    type="filepath",
                    format="jpeg",
                    image_mode=None,
                    label=texts.VIDEO_LIVE_INPUT,
                    sources=["webcam"],
                    streaming=True,
                    elem_id="vk-camera",
                    webcam_options=gr.WebcamOptions(mirror=False),
                )
            with gr.Column():
                live_message = gr.Markdown(texts.EMPTY, elem_id="vk-live-words")
                live = drawing_component("jpeg")

    def work(path: str | None, name: str | None, rate: float) -> Iterator[tuple[Any, ...]]:
        hidden = gr.update(visible=False)
        folder = Path(tempfile.mkdtemp(dir=context.scratch))
        sent = 0.0
        done, fault = 0, ""
        try:
            upload = next(iter(uploads_of([path] if path else [])), None)
            for look in videos.watch(context.desk, name, upload, float(rate), folder):
                done, fault = look.done, look.fault
                if time.monotonic() - sent > EVERY:
                    sent = time.monotonic()
                    words = texts.plain(f"{look.seconds:.1f} s: {look.told}")
                    yield f"{texts.seen(look.done, look.total, 'frames')}  \n{words}", look.drawn, hidden, hidden
        except Exception as error:
            yield failure(error), None, hidden, hidden
        else:
            yield (
                texts.seen(done, done, "frames") + (f"  \n{texts.fault(fault)}" if fault else ""),
                gr.skip(),
                gr.update(value=str(folder / "video.mp4"), visible=True),
                gr.update(value=str(folder / "frames.jsonl"), visible=True),
            )

    def look(given: Upload | Any, name: str | None) -> tuple[Any, str]:
        if given is None:
            return gr.skip(), gr.skip()
        found, fault = told(lambda: context.desk.ask(name, given, road="video"))
        if found is None:
            return None, fault
        return drawing(found.prediction, found.picture), texts.plain(found.prediction.text(5))

    running = start.click(
        work,
        [file, model, rate],
        [message, seen, drawn, records],
        concurrency_id="long",
        concurrency_limit=LONG,
        show_progress_on=[message],
        **private,
    )
    stop.click(None, cancels=[running], **private)
    camera.stream(
        look,
        [camera, model],
        [live, live_message],
        stream_every=LIVE_EVERY,
        time_limit=LIVE_SECONDS,
        concurrency_id="camera",
        concurrency_limit=4,
        show_progress="hidden",
        **private,
    )

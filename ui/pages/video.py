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

from ui import strings, videos
from ui.batch import uploads_of
from ui.inference import Upload
from ui.pages.base import Context, ImageInput, attempt, failure, model_choice, note_of
from ui.pages.batch import LONG
from ui.views import drawing, drawing_component
from visionkit.video import SUFFIXES

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


def build(context: Context) -> None:
    """Makes the page inside the block that is open."""
    limits = context.limits
    allowed = strings.limits(limits.images, limits.image_mb, limits.upload_mb, limits.seconds, limits.keep_minutes)
    gr.Markdown(f"# {strings.VIDEO}\n{strings.VIDEO_LEAD}", elem_classes="vk-head")
    model, note = model_choice(context, None, elem_id="vk-model")
    private: dict[str, Any] = {"api_visibility": "private"}
    model.change(lambda name: note_of(context.model_registry, name), model, note, show_progress="hidden", **private)
    with gr.Tabs():
        with gr.Tab(strings.VIDEO_FILE), gr.Row(equal_height=False):
            with gr.Column():
                file = gr.File(
                    file_types=list(SUFFIXES), label=strings.VIDEO_INPUT, height=160, elem_id="vk-video-file"
                )
                rate = gr.Slider(0.5, 30, 5, step=0.5, label=strings.VIDEO_RATE, elem_id="vk-video-rate")
                gr.Markdown(allowed, elem_classes="vk-facts")
                with gr.Row():
                    start = gr.Button(strings.VIDEO_RUN, variant="primary", elem_id="vk-video-run")
                    stop = gr.Button(strings.STOP, elem_id="vk-video-stop")
            with gr.Column():
                message = gr.Markdown(strings.EMPTY, elem_id="vk-message")
                seen = drawing_component("jpeg")
                drawn = gr.Video(label=strings.VIDEO_DRAWN, visible=False, interactive=False, elem_id="vk-video-drawn")
                records = gr.DownloadButton(strings.VIDEO_RECORDS, visible=False, size="sm", elem_id="vk-video-records")
        with gr.Tab(strings.VIDEO_LIVE), gr.Row(equal_height=False):
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

    def work(path: str | None, name: str | None, rate: float) -> Iterator[tuple[Any, ...]]:
        hidden = gr.update(visible=False)
        folder = Path(tempfile.mkdtemp(dir=context.scratch))
        sent = 0.0
        done, fault = 0, ""
        try:
            upload = next(iter(uploads_of([path] if path else [])), None)
            for look in videos.watch(context.job_queue, name, upload, float(rate), folder):
                done, fault = look.done, look.fault
                if time.monotonic() - sent > EVERY:
                    sent = time.monotonic()
                    words = strings.plain(f"{look.seconds:.1f} s: {look.message}")
                    yield f"{strings.seen(look.done, look.total, 'frames')}  \n{words}", look.drawn, hidden, hidden
        except Exception as error:
            yield failure(error), None, hidden, hidden
        else:
            yield (
                strings.seen(done, done, "frames") + (f"  \n{strings.fault(fault)}" if fault else ""),
                gr.skip(),
                gr.update(value=str(folder / "video.mp4"), visible=True),
                gr.update(value=str(folder / "frames.jsonl"), visible=True),
            )

    def look(given: Upload | Any, name: str | None) -> tuple[Any, str]:
        if given is None:
            return gr.skip(), gr.skip()
        found, fault = attempt(lambda: context.job_queue.ask(name, given, channel="video"))
        if found is None:
            return None, fault
        return drawing(found.prediction, found.image), strings.plain(found.prediction.text(5))

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

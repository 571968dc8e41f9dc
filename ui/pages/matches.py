"""Below the page of patch matching: which points of two photographs are the same, and how the views are related."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import gradio as gr

from ui import strings
from ui.drawings import as_sent
from ui.inference import Upload, opened
from ui.pages.base import Context, attempt, image_input, offered
from ui.pages.examples import example_views
from ui.server.job_queue import JobQueue
from ui.views.base import drawing_component
from visionkit.errors import UsageError
from visionkit.image_matching import CLASSIC_RATIO, MODEL_RATIO

TASK = "patch_matching"


def matched(
    job_queue: JobQueue,
    first: Upload | None,
    second: Upload | None,
    model: str | None,
    kind: str,
    ratio: float,
    outliers: bool,
) -> tuple[Any, str, str]:
    """The drawing, what was found in words, and as json.

    Args:
        job_queue: Where the work is admitted.
        first: The first photograph.
        second: The second one.
        model: Name of a model of patch matching whose branch describes the keypoints; SIFT where it is empty.
        kind: What relates the views, see `match_images`.
        ratio: See `match_images`.
        outliers: Whether matches that do not agree are drawn too.

    Raises:
        VisionKitError: An image is missing or cannot be used, or the model describes no patches.
    """
    if first is None or second is None:
        raise UsageError(strings.MATCHES_NEED)
    sources = opened(first, job_queue.limits), opened(second, job_queue.limits)

    def work(check: Callable[[], None]) -> tuple[Any, str, str]:
        from visionkit.drawing.image_matches import draw_matches
        from visionkit.image_matching.matching import match_images

        one, other = (source.read(3) for source in sources)
        check()
        options: dict[str, Any] = {"model_kind": kind, "ratio": ratio}
        if model:
            from tasks.patch_matching.describing import PatchDescriptor

            loaded = job_queue.model_registry.get(model)
            with loaded.lock:
                check()
                found = match_images(one, other, PatchDescriptor(loaded.predictor().task), **options)
        else:
            found = match_images(one, other, **options)
        names = {"first": first.name, "second": second.name}
        return (
            as_sent(draw_matches(found, one, other, outliers)),
            found.text(),
            json.dumps({**names, **found.to_json()}),
        )

    return job_queue.run(work, model or None)


def build(context: Context) -> None:
    """Makes the components and their events inside the block that is open."""

    def describers() -> list[tuple[str, str]]:
        return [("SIFT", ""), *((entry.title, entry.name) for entry in offered(context.model_registry, TASK))]

    gr.Markdown(f"## {strings.MATCHES}\n{strings.MATCHES_LEAD}")
    with gr.Row():
        first = image_input(strings.MATCHES_ONE, 240, elem_id="vk-matches-first")
        second = image_input(strings.MATCHES_OTHER, 240, elem_id="vk-matches-second")
    with gr.Row():
        model = gr.Dropdown(describers(), value="", label=strings.MATCHES_MODEL, elem_id="vk-matches-model")
        kind = gr.Radio(strings.MATCHES_KINDS, value="homography", label=strings.MATCHES_KIND)
        ratio = gr.Slider(
            0.5, 1, CLASSIC_RATIO, step=0.01, label=strings.MATCHES_RATIO, info=strings.MATCHES_RATIO_HINT
        )
        outliers = gr.Checkbox(False, label=strings.MATCHES_OUTLIERS)
    button = gr.Button(strings.MATCHES_RUN, variant="primary", elem_id="vk-matches-run")
    words = gr.Markdown(elem_id="vk-matches-words")
    drawn = drawing_component("jpeg")
    file = gr.DownloadButton(strings.MATCHES_FILE, visible=False, elem_id="vk-matches-json")
    gr.Examples(example_views(context.scratch), [first, second], label=strings.EXAMPLES, cache_examples=False)

    def show(*given: Any) -> tuple[Any, str, Any]:
        found, fault = attempt(matched, context.job_queue, *given)
        if found is None:
            return None, fault, gr.update(visible=False)
        image, text, record = found
        path = context.downloads.save("matches", ".json", record)
        return image, strings.plain(text), gr.update(value=path, visible=True)

    private: dict[str, Any] = {"api_visibility": "private"}
    button.click(
        show, [first, second, model, kind, ratio, outliers], [drawn, words, file], concurrency_id="network", **private
    )
    model.change(lambda name: MODEL_RATIO if name else CLASSIC_RATIO, model, ratio, show_progress="hidden", **private)
    blocks = gr.context.Context.root_block
    assert blocks is not None
    # A model that was trained since the server began is offered too.
    blocks.load(lambda: gr.update(choices=describers()), None, model, show_progress="hidden", **private)

"""The page that runs a model on one image: of all models, or of those of one task."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from ui import strings
from ui.coco_results import as_coco
from ui.inference import InferenceResult, Upload
from ui.model_registry import ModelRegistry
from ui.pages.base import (
    Context,
    attempt,
    card_of,
    choices,
    detector_choice,
    detector_of,
    detectors,
    entry_of,
    failure,
    image_input,
    model_choice,
    note_of,
    offered,
    takes_crops,
)
from ui.pages.examples import example_pairs, examples
from ui.pages.further import FurtherInputs, label_of
from ui.server.routes import listed
from ui.views import CallOption, PredictionView, drawing_component, option_of, views_of
from visionkit.errors import UsageError, VisionKitError
from visionkit.novelty import novelty_sentence
from visionkit.registry import task_pages


def build(context: Context, views: Mapping[str, PredictionView], task: str | None = None) -> None:
    """Makes the page inside the block that is open.

    Args:
        context: What the page is made for.
        views: Views of the types of predictions that its models give.
        task: Whose models are offered; all by default, with a choice among the tasks.
    """
    model_registry, downloads, job_queue = context.model_registry, context.downloads, context.job_queue
    pages = task_pages()
    title, lead = (pages[task].title, pages[task].question) if task else (strings.TITLE, strings.LEAD)
    gr.Markdown(f"# {title}\n{lead}", elem_classes="vk-head")
    chosen: Any  # the task whose models are offered
    with gr.Row(equal_height=False, elem_classes="vk-main"):
        with gr.Column(elem_classes="vk-ask"):
            if task is None:
                every = [(strings.ANY_TASK, ""), *((page.title, key) for key, page in pages.items())]
                chosen = gr.Dropdown(every, value="", label=strings.TASK, elem_id="vk-task")
            else:
                chosen = gr.State(task)
            model, note = model_choice(context, task, elem_id="vk-model")
            detector = gr.Dropdown(
                detectors(model_registry, model.value),
                value="",
                label=strings.DETECTOR,
                info=strings.DETECTOR_HINT,
                visible=takes_crops(model_registry, model.value),
                elem_id="vk-detector",
            )
            option = option_of(views)
            control = _control(context, option, model.value)
            first, *others = model_registry.inputs(model.value, task=task)
            image = image_input(label=label_of(first, bool(others)), elem_id="vk-input")
            beside = FurtherInputs(model_registry, context.limits, task, model.value)
        with gr.Column(elem_classes="vk-examples"):
            found: list[Any]
            if task and beside.images:
                places = [image, *beside.images.values()]
                found = example_pairs(context.scratch, model_registry.entries(), task, [first, *beside.images])
            else:
                places, found = [image], examples(context.scratch, model_registry.entries(), task)
            if found:
                gr.Examples(found, places, label=strings.EXAMPLES, cache_examples=False, examples_per_page=24)
        with gr.Column(elem_classes="vk-prediction"):
            message = gr.Markdown(strings.EMPTY if model.value else strings.NO_MODELS, elem_id="vk-message")
            columns, components = [], []
            for kind, view in views.items():
                with gr.Column(visible=False, elem_id=f"vk-{kind}") as column:
                    components.append(list(view.build(downloads)))
                columns.append(column)
            facts = gr.Markdown(visible=False, elem_classes="vk-facts", elem_id="vk-facts")
            download = gr.DownloadButton(strings.DOWNLOAD, visible=False, size="sm", elem_id="vk-download")
            coco = gr.DownloadButton(strings.COCO, visible=False, size="sm", elem_id="vk-coco")
            with gr.Accordion(strings.RAW, open=False, visible=False) as raw_box:
                raw = gr.JSON(show_label=False, max_height=320, open=False)
    why = _why(context, image, model)
    with gr.Accordion(strings.CARD, open=False, elem_id="vk-card"):
        card = gr.Markdown(card_of(model_registry, model.value))
    with gr.Accordion(strings.USE, open=False, elem_id="vk-use"):
        gr.Markdown(strings.program(context.address))

    shown = [
        message,
        *columns,
        *(each for group in components for each in group),
        facts,
        download,
        coco,
        raw_box,
        raw,
        *why,
    ]

    def show(
        upload: Upload | None,
        name: str | None,
        finds: str | None = None,
        value: str | None = None,
        *further: Any,
        progress: Any = gr.Progress(),  # noqa: B008
    ) -> dict[Any, Any]:
        hidden: dict[Any, Any] = {
            each: gr.update(visible=False) for each in (*columns, facts, download, coco, raw_box, why[0])
        }
        if upload is None:
            return {**hidden, message: gr.update(value=strings.EMPTY, visible=True)}
        try:
            given = beside.given(name, upload, further)
            if given.missing:
                lacking = strings.further_inputs(given.missing)
                return {**hidden, message: gr.update(value=lacking, visible=True)}
            turned = {option.name: float(value)} if option and value and _takes(model_registry, name, option) else {}
            result = job_queue.ask(
                name,
                upload,
                detector_of(model_registry, name, finds),
                lambda done, total: progress((done, total), unit="parts"),
                options=given.options | turned,
                others=given.others,
            )
            prediction = result.prediction
            if prediction.kind not in views:
                raise UsageError(
                    f"this model predicts {prediction.kind}, which this page does not show; take the first page"
                )
            number = list(views).index(prediction.kind)
            values = views[prediction.kind].show(prediction, result.image, downloads)
        except Exception as error:
            return {**hidden, message: gr.update(value=failure(error), visible=True)}
        record = prediction.summary()
        remarks = strings.remarks(prediction.nothing(), novelty_sentence(result.novelty), result.cautions)
        text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
        times = strings.facts(result.decode, result.network, result.total, *result.image.shape[:2])
        return {
            **hidden,
            message: gr.update(value=remarks, visible=bool(remarks)),
            columns[number]: gr.update(visible=True),
            **dict(zip(components[number], values, strict=True)),
            facts: gr.update(value=times, visible=True),
            download: gr.update(value=downloads.save(upload.name, ".json", text), visible=True),
            **({coco: gr.update(value=saved, visible=True)} if (saved := _coco(context, upload, result)) else {}),
            raw_box: gr.update(visible=True),
            raw: record,
            **_asked_why(why, views[prediction.kind], prediction),
        }

    def renew(name: str | None, of: str | None) -> Any:
        found, default = choices(offered(model_registry, of))
        # A name that is sent back would undo what a visitor chose while the list was being read.
        return gr.update(choices=found) if name else gr.update(choices=found, value=default)

    def narrowed(of: str | None) -> Any:
        found, default = choices(offered(model_registry, of))
        return gr.update(choices=found, value=default)

    private: dict[str, Any] = {"api_visibility": "private"}
    gr.on(
        [
            *(each.change for each in (image, *beside.components)),
            model.change,
            detector.input,
            *([control.input] if option else []),
        ],
        show,
        [image, model, detector, control, *beside.components],
        shown,
        trigger_mode="always_last",
        concurrency_id="network",
        concurrency_limit=job_queue.limits.concurrency,
        show_progress_on=[message, facts],  # the one is hidden where the other is shown
        **private,
    )
    model.change(
        lambda name: (
            note_of(model_registry, name),
            card_of(model_registry, name),
        ),
        model,
        [note, card],
        show_progress="hidden",
        **private,
    )
    blocks = gr.context.Context.root_block
    assert blocks is not None
    # A checkpoint describes it once it is opened, which waits for torch.
    gr.on(
        [model.change, blocks.load],
        partial(detector_choice, model_registry),
        [model, detector],
        detector,
        show_progress="hidden",
        **private,
    )
    beside.wire(image, model, blocks.load)
    if option:
        model.change(
            lambda name: gr.update(visible=_takes(model_registry, name, option)),
            model,
            control,
            show_progress="hidden",
            **private,
        )
    if task is None:
        chosen.input(narrowed, chosen, model, show_progress="hidden", **private)
        _programs(context, image, model)
    blocks.load(renew, [model, chosen], model, show_progress="hidden", **private)


def _takes(model_registry: ModelRegistry, name: str | None, option: CallOption) -> bool:
    """Whether a model's call may have the option; of a checkpoint nobody knows before it is loaded."""
    entry = entry_of(model_registry, name)
    if entry is None or entry.fault:
        return False
    return option_of(views_of(entry.task)) == option


def _control(context: Context, option: CallOption | None, name: str | None) -> Any:
    """The choice of what the page offers of the call, where it offers something."""
    if option is None:
        return gr.State("")
    values = [(strings.AS_THE_MODEL, ""), *((f"{value:g}", f"{value:g}") for value in option.values)]
    visible = _takes(context.model_registry, name, option)
    return gr.Dropdown(values, value="", label=option.label, info=option.info, visible=visible, elem_id="vk-control")


def _coco(context: Context, upload: Upload, result: InferenceResult) -> str | None:
    """Path of the COCO results of a prediction that has some."""
    height, width = result.image.shape[:2]
    text = as_coco(result.prediction, upload.name, (height, width))
    return context.downloads.save(f"{Path(upload.name).stem}-coco", ".json", text) if text else None


def _why(context: Context, image: Any, model: Any) -> tuple[Any, Any, Any, Any]:
    """The part that shows on what a prediction rests, and its events."""
    with gr.Accordion(strings.WHY, open=False, visible=False, elem_id="vk-why") as box:
        gr.Markdown(strings.EXPLANATION_NOTE)
        with gr.Row():
            name = gr.Dropdown([], label=strings.WHY_CLASS, elem_id="vk-why-class")
            button = gr.Button(strings.WHY, elem_id="vk-why-button")
        message = gr.Markdown()
        drawn = drawing_component("jpeg")

    def explain(upload: Upload | None, model: str | None, name: str | None) -> tuple[Any, str]:
        return attempt(context.job_queue.explain, model, upload, name)

    button.click(explain, [image, model, name], [drawn, message], concurrency_id="network", api_visibility="private")
    return box, name, message, drawn


def _asked_why(why: tuple[Any, Any, Any, Any], view: PredictionView, prediction: Any) -> dict[Any, Any]:
    """What the part begins with after a prediction."""
    box, name, message, drawn = why
    names = view.classes(prediction) if view.classes else []
    if not names:
        return {}
    return {
        box: gr.update(visible=True),
        name: gr.update(choices=names, value=names[0]),
        message: "",
        drawn: None,
    }


def _programs(context: Context, image: Any, model: Any) -> None:
    """What programs call: components that no page shows, so that the names and types stay as they are."""
    outlet, options = gr.JSON(visible=False), gr.JSON({}, visible=False)

    def predict(image: Upload | None, model: str, options: dict[str, Any] | None = None) -> dict[str, Any]:
        if not isinstance(model, str) or not isinstance(options or {}, dict):
            raise gr.Error(strings.UNFIT, print_exception=False)
        try:
            found = context.job_queue.ask(model, image, channel="program", options=options, strict=True)
            return found.prediction.to_json()
        except VisionKitError as error:
            # To a program, as it stands: what is shown on a page is escaped there.
            raise gr.Error(" ".join(str(error).split()), print_exception=False) from None

    def models() -> list[dict[str, Any]]:
        return [listed(entry) for entry in context.model_registry.entries()]

    # Two of them, since requests by hand have to give as many values as an endpoint takes.
    for name, more, words in (("predict", [], ""), ("predict_with_options", [options], ", by options of the call")):
        gr.Button(visible=False).click(
            predict,
            [image, model, *more],
            outlet,
            api_name=name,
            concurrency_id="network",
            api_description=f"The prediction of one model on one image{words}: what Prediction.to_json() gives.",
        )
    gr.Button(visible=False).click(
        models, None, outlet, api_name="models", api_description="The models to choose from."
    )

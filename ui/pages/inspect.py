"""The page that shows what is inside a model: layers, receptive fields, feature maps, evidence."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gradio as gr

from ui import data_strings, strings
from ui.drawings import as_sent
from ui.inference import Upload, opened
from ui.pages.base import Context, ToolPage, attempt, image_input, model_choice, note_of
from ui.pages.examples import examples
from visionkit.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from visionkit.inspection import Report
    from visionkit.predictor import Predictor

COLUMNS = ("layer", "kind", "output", "parameters", "multiply-adds", "field")
"""Columns of the layer table, as the report of an inspection has them."""

METHODS = ("grad-cam", "grad-cam++", "score-cam", "attention-rollout")
"""Those of `visionkit.explain`, which would import torch before the page is asked for."""

SAMPLES = 2
"""Noise images of an effective receptive field: fewer than in the terminal, since somebody waits."""


def build(context: Context) -> None:
    """Makes the page inside the block that is open."""
    inside = _Inside(context)
    gr.Markdown(f"# {data_strings.INSPECT}\n{data_strings.INSPECT_LEAD}", elem_classes="vk-head")
    with gr.Row(elem_classes="vk-compare"):
        with gr.Column():
            model, note = model_choice(context, None, elem_id="vk-model")
            message = gr.Markdown(elem_id="vk-inspect-message")
        with gr.Column():
            image = image_input(height=220, elem_id="vk-input")
            gr.Examples(
                examples(context.scratch, context.model_registry.entries()),
                image,
                label=strings.EXAMPLES,
                cache_examples=False,
                examples_per_page=8,
            )
    with gr.Tabs():
        with gr.Tab(data_strings.INSPECT_LAYERS):
            table = gr.Dataframe(
                headers=data_strings.INSPECT_COLUMNS,
                interactive=False,
                show_label=False,
                max_height=480,
                elem_id="vk-layers",
            )
        with gr.Tab(data_strings.INSPECT_FIELD):
            field_layer = _layers("vk-field-layer")
            draw_field = gr.Button(data_strings.INSPECT_DRAW, variant="primary", elem_id="vk-field-draw")
            field = _drawing("vk-field")
            field_words = gr.Markdown(data_strings.INSPECT_FIELD_NOTE, elem_classes="vk-facts")
        with gr.Tab(data_strings.INSPECT_MAPS):
            maps_layer = _layers("vk-maps-layer")
            draw_maps = gr.Button(data_strings.INSPECT_DRAW, variant="primary", elem_id="vk-maps-draw")
            maps = _drawing("vk-maps")
            maps_words = gr.Markdown(data_strings.INSPECT_IMAGE_FIRST, elem_id="vk-maps-words", elem_classes="vk-facts")
        with gr.Tab(data_strings.INSPECT_EVIDENCE):
            with gr.Row():
                method = gr.Dropdown(list(METHODS), value=METHODS[0], label=data_strings.INSPECT_METHOD)
                name = gr.Dropdown([], label=strings.WHY_CLASS, allow_custom_value=False, elem_id="vk-evidence-class")
            draw_evidence = gr.Button(data_strings.INSPECT_DRAW, variant="primary", elem_id="vk-evidence-draw")
            evidence = _drawing("vk-evidence")
            evidence_words = gr.Markdown(strings.EXPLANATION_NOTE, elem_id="vk-evidence-words", elem_classes="vk-facts")
    private: dict[str, Any] = {"api_visibility": "private", "concurrency_id": "network"}
    blocks = gr.context.Context.root_block
    assert blocks is not None
    registry = context.model_registry
    about = [table, message, field_layer, maps_layer, name]
    model.change(lambda name: note_of(registry, name), model, note, show_progress="hidden", api_visibility="private")
    for event in (blocks.load, model.change):
        event(inside.layers, model, about, **private)
    draw_field.click(inside.field, [model, field_layer], [field, field_words], **private)
    draw_maps.click(inside.maps, [model, image, maps_layer], [maps, maps_words], **private)
    draw_evidence.click(inside.evidence, [model, image, method, name], [evidence, evidence_words], **private)


def _layers(name: str) -> Any:
    return gr.Dropdown([], label=data_strings.INSPECT_LAYER, elem_id=name)


def _drawing(name: str) -> Any:
    return gr.Image(
        show_label=False,
        interactive=False,
        visible=False,
        format="png",
        buttons=["download", "fullscreen"],
        elem_id=name,
    )


class _Inside:
    """What the events of the page do with a model, when it is their turn.

    Args:
        context: Context of the page.
    """

    def __init__(self, context: Context) -> None:
        self.context = context

    def _run(self, name: str | None, work: Callable[[Predictor], Any]) -> tuple[Any, str]:
        """What the work gives of a model, or why it gives nothing, in words."""

        def admitted(check: Callable[[], None]) -> Any:
            if not name or not name.strip():
                raise UsageError("choose a model first")
            loaded = self.context.model_registry.get(name.strip())
            with loaded.lock:
                predictor = loaded.predictor()
                check()
                return work(predictor)

        return attempt(lambda: self.context.job_queue.run(admitted, name, "inspect"))

    def layers(self, name: str | None) -> list[Any]:
        """The layers of a model, and what can be chosen among them."""

        def work(predictor: Predictor) -> list[Any]:
            from visionkit.explain import can_explain

            report = _inspected(predictor)
            rows = [[row[column] for column in COLUMNS] for row in report.rows()]
            known = [layer for layer in report.layers if layer.field is not None and layer.name != "(network)"]
            maps = [layer.name for layer in known if layer.field and len(layer.field.axes) == 2]
            fields = [layer.name for layer in known if layer.name in maps and len(layer.output) == 3]
            tokens = [layer.name for layer in known if layer.field and layer.field.axes]
            named = list(predictor.task.classes) if can_explain(predictor.task) else []
            classes = gr.update(choices=[(data_strings.INSPECT_BEST, ""), *named], value="", visible=bool(named))
            return [rows, _sums(report), _last(fields), _last(tokens), classes]

        found, fault = self._run(name, work)
        return found or [[], fault, _last([]), _last([]), gr.update(choices=[], value=None)]

    def field(self, name: str | None, layer: str | None) -> tuple[Any, str]:
        """How far a layer sees."""

        def work(predictor: Predictor) -> tuple[np.ndarray, str]:
            from visionkit.inspection.effective_field import effective_field
            from visionkit.inspection.layer_names import find_layer

            network = predictor.task.network
            whole = find_layer(network, _chosen(layer))[0]
            report = _inspected(predictor)
            known = report.field_of(whole)
            shapes = [(1, *shape) for shape in report.inputs]
            found = effective_field(network, shapes, whole, known.axes if known else (2, 3), samples=SAMPLES)
            return found.draw(
                known
            ), f"{whole}: effective field {found.size:.0f} pixels. {data_strings.INSPECT_FIELD_NOTE}"

        return _drawn(*self._run(name, work))

    def maps(self, name: str | None, upload: Upload | None, layer: str | None) -> tuple[Any, str]:
        """What a layer gives for an image."""

        def work(predictor: Predictor) -> tuple[np.ndarray, str]:
            from visionkit.inspection.feature_maps import LIMIT, grid, maps_of

            found = maps_of(predictor, self._image(upload), _chosen(layer))
            shown = min(len(found), LIMIT)
            return grid(found), f"{shown} of {len(found)} maps of {layer}, {found.shape[1]} × {found.shape[2]}"

        return _drawn(*self._run(name, work))

    def evidence(self, name: str | None, upload: Upload | None, method: str, of: str | None) -> tuple[Any, str]:
        """Where in an image the evidence for a class lies."""

        def work(predictor: Predictor) -> tuple[np.ndarray, str]:
            from visionkit.drawing.activation import heat
            from visionkit.explain import can_explain, explain, explain_object

            source = self._image(upload)
            if can_explain(predictor.task):
                found = explain(predictor, source, of or None, method)
            else:  # of a model that finds objects, the highest-scoring one
                found = explain_object(predictor, source, 0, method=method)
            return heat(found, source.read()), f"{found.name}. {strings.EXPLANATION_NOTE}"

        return _drawn(*self._run(name, work))

    def _image(self, upload: Upload | None) -> Any:
        if upload is None:
            raise UsageError("give an image first")
        return opened(upload, self.context.limits)


def _last(names: list[str]) -> Any:
    """Layers to choose from; the last one of the backbone is chosen, of a network without one the last of all."""
    chosen = [name for name in names if name.startswith("backbone.")] or names
    return gr.update(choices=names, value=chosen[-1] if chosen else None)


def _sums(report: Report) -> str:
    sums = report.sums()
    parts = [f"{sums['parameters']:,} parameters", f"{sums['multiply-adds']:,} multiply-adds"]
    shapes = " and ".join(" × ".join(map(str, shape)) for shape in report.inputs)
    return strings.plain(f"{', '.join(parts)} for one input of {shapes}")


def _chosen(layer: str | None) -> str:
    if not layer:
        raise UsageError("choose a layer first")
    return layer


def _drawn(found: Any, fault: str) -> tuple[Any, str]:
    if found is None:
        return gr.update(visible=False), fault
    return gr.update(value=as_sent(found[0]), visible=True), strings.plain(found[1])


def _inspected(predictor: Predictor) -> Report:
    from visionkit.inspection import Target, inspect_network

    task = predictor.task
    shapes = tuple(tuple(each.shape) for each in task.example_inputs(1))
    target = Target(task.source, task.network, shapes, task)
    return inspect_network(target.network, target.inputs(), target.name)


PAGE = ToolPage(data_strings.INSPECT, "inspect", 70, build)

"""What some models take beside the image: further images, masks that are painted, and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import gradio as gr

from ui import strings
from ui.inference import Upload
from ui.model_registry import ModelRegistry
from ui.pages.base import entry_of, image_input
from ui.pages.brush import Brush
from ui.server.limits import Limits
from visionkit.errors import UsageError
from visionkit.images import ImageSource
from visionkit.registry import task_pages


class Given(NamedTuple):
    """What a visitor gave beside the image.

    Attributes:
        others: Images by the names of the inputs.
        options: Numbers by the same names.
        missing: Labels of the inputs that are not there.
    """

    others: dict[str, Upload | ImageSource]
    options: dict[str, float]
    missing: list[str]


class NumberInputs:
    """Sliders for the numbers that models take beside the image, made in the column that is open.

    A page has them all, and shows those that one of the chosen models takes.

    Args:
        model_registry: Model registry of the models.
        task: Whose models are offered; all by default.
        models: Names of those that are chosen at first.
    """

    def __init__(self, model_registry: ModelRegistry, task: str | None, models: Sequence[str | None]) -> None:
        self._model_registry, self._task = model_registry, task
        shown = {name for model in models for name in model_registry.inputs(model, task=task)}
        self.sliders: dict[str, Any] = {}
        for name, how in kinds_of(task).items():
            if not isinstance(how, str):
                label, info = label_of(name, True), self._info(name, models)
                self.sliders[name] = gr.Slider(
                    *how, step=1, label=label, info=info, visible=name in shown, elem_id=f"vk-number-{name}"
                )

    def _info(self, name: str, models: Sequence[str | None]) -> str:
        for model in models:
            entry = entry_of(self._model_registry, model)
            limits = entry.config.get(f"{name}s") if entry is not None else None
            if limits:
                return strings.trained_on(strings.NUMBERS.get(name, ""), limits)
        return strings.NUMBERS.get(name, "")

    @property
    def components(self) -> list[Any]:
        """What a function on the page is called with, in the order of `options`."""
        return [*self.sliders.values()]

    def options(self, model: str | None, values: Sequence[Any]) -> dict[str, float]:
        """What the values of the components are to a model.

        Args:
            model: Name of the model.
            values: Those of `components`.

        Raises:
            UsageError: The model takes something beside the image that is no number.
        """
        given = dict(zip(self.sliders, values, strict=True))
        needed = self._model_registry.inputs(model, opened=True, task=self._task)[1:]
        if images := [label_of(name, True) for name in needed if name not in given]:
            raise UsageError(strings.own_page(str(model), images))
        return {name: float(given[name] or 0) for name in needed}

    def changes(self, models: Sequence[str | None]) -> dict[Any, Any]:
        """What the chosen models change of the components."""
        needed = {name for model in models for name in self._model_registry.inputs(model, opened=True, task=self._task)}
        return {
            each: gr.update(visible=name in needed, info=self._info(name, models))
            for name, each in self.sliders.items()
        }

    def wire(self, models: Sequence[Any], load: Any) -> None:
        """Shows what the chosen models take.

        Args:
            models: The choices of a model.
            load: Event of the page being opened.
        """
        if self.sliders:
            events = [*(model.change for model in models), load]
            gr.on(
                events,
                lambda *names: self.changes(names),
                [*models],
                self.components,
                show_progress="hidden",
                api_visibility="private",
            )


class FurtherInputs:
    """The places of a page for what its models take beside the image, made in the column that is open.

    A page has them all, and shows those of the model that is chosen.

    Args:
        model_registry: Model registry of the models.
        limits: What an image may be.
        task: Whose models are offered; all by default.
        model: Name of the one that is chosen at first.
    """

    def __init__(self, model_registry: ModelRegistry, limits: Limits, task: str | None, model: str | None) -> None:
        self._model_registry, self._task = model_registry, task
        shown = model_registry.inputs(model, task=task)
        self.images: dict[str, Any] = {}
        self.brushes: dict[str, Brush] = {}
        for name, how in kinds_of(task).items():
            label, visible = label_of(name, True), name in shown
            if how == "image":
                self.images[name] = image_input(label=label, elem_id=f"vk-input-{name}", visible=visible)
            elif how == "mask":
                self.brushes[name] = Brush(name, label, limits, visible)
        self.numbers = NumberInputs(model_registry, task, [model])

    @property
    def components(self) -> list[Any]:
        """What a function on the page is called with, in the order of `given`."""
        brushes = (each for brush in self.brushes.values() for each in (brush.file, brush.strokes))
        return [*self.images.values(), *brushes, *self.numbers.components]

    def given(self, model: str | None, image: Upload, values: Sequence[Any]) -> Given:
        """What the values of the components are to a model.

        Args:
            model: Name of the model.
            image: The image beside which they stand.
            values: Those of `components`.

        Raises:
            VisionKitError: An image that cannot be used.
        """
        rest = iter(values)
        images = {name: next(rest) for name in self.images}
        painted = {name: (next(rest), next(rest)) for name in self.brushes}
        numbers = {name: next(rest) for name in self.numbers.sliders}
        out = Given({}, {}, [])
        for name in self._model_registry.inputs(model, opened=True, task=self._task)[1:]:
            if name in numbers:
                out.options[name] = float(numbers[name] or 0)
                continue
            file, strokes = painted.get(name, (None, None))
            sent = self.brushes[name].mask(image, strokes, file) if name in painted else images.get(name)
            if sent is None:
                out.missing.append(label_of(name, True))
            else:
                out.others[name] = sent
        return out

    def wire(self, image: Any, model: Any, load: Any) -> None:
        """Shows what the chosen model takes, and the image on the stages to paint on.

        Args:
            image: Place of the image; its label follows the model.
            model: The choice of a model.
            load: Event of the page being opened.
        """
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        for brush in self.brushes.values():
            gr.on([image.change, brush.file.change], brush.show, [image, brush.file], brush.stage, **quiet)
        if self.images or self.brushes or self.numbers.sliders:
            columns = [brush.column for brush in self.brushes.values()]
            outputs = [image, *self.images.values(), *columns, *self.numbers.components]
            gr.on([model.change, load], lambda name: self._named(image, name), model, outputs, **quiet)

    def _named(self, image: Any, model: str | None) -> dict[Any, Any]:
        first, *needed = self._model_registry.inputs(model, opened=True, task=self._task)
        return {
            image: gr.update(label=label_of(first, bool(set(needed) & set(self.images)))),
            **{each: gr.update(visible=name in needed) for name, each in self.images.items()},
            **{each.column: gr.update(visible=name in needed) for name, each in self.brushes.items()},
            **self.numbers.changes([model]),
        }


def kinds_of(task: str | None) -> dict[str, Any]:
    """How each input is asked for that a model of a task may have, or one of any task."""
    pages = task_pages()
    return {name: how for key, page in pages.items() if task in (None, key) for name, how in page.also.items()}


def label_of(name: str, several: bool) -> str:
    """The label of an input; a single image is called so."""
    return name.replace("_", " ").capitalize() if several else strings.IMAGE

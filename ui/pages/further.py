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
        self.numbers: dict[str, Any] = {}
        for name, how in self._kinds().items():
            label, visible = label_of(name, True), name in shown
            if how == "image":
                self.images[name] = image_input(label=label, elem_id=f"vk-input-{name}", visible=visible)
            elif how == "mask":
                self.brushes[name] = Brush(name, label, limits, visible)
            else:
                least, most, first = how
                info = self._info(name, model)
                self.numbers[name] = gr.Slider(
                    least, most, first, step=1, label=label, info=info, visible=visible, elem_id=f"vk-number-{name}"
                )

    def _kinds(self) -> dict[str, Any]:
        """How each input is asked for that a model of the page may have."""
        pages = task_pages()
        return {
            name: how for key, page in pages.items() if self._task in (None, key) for name, how in page.also.items()
        }

    def _info(self, name: str, model: str | None) -> str:
        entry = entry_of(self._model_registry, model)
        limits = entry.config.get(f"{name}s") if entry is not None else None
        return strings.trained_on(strings.NUMBERS.get(name, ""), limits)

    @property
    def components(self) -> list[Any]:
        """What a function on the page is called with, in the order of `given`."""
        brushes = (each for brush in self.brushes.values() for each in (brush.file, brush.strokes))
        return [*self.images.values(), *brushes, *self.numbers.values()]

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
        numbers = {name: next(rest) for name in self.numbers}
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
        if self.images or self.brushes or self.numbers:
            columns = [brush.column for brush in self.brushes.values()]
            outputs = [image, *self.images.values(), *columns, *self.numbers.values()]
            gr.on([model.change, load], lambda name: self._named(image, name), model, outputs, **quiet)

    def _named(self, image: Any, model: str | None) -> dict[Any, Any]:
        first, *needed = self._model_registry.inputs(model, opened=True, task=self._task)
        return {
            image: gr.update(label=label_of(first, bool(set(needed) & set(self.images)))),
            **{each: gr.update(visible=name in needed) for name, each in self.images.items()},
            **{each.column: gr.update(visible=name in needed) for name, each in self.brushes.items()},
            **{
                each: gr.update(visible=name in needed, info=self._info(name, model))
                for name, each in self.numbers.items()
            },
        }


def label_of(name: str, several: bool) -> str:
    """The label of an input; a single image is called so."""
    return name.replace("_", " ").capitalize() if several else strings.IMAGE

"""The page that browses a data set: thumbnails with labels, filters, a large image, before and after augmentation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from ui import data_strings
from ui.drawings import as_sent
from ui.pages.base import Context, ToolPage, attempt

if TYPE_CHECKING:
    import numpy as np

    from ui.data_sets import DataSet
    from visionkit.browsing.items import Filter, Item

SHOWN = 18
"""Samples of a page."""

THUMBNAIL = 240
"""Longer side of a thumbnail in pixels."""

Place = tuple[str, int]  # split and number


def build(context: Context) -> None:
    """Makes the page inside the block that is open."""
    sets = context.data_sets
    gr.Markdown(f"# {data_strings.DATA}\n{data_strings.DATA_LEAD}", elem_classes="vk-head")
    with gr.Row():
        data = gr.Dropdown(sets.choices(), value=sets.first, label=data_strings.DATA_SET, elem_id="vk-data", scale=2)
        view = gr.Dropdown(_views(False, True), value="labels", label=data_strings.DATA_SHOW, elem_id="vk-data-view")
        split = _choice(data_strings.DATA_SPLIT, "vk-data-split")
        name = _choice(data_strings.DATA_CLASS, "vk-data-class")
        size = _choice(data_strings.DATA_SIZE, "vk-data-size")
        finding = _choice(data_strings.DATA_FINDING, "vk-data-finding")
    with gr.Row(elem_classes="vk-browse"):
        with gr.Column(scale=3):
            gallery = gr.Gallery(
                show_label=False,
                columns=3,
                height="auto",
                object_fit="contain",
                allow_preview=False,
                interactive=False,
                format="jpeg",
                elem_id="vk-data-gallery",
                buttons=[],
            )
            with gr.Row():
                back = gr.Button(data_strings.DATA_PREVIOUS, elem_id="vk-data-back", interactive=False)
                where = gr.Markdown(elem_id="vk-data-where", elem_classes="vk-facts")
                ahead = gr.Button(data_strings.DATA_NEXT, elem_id="vk-data-next", interactive=False)
        with gr.Column(scale=2, elem_classes="vk-browse-large"):
            words = gr.Markdown(data_strings.DATA_CHOOSE, elem_id="vk-data-words")
            labeled = _large(data_strings.DATA_LABELS, "labeled")
            augmented = _large(data_strings.DATA_AUGMENTED, "augmented")
            again = gr.Button(data_strings.DATA_AGAIN, visible=False, elem_id="vk-data-again")
            models = [(data_strings.DATA_NO_MODEL, ""), *((entry.title, entry.name) for entry in _usable(context))]
            model = gr.Dropdown(models, value="", label=data_strings.DATA_MODEL, visible=False, elem_id="vk-data-model")
            predicted = _large(data_strings.DATA_PREDICTION, "predicted")
    first, places, chosen, epoch = gr.State(0), gr.State([]), gr.State(None), gr.State(0)
    browsing = _Browsing(context)
    filters = [data, view, split, name, size, finding]
    page = [gallery, where, back, ahead, first, places]
    large = [words, labeled, augmented, predicted, again, model]
    private: dict[str, Any] = {"api_visibility": "private", "concurrency_id": "network"}
    blocks = gr.context.Context.root_block
    assert blocks is not None
    for event in (blocks.load, data.change):
        event(browsing.opened, data, [view, split, name, size, finding], **private).then(
            browsing.begun, filters, page, **private
        )
    for each in (view, split, name, size, finding):
        each.input(browsing.begun, filters, page, **private)
    back.click(lambda *given: browsing.turned(*given, -SHOWN), [*filters, first], page, **private)
    ahead.click(lambda *given: browsing.turned(*given, SHOWN), [*filters, first], page, **private)
    gallery.select(browsing.chosen, [data, places, model], [chosen, epoch, *large], **private)
    again.click(browsing.augmented_again, [data, chosen, epoch], [augmented, epoch], **private)
    model.input(browsing.predicted, [data, chosen, model], [predicted, words], **private)


def _choice(label: str, name: str) -> Any:
    return gr.Dropdown([(data_strings.DATA_ANY, "")], value="", label=label, visible=False, elem_id=name)


def _large(label: str, part: str) -> Any:
    return gr.Image(
        label=label,
        interactive=False,
        visible=False,
        format="jpeg",
        buttons=["download", "fullscreen"],
        elem_id=f"vk-data-{part}",
        alt_text=label,
    )


def _views(with_model: bool, augments: bool) -> list[tuple[str, str]]:
    names = (["prediction"] if with_model else []) + ["labels"] + (["augmented"] if augments else [])
    return [(data_strings.DATA_VIEWS[each], each) for each in names]


def _usable(context: Context) -> list[Any]:
    return [entry for entry in context.model_registry.entries() if not entry.fault]


class _Browsing:
    """What the events of the page do, when it is their turn.

    Args:
        context: Context of the page.
    """

    def __init__(self, context: Context) -> None:
        self.context = context

    def _run(self, work: Callable[[DataSet, Callable[[], None]], Any], name: str | None) -> tuple[Any, str]:
        """What the work gives of a data set, or why it gives nothing, in words."""

        def admitted(check: Callable[[], None]) -> Any:
            data = self.context.data_sets.get(name)
            with data.hiding():
                return work(data, check)

        return attempt(lambda: self.context.job_queue.run(admitted, None, "data"))

    def opened(self, name: str | None) -> list[Any]:
        """The filters that distinguish the samples of a data set."""

        def work(data: DataSet, check: Callable[[], None]) -> list[Any]:
            browser = data.browser
            kinds = sorted({each.kind for each in browser.findings})
            sizes = list(data_strings.DATA_SIZES) if browser.has_objects else []
            views = _views(browser.model is not None, browser.augments)
            return [
                gr.update(choices=views, value=views[0][1], visible=len(views) > 1),
                _choices(list(browser.samples)),
                _choices(sorted(browser.classes), least=2),
                _choices(sizes, data_strings.DATA_SIZES),
                _choices(kinds, least=1),
            ]

        found, _ = self._run(work, name)  # the samples, which come next, state what is wrong
        return found or [gr.update(visible=False)] * 5

    def begun(self, *asked: Any) -> list[Any]:
        """The first page of samples."""
        return self._page(asked, 0)

    def turned(self, *given: Any) -> list[Any]:
        """Another page of samples."""
        *asked, first, step = given
        return self._page(asked, max(0, int(first) + step))

    def _page(self, asked: Sequence[Any], first: int) -> list[Any]:
        name, view, *rest = asked

        def work(data: DataSet, check: Callable[[], None]) -> list[Any]:
            from visionkit.browsing.items import Filter

            filter = Filter(*((each,) if each else () for each in rest))
            items = data.browser.find(filter, first, SHOWN + 1, check)
            more, items = len(items) > SHOWN, items[:SHOWN]
            shown = []
            for item in items:
                check()
                shown.append((_thumbnail(data, item, view), f"{Path(item.name).name}: {data.hidden(item.caption)}"))
            words = data_strings.part_of(first, len(items), _number(data, filter), more)
            places = [(item.split, item.number) for item in items]
            return [shown, words, gr.update(interactive=first > 0), gr.update(interactive=more), first, places]

        found, fault = self._run(work, name)
        return found or [[], fault, gr.update(interactive=False), gr.update(interactive=False), 0, []]

    def chosen(self, name: str | None, places: Sequence[Place], model: str | None, event: gr.SelectData) -> list[Any]:
        """The sample that was clicked, large."""
        number = event.index if isinstance(event.index, int) else -1
        if not 0 <= number < len(places):
            return [gr.skip()] * 8
        place = places[number]

        def work(data: DataSet, check: Callable[[], None]) -> list[Any]:
            browser = data.browser
            item = browser.item(*place)
            views, fault = browser.views(item)
            note = "" if browser.model is None else browser.model.notes[item.number]
            augmented = views.get("augmented")
            return [
                data_strings.sample(
                    Path(item.name).name,
                    item.split,
                    data.hidden(item.caption),
                    [(each.kind, data.hidden(each.message)) for each in item.findings],
                    [note, data.hidden(fault)],
                ),
                _shown(views["labels"]),
                _shown(augmented),
                _shown(None if browser.model is None else browser.predicted(item)),
                gr.update(visible=augmented is not None),
                gr.update(visible=browser.model is None and len(_usable(self.context)) > 0),
            ]

        found, fault = self._run(work, name)
        if found is None:
            return [place, 0, fault, *[gr.update(visible=False)] * 5]
        if model:
            found[3], words = self.predicted(name, place, model)
            found[0] = found[0] if isinstance(words, dict) else f"{found[0]}  \n{words}"
        return [place, 0, *found]

    def augmented_again(self, name: str | None, place: Place | None, epoch: int) -> tuple[Any, int]:
        """The chosen sample as another epoch shows it."""
        if place is None:
            return gr.skip(), epoch

        def work(data: DataSet, check: Callable[[], None]) -> np.ndarray:
            return as_sent(data.browser.augmented(data.browser.item(*place), epoch + 1))

        found, _ = self._run(work, name)
        return (gr.skip() if found is None else gr.update(value=found)), epoch + 1

    def predicted(self, name: str | None, place: Place | None, model: str | None) -> tuple[Any, Any]:
        """What a model predicts of the chosen sample; the words stay as they are where it does."""
        if place is None or not model:
            return gr.update(visible=False), gr.skip()

        def work() -> np.ndarray:
            data = self.context.data_sets.get(name)
            with data.hiding():
                sample = data.browser.sample(*place)
                others = dict(list(sample.inputs.items())[1:])
                found = self.context.job_queue.ask(model, sample.image, others=others)  # type: ignore[arg-type]
                return as_sent(found.prediction.draw(found.image))

        drawn, fault = attempt(work)
        return _shown(drawn), fault or gr.skip()


def _choices(values: Sequence[str], titles: dict[str, str] | None = None, least: int = 2) -> Any:
    """A list that is there where it distinguishes something."""
    given = [((titles or {}).get(each, each), each) for each in values]
    return gr.update(choices=[(data_strings.DATA_ANY, ""), *given], value="", visible=len(values) >= least)


def _number(data: DataSet, filter: Filter) -> int | None:
    """Samples that a filter asks for, where nothing has to be read to know it."""
    if filter.classes or filter.sizes or filter.findings or data.browser.model is not None:
        return None
    return sum(len(each) for split, each in data.browser.samples.items() if split in (filter.splits or (split,)))


def _thumbnail(data: DataSet, item: Item, view: str | None) -> np.ndarray:
    import numpy as np

    from visionkit.run_report.sheets import small

    return np.asarray(small(data.browser.view(item, view or "labels"), THUMBNAIL))


def _shown(image: np.ndarray | None) -> Any:
    return gr.update(visible=False) if image is None else gr.update(value=as_sent(image), visible=True)


PAGE = ToolPage(data_strings.DATA, "data", 40, build)

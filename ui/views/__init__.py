"""One view for each type of prediction: which components show it, and what goes into them.

A view is an entry point of the group `visionkit.views` under the type's name. A type without one is shown by its
drawing and its text.
"""

from collections.abc import Mapping
from functools import cache

from ui.drawings import SIDE, drawing
from ui.views.base import PLAIN, CallOption, PredictionView, drawing_component
from visionkit.errors import EnvironmentFault
from visionkit.plugins import installed
from visionkit.registry import task_pages

GROUP = "visionkit.views"


@cache
def views() -> dict[str, PredictionView]:
    """The view of every type that is installed, or that an installed task gives.

    Raises:
        EnvironmentFault: A package brings a view that cannot be imported.
    """
    found = {kind: PLAIN for page in task_pages().values() for kind in page.kinds}
    for point in installed(GROUP):
        try:
            found[point.name] = point.load()
        except (ImportError, AttributeError) as error:
            raise EnvironmentFault(f"the view of {point.name}, {point.value}, cannot be imported: {error}") from error
    return found


def views_of(task: str | None) -> dict[str, PredictionView]:
    """The views that a task's predictions need; all of them where the task or its types are not known."""
    page = task_pages().get(task or "")
    return {kind: views()[kind] for kind in page.kinds} if page and page.kinds else views()


def option_of(views: Mapping[str, PredictionView]) -> CallOption | None:
    """What a page with these views offers of the call; a page has room for one."""
    options = {view.option for view in views.values() if view.option}
    assert len(options) <= 1, f"a page offers one option of the call, not {options}"
    return next(iter(options), None)


__all__ = ["SIDE", "CallOption", "PredictionView", "drawing", "drawing_component", "option_of", "views", "views_of"]

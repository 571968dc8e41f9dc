"""Tasks by name, found through entry points, so the core imports no task and another package can bring one."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from visionkit.errors import UsageError, suggest

if TYPE_CHECKING:
    from visionkit.task import VisionTask

GROUP = "visionkit.tasks"


def _found() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def task_names() -> list[str]:
    """The names of all installed tasks, sorted; imports none of them."""
    return sorted(_found())


def task_packages() -> set[str]:
    """The top-level packages that bring tasks."""
    return {point.module.split(".")[0] for point in _found().values()}


def task_class(name: str) -> type[VisionTask]:
    """Imports the task of that name.

    Raises:
        UsageError: No installed package brings it.
    """
    found = _found()
    if name not in found:
        raise UsageError(
            f"unknown task {name!r}; installed are {', '.join(sorted(found)) or 'none'}{suggest(name, found)}"
        )
    loaded: type[VisionTask] = found[name].load()
    return loaded

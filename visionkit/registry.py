"""Tasks by name, found through entry points, so the core imports no task and another package can bring one.

What a page needs to know of a task is read from the source of its class: the demo makes its pages without torch.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionkit.errors import UsageError, suggest
from visionkit.plugins import installed
from visionkit.signatures import complete

if TYPE_CHECKING:
    from visionkit.task import VisionTask

GROUP = "visionkit.tasks"


@dataclass(frozen=True)
class TaskPage:
    """What a task states of itself for its page in the demo, see `VisionTask`.

    Attributes:
        title: Name of the page.
        question: The question that the task's models are for, in a sentence.
        kinds: Types of predictions that its models give; empty where the task does not state them.
        inputs: Names of its inputs, the reference first.
        also: What some or all of its models take beside the reference, with how a page asks for it, see
            `VisionTask.also_inputs`.
    """

    title: str
    question: str = ""
    kinds: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ("image",)
    also: Mapping[str, str | tuple[float, float, float]] = field(default_factory=dict)


def _found() -> dict[str, EntryPoint]:
    return {point.name: point for point in installed(GROUP)}


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
    complete(loaded)
    return loaded


@cache
def task_pages() -> dict[str, TaskPage]:
    """What every installed task states of itself, by the task's name, in the order of the titles; imports no task."""
    pages = {}
    for name, point in _found().items():
        stated = {"title": name.replace("_", " ").capitalize(), **_stated(point.module, point.attr)}
        inputs = tuple(stated.get("inputs", ("image",)))
        also = dict.fromkeys(inputs[1:], "image") | stated.get("also_inputs", {})
        kinds = tuple(stated.get("kinds", ()))
        pages[name] = TaskPage(stated["title"], stated.get("question", ""), kinds, inputs, also)
    return dict(sorted(pages.items(), key=lambda item: item[1].title))


def _stated(module: str, name: str) -> dict[str, Any]:
    """The plain values that the body of a class assigns; nothing where there is no source to read."""
    top, *rest = module.split(".")
    spec = find_spec(top)  # a top-level package is found without an import
    if spec is None:
        return {}
    folders = [Path(folder).joinpath(*rest) for folder in spec.submodule_search_locations or ()]
    files = [each for folder in folders for each in (folder.with_suffix(".py"), folder / "__init__.py")]
    path = next((each for each in files if each.is_file()), Path(spec.origin or ""))
    body = ast.parse(path.read_text("utf-8")).body if path.suffix == ".py" else []
    classes = [node for node in body if isinstance(node, ast.ClassDef) and node.name == name]
    stated: dict[str, Any] = {}
    for node in classes[-1].body if classes else ():
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        try:
            value = ast.literal_eval(node.value)
        except ValueError:  # not a plain value
            continue
        pairs = zip(target.elts, value, strict=True) if isinstance(target, ast.Tuple) else [(target, value)]
        stated.update({name.id: each for name, each in pairs if isinstance(name, ast.Name)})
    return stated

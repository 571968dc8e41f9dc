"""Tasks and views by entry point; what a page needs of a task is read without importing it."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from tests.real_data import ROOT
from visionkit import registry
from visionkit.errors import EnvironmentFault
from visionkit.registry import TaskPage, task_class, task_names, task_pages


def test_what_is_read_from_the_source_is_what_the_class_states() -> None:
    pages = task_pages()
    assert set(pages) == set(task_names()) and [page.title for page in pages.values()] == sorted(
        page.title for page in pages.values()
    )
    for name, page in pages.items():
        task = task_class(name)
        also = dict.fromkeys(task.inputs[1:], "image") | dict(task.also_inputs)
        assert page == TaskPage(task.title, task.question, task.kinds, task.inputs, also)
        assert page.question and page.kinds


def test_neither_pages_nor_predictions_cost_torch_or_drawing() -> None:
    code = (
        "import sys, visionkit.predictions; from visionkit.registry import task_pages; task_pages();"
        "print([name for name in ('torch', 'cv2', 'gradio', 'tasks', 'visionkit.drawing') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("file", "value"),
    [("lone.py", "lone:Task"), ("pack/__init__.py", "pack:Task"), ("pack/inner/deep.py", "pack.inner.deep:Task")],
)
def test_a_task_of_any_module_is_read(file: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        'raise RuntimeError("imported")\n'
        'class Task(Base):\n    kinds: ClassVar[tuple[str, ...]] = ("a",)\n    title = f"{1}"\n    outputs = Other\n'
        '    monitor, question = ("val/mae", "min"), "What?"\n    network: Module\n'
    )
    if "/" in file:
        (tmp_path / "pack" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert _pages(value, monkeypatch) == {"my_task": TaskPage("My task", "What?", ("a",))}


@pytest.mark.parametrize("value", ["nowhere_at_all:Task", "tests:Task", "sys:Task", "tests.visionkit.nothing:Task"])
def test_a_task_without_source_has_its_name_for_a_title(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _pages(value, monkeypatch) == {"my_task": TaskPage("My task")}


def _pages(value: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, TaskPage]:
    point = EntryPoint("my_task", value, registry.GROUP)
    monkeypatch.setattr(registry, "_found", lambda: {"my_task": point})
    return task_pages.__wrapped__()


def test_a_view_that_cannot_be_imported_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from ui import views

    broken = EntryPoint("count", "nowhere_at_all:VIEW", views.GROUP)
    monkeypatch.setattr(views, "installed", lambda group: [broken])
    with pytest.raises(EnvironmentFault, match=r"view of count, nowhere_at_all:VIEW, cannot be imported: No module"):
        views.views.__wrapped__()

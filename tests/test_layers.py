"""Which library is imported where, and what the command line may load before it knows its verb.

import-linter (in `make lint`) holds the layers; this holds what it cannot state: the one home of a heavy library.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real_data import ROOT

PACKAGES = ("visionkit", "tasks", "datamodules", "ui")
# library -> the only modules, or packages, that may import it, at whatever depth inside them
HOMES = {
    "gradio": {
        *("ui/commands/serve.py", "ui/server/app.py", "ui/pages", "ui/views"),
        *("ui/server/gradio_hardening.py", "ui/server/gradio_sessions.py"),
    },
    "fastapi": {
        "ui/commands/serve.py",
        "ui/server/api.py",
        "ui/server/app.py",
        "ui/server/error_responses.py",
        "ui/server/routes.py",
        "ui/server/face_routes.py",
        "ui/server/video_routes.py",
        "ui/server/review.py",
    },
    "albumentations": {"datamodules/augmentation/library.py"},
    "wandb": {"visionkit/loggers"},
}


def _imports(source: str) -> Iterator[str]:
    """The top-level names of everything imported, inside functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("library", sorted(HOMES))
def test_a_heavy_library_has_one_home(library: str) -> None:
    found = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if library in (text := path.read_text("utf-8")) and library in _imports(text)
    }
    strays = {path for path in found if path not in HOMES[library] and str(Path(path).parent) not in HOMES[library]}
    assert not strays, f"{library} belongs into {sorted(HOMES[library])}"


def test_tests_are_packages() -> None:
    """Without `__init__.py` pytest takes tests/tasks for the real `tasks`."""
    bare = {
        str(path.parent.relative_to(ROOT))
        for path in (ROOT / "tests").rglob("*.py")
        if not (path.parent / "__init__.py").exists()
    }
    assert not bare


def test_the_command_line_imports_nothing_heavy_before_its_verb() -> None:
    heavy = ("torch", "lightning", "gradio", "timm", "numpy", "PIL")
    code = f"import sys, ui.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"

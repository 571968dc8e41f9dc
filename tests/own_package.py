"""A package of somebody's own beside visionkit: installed for a while, then forgotten."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

FILE = re.compile(r"# ([\w/.-]+\.(?:py|toml|yaml))")
"""The first line of a block of a docs page that is a file."""


@contextlib.contextmanager
def own_packages(folder: Path) -> Iterator[None]:
    """What is installed from a folder in this block is gone after it."""
    path, variable, modules = list(sys.path), os.environ.get("PYTHONPATH"), set(sys.modules)
    try:
        yield
    finally:
        sys.path[:] = path
        os.environ.pop("PYTHONPATH", None) if variable is None else os.environ.update(PYTHONPATH=variable)
        own = {name for name in set(sys.modules) - modules if _lies_in(name, folder)}
        from visionkit.predictions import Prediction

        for kind in [kind for kind, each in Prediction._kinds.items() if each.__module__ in own]:
            del Prediction._kinds[kind]
        for name in own:
            del sys.modules[name]
        look_again()


def install(folder: Path) -> tuple[int, str]:
    """What `pip install --editable` does: metadata beside the code, the folder on Python's path.

    Returns:
        The exit status of the build, and what it wrote.
    """
    code = "import sys, setuptools; sys.argv = ['setup.py', '--quiet', 'egg_info']; setuptools.setup()"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    look_again()
    return done.returncode, done.stdout + done.stderr


def write(folder: Path, text: str) -> bool:
    """Writes a block of a docs page that is a file; others are left alone."""
    first = FILE.fullmatch(text.partition("\n")[0])
    if first:
        path = folder / first.group(1)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", "utf-8")
    return bool(first)


def _lies_in(module: str, folder: Path) -> bool:
    file = getattr(sys.modules[module], "__file__", None)
    return file is not None and Path(file).is_relative_to(folder)


def look_again() -> None:
    """Makes what was installed since, or removed, known to whoever has listed the packages."""
    importlib.invalidate_caches()
    for module, name in (
        ("visionkit.plugins", "_every"),
        ("visionkit.registry", "task_pages"),
        ("ui.views", "views"),
    ):
        if module in sys.modules:
            getattr(sys.modules[module], name).cache_clear()

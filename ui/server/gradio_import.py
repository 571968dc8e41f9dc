"""Imports gradio without what it does at every import for editors alone.

For each of its components gradio reads and parses its own sources again, to write type stubs beside them where they
differ. That takes a fifth of the start, and writes into the installed package, and beside one's own components.

A hook does it, because whoever imports the module that does the work imports all of gradio before it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

WRITES = "gradio.component_meta"
"""The module that writes the stubs."""


class _Finder:
    """Finds that one module as Python does; once it has run, its function does nothing."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target) if fullname == WRITES else None
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def run(module: ModuleType) -> None:
            execute(module)
            if hasattr(module, "create_or_modify_pyi"):
                module.create_or_modify_pyi = lambda *args: None  # type: ignore[attr-defined]
            sys.meta_path.remove(self)

        spec.loader.exec_module = run  # type: ignore[method-assign]
        return spec


def without_stubs() -> None:
    """To be called before gradio is imported; afterwards it changes nothing."""
    if WRITES not in sys.modules and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())

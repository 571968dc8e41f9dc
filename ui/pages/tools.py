"""The pages of the demo that are of no task: every module of this package that states a `PAGE`, in their order."""

from __future__ import annotations

import importlib
import pkgutil
from functools import lru_cache

from ui import pages
from ui.pages.base import ToolPage


@lru_cache(maxsize=1)
def tool_pages() -> tuple[ToolPage, ...]:
    """The pages, in the order of the navigation."""
    names = [name for _, name, _ in pkgutil.iter_modules(pages.__path__) if name != "tools"]
    modules = [importlib.import_module(f"ui.pages.{name}") for name in names]
    found = [page for module in modules if isinstance(page := getattr(module, "PAGE", None), ToolPage)]
    return tuple(sorted(found, key=lambda page: page.order))

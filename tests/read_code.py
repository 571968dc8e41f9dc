"""Python of a page, read and not run: names, imports, arguments of calls, and names of attributes."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.documented import Block
from tests.real_data import ROOT

PACKAGES = ("visionkit", "tasks", "datamodules", "ui")
_ELSEWHERE = ("tritonclient",)
"""What a page uses and this project does not install."""


def faults(block: Block) -> list[str]:
    """What is wrong with a block of Python, as far as that shows without running it.

    Raises:
        SyntaxError: It is no Python.
    """
    tree = ast.parse(block.text, block.place)
    names: dict[str, Any] = {}
    found = [
        *_imports(tree, names),
        *_calls(tree, names),
        *(f"nothing here is called .{name}" for name in _attributes(tree) if name not in known_names()),
    ]
    return [f"{block.place}: {each}" for each in found]


def needs(block: Block, made: Callable[[str], bool]) -> bool:
    """Whether a block of Python names a file or folder that `made` knows."""
    strings = [node.value for node in ast.walk(ast.parse(block.text)) if isinstance(node, ast.Constant)]
    return any(isinstance(each, str) and re.fullmatch(r"[\w./*-]+", each) and made(each) for each in strings)


def undefined(blocks: Sequence[Block], folder: Path) -> str:
    """What ruff reports of names that no line defines, of all blocks in one call; empty where all is well.

    Args:
        blocks: Blocks of Python.
        folder: An empty folder to write them into.
    """
    for block in blocks:
        (folder / re.sub(r"\W+", "_", block.place)).with_suffix(".py").write_text(block.text + "\n", "utf-8")
    options = ("--isolated", "--no-cache", "--quiet", "--output-format=concise", "--select=E9,F", "--ignore=F401")
    command = [sys.executable, "-m", "ruff", "check", *options, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


@functools.cache
def known_names() -> frozenset[str]:
    """Every name in the source of this project, and those of the objects that pages have from elsewhere."""
    import numpy as np
    import torch
    from PIL import Image

    others = (np, np.ndarray, Image, Image.Image, torch, torch.Tensor, torch.nn, torch.nn.functional, str, list, dict)
    words = {name for each in (*others, torch.nn.BatchNorm2d(1), torch.nn.init) for name in dir(each)}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            words.update(re.findall(r"[A-Za-z_]\w*", path.read_text("utf-8")))
    return frozenset(words)


def _attributes(tree: ast.AST) -> Iterator[str]:
    modules = [node.names[0].name for node in ast.walk(tree) if isinstance(node, ast.Import)]
    if any(name.partition(".")[0] in _ELSEWHERE for name in modules):
        return
    yield from (node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute))


def _imports(tree: ast.AST, names: dict[str, Any]) -> Iterator[str]:
    """Imports what the block imports, into `names`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                if each.name.partition(".")[0] in _ELSEWHERE:
                    continue
                try:
                    module = importlib.import_module(each.name)
                except ImportError as error:
                    yield str(error)
                else:
                    names[each.asname or each.name.partition(".")[0]] = (
                        module if each.asname else sys.modules[each.name.partition(".")[0]]
                    )
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] not in _ELSEWHERE:
            try:
                module = importlib.import_module(node.module)
            except ImportError as error:
                yield str(error)
                continue
            for each in node.names:
                try:
                    names[each.asname or each.name] = _member(module, each.name)
                except (AttributeError, ImportError):
                    yield f"{node.module} has no {each.name}"


def _member(module: ModuleType, name: str) -> Any:
    return getattr(module, name) if hasattr(module, name) else importlib.import_module(f"{module.__name__}.{name}")


def _calls(tree: ast.AST, names: dict[str, Any]) -> Iterator[str]:
    """Calls of what is imported have arguments that it takes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            try:
                called = _resolved(node.func, names)
            except AttributeError as error:
                yield str(error)
                continue
            if called is None or not _is_ours(called):
                continue
            if any(isinstance(each, ast.Starred) for each in node.args) or any(
                each.arg is None for each in node.keywords
            ):
                continue
            try:
                inspect.signature(called).bind(*node.args, **{str(each.arg): each.value for each in node.keywords})
            except TypeError as error:
                yield f"{ast.unparse(node)}: {error}"


def _resolved(node: ast.expr, names: dict[str, Any]) -> Any:
    """The object that an expression of names and dots means, or None where only a run shows it.

    Raises:
        AttributeError: A module or a class has no such name.
    """
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = _resolved(node.value, names)
        return getattr(owner, node.attr) if isinstance(owner, ModuleType | type) else None
    return None


def _is_ours(called: Any) -> bool:
    return str(getattr(called, "__module__", "")).partition(".")[0] in PACKAGES

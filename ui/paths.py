"""Paths of a command line, checked before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from visionkit.errors import DataError, UsageError, suggest
from visionkit.model_files import check_model


def check_exists(paths: Iterable[str], option: str = "") -> None:
    """Checks that each path exists.

    Args:
        paths: Files or folders.
        option: Option that named them, for the message.

    Raises:
        DataError: One does not; the nearest name beside it is suggested.
    """
    for each in paths:
        path = Path(each)
        if not path.exists():
            near = suggest(path.name, [p.name for p in path.parent.iterdir()]) if path.parent.is_dir() else ""
            raise DataError(f"{option}{' ' if option else ''}{each}: no such file or folder{near}")


def check_new_folder(folder: str, option: str = "--out") -> None:
    """Checks that a folder is new or empty.

    Raises:
        UsageError: It is a file or has files.
    """
    path = Path(folder)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UsageError(f"{option} {folder}: not an empty folder; name a new one")


def check_model_or_backbone(model: str) -> None:
    """Checks what is a path without torch; whether a word names a network is known to timm alone.

    Raises:
        CheckpointError: It is a path, and no model is there.
    """
    path = Path(model)
    if path.exists() or path.suffix == ".ckpt" or len(path.parts) > 1:
        check_model(model)

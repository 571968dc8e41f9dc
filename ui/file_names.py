"""What the files of many images' predictions are called, so that none meets another."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path


def drawing_names(paths: Sequence[Path]) -> dict[Path, Path]:
    """A name for the drawing of each image: its path below the folder that all have in common, ending in `.jpg`.

    An image that is no `.jpg` keeps its own ending before that, so that `a.png` and `a.jpg` do not meet.
    """
    parents = [path.resolve().parent for path in paths]
    root = folder_of(paths)
    names: dict[Path, Path] = {}
    taken: set[str] = set()
    for path, parent in zip(paths, parents, strict=True):
        folder = parent.relative_to(root) if root else Path(*parent.parts[1:])
        stem = path.stem if path.suffix == ".jpg" else path.name
        name, number = folder / f"{stem}.jpg", 1
        while str(name).lower() in taken:
            number += 1
            name = folder / f"{stem}-{number}.jpg"
        taken.add(str(name).lower())
        names[path] = name
    return names


def file_stems(paths: Sequence[Path]) -> dict[Path, Path]:
    """Where the files of each image's prediction go: its path below the common folder, without its ending.

    Images that differ in nothing but their ending keep it.
    """
    root = folder_of(paths)
    folders = [path.resolve().parent for path in paths]
    below = [folder.relative_to(root) if root else Path(*folder.parts[1:]) for folder in folders]
    shared = Counter(str(folder / path.stem).lower() for path, folder in zip(paths, below, strict=True))
    return {
        path: folder / (path.stem if shared[str(folder / path.stem).lower()] == 1 else path.name)
        for path, folder in zip(paths, below, strict=True)
    }


def folder_of(paths: Sequence[Path]) -> Path | None:
    """The deepest folder that all images are in; None where they are on different drives."""
    try:
        return Path(os.path.commonpath([path.resolve().parent for path in paths]))
    except ValueError:
        return None

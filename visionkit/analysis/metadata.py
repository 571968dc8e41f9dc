"""What is known of images beside their labels, and groups of images by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from visionkit.analysis.base import Analysis, Case
from visionkit.errors import DataError
from visionkit.text_files import is_number, read_csv

if TYPE_CHECKING:
    from visionkit.geometry import Geometry

Facts = dict[str, str | float]

GROUPS = 12
"""Groups of a column of names, the largest ones; the others are one group."""

_FEW = 6
"""Different numbers up to which each is a group of its own; more are divided into thirds."""


def facts_of(case: Case, image: np.ndarray, geometry: Geometry) -> Facts:
    """What is known of every image.

    Args:
        case: The image with its truth.
        image: (C, h, w) the network's input, on a scale of 255.
        geometry: Where the image lies in it.

    Returns:
        `megapixels` and `aspect ratio` (width by height) of the file, `brightness` and `contrast` (mean and deviation
        of the gray levels that the network was shown, 0 to 255), and `objects`, where they are labeled.
    """
    height, width = geometry.source
    top, left = (max(0, side) for side in geometry.offset)
    bottom, right = (side + there for side, there in zip(geometry.offset, geometry.resized, strict=True))
    seen = image[..., top:bottom, left:right].astype(np.float32).mean(axis=0)
    out: Facts = {"megapixels": height * width / 1e6, "aspect ratio": width / height}
    if seen.size:
        out |= {"brightness": float(seen.mean()), "contrast": float(seen.std())}
    counted = next((case.target[key] for key in ("boxes", "file_boxes", "keypoints") if key in case.target), None)
    return out if counted is None else {**out, "objects": float(len(counted))}


def read_facts(path: str | Path) -> dict[str, Facts]:
    """Reads a csv with one row per image.

    Args:
        path: Its first line names the columns; the first column holds names of images: the path, its end or the name
            of the file, with or without the suffix.

    Returns:
        The other columns by the name of the image.

    Raises:
        DataError: It cannot be read, has no further column, or names an image twice.
    """
    table = read_csv(path, "csv file of slices")
    if not table or len(table[0][1]) < 2:
        raise DataError(f"{path}: the first line names the columns, the image first: image,weather")
    _, (_, *names) = table[0]
    out: dict[str, Facts] = {}
    for line, (image, *cells) in table[1:]:
        if len(cells) != len(names):
            raise DataError(f"{path} line {line}: {len(cells) + 1} cells where the first line has {len(names) + 1}")
        if image in out:
            raise DataError(f"{path} line {line}: duplicate image {image}")
        out[image] = {
            name: float(cell) if is_number(cell) else cell.strip()
            for name, cell in zip(names, cells, strict=True)
            if cell.strip()
        }
    return out


def facts_by_name(known: Mapping[str, Facts], name: str) -> Facts:
    """The row of a csv that belongs to an image: the longest end of its path that the csv names."""
    parts = Path(name).parts
    for first in range(len(parts)):
        end = "/".join(parts[first:])
        for form in (end, str(Path(end).with_suffix(""))):
            if form in known:
                return known[form]
    return {}


def group(column: Sequence[str | float | None]) -> dict[str, np.ndarray]:
    """Numbers of images by group, for one column.

    Args:
        column: Value of each image; None where it has none. More than six different numbers are divided into thirds of
            the images, names and few numbers are groups as they are, the largest `GROUPS` of them.
    """
    there = np.array([number for number, value in enumerate(column) if value is not None], dtype=np.int64)
    values: list[Any] = [column[number] for number in there]
    numbers = all(isinstance(value, (int, float)) and np.isfinite(value) for value in values)
    if numbers and len(set(values)) > _FEW:
        return _thirds(there, np.array(values, dtype=np.float64))
    texts = np.array([f"{value:.4g}" if isinstance(value, float) else str(value) for value in values], dtype=object)
    names, counts = np.unique(texts.astype(str), return_counts=True) if len(texts) else (np.zeros(0, str), np.zeros(0))
    largest = set(names[np.argsort(-counts, kind="stable")[:GROUPS]].tolist())
    order = sorted(largest, key=lambda name: (not is_number(name), float(name) if is_number(name) else 0.0, name))
    out = {name: there[texts == name] for name in order}
    rest = there[[text not in largest for text in texts.tolist()]] if len(names) > GROUPS else there[:0]
    return {**out, f"{len(names) - GROUPS} others": rest} if len(rest) else out


def _thirds(there: np.ndarray, values: np.ndarray) -> dict[str, np.ndarray]:
    """Three groups of about equal size; equal numbers stay together."""
    ordered = np.sort(values)
    starts = np.unique(ordered[[0, len(values) // 3, 2 * len(values) // 3]])
    part = np.searchsorted(starts, values, side="right")
    out = {}
    for k in np.unique(part).tolist():
        mine = values[part == k]
        out[f"{mine.min():.4g} to {mine.max():.4g}"] = there[part == k]
    return out


def slice_rows(analysis: Analysis, facts: Sequence[Facts]) -> list[dict[str, Any]]:
    """One row per group of each column: the column, the group, its number of images, and what is measured over them.

    Args:
        analysis: Measures some of the images.
        facts: What is known of each image, in order.
    """
    rows = []
    for name in dict.fromkeys(name for each in facts for name in each):
        groups = group([each.get(name) for each in facts])
        if len(groups) > 1:
            rows += [
                {"slice": name, "group": title, "images": len(images), **analysis.values(images)}
                for title, images in groups.items()
            ]
    return rows

"""The files by which the processes of a server share their metrics, and what becomes of those of a process that ended.

Each process has a file per type of metric. Those of one that ended are added to one file for all of them, so that sums
stay what they were and the folder stays small however often a process ends. Readers and the one that adds take turns
by a lock: between two renames a count would be in both files, or in none.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client.mmap_dict import MmapedDict

ENDED = 0
"""Stands for the process id in the name of a merged file; no process of ours has it."""

SERIES = 500
"""Series of one metric, at most: what is new above that is counted as "other"."""

Value = tuple[float, float]
"""A number, and the Unix time in seconds of a gauge that keeps one."""

_MERGED: dict[str, Callable[[Value, Value], Value]] = {
    "sum": lambda kept, new: (kept[0] + new[0], 0.0),
    "max": max,
    "min": min,
    "mostrecent": lambda kept, new: max(kept, new, key=lambda value: value[1]),
}
"""How values of one series become one; counters and histograms are sums."""


@contextmanager
def locked(folder: Path, alone: bool = False) -> Iterator[None]:
    """Holds the files of a folder as they are; whoever changes them is `alone`."""
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


def merge_ended(folder: Path, process: int) -> list[str]:
    """Adds what a process that ended had counted to the merged files, and removes its own.

    Args:
        folder: Folder of the files.
        process: Its process id.

    Returns:
        Names of files that could not be read; they are removed, since nobody could read the metrics with them there.
    """
    lost: list[str] = []
    with locked(folder, alone=True):
        files = {
            path: path.stem.removesuffix(f"_{process}").partition("_")[2] for path in folder.glob(f"*_{process}.db")
        }
        for path in [each for each, mode in files.items() if mode and mode not in _MERGED]:
            path.unlink()  # a gauge of the living is over with its process
            del files[path]
        for path, mode in sorted(files.items()):
            try:
                _add(path, path.with_name(f"{path.stem.removesuffix(str(process))}{ENDED}.db"), _MERGED[mode or "sum"])
            except (struct.error, RuntimeError, ValueError):
                lost.append(path.name)
            path.unlink()
    return lost


def _add(source: Path, target: Path, how: Callable[[Value, Value], Value]) -> None:
    """Writes the merged file again, with the values of another one; renamed, since a full disk may end it."""
    kept = _values(target) if target.exists() else {}
    known: dict[str, set[str]] = {}
    for metric, series in map(_series, kept):
        known.setdefault(metric, set()).add(series)
    for key, value in _values(source).items():
        metric, series = _series(key)
        seen = known.setdefault(metric, set())
        if series not in seen and len(seen) >= SERIES:
            key = _as_other(key)
            series = _series(key)[1]
        seen.add(series)
        kept[key] = how(kept[key], value) if key in kept else value
    part = target.with_suffix(".part")
    part.write_bytes(_packed(kept))
    part.replace(target)


def _packed(values: dict[str, Value]) -> bytes:
    """A file of the library, as `MmapedDict` describes it; by its own class a full disk would end this process."""
    entries = b""
    for key, value in values.items():
        text = key.encode()
        padded = text + b" " * (8 - (len(text) + 4) % 8)
        entries += struct.pack(f"i{len(padded)}sdd", len(text), padded, *value)
    return struct.pack("i4x", 8 + len(entries)) + entries


def _values(path: Path) -> dict[str, Value]:
    return {key: (value, time) for key, value, time, _ in MmapedDict.read_all_values_from_file(str(path))}


def _series(key: str) -> tuple[str, str]:
    """Name of a metric, and the labels of a series of it; buckets of a histogram are one series."""
    metric, _, labels, _ = json.loads(key)
    return metric, json.dumps({name: value for name, value in labels.items() if name != "le"}, sort_keys=True)


def _as_other(key: str) -> str:
    metric, name, labels, text = json.loads(key)
    labels = {label: value if label == "le" else "other" for label, value in labels.items()}
    return json.dumps([metric, name, labels, text], sort_keys=True)

"""Writes the samples of a data module into shards, which any task is then trained on."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.shard_format import ENTRY, SHARDS, Names, pack, shard_name
from datamodules.splits import SPLITS
from visionkit.data import Split, VisionDataModule
from visionkit.data_summary import CountedSamples
from visionkit.errors import DataError, EnvironmentFault, MissingSplit, UsageError
from visionkit.sampling import LabeledSamples
from visionkit.sequences import SequencedSamples

VERSION = 1

_END = bytes(1024)
"""Two empty blocks end a tar archive."""


def write_shards(
    data: VisionDataModule, out: Path, shard_mb: int = 256, progress: Callable[[str, int, int], None] | None = None
) -> dict[Split, int]:
    """Writes every split.

    Args:
        data: Whose samples are written, as they are before any augmentation.
        out: A new or empty folder.
        shard_mb: MiB from which a shard is full.
        progress: Called with the split, the samples written and all of them.

    Returns:
        Number of samples by split.

    Raises:
        DataError: An image cannot be read; the folder is left without its description.
        UsageError: Samples that are drawn again in each epoch.
    """
    _check(type(data))
    if shard_mb < 1:
        raise UsageError(f"shard_mb {shard_mb}: at least 1")
    if hasattr(data, "cache_mb"):
        data.cache_mb = 0  # a decoded image would be encoded again, in place of its file
    splits: dict[Split, Any] = {}
    for split in SPLITS:
        samples = _samples(data, split)
        if samples is None:
            continue
        try:
            splits[split] = _write_split(samples, split, out, shard_mb << 20, data.classes, progress)
        except OSError as error:
            raise EnvironmentFault(f"{out}: cannot be written ({error.strerror or error})") from error
    facts: dict[str, Any] = {"version": VERSION, "reader": type(data).__name__, "classes": list(data.classes)}
    for name in ("skeleton", "crop"):
        if (value := getattr(data, name, None)) is not None:
            facts[name] = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    (out / SHARDS).write_text(json.dumps({**facts, "splits": splits}, indent=1) + "\n", encoding="utf-8")
    return {split: facts["samples"] for split, facts in splits.items()}


def _line(name: str) -> str:
    return name.replace("\n", " ") + "\n"


def _check(reader: type[VisionDataModule]) -> None:
    if reader.sampler is not VisionDataModule.sampler:
        raise UsageError(
            f"{reader.__name__}: it chooses its batches by what it knows of the samples, which shards do not; pack "
            "each set of a joint training by itself, and people by identity in a .rec file"
        )


def _samples(data: VisionDataModule, split: Split) -> Sequence[Any] | None:
    try:
        samples = data.dataset(split)  # frames of videos one by one: clips are made of them when they are read
    except (MissingSplit, UsageError):
        if split == "train":
            raise
        return None
    if not len(samples):
        if split == "train":
            raise DataError(f"{type(data).__name__}: the train split holds no images")
        return None
    if hasattr(samples, "drawn") or getattr(samples, "times", 1) > 1:
        raise UsageError(
            f"{type(data).__name__}: its {split} samples are drawn again in each epoch, and shards hold fixed "
            "ones; train on it directly"
        )
    return samples


def _write_split(
    samples: Sequence[Any],
    split: Split,
    out: Path,
    full: int,
    classes: Sequence[str],
    progress: Callable[[str, int, int], None] | None,
) -> dict[str, Any]:
    out.mkdir(parents=True, exist_ok=True)
    names, entries = Names.of(split), np.zeros(len(samples), ENTRY)
    shard, place, file = 0, 0, (out / shard_name(split, 0)).open("wb")
    try:
        with (out / names.ids).open("w", encoding="utf-8", errors="surrogateescape") as ids:
            for number in range(len(samples)):
                sample = samples[number]
                blob = pack(sample, number)
                if place and place + len(blob) > full:
                    file.write(_END)
                    file.close()
                    shard, place = shard + 1, 0
                    file = (out / shard_name(split, shard)).open("wb")
                file.write(blob)
                entries[number] = shard, zlib.crc32(blob), place, len(blob)
                place += len(blob)
                ids.write(_line(sample.id))
                if progress is not None:
                    progress(split, number + 1, len(samples))
        file.write(_END)
    finally:
        file.close()
    np.save(out / names.entries, entries)
    facts: dict[str, Any] = {"samples": len(samples), "shards": shard + 1, "bytes": int(entries["size"].sum())}
    if isinstance(samples, SequencedSamples):
        text = "".join(map(_line, samples.sequences()))
        (out / names.sequences).write_text(text, encoding="utf-8", errors="surrogateescape")
        facts["sequences"] = True
    if isinstance(samples, CountedSamples) and classes:
        facts["counts"], facts["unit"] = samples.counts(classes)
    if isinstance(samples, LabeledSamples):
        each = [np.asarray(one).reshape(-1) for one in samples.classes_of()]
        flat = np.concatenate(each) if each else np.zeros(0)
        np.savez_compressed(
            out / names.classes, numbers=np.array([len(one) for one in each], np.int32), classes=flat.astype(np.int32)
        )
        facts["labeled"] = True
    return facts

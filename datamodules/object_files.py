"""From one format of objects or keypoints to another, images included; splits may be written out on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from datamodules.object_entries import AnnotatedImage, check_files
from datamodules.object_formats import open_objects
from datamodules.object_writers import WRITERS, Losses
from datamodules.objects import ObjectData
from datamodules.pose_data import PoseData
from visionkit.data import Split
from visionkit.errors import EnvironmentFault, UsageError
from visionkit.images import ImageSource

Target = Literal["coco", "voc", "yolo", "csv", "maps"]


@dataclass(frozen=True)
class Converted:
    """What `convert` did.

    Attributes:
        images: Number by split.
        objects: Number in all.
        losses: See `Losses`.
    """

    images: dict[str, int]
    objects: int
    losses: Losses


def convert(
    source: Path | ObjectData,
    out: Path,
    form: Target,
    given: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Converted:
    """Writes a data set in another format, images included.

    Args:
        source: An opened set, or where it is; see `datamodules.object_formats.open_objects`.
        out: A folder that is new or empty.
        form: The format to write.
        given: The format of the source; detected by default.
        progress: Reported after each image how many are done.

    Raises:
        UsageError: The folder is not empty.
        DataError: The source cannot be read.
        EnvironmentFault: The folder cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: it is not an empty folder; name a new one")
    if form not in get_args(Target):
        raise UsageError(f"--to {form}: allowed are {', '.join(get_args(Target))}")
    data = source if isinstance(source, ObjectData) else open_objects(source, given, val_fraction=0, test_fraction=0)
    parts = {split: data.labeled(split) for split in data.splits()}
    for split, entries in parts.items():
        check_files(entries, f"{data.source}, {split}")
    losses = Losses()
    try:
        write = WRITERS[form](out, data.classes, losses, data.skeleton if isinstance(data, PoseData) else None)
        _write(write.add, parts, form == "voc", progress)
        write.close(parts)
    except OSError as error:
        raise EnvironmentFault(f"{error.filename or out}: cannot be written ({error.strerror or error})") from error
    numbers: dict[str, int] = {split: len(entries) for split, entries in parts.items()}
    return Converted(numbers, sum(len(entry) for entries in parts.values() for entry in entries), losses)


def _write(
    add: Callable[[Split, str, AnnotatedImage, tuple[int, int]], None],
    parts: Mapping[Split, list[AnnotatedImage]],
    one_folder: bool,
    progress: Callable[[int], None] | None,
) -> None:
    done = 0
    taken: set[str] = set()
    for split, entries in parts.items():
        taken = taken if one_folder else set()
        for entry in entries:
            add(split, free_name(Path(entry.file), taken), entry, ImageSource(entry.file).size)
            done += 1
            if progress is not None:
                progress(done)


def free_name(image: Path, taken: set[str]) -> str:
    """The image's own name; folders that are left behind can make two of them equal."""
    name, number = image.name, 1
    while Path(name).stem.lower() in taken:
        number += 1
        name = f"{image.stem}-{number}{image.suffix}"
    taken.add(Path(name).stem.lower())
    return name

"""Models of several inputs, and of clips, on files: which images belong to one prediction.

visionkit predict STEREO_MODEL left/ --input right=right/
visionkit predict STEREO_MODEL --pairs pairs.csv
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionkit.errors import DataError, UsageError

if TYPE_CHECKING:
    from visionkit.images import ImageSource
    from visionkit.predictor import Predictor
    from visionkit.results import Progress, Result
    from visionkit.task import VisionTask

Gather = Callable[[Path, "ImageSource"], Any]
"""What a predictor is called with, from the path and the source of the reference image."""


def parse_inputs(given: Sequence[str]) -> dict[str, Path]:
    """`NAME=PATH`, as often as there are further inputs.

    Raises:
        UsageError: Another form, a name given more than once, or a path where nothing is.
    """
    out: dict[str, Path] = {}
    for each in given:
        name, equals, path = each.partition("=")
        if not equals or not name.isidentifier() or not path:
            raise UsageError(f"--input {each}: give NAME=PATH, such as right=right/")
        if name in out:
            raise UsageError(f"--input {name}: given more than once")
        if not Path(path).exists():
            raise DataError(f"--input {each}: {path} does not exist")
        out[name] = Path(path)
    return out


def read_pairs(path: str, names: Sequence[str]) -> dict[Path, dict[str, Path]]:
    """The rows of a csv file with one column per input; its paths count from the file's own folder.

    Args:
        path: The file; its first line names the inputs.
        names: Those of the model; the first is the reference.

    Returns:
        The other inputs by name, for each reference image.

    Raises:
        DataError: Columns or files are missing, or a reference image is given more than once.
    """
    from visionkit.listing import resolve_listed
    from visionkit.text_files import read_csv

    rows = read_csv(path, "list of pairs")
    header = rows[0][1] if rows else []
    missing = [name for name in names if name not in header]
    if missing:
        raise DataError(f"{path}: no column {', '.join(missing)}; its first line names the inputs: {','.join(names)}")
    found: dict[Path, dict[str, Path]] = {}
    for number, cells in rows[1:]:
        row = dict(zip(header, cells, strict=False))
        paths = {}
        for name in names:
            if not row.get(name):
                raise DataError(f"{path} line {number}: no {name}")
            paths[name] = resolve_listed(Path(path).parent, row[name])
            if not paths[name].is_file():
                raise DataError(f"{path} line {number}: {paths[name]} does not exist")
        reference = paths.pop(names[0])
        if reference in found:
            raise DataError(f"{path} line {number}: {row[names[0]]} is given more than once")
        found[reference] = paths
    if not found:
        raise DataError(f"{path}: no pairs below its first line")
    return found


def pair_with(paths: Sequence[Path], others: Mapping[str, Path], names: Sequence[str]) -> dict[Path, dict[str, Path]]:
    """The other inputs of each reference image, by the same relative path without the ending.

    Args:
        paths: Paths of the reference images.
        others: Folder, or a single image, for each further input.
        names: Those of the model; the first is the reference.

    Raises:
        UsageError: An input is missing or unknown.
        DataError: An image without a partner, or one with several.
    """
    from datamodules.pairing import pair_by_name
    from visionkit.inputs import check_names
    from visionkit.listing import Listing, list_images

    if names[0] in others:
        raise UsageError(f"--input {names[0]}: SOURCE is the input {names[0]}; name the others: {', '.join(names[1:])}")
    check_names([names[0], *others], names, "this model")
    found: dict[Path, dict[str, Path]] = {path: {} for path in paths}
    for name, other in others.items():
        if other.is_file():
            if len(paths) > 1:
                raise DataError(f"--input {name}={other}: one image for {len(paths)}; name a folder")
            found[paths[0]][name] = other
            continue
        root = Path(os.path.commonpath([path.parent for path in paths]))  # as given: links are not followed
        pairs = pair_by_name(Listing(root, list(paths)), list_images(other), f"{name} image")
        for path, partner in pairs.pairs:
            found[path][name] = partner
    return found


def gathering(
    task: VisionTask,
    paths: Sequence[Path],
    pairs: Mapping[Path, Mapping[str, Path]] | None,
    options: Collection[str] = (),
) -> Gather:
    """How the inputs of one prediction are put together.

    Args:
        task: Task of the model.
        paths: All reference images, in order; those of one folder are the frames of one video for a task of clips.
        pairs: The other inputs of each reference image; None where there are none.
        options: Names of the options of the call; one of an input's name stands for it.

    Raises:
        UsageError: The model needs further inputs.
    """
    spec = task.input
    given = {name for row in (pairs or {}).values() for name in row}
    names = tuple(name for name in task.inputs if name not in options or name in given)
    if len(names) > 1 and pairs is None:
        others = " ".join(f"--input {name}=PATH" for name in names[1:])
        values = "".join(f", --set {name}=VALUE" for name in names[1:] if name in task.input_options)
        raise UsageError(f"{task.name} needs the inputs {', '.join(names)}: give {others}{values}, or --pairs FILE")
    position = {path: index for index, path in enumerate(paths)}
    begin: list[int] = []  # the first image of its folder, for each image
    for index, path in enumerate(paths):
        begin.append(begin[-1] if index and paths[index - 1].parent == path.parent else index)

    def gather(path: Path, image: ImageSource) -> Any:
        from visionkit.images import ImageSource

        if len(names) == 1 and spec.frames == 1:
            return image
        index = position[path]
        shown = [paths[max(begin[index], index - k * spec.frame_stride)] for k in reversed(range(spec.frames))]
        of_each = {
            name: [frame if pairs is None or k == 0 else pairs[frame][name] for frame in shown]
            for k, name in enumerate(names)
        }
        if spec.frames > 1:
            return {name: [ImageSource(frame) for frame in frames] for name, frames in of_each.items()}
        return {name: ImageSource(frames[0]) if k else image for k, (name, frames) in enumerate(of_each.items())}

    return gather


def inputs_in(task: VisionTask, folder: str | Path) -> list[Any]:
    """What a predictor of the task is called with, from a folder of images, or one folder per input in it.

    Args:
        task: Task of the model.
        folder: Folder with the images, or with a folder of the name of each input.

    Raises:
        UsageError: An input has no folder.
        DataError: No images, or some without a partner.
    """
    from visionkit.images import ImageSource
    from visionkit.listing import find_images

    names, pairs = task.inputs, None
    if len(names) > 1:
        folders = {name: Path(folder, name) for name in names}
        for name, path in folders.items():
            if not path.is_dir():
                raise UsageError(
                    f"{folder}: no folder {name} in it; {task.name} needs one for each of {', '.join(names)}"
                )
        paths = find_images(folders.pop(names[0]))
        pairs = pair_with(paths, folders, names)
    else:
        paths = find_images(folder)
    gather = gathering(task, paths, pairs)
    return [gather(path, ImageSource(path)) for path in paths]


def check_several(task: VisionTask, option: str) -> None:
    """Refuses further inputs for a model of single images.

    Args:
        task: Task of the model.
        option: Option that gave them.

    Raises:
        UsageError: The model has one input.
    """
    if len(task.inputs) == 1:
        raise UsageError(f"{option}: {task.name} takes one image, not several; leave {option} out")


def in_order(
    predictor: Predictor,
    paths: Sequence[Path],
    options: dict[str, Any],
    progress: Progress | None,
    gather: Gather | None = None,
) -> Iterator[tuple[Path, ImageSource, Result]]:
    """One session per folder, whose images are the frames of one video; one that cannot be read is left out of it."""
    from visionkit.images import ImageSource
    from visionkit.results import Result

    for _, frames in groupby(paths, key=lambda path: path.parent):
        session = predictor.session(**options)
        for path in frames:
            image = ImageSource(path)
            try:
                # Of clips the session itself keeps the frames.
                given = image if gather is None or predictor.task.input.frames > 1 else gather(path, image)
                yield path, image, session.examine(given, progress=progress)
            except DataError as error:
                yield path, image, Result(image, None, error)

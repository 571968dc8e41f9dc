"""Whether data has labels of the type that a task trains with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from visionkit.errors import UsageError

_OF_OBJECTS = {"boxes", "masks", "keypoints"}


def check_targets(target: Any, task: str, needed: Sequence[str], data: str) -> None:
    """Refuses the first batch of data that has other labels than the task needs.

    Args:
        target: Target of a batch: a dict, or a list of dicts where objects are counted.
        task: Name of the task.
        needed: `VisionTask.targets`.
        data: Name of the data module.

    Raises:
        UsageError: A type of label is missing, or counts objects where the task has one label for each image.
    """
    counted = isinstance(target, list)
    found = target[0] if counted else target
    if all(name in found for name in needed) and (not counted or _OF_OBJECTS & {*needed}):
        return
    gives = f"{', '.join(found) or 'no labels'}{' for each object' if counted else ''}"
    raise UsageError(
        f"{task} needs {', '.join(needed)} for each image and {data} gives {gives}: choose another --data or --model"
    )

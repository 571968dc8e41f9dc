"""What every head needs of the input and of the data, checked before any training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.multitask.heads import Head
from visionkit.errors import UsageError
from visionkit.geometry import InputSpec
from visionkit.task import VisionTask


def check_sizes(tasks: Mapping[str, VisionTask], spec: InputSpec, backbone: str) -> None:
    """Refuses an input that a head cannot read as it is; alone, its task would pad it to what it needs.

    Args:
        tasks: Task of each head by name.
        spec: Input of all heads.
        backbone: Name of the backbone, for the message.

    Raises:
        UsageError: The size, or the divisor of a native size, is no multiple of what a head needs.
    """
    is_native = spec.resize_mode == "native"
    what, sides = ("divisor", (spec.divisor,)) if is_native else ("size", spec.size)
    for name, task in tasks.items():
        divisor = int(getattr(task.network, "divisor", 1))
        if any(side % divisor for side in sides):
            raise UsageError(
                f"model.input.{what} {spec.divisor if is_native else list(sides)}: head {name} on backbone "
                f"{backbone!r} needs multiples of {divisor}"
            )


def check_labels(name: str, task: VisionTask, target: Any) -> None:
    """Refuses data without the labels that a head trains on.

    Args:
        name: Name of the head.
        task: Its task.
        target: Labels of a batch for this head.

    Raises:
        UsageError: A label that the task trains on is missing.
    """
    known = (target[0] if isinstance(target, list) else target).keys()
    if any(key not in known for key in task.targets):
        there = ", ".join(sorted(key for key in known if not key.startswith("file_"))) or "none"
        raise UsageError(
            f"model.heads.{name}: {task.name} trains on {', '.join(task.targets)} and its data has {there}; give it "
            "a part with those labels"
        )


def check_served(heads: Mapping[str, Head], served: Sequence[str], backbone_frozen: bool) -> None:
    """Refuses heads that would be trained and for which no part of the data has labels.

    Args:
        heads: Settings of each head by name.
        served: Names of the heads that the parts of the data have labels for; empty where the data does not state it.
        backbone_frozen: Whether the backbone stays as it is; a frozen head is then left alone altogether.

    Raises:
        UsageError: Names the head.
    """
    for name, settings in heads.items() if served else ():
        stays = settings.freeze and backbone_frozen
        if name not in served and not stays and settings.weight > 0:
            raise UsageError(
                f"model.heads.{name}: no part of the data serves it (they serve {', '.join(served)}); add "
                f"data.parts.{name}, or keep it as it is with --model.heads.{name}.freeze true and "
                "--model.optim.freeze backbone"
            )

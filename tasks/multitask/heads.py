"""What a head is in a configuration, and how it is built: as the task that it is, on a backbone that it shares."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from torch import nn

from visionkit.backbone_task import BackboneTask
from visionkit.errors import UsageError, suggest
from visionkit.geometry import InputSpec
from visionkit.optim import SCHEDULES, OptimConfig
from visionkit.plain_values import plain
from visionkit.registry import task_class, task_names
from visionkit.signatures import complete
from visionkit.skeleton import Skeleton
from visionkit.task import VisionTask

SHARED = tuple(name for name in complete(BackboneTask).parameters if name not in ("self", "classes"))
"""Arguments of a task that belong to all heads together."""

OWN_OPTIM = ("lr", "weight_decay", "schedule", "warmup", "final_lr_scale")
"""Optimizer settings in which a head may differ from the whole."""


@dataclass(frozen=True)
class Head:
    """One head.

    Attributes:
        task: Name of an installed task: `detection`.
        arguments: Arguments of that task's class, without those that all heads share (`backbone`, `input`, `optim`,
            ...).
        weight: Weight of its losses in the sum, before any balancing; 0 leaves them out.
        optim: Settings in which its training differs: `lr`, `weight_decay`, `schedule`, `warmup`, `final_lr_scale`.
        freeze: Its weights and statistics stay bit for bit what they are; its losses still train the backbone.
    """

    task: str
    arguments: dict[str, Any] = field(default_factory=dict)
    weight: float = 1.0
    optim: dict[str, Any] = field(default_factory=dict)
    freeze: bool = False

    @classmethod
    def of(cls, name: str, value: Head | Mapping[str, Any]) -> Head:
        """Builds a head from a mapping, as checkpoints and yaml hold it, and checks it.

        Raises:
            UsageError: A name, a task or an argument that cannot be.
        """
        given = {each.name: getattr(value, each.name) for each in fields(cls)} if isinstance(value, cls) else value
        if not isinstance(given, Mapping) or "task" not in given:
            raise UsageError(f"model.heads.{name}: needs a task; installed are {', '.join(_possible())}")
        known = [each.name for each in fields(cls)]
        for key in given:
            if key not in known:
                raise UsageError(
                    f"model.heads.{name}.{key}: unknown; allowed are {', '.join(known)} (what the task itself takes "
                    f"stands under `arguments`){suggest(key, known)}"
                )
        out = cls(
            task=str(given["task"]),
            arguments=dict(given.get("arguments") or {}),
            weight=float(given.get("weight", 1.0)),
            optim=dict(given.get("optim") or {}),
            freeze=bool(given.get("freeze", False)),
        )
        out._check(name)
        return out

    def _check(self, name: str) -> None:
        if not name.isidentifier() or hasattr(nn.ModuleDict, name) or name in ("heads", "backbone"):
            raise UsageError(f"model.heads.{name}: no name for a head; use letters, digits and _, such as `objects`")
        names = _possible()
        if self.task not in names:
            raise UsageError(
                f"model.heads.{name}.task {self.task!r}: allowed are {', '.join(names)}{suggest(self.task, names)}"
            )
        known = [key for key in inspect.signature(task_class(self.task).__init__).parameters if key != "self"]
        if "backbone" not in known:
            raise UsageError(f"model.heads.{name}: task {self.task} has no backbone that it could share")
        own = [key for key in known if key not in SHARED]
        for key in self.arguments:
            if key in SHARED:
                raise UsageError(
                    f"model.heads.{name}.arguments.{key}: belongs to all heads; set model.{key}, or the head's `optim`"
                )
            if key not in own:
                raise UsageError(
                    f"model.heads.{name}.arguments.{key}: task {self.task} takes no such argument; allowed are "
                    f"{', '.join(own)}{suggest(key, own)}"
                )
        if not 0 <= self.weight < math.inf:
            raise UsageError(f"model.heads.{name}.weight {self.weight:g}: a number of at least 0")
        for key in self.optim:
            if key not in OWN_OPTIM:
                raise UsageError(
                    f"model.heads.{name}.optim.{key}: allowed are {', '.join(OWN_OPTIM)}{suggest(key, OWN_OPTIM)}"
                )
        if (schedule := self.optim.get("schedule", "cosine")) not in SCHEDULES:
            raise UsageError(f"model.heads.{name}.optim.schedule {schedule!r}: allowed are {', '.join(SCHEDULES)}")

    def with_vocabulary(self, vocabulary: Mapping[str, Any], name: str) -> Head:
        """The head with what its data states: class names, skeleton.

        Args:
            vocabulary: What the data states about this head.
            name: Name of the head, for messages.

        Raises:
            UsageError: The head was given something else.
        """
        arguments = dict(self.arguments)
        known = inspect.signature(task_class(self.task).__init__).parameters
        for key, value in vocabulary.items():
            if key not in known or value in (None, [], ()):
                continue
            given = plain(arguments.get(key))
            if given not in (None, []) and not _same(key, given, plain(value)):
                raise UsageError(
                    f"model.heads.{name}.arguments.{key}: the head knows {_short(given)} and its data states "
                    f"{_short(plain(value))}; give both the same"
                )
            if key != "skeleton" or given in (None, []):  # the head's own has the limbs that it learned
                arguments[key] = value
        return replace(self, arguments=arguments)

    def build(self, name: str, backbone: str, spec: InputSpec, optim: OptimConfig, channels_last: bool) -> VisionTask:
        """The task, with a backbone of its own that is to be exchanged for the shared one.

        Raises:
            UsageError: Its arguments are refused; the head is named.
        """
        cls = task_class(self.task)
        try:
            task = cls.from_config(
                {
                    **self.arguments,
                    "backbone": backbone,
                    "input": spec,
                    "optim": replace(optim, **self.optim),
                    "channels_last": channels_last,
                }
            )
        except UsageError as error:
            raise UsageError(f"model.heads.{name}: {error}") from error
        except (TypeError, ValueError, KeyError, RuntimeError) as error:
            # A yaml may hold a value of a wrong type.
            raise UsageError(
                f"model.heads.{name}.arguments {_short_mapping(self.arguments)}: task {self.task} cannot use them "
                f"({type(error).__name__}: {error})"
            ) from error
        if message := task.has_tta():
            raise UsageError(
                f"model.heads.{name}: {message} needs the backbone to process another image than the other heads do; "
                "leave it out"
            )
        return task


def _possible() -> list[str]:
    return [name for name in task_names() if name not in ("multitask", "super_resolution")]


def _same(key: str, ours: Any, other: Any) -> bool:
    """Whether head and data agree; a skeleton may be a name on one side and written out on the other."""
    if key == "skeleton":
        return Skeleton.of(ours).keypoints == Skeleton.of(other).keypoints
    return bool(ours == other)


def _short_mapping(values: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f"{key}: {_short(value)}" for key, value in values.items()) + "}"


def _short(value: Any) -> str:
    if isinstance(value, list):
        return f"{len(value)} ({', '.join(map(str, value[:4]))}{', ...' if len(value) > 4 else ''})"
    if isinstance(value, Mapping):
        return str(value.get("name", "another one"))
    return str(value)

"""A stored model that is measured: what it is wins over a yaml, and an option that contradicts it is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from visionkit.arguments import given
from visionkit.checkpoint import StoredModel
from visionkit.configurations import files
from visionkit.errors import UsageError
from visionkit.registry import task_class

ADJUSTABLE = frozenset(
    (
        *("score_threshold", "nms_threshold", "mask_threshold", "keypoint_threshold", "threshold", "max_detections"),
        *(
            "tile",
            "topk_candidates",
            "pre_nms_top_n",
            "post_nms_top_n",
            "flip_tta",
            "tta_scales",
            "decoding",
            "eval_crop",
            "alignment",
        ),
        *("input.size", "input.resize_mode", "input.crop_fraction", "input.interpolation", "input.divisor"),
        *("optim", "losses", "loss_options", "class_weights", "class_balance", "label_smoothing"),
        *("temperature", "conformal"),
        *("compile_network", "channels_last", "pretrained", "weights"),
    )
)
"""Arguments of tasks and architectures that state how a model is measured or trained, not what it is."""


def as_defaults(task: str, config: Mapping[str, Any]) -> list[str]:
    """The model of a checkpoint as the lowest layer of the configuration, so that yaml and flags win over it."""
    cls = task_class(task)
    arguments = {key: value for key, value in config.items() if key != "pretrained"}
    return ["--model", json.dumps({"class_path": f"{cls.__module__}.{cls.__qualname__}", "init_args": arguments})]


def early_arguments(arguments: Sequence[str], model: Sequence[str]) -> list[str]:
    """The arguments with the stored model behind all files, so that it wins over them, and before what is typed.

    Args:
        arguments: Arguments of the command line.
        model: The option that holds the stored model.
    """
    named = [part for path in files(arguments) for part in ("--config", str(path))]
    typed: list[str] = []
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument in ("-c", "--config"):
            skip = True
        elif not argument.startswith(("-c=", "--config=")):
            typed.append(argument)
    return [*named, *model, *typed]


def check_typed(arguments: Sequence[str], parsed: Mapping[str, Any], stored: StoredModel) -> None:
    """Refuses a typed option that denies what the stored model is.

    Args:
        arguments: Arguments of the command line.
        parsed: Arguments of the model as the command line makes them.
        stored: The model.

    Raises:
        UsageError: Names the option, what it states and what the model is.
    """
    task = task_class(stored.task)
    own, architectures = task.__name__, getattr(task, "architectures", ())
    for name, value in given(arguments):
        key = name.removeprefix("--model").lstrip(".").rstrip("+")
        if not name.startswith("--model"):
            continue
        if not key:
            if value and value.lstrip()[:1] != "{" and value.rpartition(".")[2] != own:
                raise UsageError(f"{name} {value}: {stored.source} holds a {own}; leave {name} out")
            continue
        key = key.removeprefix("init_args.")
        first, _, rest = key.partition(".")
        argument = rest if first in architectures else key
        if any(argument == each or argument.startswith(f"{each}.") for each in ADJUSTABLE):
            continue
        ours, theirs = _at(parsed, key), _at(stored.config, key)
        if ours != theirs:
            raise UsageError(
                f"{name} {value}: contradicts {stored.source}, which was trained with {_shown(theirs)}; leave it out"
            )


def differences(used: Mapping[str, Any], stored: Mapping[str, Any], prefix: str = "model") -> list[str]:
    """A line for each setting that a flag or yaml changed from what the checkpoint holds.

    Args:
        used: Arguments of the model as it is measured.
        stored: Arguments that the checkpoint holds.
        prefix: What the names of the settings begin with.
    """
    lines = []
    for key, value in used.items():
        if isinstance(value, Mapping) and isinstance(stored.get(key), Mapping):
            lines += differences(value, stored[key], f"{prefix}.{key}")
        elif key in stored and value != stored[key] and key != "pretrained":
            lines.append(f"{prefix}.{key}: {value} (the checkpoint has {stored[key]})")
    return lines


def _at(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = config.get(part) if isinstance(config, Mapping) else None
    return config


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."

"""Models of one task each to one joint model, and back, without training: weights move, none is changed."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from tasks.multitask.heads import SHARED
from tasks.multitask.task import MultiTask
from visionkit.errors import CheckpointError, UsageError, some_of, suggest
from visionkit.plain_values import plain
from visionkit.registry import task_class
from visionkit.task import VisionTask

BODY = "network.backbone."
_NAMED = 6
"""Tensors that a message names, at most."""


def join(models: Mapping[str, VisionTask]) -> MultiTask:
    """One model with the heads of several, on the backbone that they have in common.

    Args:
        models: Models by the name that each shall have as a head; all trained on one frozen backbone, for one input. A
            joint model gives all its heads, under their own names.

    Returns:
        Its predictions are those of the models.

    Raises:
        CheckpointError: Backbones or inputs differ; names what does.
    """
    singles = _singles(models)
    names = list(singles)
    if len(names) < 2:
        raise UsageError("join: at least two models are needed")
    first = names[0]
    for name in names[1:]:
        for key in ("backbone", "input"):
            ours, other = singles[first][0].get(key), singles[name][0].get(key)
            if ours != other:
                raise CheckpointError(f"{name}: its {key} is {_message(other)} and that of {first} is {_message(ours)}")
    body = _common({name: state for name, (_, _, state) in singles.items()})
    heads = {
        name: {"task": task, "arguments": _own_arguments(task, config)} for name, (config, task, _) in singles.items()
    }
    config = singles[first][0]
    shared: dict[str, Any] = {key: config[key] for key in ("backbone", "input", "channels_last") if key in config}
    joint = MultiTask.from_config({**shared, "heads": heads, "backbone_norm": _norm(singles)})
    assert isinstance(joint, MultiTask)
    state = dict(body)
    for name, (_, _, own) in singles.items():
        for key, value in own.items():
            if key.startswith(BODY):
                continue
            part, _, rest = key.partition(".")
            if part == "normalize":
                state[key] = value
            else:
                state[f"network.heads.{name}.{rest}" if part == "network" else f"heads.{name}.{key}"] = value
    _load(joint, state)
    return joint.eval()


def split(joint: MultiTask) -> dict[str, VisionTask]:
    """A model of each head's own task, with the part of the backbone that the head reads.

    Args:
        joint: Joint with its weights.
    """
    joint = cast(MultiTask, joint.merged())
    state = joint.state_dict()
    out = {}
    for name, settings in joint.head_settings.items():
        cls = task_class(settings.task)
        task = cls.from_config(
            {
                **plain(joint.tasks[name].config),
                "backbone": joint.config["backbone"],
                "input": joint.config["input"],
                **({"backbone_norm": joint.config["backbone_norm"]} if _takes(settings.task, "backbone_norm") else {}),
            }
        )
        own = {}
        for key in task.state_dict():
            part, _, rest = key.partition(".")
            shared = key.startswith(BODY) or part == "normalize"
            own[key] = state[
                key if shared else f"network.heads.{name}.{rest}" if part == "network" else f"heads.{name}.{key}"
            ]
        _load(task, own)
        out[name] = task.eval()
    return out


_Single = tuple[dict[str, Any], str, dict[str, Tensor]]


def _singles(models: Mapping[str, VisionTask]) -> dict[str, _Single]:
    """Configuration, name of the task and weights of every head."""
    out: dict[str, _Single] = {}
    for name, model in models.items():
        parts = split(model) if isinstance(model, MultiTask) else {name: model.merged()}
        for own, task in parts.items():
            if own in out:
                raise UsageError(f"join: two heads are called {own}; give one of them another name, NAME=MODEL")
            if "backbone" not in task.config:
                raise CheckpointError(f"{own}: task {task.name} has no backbone that it could share")
            out[own] = (dict(task.config), task.name, dict(task.state_dict()))
    return out


def _common(states: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The weights of the backbone; a head that reads less of it may have less of it."""
    body: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    different: dict[tuple[str, str], list[str]] = {}
    for name, state in states.items():
        for key, value in state.items():
            if not key.startswith(BODY):
                continue
            if key not in body:
                body[key], origin[key] = value, name
            elif value.shape != body[key].shape or not torch.equal(value, body[key]):
                different.setdefault((origin[key], name), []).append(key)
    if different:
        (ours, other), keys = next(iter(different.items()))
        raise CheckpointError(
            f"the backbones of {ours} and {other} are not the same: {some_of(keys, _NAMED)} differ; heads can "
            "be joined where they were trained on one frozen backbone (optim.freeze backbone)"
        )
    return body


def _own_arguments(task: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """What a head is configured by; what belongs to all of them is left out, and tiles, which a joint model has not."""
    known = inspect.signature(task_class(task).__init__).parameters
    return {
        key: value for key, value in config.items() if key in known and key not in (*SHARED, "backbone_norm", "tile")
    }


def _norm(singles: Mapping[str, _Single]) -> str:
    found = {name: config.get("backbone_norm", "batch") for name, (config, _, _) in singles.items()}
    names = list(found)
    for name in names[1:]:
        if found[name] != found[names[0]]:
            raise CheckpointError(
                f"{name}: its backbone_norm is {found[name]} and that of {names[0]} is {found[names[0]]}; heads share "
                "the norms of one backbone"
            )
    return str(found[names[0]])


def _takes(task: str, argument: str) -> bool:
    return argument in inspect.signature(task_class(task).__init__).parameters


def _load(task: VisionTask, state: Mapping[str, Tensor]) -> None:
    own = task.state_dict()
    lost = sorted(own.keys() ^ state.keys())
    if lost:
        raise CheckpointError(f"the weights do not fit together: {', '.join(lost[:_NAMED])}")
    task.load_state_dict(dict(state))


def _message(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {each}" for key, each in value.items())
    return str(value)


def name_models(given: Sequence[str]) -> dict[str, str]:
    """`NAME=MODEL` or `MODEL` to models by name; without one a model is called by its file or folder.

    Raises:
        UsageError: Two have one name.
    """
    out: dict[str, str] = {}
    for each in given:
        name, sign, path = each.partition("=")
        if not sign or not name.isidentifier():
            path = each
            name = _stem(each)
        if name in out:
            raise UsageError(f"join: two models are called {name}; name them, NAME=MODEL{suggest(name, ())}")
        out[name] = path
    return out


def _stem(path: str) -> str:
    """A name made of a path: that of the run where the file is one of its checkpoints."""
    parts = [part for part in path.replace("\\", "/").split("/") if part]
    stem = parts[-1].removesuffix(".ckpt") if parts else path
    if len(parts) > 2 and parts[-2] == "checkpoints":
        stem = parts[-3]
    found = "".join(letter if letter.isalnum() else "_" for letter in stem).strip("_")
    return found if found.isidentifier() else f"head_{found}"

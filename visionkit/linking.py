"""What model and data must agree on is stated once and linked: input, classes, and what tasks add.

An argument that is left out on both sides is asked of the leading side's class (`linked`).

jsonargparse's own links drop in silence what a flag or a yaml sets on the far side; here that is an error which names
the option to set. Linked values are worked out before anything is built and are written into the run's configuration.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from visionkit.data import VisionDataModule
from visionkit.errors import UsageError
from visionkit.geometry import InputSpec
from visionkit.names import classes_differ
from visionkit.plain_values import plain
from visionkit.skeleton import Skeleton
from visionkit.task import VisionTask


@dataclass(frozen=True)
class Link:
    """One argument that follows another.

    Attributes:
        source: `model` or `data`.
        argument: Its name on both sides.
    """

    source: str
    argument: str

    @property
    def target(self) -> str:
        """The side that follows."""
        return "data" if self.source == "model" else "model"


_SMALL = 64
"""Pixels of an input up to which nothing is cut off by default."""

LINKS = (
    Link("model", "input"),
    Link("data", "skeleton"),
    Link("data", "classes"),  # after the skeleton, which may name them
    Link("model", "scale"),
    Link("model", "crop"),
    Link("data", "vocabulary"),
)
"""A link holds only where both sides have the argument."""


def link(
    model: Mapping[str, Any],
    data: Mapping[str, Any],
    task: type[VisionTask],
    module: type[VisionDataModule],
    learning: bool = True,
) -> dict[str, Any]:
    """Works out all linked values.

    Args:
        model: The model's init arguments as configured; None by default.
        data: The data module's.
        task: Class of the model.
        module: Class of the data module.
        learning: The model is to train on that data, and not to be measured on it.

    Returns:
        Values by argument name, the same for both sides: `input` as a dict, `classes` as a list, ...

    Raises:
        UsageError: A follower is set to something else, or the checkpoint knows other classes than the data.
    """
    sides = {"model": dict(model), "data": dict(data)}
    values: dict[str, Any] = {}
    for each in LINKS:
        name = each.argument
        if not (has_argument(task, name) and has_argument(module, name)):
            continue
        leads, follows = plain(sides[each.source].get(name)), plain(sides[each.target].get(name))
        if name == "classes":
            values[name] = _classes(leads, follows, sides["data"], module)
            continue
        if name == "input":
            leads = _input(leads, sides["model"], task)
            follows = asdict(InputSpec.of(follows, InputSpec.of(leads))) if follows else None
        elif leads is None and follows is not None and not learning and each.source == "data":
            leads = follows  # a model that is measured knows it; the data need not be asked
        elif leads is None:
            leads = plain((task if each.source == "model" else module).linked(name, **sides[each.source]))
        if name == "skeleton":
            leads = plain(module.settled(name, leads, **sides["data"])) if sides["data"].get(name) else leads
            values[name] = sides["data"][name] = _skeleton(leads, follows)
            continue
        if follows not in (None, [], leads) and plain(follows) != plain(leads):
            raise UsageError(
                f"{each.target}.{name} follows {each.source}.{name} and cannot be set to something else; "
                f"set --{each.source}.{name} instead"
            )
        values[name] = leads
    if has_argument(task, "identities"):
        values["identities"] = _identities(sides["model"].get("identities"), sides["data"], module, learning)
    return values


def has_argument(cls: type, name: str) -> bool:
    """Whether a class can be built with that argument: its own, or one of a base that it hands the rest to."""
    for base in cls.__mro__:
        if "__init__" in vars(base):
            parameters = inspect.signature(vars(base)["__init__"]).parameters
            if name in parameters:
                return True
            if all(each.kind is not inspect.Parameter.VAR_KEYWORD for each in parameters.values()):
                return False  # a task without classes does not take those of its base
    return False


def _input(given: Any, model: Mapping[str, Any], task: type[VisionTask]) -> dict[str, Any]:
    known = inspect.signature(task.default_input).parameters
    takes_all = any(each.kind is each.VAR_KEYWORD for each in known.values())
    asked = {key: value for key, value in model.items() if (takes_all or key in known) and key != "input"}
    usual = task.default_input(**asked)
    spec = InputSpec.of(given, usual)
    left_out = not isinstance(given, Mapping) or "crop_fraction" not in given
    if left_out and max(spec.size) <= _SMALL:
        spec = replace(spec, crop_fraction=1.0)  # an image that small has no border to spare
    return asdict(spec)


def _skeleton(data: Any, model: Any) -> Any:
    """The data's skeleton; where a checkpoint brings its own, it must agree."""
    if data is None or model is None:
        return model if data is None else data
    ours, known = Skeleton.of(data), Skeleton.of(model)
    if ours.keypoints != known.keypoints:
        raise UsageError(
            f"model.skeleton follows data.skeleton: the model has the {len(known)} keypoints of {known.name} and the "
            f"data the {len(ours)} of {ours.name}; train again or give the same --data.skeleton"
        )
    return data


def _identities(model: int | None, data: Mapping[str, Any], module: type[VisionDataModule], learning: bool) -> int:
    """How many people the model states apart during training; only their number is the model's, never their names."""
    if model is not None and not learning:
        return int(model)
    found = data.get("classes") or module.discover_classes(
        **{k: v for k, v in data.items() if k not in ("classes", "input")}
    )
    if model is not None and model < len(found):
        raise UsageError(
            f"model.identities {model}: the training data has {len(found)} people; leave it out, and it follows the "
            "data"
        )
    return len(found) if model is None else int(model)


def _classes(data: Any, model: Any, data_args: Mapping[str, Any], module: type[VisionDataModule]) -> list[str]:
    """The data's class names; where a checkpoint brings its own, they must be the same ones."""
    names = list(data or [])
    if not names:
        found = module.discover_classes(**{k: v for k, v in data_args.items() if k not in ("classes", "input")})
        # The order in a configuration or checkpoint stands; the data is read by name.
        names = list(model) if model and set(model) == set(found) else list(found)
        if not names and not model:
            raise UsageError(f"{module.__name__} does not name its classes; give --data.classes '[first, second]'")
        names = names or list(model)
    if model and list(model) != names:
        raise UsageError("model.classes follows data.classes: " + classes_differ(list(model), names))
    return names

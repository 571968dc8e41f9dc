"""What an object was built with, for checkpoints and for the configuration of a run."""

from __future__ import annotations

import inspect
from abc import ABCMeta
from typing import Any

from visionkit.plain_values import plain
from visionkit.signatures import check_known, complete


class RemembersArguments(ABCMeta):
    """Keeps what an object was built with as its attribute `_given`, defaults included.

    An object that has a method `resolved`, which is what its constructor worked out, keeps both in plain types as
    `_config`: Lightning's `save_hyperparameters` would store dataclasses and keys of its own, which `weights_only=True`
    rejects.
    """

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        task = hasattr(cls, "resolved")
        if task:
            check_known(cls, kwargs)
        built = super().__call__(*args, **kwargs)
        if task:
            built.constructed()
        signature = complete(cls) if task else inspect.signature(cls.__init__)  # type: ignore[misc]
        bound = signature.bind(built, *args, **kwargs)
        bound.apply_defaults()
        given: dict[str, Any] = {}
        for name, value in bound.arguments.items():
            if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
                given |= value  # arguments of a base
            elif name != "self":
                given[name] = value
        object.__setattr__(built, "_given", given)  # it may be a frozen dataclass
        if task:
            others = getattr(cls, "architectures", ())  # the chosen one is resolved
            built._config = plain({**{k: v for k, v in given.items() if k not in others}, **built.resolved()})
        return built


def described(value: Any) -> Any:
    """An object as a configuration names it: `class_path` and `init_args`; other values in plain types.

    Raises:
        TypeError: It was built with something that has no plain form.
    """
    if isinstance(type(value), RemembersArguments):
        arguments = {name: described(each) for name, each in value._given.items() if each is not None}
        return {"class_path": f"{type(value).__module__}.{type(value).__qualname__}", "init_args": arguments}
    if isinstance(value, (list, tuple)):
        return [described(each) for each in value]
    return plain(value)

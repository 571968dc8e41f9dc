"""Architectures of a task: objects in a registry, each with arguments of its own, found through entry points.

A package brings another one with an entry point in the group `visionkit.architectures.<task>`; a notebook or a test
calls `Architectures.register`.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from torch import Tensor, nn

from visionkit.argument_types import check_arguments
from visionkit.errors import Interrupted, Terminated, UsageError, suggest
from visionkit.plain_values import plain
from visionkit.plugins import Registered

if TYPE_CHECKING:
    from visionkit.backbones import Backbone

log = logging.getLogger(__name__)

Classes = TypeVar("Classes", contravariant=True)
Limits = TypeVar("Limits", contravariant=True)


class Architecture(Protocol[Classes, Limits]):
    """One network of a task: a frozen dataclass whose fields are its arguments, one sentence each.

    It holds no weights and no state: `build` makes the network, and the other methods are given it.
    """

    @property
    def outputs(self) -> type[tuple[Any, ...]]:
        """The NamedTuple that the network returns, see `VisionTask.outputs`."""

    def build(self, backbone: Backbone, classes: Classes) -> nn.Module:
        """The network on a backbone.

        Args:
            backbone: Built with the maps that the architecture asked for.
            classes: Number of classes, or what else the task predicts.
        """

    def losses(self, network: Any, outputs: Any, target: Any) -> dict[str, Tensor]:
        """Named terms, already weighted; `network.training` states whether they are trained on."""

    def decode(self, network: Any, outputs: Any, limits: Limits) -> Any:
        """Network outputs to results in input pixels."""


Kind = TypeVar("Kind")


class Architectures(Registered[Kind], Mapping[str, type[Kind]]):
    """The architectures of a task by name.

    Args:
        task: Name of the task; the group of entry points is `visionkit.architectures.<task>`.

    Attributes:
        version: Changes with each registration.
    """

    def __init__(self, task: str) -> None:
        super().__init__(f"visionkit.architectures.{task}", "architecture")
        self.version = 0

    def register(self, name: str, kind: type[Kind]) -> None:
        """Adds an architecture, or replaces one.

        Args:
            name: What `--model.architecture` takes, and where its arguments stand: `--model.<name>.<argument>`.
            kind: A frozen dataclass that satisfies `Architecture`.

        Raises:
            UsageError: See `Registered.register`.
        """
        super().register(name, kind)
        self.version += 1

    def unregister(self, name: str) -> None:
        """Takes back a registration."""
        del self._registered[name]
        self.version += 1

    @functools.cached_property
    def _installed(self) -> dict[str, type[Kind]]:
        found = {}
        for point in self._points.values():
            try:
                found[point.name] = cast(type[Kind], point.load())
            except (Interrupted, Terminated):
                raise
            except Exception as error:  # a broken package must not break those that work
                log.warning("architecture %s (%s) cannot be imported: %s", point.name, point.value, error)
        return found

    def __getitem__(self, name: str) -> type[Kind]:
        return self._registered[name] if name in self._registered else self._installed[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self._installed, **self._registered})

    def __len__(self) -> int:
        return len({**self._installed, **self._registered})

    def choose(self, name: str, given: Mapping[str, Any]) -> Kind:
        """The architecture of that name with the arguments that were given for it.

        Args:
            name: One of the registered names.
            given: By architecture, its arguments as a mapping or as the dataclass; None where none were given.

        Raises:
            UsageError: An unknown name, an argument that the architecture does not have, or arguments of another one.
        """
        if name not in self:
            raise UsageError(f"model.architecture {name!r}: allowed are {', '.join(self)}{suggest(name, self)}")
        for other, arguments in given.items():
            if arguments is not None and other != name:
                raise UsageError(self.foreign(other, name))
        kind, own = self[name], given.get(name)
        if own is None:
            return kind()
        if isinstance(own, kind):
            own = {each.name: getattr(own, each.name) for each in self.fields(name)}
        if not isinstance(own, Mapping):
            raise UsageError(f"model.{name}: a mapping of its arguments is needed, not {own!r}")
        known = [each.name for each in self.fields(name)]
        for key in own:
            if key not in known:
                raise UsageError(f"model.{name}.{key}: {self.has(name)}{suggest(key, known)}")
        values = plain(own)
        check_arguments(kind, values, f"model.{name}.")
        return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})

    def fields(self, name: str) -> tuple[dataclasses.Field[Any], ...]:
        """The arguments of an architecture."""
        return dataclasses.fields(cast(Any, self[name]))

    def has(self, name: str) -> str:
        """The sentence that names the arguments of an architecture."""
        return f"architecture {name} has no such argument; it has {', '.join(each.name for each in self.fields(name))}"

    def foreign(self, other: str, chosen: str) -> str:
        """The message for arguments of an architecture that was not chosen."""
        names = ", ".join(each.name for each in self.fields(chosen))
        return f"model.{other}: the architecture is {chosen}, whose arguments are model.{chosen}.{{{names}}}"

    def owners(self, argument: str) -> list[str]:
        """The architectures that have an argument of that name."""
        return [name for name in self if any(each.name == argument for each in self.fields(name))]

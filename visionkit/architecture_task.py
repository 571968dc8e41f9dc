"""The base of tasks that have several architectures: one is chosen by name, with arguments of its own."""

from __future__ import annotations

from typing import Any, ClassVar

from visionkit.architectures import Architectures
from visionkit.task import VisionTask


class ArchitectureTask(VisionTask):
    """A task with a registry of architectures.

    Its constructor takes `architecture`, the name, and `**shared`, in which each architecture has an argument under its
    own name: `DetectionTask("resnet18", architecture="fcos", fcos={"convs": 2})`.

    Attributes:
        architectures: Architectures to choose from.
        chosen: Name of the architecture.
        architecture: The architecture with its arguments; they are part of every checkpoint.
    """

    architectures: ClassVar[Architectures[Any]]

    chosen: str
    architecture: Any

    @classmethod
    def pick(cls, name: str, arguments: dict[str, Any]) -> Any:
        """Makes the chosen architecture, and takes the arguments of all of them out of those of the constructor.

        Args:
            name: Name of the architecture.
            arguments: Arguments of the constructor; changed.

        Raises:
            UsageError: An unknown architecture, or arguments that it does not have.
        """
        return cls.architectures.choose(name, {each: arguments.pop(each, None) for each in cls.architectures})

    def choose(self, name: str, architecture: Any) -> None:
        """Remembers what was picked."""
        self.chosen, self.architecture = name, architecture

    def resolved(self) -> dict[str, Any]:
        return {**super().resolved(), self.chosen: self.architecture}

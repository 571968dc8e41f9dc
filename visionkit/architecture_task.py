"""The base of tasks that have several architectures: one is chosen by name, with arguments of its own."""

from __future__ import annotations

from typing import Any, ClassVar

from visionkit.architectures import Architectures
from visionkit.task import VisionTask


class ArchitectureTask(VisionTask):
    """A task with a registry of architectures.

    Each architecture has an argument under its own name, with its arguments as a mapping:
    `DetectionTask("resnet18", architecture="fcos", fcos={"convs": 2})`. One on a backbone is a `BackboneTask` too:
    `class DetectionTask(ArchitectureTask, BackboneTask)`.

    Args:
        *backbone: Name of the backbone, where the task has one.
        architecture: Name of the architecture; its arguments are those under its name, `--model.<name>.<argument>`.
        **shared: See the next base: `BackboneTask` or `VisionTask`.

    Raises:
        UsageError: An unknown architecture, or arguments that it does not have.

    Attributes:
        architectures: Architectures to choose from.
        chosen: Name of the architecture.
        architecture: The architecture with its arguments; they are part of every checkpoint.
    """

    architectures: ClassVar[Architectures[Any]]

    chosen: str
    architecture: Any

    def __init__(self, *backbone: str, architecture: str, **shared: Any) -> None:
        given = {each: shared.pop(each, None) for each in self.architectures}
        chosen = self.architectures.choose(architecture, given)
        super().__init__(*backbone, **shared)
        self.chosen, self.architecture = architecture, chosen

    def resolved(self) -> dict[str, Any]:
        return {**super().resolved(), self.chosen: self.architecture}

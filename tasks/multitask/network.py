"""A backbone and the halves of several networks that read its features."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from torch import Tensor, nn

from visionkit.backbones import Backbone, Features
from visionkit.backbones.shared import BackboneView, take_rows, tensors
from visionkit.engines import served_fields
from visionkit.nn.normalize import Normalize
from visionkit.task import VisionTask

Parts = tuple[tuple[str, Any], ...]
"""Each head's name and the NamedTuple that its network gives."""


@functools.lru_cache
def joint_outputs(parts: Parts) -> Any:
    """The type of the outputs: those of every head, each field named `<head>_<field>`.

    Fields that a head has for its losses alone have a default here too, and stand behind all others.
    """
    served = [f"{name}_{each}" for name, outputs in parts for each in served_fields(outputs)]
    trained = [
        f"{name}_{each}" for name, outputs in parts for each in outputs._fields if each not in served_fields(outputs)
    ]
    made = NamedTuple("JointOutputs", [(name, Any) for name in served + trained])  # type: ignore[misc]
    made.__new__.__defaults__ = (None,) * len(trained)
    made._field_defaults = dict.fromkeys(trained)
    return made


class HeadStage(nn.Module):
    """The second stage of a head, its inputs under the names of the joint outputs.

    Args:
        head: Name.
        stage: Stage of the head's task; it is shared, not copied.

    Attributes:
        inputs: Names of the inputs.
    """

    def __init__(self, head: str, stage: nn.Module) -> None:
        super().__init__()
        self.stage = stage
        names: Any = stage.inputs
        self.inputs = (*(f"{head}_{name}" for name in names[:-1]), names[-1])

    def forward(self, *inputs: Tensor) -> Tensor:
        """As the stage itself."""
        return cast(Tensor, self.stage(*inputs))


class JointNetwork(nn.Module):
    """One pass of the backbone, read by every head.

    Args:
        backbone: Gives what all heads need.
        heads: The network of each by name; its `backbone` is a view of the shared one.
        parts: See `joint_outputs`.

    Attributes:
        outputs: Type of what `forward` gives.
    """

    def __init__(self, backbone: Backbone, heads: Mapping[str, nn.Module], parts: Parts) -> None:
        super().__init__()
        self.backbone, self.heads, self.parts = backbone, nn.ModuleDict(heads), parts
        self.outputs = joint_outputs(parts)

    def forward(
        self, image: Tensor, rows: Mapping[str, Tensor | None] | None = None, kept: list[Tensor] | None = None
    ) -> Any:
        """(B, C, H, W) normalized images to the outputs of all heads.

        Args:
            image: The images.
            rows: For each head that is required, the images that it processes, or None for all; a head that is not
                among them gives None in all its fields. All heads process all images by default.
            kept: Is given the tensors that the heads read, for who asks for gradients there.
        """
        size = (image.shape[-2], image.shape[-1])
        features: Features = self.backbone(image)
        if kept is not None:
            kept += tensors(features)
        values: dict[str, Any] = dict.fromkeys(self.outputs._fields)
        for name, outputs in self.parts:
            if rows is not None and name not in rows:
                continue
            network: Any = self.heads[name]
            seen = cast(BackboneView, network.backbone).select(features)
            if rows is not None and (chosen := rows[name]) is not None:
                seen = take_rows(seen, chosen)
            prediction = network.read(seen, size)
            values |= {f"{name}_{field}": getattr(prediction, field) for field in outputs._fields}
        return self.outputs(**values)

    def split(self, outputs: Any) -> dict[str, Any]:
        """The outputs of each head that gave some, in its own type."""
        out: dict[str, Any] = {}
        for name, kind in self.parts:
            if getattr(outputs, f"{name}_{kind._fields[0]}") is not None:
                out[name] = kind(*(getattr(outputs, f"{name}_{each}") for each in kind._fields))
        return out


def read_shared(body: Backbone, task: VisionTask) -> nn.Module:
    """The network of a head, which from now on reads the shared backbone in place of its own.

    Args:
        body: The shared backbone.
        task: Task of the head.
    """
    network: Any = task.network
    view = BackboneView(body, network.backbone)
    del network.backbone
    network.backbone = view
    return cast(nn.Module, network)


def hand_over(task: VisionTask, normalize: Normalize) -> None:
    """Leaves a head's network and normalization to the joint model: the task refers to them and does not store them.

    Args:
        task: Task of the head.
        normalize: Normalization of the joint model.
    """
    for name, module in (("network", task.network), ("normalize", normalize)):
        del task._modules[name]
        task.__dict__[name] = module

"""The base of tasks whose network begins with a backbone: the arguments that all of them share, written once."""

from __future__ import annotations

from typing import Any

from visionkit.geometry import InputSpec
from visionkit.task import VisionTask


class BackboneTask(VisionTask):
    """A task on any backbone.

    A subclass writes `backbone` with its default, arguments of its own, and `**shared`, which it hands on. Its
    `default_input` takes the backbone.

    Args:
        backbone: Any timm backbone by name, or one of the classic networks (`visionkit models PATTERN` lists them).
        pretrained: Start from public weights: of the cache, of an installed package, or downloaded.
        weights: Start the backbone from this file in place of public weights, see `Backbone`.
        drop_path: Rate of stochastic depth of the backbone, where its family has it.
        **shared: See `VisionTask`.

    Attributes:
        backbone_arguments: Arguments of `Backbone` that follow from those above and from the input.
    """

    backbone_arguments: dict[str, Any]

    def __init__(
        self,
        backbone: str,
        *,
        pretrained: bool = False,
        weights: str | None = None,
        drop_path: float = 0.0,
        **shared: Any,
    ) -> None:
        spec = InputSpec.of(shared.pop("input", None), self.default_input(backbone, pretrained=pretrained))
        super().__init__(input=spec, **shared)
        self.backbone_arguments = {
            "pretrained": pretrained,
            "weights": weights,
            "in_chans": spec.channels,
            "image_size": spec.size if spec.resize_mode != "native" else None,
            "drop_path_rate": drop_path,
        }

    @classmethod
    def default_input(cls, backbone: str = "", **init_args: Any) -> InputSpec:
        """The input where none is configured, from the facts of the backbone; builds no network."""
        return InputSpec()

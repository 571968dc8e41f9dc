"""The base of tasks whose network begins with a backbone: the arguments that all of them share, written once."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from torch import Tensor

from visionkit.backbones import Backbone
from visionkit.backbones.adapters import AdapterConfig, merged_state
from visionkit.backbones.weights import are_at_hand
from visionkit.construction import WithoutInit
from visionkit.distillation import PREFIX, Distillation, DistillConfig, refusal
from visionkit.errors import UsageError
from visionkit.geometry import InputSpec
from visionkit.optim import OptimConfig, for_random_weights
from visionkit.plain_values import plain
from visionkit.task import VisionTask
from visionkit.types import Batch

log = logging.getLogger(__name__)


class BackboneTask(VisionTask):
    """A task on any backbone.

    A subclass writes `backbone` with its default, arguments of its own, and `**shared`, which it hands on. Its
    `default_input` takes the backbone.

    Args:
        backbone: Any timm backbone by name, or one of the classic networks (`visionkit models PATTERN` lists them).
        pretrained: Start from public weights: of the cache, of an installed package, or downloaded. `auto` takes those
            of the cache or of a package, and random weights where there are none.
        weights: Start the backbone from this file in place of public weights, see `Backbone`.
        drop_path: Rate of stochastic depth of the backbone, where its family has it.
        adapters: Train low-rank adapters in place of the backbone's own weights, see `visionkit.backbones.adapters`.
        distill: A trained model to learn from, see `visionkit.distillation`.
        **shared: See `VisionTask`.

    Attributes:
        backbone_arguments: Arguments of `Backbone` that follow from those above and from the input.
        distillation: The teacher, once a training has begun.
    """

    backbone_arguments: dict[str, Any]

    def __init__(
        self,
        backbone: str,
        *,
        pretrained: bool | Literal["auto"] = False,
        weights: str | None = None,
        drop_path: float = 0.0,
        adapters: AdapterConfig | None = None,
        distill: DistillConfig | None = None,
        **shared: Any,
    ) -> None:
        pretrained = are_at_hand(backbone) if pretrained == "auto" else pretrained
        spec = InputSpec.of(shared.pop("input", None), self.default_input(backbone, pretrained=pretrained))
        super().__init__(input=spec, **shared)
        self.adapters = AdapterConfig(**adapters) if isinstance(adapters, Mapping) else adapters
        self.distill = DistillConfig(**distill) if isinstance(distill, Mapping) else distill
        self.distillation: Distillation | None = None
        self.backbone_arguments = {
            "pretrained": pretrained,
            "weights": weights,
            "in_chans": spec.channels,
            "image_size": spec.size if spec.resize_mode != "native" else None,
            "drop_path_rate": drop_path,
        }

    def constructed(self) -> None:
        """Gives the backbone its adapters, and refuses a teacher that nothing could be learned from."""
        super().constructed()
        if self.adapters is not None:
            if self.optim.freeze == "backbone" or self.optim.backbone_lr_scale == 0:
                raise UsageError(
                    "model.adapters: optim.freeze backbone would keep them as they are; they freeze the backbone's own "
                    "weights by themselves, so leave freeze out"
                )
            backbone: Any = self.network.backbone
            backbone.adapt(self.adapters)
        if self.distill is not None and (reason := refusal(self.distill, self)) is not None:
            raise UsageError(f"model.distill: {reason}")

    def setup(self, stage: str) -> None:
        if stage == "fit" and self.distill is not None and self.distillation is None:
            self.distillation = Distillation(self.distill, self).to(self.device)
        super().setup(stage)
        if stage == "fit" and self.adapters is not None and not self.started_from:
            log.warning(
                "model.adapters: the backbone has no pretrained weights, and adapters keep its random ones; give "
                "--model.pretrained true, --model.weights or --init_from"
            )

    @property
    def effective_optim(self) -> OptimConfig:
        """As in the base; adapters are in all layers and trained in all, at the backbone's rate."""
        if self.adapters is None:
            return super().effective_optim
        return replace(for_random_weights(self.optim), backbone_lr_scale=self.optim.backbone_lr_scale)

    def training_losses(self, batch: Batch) -> dict[str, Tensor]:
        """The terms of a training step, those of the teacher included."""
        if self.distillation is None:
            return super().training_losses(batch)
        outputs, terms = self.distillation.losses(self, batch)
        return {**self.losses(outputs, batch["target"]), **terms}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The network's weights, and the projections to a teacher's features at the rate of the head."""
        groups = super().parameter_groups()
        trained = [] if self.distillation is None else list(self.distillation.parameters())
        if trained:
            decay = self.optim.weight_decay
            groups.append({"params": trained, "lr": self.optim.lr, "weight_decay": decay, "name": "distillation"})
        return groups

    def merged(self) -> VisionTask:
        """The task with adapters merged into the weights that they change, and without a teacher."""
        if self.adapters is None and self.distill is None:
            return self
        config = {**plain(self.config), "adapters": None, "distill": None, "pretrained": False}
        with WithoutInit():
            task = type(self).from_config(config)
        own = {name: value.cpu() for name, value in self.state_dict().items() if not name.startswith(PREFIX)}
        task.load_state_dict(merged_state(own))
        task.card, task.statistics, task.source = self.card, self.statistics, self.source
        return task.train(self.training)

    def resolved(self) -> dict[str, Any]:
        body = getattr(self.network, "backbone", None)
        named = {"backbone": body.name} if isinstance(body, Backbone) else {}
        return {**super().resolved(), **named, "pretrained": self.backbone_arguments["pretrained"]}

    @classmethod
    def default_input(cls, backbone: str = "", **init_args: Any) -> InputSpec:
        """The input where none is configured, from the facts of the backbone; builds no network."""
        return InputSpec()

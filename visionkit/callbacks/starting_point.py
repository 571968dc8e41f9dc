"""What a training begins with."""

from __future__ import annotations

from typing import Any

from lightning import Callback, LightningModule, Trainer

from visionkit.backbones import Backbone, backbone_facts
from visionkit.contract import RANDOM


class StartingPoint(Callback):
    """States, when training begins, the weights that it begins with and how many of them are trained."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        task: Any = pl_module
        if not trainer.is_global_zero:
            return
        network = task.network
        sizes = [(each.numel(), each.requires_grad) for each in network.parameters()]
        trained, total = (sum(n for n, trains in sizes if trains or every) / 1e6 for every in (False, True))
        backbone = getattr(network, "backbone", None)
        name = backbone.name if isinstance(backbone, Backbone) else type(network).__name__
        advice = ""
        if isinstance(backbone, Backbone) and not task.started_from and backbone_facts(backbone.name).has_weights:
            advice = " (--model.pretrained true fetches public ones)"
        kept = f" ({total - trained:.2f} M are kept as they are)" if trained < total else ""
        print(
            f"model ({type(task).__name__}):\n  {name} starts from {task.started_from or RANDOM}{advice}\n"
            f"  {total:.2f} M parameters{kept}",
            flush=True,
        )

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
        whole = sum(each.numel() for each in task.parameters())
        trained = sum(each.numel() for each in task.parameters() if each.requires_grad)
        backbone = getattr(task.network, "backbone", None)
        name = backbone.name if isinstance(backbone, Backbone) else getattr(task, "chosen", type(task.network).__name__)
        made = getattr(getattr(task, "architecture", None), "first_weights", None)
        advice = ""
        if isinstance(backbone, Backbone) and not task.started_from and backbone_facts(backbone.name).has_weights:
            advice = " (--model.pretrained true fetches public ones)"
        part = f"{trained:,} of {whole:,} parameters are trained" if trained < whole else f"{whole:,} parameters"
        begins = f"{name} starts from {task.started_from or made or RANDOM}{advice}"
        print(f"model ({type(task).__name__}):\n  {begins}\n  {part}", flush=True)

"""Reports epochs of few steps, in which little is trained between two validations."""

from __future__ import annotations

import sys
from typing import Any

from lightning import Callback, LightningModule, Trainer

FEW_STEPS = 10


class Hints(Callback):
    """Prints one line when training starts where an epoch has fewer than `FEW_STEPS` steps."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loop: Any = trainer
        steps = loop.num_training_batches
        size = getattr(loop.datamodule, "batch_size", None)
        whole = loop.limit_train_batches == 1.0 and not loop.overfit_batches and not loop.fast_dev_run
        if not trainer.is_global_zero or not isinstance(size, int) or not whole or steps >= FEW_STEPS:
            return
        smaller = max(1, size * steps // FEW_STEPS)
        advice = f"; --data.batch_size {smaller} gives about {FEW_STEPS}" if smaller < size else ""
        unit = "step" if steps == 1 else "steps"
        print(f"an epoch has only {steps} {unit} of {size} images{advice}", file=sys.stderr)

"""The statistics that processes measure with, where each has kept its own."""

from __future__ import annotations

from typing import Any

from lightning import Callback, LightningModule, Trainer
from torch.nn.parallel import DistributedDataParallel


class SharedBuffers(Callback):
    """Gives all processes the buffers of the first one, such as statistics of batch norm, once for each validation.

    DDP alone does so before each batch, and a process that has a batch more than the others, since nothing is padded,
    would then wait for them. At the first batch the averaged weights are in place, where they are used.
    """

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        model = trainer.strategy.model
        if isinstance(model, DistributedDataParallel) and model.require_forward_param_sync:
            if model.will_sync_module_buffers():
                model._sync_buffers()
            model.require_forward_param_sync = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        model = trainer.strategy.model
        if isinstance(model, DistributedDataParallel):
            model.require_forward_param_sync = True

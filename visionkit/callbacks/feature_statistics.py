"""Collects the features of validation images, so that every checkpoint knows what images of its own are like."""

from __future__ import annotations

from typing import Any

from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from visionkit.out_of_distribution import MOST, FeatureStatistics, FeatureTap, tap_of
from visionkit.task import VisionTask


class FeatureStatisticsCollector(Callback):
    """Gives the task the statistics of its features, see `visionkit.out_of_distribution`.

    They come from validation images in the pass that is made anyway, by the very weights that are saved behind it, at
    most 1,024 of them evenly over the split; on several processes from those of the first. A checkpoint that is saved
    between two validations has none, since its weights are others.
    """

    def __init__(self) -> None:
        self._tap: FeatureTap | None = None
        self._every, self._at = 1, -1
        self._batches: list[Tensor] = []

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._close()
        if trainer.state.fn != "fit" or trainer.sanity_checking or not isinstance(pl_module, VisionTask):
            return
        if pl_module.compile_network or not trainer.is_global_zero:
            return  # a hook would make a compiled network compile again
        loaders: Any = trainer.val_dataloaders
        loader = loaders[0] if isinstance(loaders, (list, tuple)) else loaders
        images = int(sum(trainer.num_val_batches)) * (getattr(loader, "batch_size", None) or 1)
        self._every, self._tap = max(1, -(-images // MOST)), tap_of(pl_module.network)
        if self._tap is not None:
            self._tap.__enter__()

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if self._tap is None or not isinstance(batch, dict):
            return
        features = self._tap.take(len(batch["id"]))
        if features is not None and not dataloader_idx and batch_idx % self._every == 0:
            self._batches.append(features)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Before the checkpoint is saved; the device is asked once."""
        if self._tap is None or not isinstance(pl_module, VisionTask):
            return
        batches = self._batches
        self._close()
        widths = {each.shape[1] for each in batches}
        if len(widths) == 1:
            import torch

            pl_module.statistics = FeatureStatistics.of(torch.cat(batches).cpu().numpy())
            self._at = trainer.global_step

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if isinstance(pl_module, VisionTask) and trainer.state.fn == "fit" and self._at != trainer.global_step:
            pl_module.statistics = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._close()

    def _close(self) -> None:
        if self._tap is not None:
            self._tap.__exit__()
        self._tap, self._batches = None, []

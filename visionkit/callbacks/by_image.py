"""Measures a split image by image, for intervals and comparisons."""

from __future__ import annotations

from typing import Any

from lightning import Callback, LightningModule, Trainer

from visionkit.errors import UsageError
from visionkit.uncertainty.by_image import ImageRecord


class ByImage(Callback):
    """Keeps what each image of an evaluated split adds to the metrics.

    Attributes:
        record: Set when the evaluation has begun.
    """

    record: ImageRecord

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.world_size > 1:
            raise UsageError(f"measuring by image runs in one process, not {trainer.world_size}; set trainer.devices 1")
        self.record = ImageRecord(pl_module)
        pl_module.measure = self.record.measure  # type: ignore[assignment]

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.record.close()
        del pl_module.measure  # back to the method of the class

    def on_test_start(self, *given: Any) -> None:
        self.on_validation_start(*given)

    def on_test_epoch_end(self, *given: Any) -> None:
        self.on_validation_epoch_end(*given)

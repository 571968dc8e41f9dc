"""Measures a split image by image, for intervals and comparisons."""

from __future__ import annotations

from typing import Any

from lightning import Callback, Trainer

from visionkit.errors import UsageError
from visionkit.uncertainty.by_image import ImageRecord


class ByImage(Callback):
    """Keeps what each image of an evaluated split adds to the metrics.

    Attributes:
        record: Set when the evaluation has begun.
    """

    record: ImageRecord

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.world_size > 1:
            raise UsageError(f"measuring by image runs in one process, not {trainer.world_size}; set trainer.devices 1")
        self.record = pl_module.image_record()
        pl_module.measure = self.record.measure

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.record.close()
        del pl_module.measure  # back to the method of the class

    def on_test_start(self, *given: Any) -> None:
        self.on_validation_start(*given)

    def on_test_epoch_end(self, *given: Any) -> None:
        self.on_validation_epoch_end(*given)

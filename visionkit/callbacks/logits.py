"""Collects what a classifier gives before it becomes probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor


class LogitsCollector(Callback):
    """Keeps logits and labels of a split that is evaluated, in the order of the loader.

    Attributes:
        logits: (N, K) float64 once the split is done.
        labels: (N,) int64, or (N, K) of 0 and 1.
    """

    def __init__(self) -> None:
        self._logits: list[Tensor] = []
        self._labels: list[Tensor] = []

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        decode: Any = pl_module.decode

        def kept(outputs: Any) -> Any:
            self._logits.append(outputs.logits.detach().float().cpu())
            return decode(outputs)

        pl_module.decode = kept  # type: ignore[assignment]

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *rest: Any
    ) -> None:
        self._labels.append(batch["target"]["labels"].detach().cpu())

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        del pl_module.decode  # back to the method of the class

    @property
    def logits(self) -> np.ndarray:
        return torch.cat(self._logits).double().numpy()

    @property
    def labels(self) -> np.ndarray:
        return torch.cat(self._labels).long().numpy()

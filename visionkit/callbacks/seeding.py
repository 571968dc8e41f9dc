"""Randomness counted by the batch, so that dropout and mixup repeat after a resume without any state being stored."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer

_MASK = 0xFFFF_FFFF_FFFF_FFFF


class Seeding(Callback):
    """Seeds torch (CPU and GPU), numpy and random before each training batch from (seed, epoch, batch, rank).

    Args:
        seed: Random seed of the run; the data module's by default.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.seed = seed
        self._state = 0
        self._generators: list[torch.Generator] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.seed is None:
            self.seed = int(getattr(trainer.datamodule, "seed", 0) or 0)  # type: ignore[attr-defined]
        # The generators themselves: torch.manual_seed asks every type of device on the way.
        self._generators = [torch.default_generator]
        device = pl_module.device
        if device.type == "cuda":
            self._generators.append(torch.cuda.default_generators[device.index or 0])
        self._begin_epoch(trainer)  # a resume within an epoch does not begin it

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin_epoch(trainer)

    def _begin_epoch(self, trainer: Trainer) -> None:
        self._state = mixed(self.seed or 0, trainer.global_rank, trainer.current_epoch)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        value = mixed(self._state, batch_idx)
        for generator in self._generators:
            generator.manual_seed(value)
        np.random.seed(value & 0xFFFF_FFFF)  # noqa: NPY002  # timm's mixup draws from the global generator
        random.seed(value)


def mixed(*numbers: int) -> int:
    """One 64-bit number out of several, each bit depending on all of them (splitmix64)."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E37_79B9_7F4A_7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58_476D_1CE4_E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D0_49BB_1331_11EB) & _MASK
        state ^= state >> 31
    return state

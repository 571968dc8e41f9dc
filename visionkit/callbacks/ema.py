"""Moving average of the weights: what is validated, saved as the model and served."""

from __future__ import annotations

import logging
from typing import Any

from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from visionkit.errors import UsageError
from visionkit.sharding import load_sharded, local, reshard
from visionkit.sharding.tensors import is_dtensor, shard_like

log = logging.getLogger(__name__)


class EMA(Callback):
    """Exponential moving average of parameters and float buffers, updated after each optimizer step.

    Lightning's own callback keeps a second module and copies both ways at each validation; here the average is a list
    of tensors, updated in one fused call, and taking its place in the module is an exchange of pointers. The keys in
    the checkpoint are Lightning's: `state_dict` is the average, `current_model_state` what is trained,
    `averaging_state` the count.

    Args:
        decay: What is kept of the average at each step, in (0, 1).
        warm_up: Begin with a smaller decay, (1 + n) / (10 + n) after n updates, so that the first weights fade.
    """

    def __init__(self, decay: float = 0.999, warm_up: bool = True) -> None:
        if not 0 < decay < 1:
            raise UsageError(f"ema {decay}: allowed is above 0 and below 1 (0 on the command line is off)")
        self.decay, self.warm_up = decay, warm_up
        self.updates = 0
        self._step = 0
        self._average: dict[str, Tensor] = {}
        self._loaded: dict[str, Tensor] = {}
        self._lists: tuple[list[Tensor], list[Tensor]] | None = None
        self._in_module = False

    @staticmethod
    def _averaged(module: LightningModule) -> dict[str, Tensor]:
        buffers = {name: value for name, value in module.named_buffers() if value.is_floating_point()}
        stored = module.state_dict().keys()
        named = {**dict(module.named_parameters()), **buffers}
        return {name: value for name, value in named.items() if name in stored}

    @property
    def average(self) -> dict[str, Tensor]:
        """The tensors that are not in the module at the moment, by name: the average, or what is trained."""
        return self._average

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins with the weights as they are, on their device, or with those of the checkpoint."""
        self._average = {name: value.detach().clone() for name, value in self._averaged(pl_module).items()}
        for name, value in self._loaded.items():
            if name in self._average:
                self._average[name].copy_(shard_like(value, self._average[name]))
        self._loaded, self._lists, self._in_module = {}, None, False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self._step:
            return  # gradients are being accumulated
        self._step = trainer.global_step
        if self._lists is None:
            current = self._averaged(pl_module)
            averages = [local(self._average[name]) for name in current]
            self._lists = averages, [local(value.detach()) for value in current.values()]
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.warm_up else self.decay
        get_ema_multi_avg_fn(decay)(self._lists[0], self._lists[1], None)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit":
            reshard(trainer)
            self._exchange(pl_module, averaged=True)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit":
            reshard(trainer)
            self._exchange(pl_module, averaged=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        reshard(trainer)
        self._exchange(pl_module, averaged=True)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leaves the average in the module, also where there was nothing left to train."""
        self._exchange(pl_module, averaged=True)
        self._lists = None

    def _exchange(self, module: LightningModule, averaged: bool) -> None:
        if averaged == self._in_module or not self._average:
            return
        self._lists = None  # it points at the tensors' old places
        for name, value in self._averaged(module).items():
            if is_dtensor(value):  # others point at its memory too
                _swap(local(value.detach()), local(self._average[name]))
                continue
            other = self._average[name].to(value.device)
            self._average[name], value.data = value.data, other
        self._in_module = averaged

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if not self._average:
            return
        held = checkpoint["state_dict"]
        other = {name: self._average.get(name, value) for name, value in held.items()}
        average, current = (held, other) if self._in_module else (other, held)
        checkpoint["state_dict"], checkpoint["current_model_state"] = average, current
        checkpoint["averaging_state"] = {"updates": self.updates, "decay": self.decay}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn != "fit":
            return
        if "current_model_state" not in checkpoint:
            log.warning("the checkpoint was saved without averaging; the average begins with its weights")
            return
        self.updates = int(checkpoint["averaging_state"]["updates"])
        self._loaded = dict(checkpoint["state_dict"])
        # The module was filled with the average already.
        load_sharded(pl_module, checkpoint["current_model_state"])


def _swap(one: Tensor, other: Tensor) -> None:
    held = one.clone()
    one.copy_(other)
    other.copy_(held)

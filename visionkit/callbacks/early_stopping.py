"""Ends a training whose metric no longer improves: `--early_stopping N`."""

from __future__ import annotations

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason

from visionkit.errors import UsageError


class EarlyStop(EarlyStopping):
    """Lightning's callback, with the patience that is set now, whatever it was when the checkpoint was written.

    A run that has ended by it takes no further epoch when it is resumed, unless the patience is larger now.
    """

    @property
    def state_key(self) -> str:
        """That of Lightning's own class, by which checkpoints name it."""
        return super().state_key.replace(type(self).__qualname__, EarlyStopping.__qualname__, 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        state = {**state_dict, "patience": self.patience}
        if state["wait_count"] < self.patience:  # it goes on, so what ended it then is no longer true
            none = EarlyStoppingReason.NOT_STOPPED.value
            state |= {"stopped_epoch": 0, "stopping_reason": none, "stopping_reason_message": None}
        super().load_state_dict(state)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.is_over:
            trainer.should_stop = True

    @property
    def is_over(self) -> bool:
        """Whether the patience is used up."""
        return self.wait_count >= self.patience


def early_stop(metric: str, mode: str, patience: int) -> EarlyStop:
    """Lightning's callback on the metric that chooses the best checkpoint.

    Args:
        metric: Name of the metric.
        mode: "min" or "max".
        patience: Validations in a row without a better value after which training ends.
    """
    if patience < 1:
        raise UsageError(f"early_stopping {patience}: 0 (off) or a number of validations")
    # A metric that is not finite is not better; whether the training diverged is decided by `Divergence`. The check
    # comes right after a validation, so that the checkpoint of this validation holds its count.
    return EarlyStop(metric, mode=mode, patience=patience, check_finite=False, check_on_train_epoch_end=False)

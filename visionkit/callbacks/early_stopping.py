"""Ends a training whose metric no longer improves: `--early_stopping N`."""

from __future__ import annotations

from lightning.pytorch.callbacks import EarlyStopping

from visionkit.errors import UsageError


def early_stop(metric: str, mode: str, patience: int) -> EarlyStopping:
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
    return EarlyStopping(metric, mode=mode, patience=patience, check_finite=False, check_on_train_epoch_end=False)

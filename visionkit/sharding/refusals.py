"""Refuses what FSDP2 cannot train before the training begins."""

from __future__ import annotations

from typing import Any

from lightning import LightningModule, Trainer

from visionkit.errors import UsageError

_CALLBACKS = {
    "Unfreezing": "freezes weights that are gathered together with trained ones; freeze by model.optim, or use ddp",
    "AutoBatchSize": "(--auto_batch_size) tries batches on an unsharded network; give --data.batch_size, or use ddp",
    "LRRangeTest": "(--find_lr) tries rates on an unsharded network; find the rate in one process or by ddp",
    "TimeBudget": "(--max_time) measures the pace of an unsharded network; give --trainer.max_epochs",
}


def refuse(task: LightningModule, trainer: Trainer) -> None:
    """Refuses a task and a trainer that FSDP2 cannot serve.

    Raises:
        UsageError: The task, an option or a callback does not work with sharded weights.
    """
    chosen = "trainer.strategy fsdp2"
    model: Any = task
    if str(trainer.precision) == "16-mixed":
        raise UsageError(f"{chosen}: trainer.precision 16-mixed scales gradients, which are sharded; use bf16-mixed")
    if getattr(trainer.strategy, "gather_dtype", "") == "bfloat16" and str(trainer.precision) != "bf16-mixed":
        raise UsageError(
            f"trainer.strategy.gather_dtype bfloat16: needs trainer.precision bf16-mixed, not {trainer.precision}"
        )
    if model.parts():
        raise UsageError(f"{chosen}: {model.name} trains {' and '.join(model.parts())} against each other; use ddp")
    if scalars := [name for name, each in model.named_parameters() if each.dim() == 0]:
        raise UsageError(f"{chosen}: {scalars[0]} is a single number, which cannot be sharded; use ddp")
    if getattr(model, "pcgrad", False):
        raise UsageError(f"{chosen}: model.pcgrad reads the gradients of the whole backbone; leave it out, or use ddp")
    if model.compile_network:
        raise UsageError(f"{chosen}: a compiled network cannot be sharded; leave model.compile_network out")
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        for kind in type(callback).__mro__:
            if kind.__name__ in _CALLBACKS:
                raise UsageError(f"{chosen}: {kind.__name__} {_CALLBACKS[kind.__name__]}")

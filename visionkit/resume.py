"""Where training stands, stated so that going on from there repeats nothing and leaves nothing out.

Lightning's counters describe the same place differently from each hook, and some of these descriptions lose a
validation or an epoch's begin when they are loaded. So every checkpoint's counters are rewritten to one of three forms
that Lightning goes on from exactly: before an epoch, within one, and before a validation that is due. The data module
stores the same position for its sampler. All randomness is counted from (seed, epoch, batch), see
`visionkit.callbacks.seeding`, so nothing else has to be stored.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from visionkit.wording import epoch_text

if TYPE_CHECKING:
    from lightning import Trainer


class Position(NamedTuple):
    """A place between two training batches.

    Attributes:
        epoch: The epoch that goes on, or that begins where `batches` is 0.
        batches: How many of its batches are done; on several ranks, by each of them.
        validation_due: The validation that follows the last batch has not been finished.
        epoch_done: That batch was the last of the epoch; only where validation is due.
    """

    epoch: int
    batches: int
    validation_due: bool = False
    epoch_done: bool = False


def position_of(trainer: Trainer) -> Position:
    """The trainer's position; exact in every hook outside of a training batch, and in `on_train_batch_end`."""
    fit, loop = trainer.fit_loop, trainer.fit_loop.epoch_loop
    epochs: Any = fit.epoch_progress.current
    batches: Any = loop.batch_progress.current
    if epochs.ready == 0 or epochs.ready == epochs.started + 1:
        return Position(max(0, epochs.ready - 1), 0)
    if epochs.processed == epochs.ready and batches.processed == 0:
        return Position(epochs.ready, 0)
    epoch = epochs.ready - 1
    last = loop.batch_progress.is_last_batch or batches.processed >= trainer.num_training_batches
    due = False
    if trainer.validating:
        due = loop.val_loop.batch_progress.current.completed < sum(loop.val_loop.max_batches)
    elif batches.completed < batches.processed:  # within on_train_batch_end, before validation
        due = fit._data_fetcher is not None and loop._should_check_val_fx(fit._data_fetcher)
    if last and not due:
        return Position(epoch + 1, 0)
    return Position(epoch, batches.processed, due, due and last)


def place_text(position: Position, epochs: int | None = None) -> str:
    """A position in words, with epochs and batches from 1 on: `after batch 5 of epoch 3 of 10`.

    Args:
        position: Between two training batches.
        epochs: Epochs of the training, where they are limited.
    """
    epoch = epoch_text(position.epoch, epochs)
    if position.validation_due:
        return f"before the validation {'at the end of' if position.epoch_done else 'within'} {epoch}"
    return f"after batch {position.batches} of {epoch}" if position.batches else f"before {epoch}"


def epoch_ends(trainer: Trainer, batch_idx: int) -> bool:
    """Whether that training batch is the last of its epoch, or of the training."""
    return batch_idx + 1 >= trainer.num_training_batches or trainer.global_step == trainer.max_steps


def epochs_of(trainer: Trainer) -> float:
    """How many epochs a training has, as far as is known when one begins; infinity for no limit."""
    limits = [float(trainer.max_epochs)] if trainer.max_epochs not in (None, -1) else []
    if trainer.max_steps > 0 and trainer.num_training_batches:
        per_epoch = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
        limits.append(math.ceil(trainer.max_steps / per_epoch))
    return min(limits, default=math.inf)


def settle(fit_loop: dict[str, Any], position: Position) -> None:
    """Rewrites the counters of a checkpoint (`checkpoint["loops"]["fit_loop"]`) to state `position` unmistakably."""
    begins = position.batches == 0 and not position.validation_due
    started = position.epoch if begins else position.epoch + 1
    for counter in fit_loop["epoch_progress"].values():
        counter.update(ready=started, started=started, processed=position.epoch, completed=position.epoch)
    batches = fit_loop["epoch_loop.batch_progress"]
    _even(batches["total"], batches["total"]["processed"])
    _even(batches["current"], position.batches)
    batches["is_last_batch"] = position.epoch_done
    validation = fit_loop["epoch_loop.val_loop.batch_progress"]
    _even(validation["total"], validation["total"]["completed"])
    _even(validation["current"], 0)
    validation["is_last_batch"] = False
    if position.validation_due:
        # "One batch was begun": Lightning then runs the validation, from its first batch, before it trains on.
        for counter in (validation["total"], validation["current"]):
            counter["ready"] += 1
            counter["started"] += 1
    # The data module has the position; Lightning would hand this to the loader in some of the forms only.
    fit_loop["state_dict"].pop("combined_loader", None)


def settled(fit_loop: dict[str, Any]) -> Position:
    """The position that `settle` wrote into the counters of a checkpoint."""
    batches = fit_loop["epoch_loop.batch_progress"]
    due = fit_loop["epoch_loop.val_loop.batch_progress"]["current"]["ready"] > 0
    epoch = fit_loop["epoch_progress"]["current"]["processed"]
    return Position(epoch, batches["current"]["processed"], due, due and batches["is_last_batch"])


def _even(counter: dict[str, int], value: int) -> None:
    for name in counter:
        counter[name] = value

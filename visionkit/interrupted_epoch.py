"""An epoch that was interrupted: what it has seen, and where it goes on with the processes that there are now.

A checkpoint states what was seen as stretches, each with the processes and the batch size that it had, since an epoch
may be interrupted more than once. From them every sampler finds what is left, see `EpochSampler`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from visionkit.resume import Position
from visionkit.sampling import EpochSampler, Stretch


@dataclass(frozen=True)
class InterruptedEpoch:
    """Where an interrupted epoch goes on.

    Attributes:
        epoch: Its number.
        seen: What it has seen.
        first: Number of the next batch of each process.
        over: Nothing is left of it but a validation.
    """

    epoch: int
    seen: Sequence[Stretch]
    first: int
    over: bool = False


def seen_in(state: Mapping[str, Any]) -> list[Stretch]:
    """What an epoch has seen, by the state of the data module in a checkpoint."""
    if "seen" in state:
        return [Stretch(*each) for each in state["seen"]]
    return [Stretch(state["world"], state["batch_size"], state["batches"])] if state["batches"] else []


def state_at(position: Position, now: Stretch, interrupted: InterruptedEpoch | None) -> dict[str, Any]:
    """What a checkpoint states of the epoch.

    Args:
        position: Where training stands.
        now: The processes and the batch size at the moment.
        interrupted: The epoch that this training went on with, if it did.

    Returns:
        `epoch`, `batches`, `batch_size`, `world`; `seen`, the stretches of this epoch; and `samples`, how many samples
        they are over all processes.
    """
    seen, first = [], 0
    if interrupted is not None and interrupted.epoch == position.epoch:
        seen, first = list(interrupted.seen), interrupted.first
    if position.batches > first:
        now = now._replace(batches=position.batches - first)
        if seen and seen[-1][:2] == now[:2]:
            now = now._replace(batches=now.batches + seen.pop().batches)
        seen.append(now)
    return {
        "epoch": position.epoch,
        "batches": position.batches,
        "batch_size": now.batch_size,
        "world": now.world,
        "seen": [list(each) for each in seen],
        "samples": sum(world * size * batches for world, size, batches in seen),
    }


def go_on(sampler: EpochSampler, position: Position, seen: Sequence[Stretch], limit: float) -> InterruptedEpoch:
    """Finds where an interrupted epoch goes on.

    Args:
        sampler: Orders the epoch for the processes that there are now.
        position: Where training stood, counted in batches of the processes at that time.
        seen: What the epoch has seen.
        limit: `trainer.limit_train_batches`: a number of batches, or a fraction of them.
    """
    if all(each[:2] == (sampler.world, sampler.batch_size) for each in seen):
        return InterruptedEpoch(position.epoch, seen, position.batches, position.epoch_done)
    sampler.set_epoch(position.epoch)
    whole = sampler.batches()
    whole = min(whole, limit) if isinstance(limit, int) else int(whole * limit)
    first = sampler.batches_before(seen)
    over = position.epoch_done or first >= whole
    return InterruptedEpoch(position.epoch, seen, whole if over else first, over)


def position_in(interrupted: InterruptedEpoch, position: Position) -> Position:
    """The position at which an interrupted epoch goes on, counted in batches of the processes that there are now."""
    if interrupted.over:  # the validation at its end, if it has one, is due
        return Position(interrupted.epoch, interrupted.first, validation_due=True, epoch_done=True)
    return position._replace(batches=interrupted.first)

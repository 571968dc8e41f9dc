"""What callbacks ask of a training whose network lies in parts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning import Trainer


def is_sharded(trainer: Trainer) -> bool:
    """Whether the network lies in parts, so that all processes have to run it or none."""
    return hasattr(getattr(trainer, "strategy", None), "shard")


def part(trainer: Trainer) -> None:
    """Leaves each process of an evaluation with its parts alone, before they are changed; elsewhere nothing happens."""
    if is_sharded(trainer):
        strategy: Any = trainer.strategy
        strategy.part()


@contextmanager
def gathered(trainer: Trainer) -> Iterator[None]:
    """Within it, the task can be run outside of its steps, by all processes together.

    Args:
        trainer: Of any strategy; where nothing lies in parts, nothing happens.
    """
    if not is_sharded(trainer):
        yield
        return
    strategy: Any = trainer.strategy
    strategy.root.unshard()
    try:
        yield
    finally:
        strategy.part()
        strategy.root.reshard()

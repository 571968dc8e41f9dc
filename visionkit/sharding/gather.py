"""Lets callbacks ask for, gather and reshard the weights of a training whose network is sharded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning import Trainer


def is_sharded(trainer: Trainer) -> bool:
    """Whether the network is sharded, so that all processes have to run it or none."""
    return hasattr(getattr(trainer, "strategy", None), "shard")


def reshard(trainer: Trainer) -> None:
    """Leaves each process with its own shards, before they are changed; without sharding nothing happens."""
    if is_sharded(trainer):
        strategy: Any = trainer.strategy
        strategy.reshard()


@contextmanager
def gathered(trainer: Trainer) -> Iterator[None]:
    """Gathers the weights, so that all processes together can run the task outside of its steps.

    Args:
        trainer: Trainer with any strategy; without sharding nothing happens.
    """
    if not is_sharded(trainer):
        yield
        return
    strategy: Any = trainer.strategy
    strategy.root.unshard()
    try:
        yield
    finally:
        strategy.reshard()
        strategy.root.reshard()

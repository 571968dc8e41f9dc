"""Which W&B run a resumed training belongs to: its id travels in the checkpoints."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lightning.pytorch.loggers import Logger

from visionkit.loggers.tracker import WandbTracker

CHECKPOINT_KEY = "wandb"
"""Under which a checkpoint holds the id of the run that it was saved in."""


def trackers(loggers: Iterable[Logger]) -> list[WandbTracker]:
    """Those of the loggers that are W&B's."""
    return [logger for logger in loggers if isinstance(logger, WandbTracker)]


def continue_from(loggers: Iterable[Logger], checkpoint: str | Path) -> None:
    """Lets the W&B run that a checkpoint was saved in go on; call it between building the trainer and training.

    Args:
        loggers: Loggers of the trainer.
        checkpoint: The `.ckpt` that training goes on from.

    Raises:
        CheckpointError: The checkpoint cannot be read.
    """
    from visionkit.checkpoint import read_checkpoint

    found = trackers(loggers)
    if found and (stored := read_checkpoint(checkpoint, "meta").get(CHECKPOINT_KEY)):
        for tracker in found:
            tracker.continue_run(str(stored["id"]))

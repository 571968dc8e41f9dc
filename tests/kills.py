"""What the programs that kill trainings share: their options, and which images each finished step has seen."""

from __future__ import annotations

import argparse
import random
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning import Callback, Trainer

from visionkit.checkpoint import describe, find_last


class Notes(Callback):
    """Writes `step epoch world images` after each step, and a file when training begins.

    The steps that the checkpoint does not know, of which training then does other ones, are taken out as it begins.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_start(self, trainer: Trainer, *args: Any) -> None:
        if trainer.is_global_zero:  # no rank finishes a step before this one does
            forget(self.folder, trainer.global_step)
        (self.folder / f"began{trainer.global_rank}").touch()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        line = f"{trainer.global_step} {trainer.current_epoch} {trainer.world_size} {','.join(batch['id'])}\n"
        with (self.folder / f"steps{trainer.global_rank}.txt").open("a") as file:
            file.write(line)


def last_step(run: Path) -> int:
    """The step of the newest whole checkpoint of a run; 0 where there is none."""
    last = find_last(run / "checkpoints") if (run / "checkpoints").is_dir() else None
    return int(describe(last)["step"]) if last else 0


def forget(run: Path, step: int) -> None:
    """Takes the steps after that one out of the notes."""
    for path in run.glob("steps*.txt"):
        kept = [line for line in path.read_text().splitlines() if int(line.split()[0]) <= step]
        path.write_text("".join(f"{line}\n" for line in kept))


def wrong_epochs(run: Path, epochs: int, images: int, batch: int) -> list[str]:
    """What is wrong with the images that were seen, in words.

    Args:
        run: Folder of the notes.
        epochs: Epochs of the training.
        images: Images of an epoch.
        batch: Images of a step of one rank; what fills no batch of all ranks at the end of an epoch may be missing.
    """
    seen: list[Counter[str]] = [Counter() for _ in range(epochs)]
    worlds = [1] * epochs
    for path in run.glob("steps*.txt"):
        for line in path.read_text().splitlines():
            _, epoch, world, names = line.split()
            seen[int(epoch)].update(names.split(","))
            worlds[int(epoch)] = max(worlds[int(epoch)], int(world))
    wrong = []
    for epoch, (found, world) in enumerate(zip(seen, worlds, strict=True)):
        repeated = [name for name, count in found.items() if count > 1]
        missing = images - len(found)
        if repeated or missing >= batch * world:
            wrong.append(f"epoch {epoch}: {len(repeated)} images repeated, {missing} missing")
    return wrong


def main(description: str | None, count: int, trials: Callable[[Path, int, random.Random], bool]) -> int:
    """Runs a program that kills trainings.

    Args:
        description: Description of the program.
        count: Kills or trainings where none is given.
        trials: Called with an empty folder, the count and the random numbers; returns whether all was right.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--count", type=int, default=count)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        return 0 if trials(Path(folder), given.count, random.Random(given.seed)) else 1

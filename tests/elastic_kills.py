"""Kills a rank of a training with `kill -9` at random moments, and goes on with another number of ranks.

    python -m tests.elastic_kills --count 10

Every rank notes the images of its finished steps. What the newest checkpoint does not know was undone by the kill; of
the rest each image has to be there once per epoch, except for those that fill no batch of all ranks at its end.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer

from tests.processes import SERVER
from tests.ranks import start_as
from tests.tiny_training import Slowly, tiny_task, train
from visionkit.checkpoint import describe, find_last
from visionkit.errors import VisionKitError

IMAGES, EPOCHS, BATCH = 61, 4, 4


class _Notes(Callback):
    """Writes `step epoch world images` after each step, and a file when training begins."""

    def __init__(self, run: Path) -> None:
        self.run = run

    def on_train_start(self, trainer: Trainer, *args: Any) -> None:
        (self.run / f"began{trainer.global_rank}").touch()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        line = f"{trainer.global_step} {trainer.current_epoch} {trainer.world_size} {','.join(batch['id'])}\n"
        with (self.run / f"steps{trainer.global_rank}.txt").open("a") as file:
            file.write(line)


def _child(run: Path, rank: int, world: int, port: int, slowly: float) -> None:
    start_as(rank, world, port)
    log = (run / f"log{rank}.txt").open("a", buffering=1)
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    sys.stdout = sys.stderr = log
    torch.set_num_threads(1)
    options: dict[str, Any] = {"devices": world, "strategy": "ddp"} if world > 1 else {}
    try:
        train(
            run,
            task=tiny_task(),
            batch_size=BATCH,
            train_images=IMAGES,
            max_epochs=EPOCHS,
            checkpoint_every=1,
            extra=[_Notes(run), Slowly(slowly)],
            **options,
        )
    except VisionKitError as error:
        sys.stderr.write(f"{error}\n")
        os._exit(error.status)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def attempt(run: Path, world: int, slowly: float, kill: tuple[int, float] | None) -> bool:
    """Trains with that many ranks, and kills one of them after a time.

    Args:
        run: Folder of the run.
        world: Number of ranks.
        slowly: Seconds that each step takes longer.
        kill: Which rank, and how many seconds after training began; None lets it end.

    Returns:
        Whether it was killed.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for path in run.glob("began*"):
        path.unlink()
    ranks = [SERVER.Process(target=_child, args=(run, rank, world, port, slowly)) for rank in range(world)]
    for each in ranks:
        each.start()
    while len(list(run.glob("began*"))) < world and all(each.is_alive() for each in ranks):
        time.sleep(0.01)
    killed = False
    if kill is not None:
        time.sleep(kill[1])
        killed = ranks[kill[0]].is_alive()
        with contextlib.suppress(ProcessLookupError):
            os.kill(ranks[kill[0]].pid or 0, signal.SIGKILL)
    end = time.monotonic() + 120
    for each in ranks:
        each.join(max(0.0, end - time.monotonic()))
        each.kill()
        each.join()
    if not killed and any(each.exitcode for each in ranks):
        raise RuntimeError("".join(path.read_text()[-2000:] for path in run.glob("log*.txt")))
    return killed


def forget(run: Path, step: int) -> None:
    """Takes the steps after that one out of the notes: the checkpoint does not know them."""
    for path in run.glob("steps*.txt"):
        kept = [line for line in path.read_text().splitlines() if int(line.split()[0]) <= step]
        path.write_text("".join(f"{line}\n" for line in kept))


def wrong_epochs(run: Path) -> list[str]:
    """What is wrong with the images that were seen, in words."""
    seen: list[Counter[str]] = [Counter() for _ in range(EPOCHS)]
    worlds = [0] * EPOCHS
    for path in run.glob("steps*.txt"):
        for line in path.read_text().splitlines():
            _, epoch, world, names = line.split()
            seen[int(epoch)].update(names.split(","))
            worlds[int(epoch)] = max(worlds[int(epoch)], int(world))
    wrong = []
    for epoch, (images, world) in enumerate(zip(seen, worlds, strict=True)):
        repeated = [name for name, count in images.items() if count > 1]
        missing = IMAGES - len(images)
        if repeated or missing >= BATCH * max(1, world):
            wrong.append(f"epoch {epoch}: {len(repeated)} images repeated, {missing} missing")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    kills, runs, wrong = 0, 0, []
    with tempfile.TemporaryDirectory(prefix="elastic-kills-") as name:
        while kills < arguments.count:
            run, runs = Path(name) / f"run{runs}", runs + 1
            run.mkdir()
            world, mine = rng.randint(1, 3), 0
            while mine < 5 and kills < arguments.count:
                moment = rng.randrange(world), rng.uniform(0, 1.5)
                if not attempt(run, world, 0.1, moment):
                    break
                kills, mine = kills + 1, mine + 1
                last = find_last(run / "checkpoints") if (run / "checkpoints").is_dir() else None
                step = describe(last)["step"] if last else 0
                forget(run, step)
                new = rng.randint(1, 3)
                print(f"{kills:2d}  rank {moment[0]} of {world} killed after {moment[1]:.2f} s, goes on at step {step} "
                      f"with {new}", flush=True)  # fmt: skip
                world = new
            else:
                attempt(run, world, 0.0, None)
            found = wrong_epochs(run)
            wrong += found
            print("\n".join(found) or "every image was seen once in every epoch", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

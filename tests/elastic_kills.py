"""Kills a rank of a training with `kill -9` at random moments, and goes on with another number of ranks.

    python -m tests.elastic_kills --count 10

Every rank notes the images of its finished steps. What the newest checkpoint does not know was undone by the kill; of
the rest each image has to be there once per epoch, except for those that fill no batch of all ranks at its end.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch

from tests.kills import Notes, last_step, main, wrong_epochs
from tests.processes import SERVER
from tests.ranks import start_as
from tests.tiny_training import Slowly, tiny_task, train
from visionkit.errors import VisionKitError

IMAGES, EPOCHS, BATCH = 61, 4, 4


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
            extra=[Notes(run), Slowly(slowly)],
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


def trials(folder: Path, count: int, rng: random.Random) -> bool:
    """Kills so often, in as many trainings as that takes; prints one line per kill."""
    kills, runs, wrong = 0, 0, []
    while kills < count:
        run, runs = folder / f"run{runs}", runs + 1
        run.mkdir()
        world, mine = rng.randint(1, 3), 0
        while mine < 5 and kills < count:
            moment = rng.randrange(world), rng.uniform(0, 1.5)
            if not attempt(run, world, 0.1, moment):
                break
            kills, mine, step = kills + 1, mine + 1, last_step(run)
            new = rng.randint(1, 3)
            print(f"{kills:2d}  rank {moment[0]} of {world} killed after {moment[1]:.2f} s, goes on at step {step} "
                  f"with {new}", flush=True)  # fmt: skip
            world = new
        else:
            attempt(run, world, 0.0, None)
        found = wrong_epochs(run, EPOCHS, IMAGES, BATCH)
        wrong += found
        print("\n".join(found) or "every image was seen once in every epoch", flush=True)
    return not wrong


if __name__ == "__main__":
    sys.exit(main(__doc__, 10, trials))

"""Kills trainings with `kill -9` at random moments and compares their ends, bit for bit, with an uninterrupted one.

    python -m tests.kill_resume --count 20

Half of the runs use loader workers; half have their temporary folder on another file system. Each is killed at least
once, some again after they were resumed. It prints one line per run and ends with status 1 where any end differs.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from lightning import Callback

from tests.kills import last_step, main
from tests.processes import SERVER
from tests.tiny_training import Slowly, end_state, train
from visionkit.atomic import remove_leftovers
from visionkit.errors import VisionKitError

OTHER_DISK = Path("/dev/shm")


class _Began(Callback):
    """States the killer that training has begun."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_start(self, *args: object) -> None:
        self.path.touch()


def _child(run: Path, num_workers: int, temporary: str, slowly: float, method: str) -> None:
    multiprocessing.set_start_method(method, force=True)  # of its loader workers: as a training's own, not the server's
    os.setsid()  # its loader workers die with it
    os.environ["TMPDIR"] = temporary
    tempfile.tempdir = None
    log = (run / "log.txt").open("a", buffering=1)
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    sys.stdout = sys.stderr = log
    try:
        train(run, num_workers=num_workers, checkpoint_every=1, extra=[_Began(run / "began"), Slowly(slowly)])
    except VisionKitError as error:
        sys.stderr.write(f"{error}\n")
        os._exit(error.status)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def start(run: Path, num_workers: int, temporary: str, slowly: float) -> multiprocessing.process.BaseProcess:
    """Trains in a process of its own, which writes `began` when training begins and `log.txt` all along."""
    run.mkdir(parents=True, exist_ok=True)
    (run / "began").unlink(missing_ok=True)
    process = SERVER.Process(
        target=_child, args=(run, num_workers, temporary, slowly, multiprocessing.get_start_method())
    )
    process.start()
    return process


def finish(run: Path, num_workers: int, temporary: str = tempfile.gettempdir(), slowly: float = 0.0) -> float:
    """Trains to the end in a process of its own; returns the seconds that training took."""
    process = start(run, num_workers, temporary, slowly)
    while not (run / "began").exists() and process.is_alive():
        time.sleep(0.01)
    began = time.monotonic()
    process.join()
    if process.exitcode != 0:
        raise RuntimeError(f"{run}: ended with {process.exitcode}: {(run / 'log.txt').read_text()[-2000:]}")
    return time.monotonic() - began


def kill(run: Path, num_workers: int, temporary: str, after: Callable[[], bool], slowly: float = 0.0) -> bool:
    """Trains until `after` states this, then kills; False where training had ended before."""
    process = start(run, num_workers, temporary, slowly)
    while process.is_alive() and not ((run / "began").exists() and after()):
        time.sleep(0.001)
    alive = process.is_alive()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid or 0, signal.SIGKILL)
    process.join()
    return alive


def trial(number: int, folder: Path, seconds: float, rng: random.Random, want: dict[str, str]) -> list[str]:
    """One run, killed once or twice at random moments, then finished; if it ends before its first kill it begins again.

    Returns:
        The parts of its end that differ from `want`.
    """
    run, num_workers = folder / f"run{number:02d}", 2 * (number % 2)
    elsewhere = number // 2 % 2 == 1 and OTHER_DISK.is_dir()
    with tempfile.TemporaryDirectory(dir=OTHER_DISK if elsewhere else None) as temporary:
        moments: list[str] = []
        kills = rng.choice((1, 1, 2))
        while len(moments) < kills:
            wait = rng.uniform(0, seconds)
            until: list[float] = []

            def after(wait: float = wait, until: list[float] = until) -> bool:
                if not until:
                    until.append(time.monotonic() + wait)
                return time.monotonic() >= until[0]

            if not kill(run, num_workers, temporary, after, slowly=0.02):
                if moments:
                    break
                shutil.rmtree(run)
                continue
            left = sorted(path.name for path in (run / "checkpoints").glob(".*"))
            moments.append(f"{wait:.2f} s (step {last_step(run)}{', a file half written' if left else ''})")
        finish(run, num_workers, temporary)
        got = end_state(run)
        remains = remove_leftovers(run / "checkpoints")
    different = [name for name in want if want[name] != got[name]] + (["leftovers"] if remains else [])
    place = "other disk" if elsewhere else "same disk"
    print(f"{number:2d}  {num_workers} workers  temp on {place}  killed after {', '.join(moments)}: "
          f"{'equal' if not different else 'DIFFERENT ' + ', '.join(different)}", flush=True)  # fmt: skip
    return different


def trials(folder: Path, count: int, rng: random.Random) -> bool:
    """Kills `count` trainings; prints one line per training."""
    seconds = finish(folder / "whole", num_workers=0, slowly=0.02)
    want = end_state(folder / "whole")
    failed = [n for n in range(count) if trial(n, folder, seconds, rng, want)]
    print(f"{count - len(failed)} of {count} ended bit for bit as the uninterrupted training did")
    return not failed


if __name__ == "__main__":
    sys.exit(main(__doc__, 20, trials))

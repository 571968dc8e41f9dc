"""The folder of a run: `runs/<name>/` with config.yaml, checkpoints/, metrics and the tracker's files."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import socket
import time
from pathlib import Path

from visionkit.errors import EnvironmentFault, UsageError

CONFIG = "config.yaml"
CHECKPOINTS = "checkpoints"
LOCK = ".lock"

_claimed: dict[Path, int] = {}


def run_folder(given: str | None, task: str, resuming: bool) -> Path:
    """Chooses the folder of a training run and claims it for this process.

    Args:
        given: What `--run` names, or None.
        task: Name of the task, for a folder of its own naming.
        resuming: A checkpoint is given, so the folder may hold a run.

    Raises:
        UsageError: The folder holds another run, or another process trains in it.
        EnvironmentFault: The folder cannot be made.
    """
    folder = make_folder(given, task)
    if is_first_rank():
        claim(folder / CHECKPOINTS)
        # A run that was killed before its first checkpoint holds nothing to go on with, so it may begin again.
        if not resuming and (folder / CONFIG).exists() and has_checkpoint(folder):
            release(folder / CHECKPOINTS)
            raise UsageError(
                f"{folder}: holds a run already; go on with it by --run {folder} --ckpt_path last, or name another "
                "folder with --run"
            )
    return folder


def make_folder(given: str | None, task: str) -> Path:
    """Makes the folder of a run; one of its own naming is always a new one.

    The first rank makes it. The others name one that `Checkpointing` replaces by the first rank's.

    Args:
        given: Its path, or None.
        task: What the name of a new one begins with.

    Raises:
        EnvironmentFault: The folder cannot be made.
    """
    try:
        folder = Path(given) if given is not None else _new_folder(task)
        if is_first_rank():
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFault(f"{given or 'runs'}: cannot make the run's folder ({error.strerror})") from error
    return folder


def _new_folder(task: str) -> Path:
    """A folder named by the clock, and by a number where another training took that name in the same second."""
    # Agents of a sweep start in the same second; W&B distinguishes them.
    own = [os.environ["WANDB_RUN_ID"]] if "WANDB_SWEEP_ID" in os.environ and "WANDB_RUN_ID" in os.environ else []
    name = "-".join([task, time.strftime("%Y%m%d-%H%M%S"), *own])
    for number in itertools.count(1):
        folder = Path("runs") / (name if number == 1 else f"{name}-{number}")
        if not is_first_rank():
            return folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            continue
    raise AssertionError


def has_checkpoint(run: Path) -> bool:
    """Whether a run holds a checkpoint, whole or not."""
    return any((run / CHECKPOINTS).glob("*.ckpt"))


def claim(folder: Path) -> None:
    """Makes this process the only one that writes checkpoints in a folder, until `release` or its end.

    The lock is the process's own: it ends with it, however it ends, and its loader workers do not have it.

    Raises:
        UsageError: Another process has it.
        EnvironmentFault: The folder cannot be written.
    """
    key = folder.absolute()
    if key in _claimed:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise EnvironmentFault(f"{folder}: cannot be written ({error.strerror})") from error
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(handle, 200).decode(errors="replace").strip()
        os.close(handle)
        if error.errno not in (errno.EACCES, errno.EAGAIN) or holder == _name(os.getppid()):
            return  # a file system without locks, or a process that a training has spawned
        raise UsageError(
            f"{folder.parent}: another training writes there ({holder or 'an unknown process'}); wait for it, stop it, "
            "or name another folder with --run"
        ) from None
    os.ftruncate(handle, 0)
    os.write(handle, _name(os.getpid()).encode())
    _claimed[key] = handle


def release(folder: Path | None = None) -> None:
    """Lets other processes write checkpoints in a folder, or in all that this process has claimed."""
    for key in [folder.absolute()] if folder is not None else list(_claimed):
        if (handle := _claimed.pop(key, None)) is not None:
            os.close(handle)


def _name(process: int) -> str:
    return f"process {process} on {socket.gethostname()}"


def is_first_rank() -> bool:
    """True in the process that writes files, before any process group stands."""
    names = ("LOCAL_RANK", "RANK", "SLURM_PROCID", "NODE_RANK", "GROUP_RANK")
    return all(os.environ.get(name, "0") == "0" for name in names)

"""The folder of a run: `runs/<name>/` with config.yaml, checkpoints/, metrics and the tracker's files."""

from __future__ import annotations

import os
import time
from pathlib import Path

from visionkit.errors import EnvironmentFault, UsageError

CONFIG = "config.yaml"
CHECKPOINTS = "checkpoints"


def run_folder(given: str | None, task: str, resuming: bool) -> Path:
    """Chooses the folder of a training run.

    Every rank must come to the same answer, so a name made from the clock is handed down through the environment.

    Args:
        given: What `--run` names, or None.
        task: Name of the task, for a folder of its own making.
        resuming: A checkpoint is given, so the folder may hold a run.

    Raises:
        UsageError: The folder holds another run.
        EnvironmentFault: The folder cannot be made.
    """
    if given is None:
        # Agents of a sweep start in the same second; W&B tells them apart.
        own = [os.environ["WANDB_RUN_ID"]] if "WANDB_SWEEP_ID" in os.environ and "WANDB_RUN_ID" in os.environ else []
        stamp = os.environ.setdefault("VISIONKIT_RUN_STAMP", "-".join([time.strftime("%Y%m%d-%H%M%S"), *own]))
        given = str(Path("runs") / f"{task}-{stamp}")
    folder = Path(given)
    # A run that was killed before its first checkpoint holds nothing to go on with, so it may begin anew.
    holds_run = (folder / CONFIG).exists() and any((folder / CHECKPOINTS).glob("*.ckpt"))
    if holds_run and not resuming and is_first_rank():
        raise UsageError(
            f"{folder}: holds a run already; go on with it by --ckpt_path last, or name another folder with --run"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFault(f"{folder}: cannot make the run's folder ({error.strerror})") from error
    return folder


def is_first_rank() -> bool:
    """True in the process that writes files, before any process group stands."""
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "RANK", "SLURM_PROCID"))

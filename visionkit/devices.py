"""What a training computes on: checked before Lightning is asked, and stated where processes share the work.

Lightning names none of the keys in its errors, and trains without a word by one process where several were meant.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from lightning.pytorch.strategies import ParallelStrategy

from visionkit.errors import EnvironmentFault, UsageError
from visionkit.wording import counted

SLURM = "SLURMEnvironment"

ON_CPU = "--trainer.accelerator cpu --trainer.precision 32-true"


def check_devices(options: Mapping[str, Any]) -> None:
    """Refuses what no process can compute on.

    Args:
        options: Options of the trainer, as its part of a configuration or as arguments from Python.

    Raises:
        EnvironmentFault: A GPU was asked for, and this machine has none, or fewer.
        UsageError: SLURM's plugin without SLURM, or other numbers of processes than torchrun started.
    """
    problems, lacks = [], False
    if SLURM in map(_name, _listed(options.get("plugins"))) and "SLURM_PROCID" not in os.environ:
        problems.append(
            f"trainer.plugins {SLURM} (-c slurm): SLURM has not started this process, since SLURM_PROCID is not set; "
            "submit configs/deploy/slurm.sh with sbatch, or use -c ddp outside of SLURM"
        )
    accelerator, devices = options.get("accelerator"), options.get("devices")
    if accelerator in ("gpu", "cuda", "mps") and not _gpus(accelerator):
        lacks = not problems
        within = "; under SLURM, ask for GPUs: #SBATCH --gres=gpu:N" if "SLURM_JOB_ID" in os.environ else ""
        found = f"trainer.accelerator {accelerator}: this machine has no GPU that torch can use"
        problems.append(f"{found}; {ON_CPU} computes on the CPU{within}")
    elif accelerator in ("gpu", "cuda") and (number := _number(devices)) is not None and number > _gpus(accelerator):
        lacks = not problems
        problems.append(f"trainer.devices {devices}: this machine has {counted(_gpus(accelerator), 'GPU')}")
    if problems:
        raise (EnvironmentFault if lacks else UsageError)("; and ".join(problems))
    _check_started(options, accelerator, devices)


def _check_started(options: Mapping[str, Any], accelerator: Any, devices: Any) -> None:
    if not _by_torchrun() or (each := _number(devices)) is None or not isinstance(accelerator, str):
        return
    nodes, started = int(options.get("num_nodes") or 1), int(os.environ["WORLD_SIZE"])
    if each * nodes != started:
        here = int(os.environ.get("LOCAL_WORLD_SIZE", started))
        raise UsageError(
            f"trainer.devices {devices} on trainer.num_nodes {nodes}: that is {counted(each * nodes, 'process')}, but "
            f"torchrun started {started}; give --trainer.devices {here} --trainer.num_nodes {max(1, started // here)}, "
            "its --nproc-per-node and --nnodes"
        )


def started_devices(options: Mapping[str, Any]) -> dict[str, int]:
    """On the CPU `trainer.devices: auto` is what torchrun started here; Lightning takes it for one process.

    Args:
        options: Options of the trainer.

    Returns:
        `devices` in its place, or nothing where it stays as it is.
    """
    accelerator, devices = options.get("accelerator"), options.get("devices")
    on_cpu = accelerator == "cpu" or (accelerator in (None, "auto") and not _gpus("gpu"))
    if on_cpu and devices in (None, "auto") and _by_torchrun() and "LOCAL_WORLD_SIZE" in os.environ:
        return {"devices": int(os.environ["LOCAL_WORLD_SIZE"])}
    return {}


def state_devices(trainer: Any) -> None:
    """Prints, of a strategy for several processes, how many there are and what each of them computes on."""
    if trainer.is_global_zero and isinstance(trainer.strategy, ParallelStrategy):
        print(f"devices: {devices_text(trainer)}", file=sys.stderr, flush=True)


def devices_text(trainer: Any) -> str:
    """The processes of a trainer whose strategy is for several: `4 processes on 2 machines, one GPU per process`."""
    world, on_cpu = trainer.world_size, trainer.strategy.root_device.type == "cpu"
    if world == 1:
        if not on_cpu:
            return f"1 process with 1 GPU ({trainer.strategy.root_device})"
        found = "" if _gpus("gpu") else ", no GPU was found"
        return f"1 process on the CPU{found}; for N processes on the CPU give {ON_CPU} --trainer.devices N"
    processes, several = counted(world, "process"), trainer.num_nodes > 1
    if on_cpu:
        text = f"{processes} on the CPU{f's of {trainer.num_nodes} machines' if several else ''}"
    else:
        text = f"{processes}{f' on {trainer.num_nodes} machines' if several else ''}, one GPU per process"
    if several:
        place = trainer.strategy.cluster_environment
        text += f", rendezvous at {place.main_address}:{place.main_port}"
    return text


def _gpus(accelerator: str) -> int:
    """Number of the GPUs that torch can use."""
    if accelerator != "mps" and torch.cuda.is_available():
        return torch.cuda.device_count()
    return int(accelerator != "cuda" and torch.backends.mps.is_available())


def _number(devices: Any) -> int | None:
    """How many devices are asked for; None where that follows from the machine."""
    if isinstance(devices, str) and devices.lstrip("-").isdigit():
        devices = int(devices)
    if isinstance(devices, (list, tuple)):
        return len(devices)
    return devices if isinstance(devices, int) and devices > 0 else None


def _by_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ and "WORLD_SIZE" in os.environ


def _listed(plugins: Any) -> Iterable[Any]:
    return plugins if isinstance(plugins, (list, tuple)) else [plugins]


def _name(plugin: Any) -> str:
    """Name of the class of a plugin, which may be an object, a name or part of a configuration."""
    path = plugin if isinstance(plugin, str) else getattr(plugin, "class_path", None)
    return str(path).rpartition(".")[2] if path else type(plugin).__name__

"""Processes that torchrun has started again: they meet in a place of their own."""

from __future__ import annotations

import atexit
import os
from datetime import timedelta

RESTART = "TORCHELASTIC_RESTART_COUNT"


def join_restarted(backend: str, timeout: timedelta) -> None:
    """Connects the processes of a restart, before Lightning does; of a first start it leaves that to Lightning.

    All attempts of torchrun share one store, in which the addresses of the processes that died are still written. Under
    a prefix of its own each attempt finds only its own processes.

    Args:
        backend: Backend of the process group: `gloo` or `nccl`.
        timeout: After which a process that does not respond counts as lost.
    """
    attempt = os.environ.get(RESTART, "0")
    if attempt == "0" or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return
    import torch.distributed as dist

    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    shared = dist.TCPStore(  # type: ignore[attr-defined]  # it does not state that it exports them
        *address, world_size=world, is_master=False, timeout=timeout
    )
    own = dist.PrefixStore(f"restart_{attempt}", shared)  # type: ignore[attr-defined]
    dist.init_process_group(backend, store=own, rank=rank, world_size=world, timeout=timeout)
    atexit.register(_leave)


def _leave() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()

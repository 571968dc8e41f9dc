"""Processes that belong together by gloo, as ranks of a training on CPUs do."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import Any

import torch

from tests.processes import SERVER

START = 500.0
"""Seconds in which all have predicted; importing torch on a busy machine takes most of them."""


def on_two_ranks(function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """`on_ranks` with two of them."""
    return on_ranks(2, function, *arguments)


def on_ranks(world: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Calls `function(rank, *arguments)` in processes of one group.

    Args:
        world: Number of processes.
        function: Function of a module's top level; what it returns can be pickled and holds no tensors.
        *arguments: For all.

    Returns:
        What each rank returned, in order.
    """
    results = SERVER.Queue()
    with tempfile.TemporaryDirectory() as folder:
        meeting = f"file://{folder}/ranks"
        ranks = [
            SERVER.Process(target=_rank, args=(rank, world, meeting, results, function, arguments))
            for rank in range(world)
        ]
        for each in ranks:
            each.start()
        try:
            predictions = dict(results.get(timeout=START) for _ in ranks)
        finally:
            for each in ranks:
                each.join(30)
                each.kill()
    for rank in range(world):
        if isinstance(predictions[rank], BaseException):
            raise predictions[rank]
    return [predictions[rank] for rank in range(world)]


def _rank(
    rank: int, world: int, meeting: str, results: Any, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    start_as(rank, world)
    torch.distributed.init_process_group("gloo", meeting, rank=rank, world_size=world)
    try:
        results.put((rank, function(rank, *arguments)))
    except BaseException as error:  # pytest's failures among them
        results.put((rank, error if isinstance(error, Exception) else RuntimeError(str(error))))
    torch.distributed.destroy_process_group()


def start_as(rank: int, world: int, port: int = 0) -> None:
    """Makes this process look to Lightning as if torchrun had started it as one of several."""
    names = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
    os.environ |= {name: str(value) for name, value in names.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "ranks"}

"""Two processes that belong together by gloo, as two ranks of a training on CPUs do."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import torch

from tests.processes import SERVER

START = 500.0
"""Seconds in which both have predicted; importing torch on a busy machine takes most of them."""


def on_two_ranks(function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Calls `function(rank, *arguments)` in two processes of one group.

    Args:
        function: Function of a module's top level; what it returns can be pickled and holds no tensors.
        *arguments: For both.

    Returns:
        What each rank returned, in order.
    """
    results = SERVER.Queue()
    with tempfile.TemporaryDirectory() as folder:
        meeting = f"file://{folder}/ranks"
        ranks = [SERVER.Process(target=_rank, args=(rank, meeting, results, function, arguments)) for rank in range(2)]
        for each in ranks:
            each.start()
        try:
            predictions = dict(results.get(timeout=START) for _ in ranks)
        finally:
            for each in ranks:
                each.join(30)
                each.kill()
    for rank in range(2):
        if isinstance(predictions[rank], BaseException):
            raise predictions[rank]
    return [predictions[rank] for rank in range(2)]


def _rank(rank: int, meeting: str, results: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", meeting, rank=rank, world_size=2)
    try:
        results.put((rank, function(rank, *arguments)))
    except Exception as error:
        results.put((rank, error))
    torch.distributed.destroy_process_group()

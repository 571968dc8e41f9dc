"""Row 14: training in two processes over bare DistributedDataParallel, on the CPU by gloo.

Two processes run both arms in the same shuffled order; the first one's clock counts. `ours` is a fit with every
callback and the logger of `visionkit fit`; `bare` wraps the same network and loops. This row goes by the wall clock
and needs two idle cores.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing
from torch.nn.parallel import DistributedDataParallel

from benchmarks import timing, training
from benchmarks.timing import Goal, Options, Report, Stopwatch, Times
from benchmarks.training import WARM, Batches
from tasks.classification import ClassificationTask
from visionkit.geometry import InputSpec
from visionkit.optim import OptimConfig

WORLD = 2


def _arms(quick: bool, steps: int, folder: str) -> dict[str, timing.Arm]:
    torch.manual_seed(0)
    size, batch_size = (32, 4) if quick else (96, 16)
    task = ClassificationTask(
        "test_resnet" if quick else "resnet18",
        classes=[str(index) for index in range(10)],
        input=InputSpec(size=(size, size)),
        optim=OptimConfig(lr=1e-4),
    )
    torch.manual_seed(1 + torch.distributed.get_rank())
    batch = training.random_batch(task, batch_size)
    batches, tensors = Batches(batch, steps), Batches(training.tensors_of(batch), steps)

    def bare(watch: Stopwatch) -> Any:
        own = training.ready(task)
        training.bare(own, tensors, watch, own.losses, DistributedDataParallel(own))
        return own

    def ours(watch: Stopwatch) -> Any:
        own = training.ready(task)
        training.fit(own, batches, watch, folder, ours=True, log=True, devices=WORLD, strategy="ddp")
        return own

    return {"bare": bare, "ours": ours}


def _process(rank: int, port: int, quick: bool, rounds: int, steps: int, clock: timing.Clock, folder: str) -> None:
    """One rank; the first writes what it measured."""
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(WORLD),
        "LOCAL_WORLD_SIZE": str(WORLD),
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "benchmark",  # by which Lightning sees that the processes already exists
    }
    training.hush()
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    sides = _arms(quick, steps, folder)
    states = {name: arm(Stopwatch(clock)).network.state_dict() for name, arm in sides.items()}
    for key, value in states["bare"].items():
        torch.testing.assert_close(states["ours"][key], value, rtol=1e-4, atol=1e-6)
    times = timing.measure(sides, rounds=rounds, clock=clock, warmup=0, attempts=1)
    if rank == 0:
        (Path(folder) / "seconds.json").write_text(json.dumps(times.seconds), "utf-8")
    torch.distributed.barrier()


def _block(options: Options, clock: timing.Clock, rounds: int, steps: int) -> Times:
    with tempfile.TemporaryDirectory() as folder:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        given = (port, options.quick, rounds, steps, clock, folder)
        torch.multiprocessing.spawn(_process, given, WORLD)  # type: ignore[attr-defined]
        return Times(json.loads((Path(folder) / "seconds.json").read_text("utf-8")))


def run(options: Options) -> Report:
    clock = options.clock or "wall"
    report = Report(14, "DDP in 2 processes over bare DDP", clock)
    steps = WARM + (5 if options.quick else 25)
    rounds = options.rounds or (2 if options.quick else 11)
    with timing.watched(report):
        for discarded in range(1 if options.quick else 3):
            times = _block(options, clock, rounds, steps)
            times.discarded = discarded
            if times.speed("ours", "bare").tight:
                break
        report.add("bare step", times.per_unit("bare", (steps - WARM) * 1e-3), unit="ms")
        report.add("ours over bare DDP, steps per second", times.speed("ours", "bare"), Goal(0.97), times=times)
    return report


if __name__ == "__main__":
    raise SystemExit(timing.main(run, __doc__ or ""))

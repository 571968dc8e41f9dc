"""What needs a GPU, in one command of at most twelve minutes: `python -m benchmarks.gpu`.

Every row runs in a process of its own within a budget of seconds, after which it is ended and stated as such, so that
one that hangs costs the others nothing. Rows that train compare ours, with every callback and the logger of
`visionkit fit`, with a bare loop of the same network, losses, optimizer and batch, in bfloat16.

Figures exist only for machines on which this was run; none are written down here. `--device cpu --quick` runs the same
logic on any machine with tiny networks: it shows that the script works, and its numbers carry no information.
"""

from __future__ import annotations

import argparse
import copy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import row15_gpu_training, step_by_task, timing, training
from benchmarks.timing import Goal, Options, Quartiles, Report, Stopwatch
from benchmarks.training import WARM, Batches
from visionkit.geometry import InputSpec

MINUTES = 12.0
ROOT = Path(__file__).resolve().parent.parent
LEAST = 20.0
"""Seconds that a row needs to import what it uses: with fewer left it is not begun."""


def compare(report: Report, sides: dict[str, timing.Arm], options: Options, steps: int, images: int) -> None:
    """Measures two arms, the first of which the second is compared with, and adds both to a report."""
    quick = options.quick
    times = timing.measure(
        sides, rounds=options.rounds or (1 if quick else 7), clock="wall", warmup=0 if quick else 1, attempts=1
    )
    for name in sides:
        rate = Quartiles.of([images * (steps - WARM) / seconds for seconds in times.seconds[name]])
        report.add(f"{name}, images per second", rate, unit="/s")
    first, second = sides
    report.add(f"{second} over {first}", times.speed(second, first), Goal(0.98), times=times)


def training_row(row: step_by_task.Row) -> Callable[[Options], None]:
    """A row that compares the training step of a task with a bare loop."""

    def run(options: Options) -> None:
        device, quick = str(options.device), options.quick
        report, steps = Report(15, row.title, "wall"), WARM + (2 if quick else 30)
        torch.manual_seed(0)
        task = row.build("quick" if quick else "gpu")
        batch = step_by_task.drawn(task, row.target, 2 if quick else row.images)
        with timing.watched(report), tempfile.TemporaryDirectory() as folder:
            compare(report, step_by_task.arms(task, batch, device, steps, folder), options, steps, len(batch["id"]))

    return run


def resnet(options: Options) -> None:
    """Row 15 as it is: ResNet-50, compiled, batch 256, with its goals."""
    row15_gpu_training.run(options)


def ddp(options: Options) -> None:
    """What DistributedDataParallel costs where there is nobody to wait for."""
    from tasks.classification import ClassificationTask

    device, quick = str(options.device), options.quick
    report, steps = Report(15, "DDP in one process over none, ResNet-50", "wall"), WARM + (2 if quick else 30)
    torch.manual_seed(0)
    classes, side = [str(number) for number in range(10)], 64 if quick else 224
    backbone = "test_resnet" if quick else "resnet50"
    task = ClassificationTask(backbone, classes=classes, input=InputSpec(size=(side, side)), optim=step_by_task.OPTIM)
    batch = training.random_batch(task, 2 if quick else 128, pin=device == "cuda")
    batches = Batches(batch, steps)
    with timing.watched(report), tempfile.TemporaryDirectory() as folder:

        def arm(**strategy: Any) -> timing.Arm:
            module = training.ready(task)

            def run(watch: Stopwatch) -> None:
                training.fit(module, batches, watch, folder, ours=True, log=True, **training.on(device), **strategy)

            return run

        compare(report, {"one process": arm(), "DDP": arm(strategy="ddp")}, options, steps, len(batch["id"]))


def contracts(options: Options) -> None:
    """The contract of every task on the device: outputs as on the CPU, losses, gradients and predictions."""
    from tests.contracts.cases import CASES

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # float32 as on the CPU
    names = sorted(CASES)[:2] if options.quick else sorted(CASES)
    print(f"contracts of {len(names)} tasks on {options.device}")
    faults = {name: fault for name in names if (fault := broken(name, str(options.device)))}
    for name, fault in faults.items():
        print(f"  {name}: {fault}")
    print(f"  kept by {len(names) - len(faults)} of {len(names)} tasks", flush=True)
    if faults:
        raise SystemExit(1)


def broken(name: str, device: str) -> str:
    """What a task does otherwise on a device than on the CPU; empty for nothing."""
    from tests.contracts.cases import batch, build, given, images
    from visionkit.engines import TorchEngine
    from visionkit.predictor import Predictor

    try:
        torch.manual_seed(0)
        task = build(name)
        task.setup("fit")
        data = batch(task)
        with torch.inference_mode():
            expected = task.eval().run(data)
        moved = task.to(device).transfer_batch_to_device(copy.copy(data), torch.device(device), 0)
        with torch.inference_mode():
            found = task.run(moved)
        for field, one, other in zip(type(expected)._fields, expected, found, strict=True):
            if isinstance(one, torch.Tensor):
                torch.testing.assert_close(
                    other.cpu(), one, rtol=1e-2, atol=1e-3, msg=f"{field} differs from the CPU's"
                )
        task.train()
        sum(task.training_losses(task.train_batch(moved)).values()).backward()  # type: ignore[union-attr]
        slopes = [each.grad for each in task.parameters() if each.grad is not None]
        if not slopes or not all(bool(each.isfinite().all()) for each in slopes):
            return "its gradients are not finite"
        Predictor(task, TorchEngine(task, device))(given(name, images(1)[0])).to_json()
    except Exception as error:  # each is a result of the row
        return f"{type(error).__name__}: {str(error).splitlines()[0][:160]}"
    return ""


ROWS: dict[str, tuple[float, Callable[[Options], None]]] = {
    "resnet": (200, resnet),
    "detection": (90, training_row(step_by_task.TASKS["FCOS"])),
    "queries": (110, training_row(step_by_task.TASKS["D-FINE"])),
    "segmentation": (80, training_row(step_by_task.TASKS["U-Net"])),
    "pose": (70, training_row(step_by_task.TASKS["SimpleBaseline"])),
    "ddp": (70, ddp),
    "contracts": (100, contracts),
}
"""Seconds that a row may take, and the row."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the rows one after the other; the status is 1 where one could not be run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--quick", action="store_true", help="small and short: shows that it runs, times nothing")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="only these")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="time for all rows (%(default)g)")
    parser.add_argument("--here", action="store_true", help="in this process, without budgets")
    given = parser.parse_args(argv)
    if given.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device on this machine: nothing was measured")
        return 0
    if given.here:
        training.hush()
        for name in given.rows:
            ROWS[name][1](Options(quick=given.quick, device=given.device))
        return 0
    failed, end = [], time.monotonic() + 60 * given.minutes
    for name in given.rows:
        seconds = min(ROWS[name][0], end - time.monotonic())
        if seconds < LEAST:
            print(f"{name}: not run, {given.minutes:g} minutes are over")
            failed.append(name)
            continue
        command = [sys.executable, "-m", "benchmarks.gpu", "--here", "--rows", name, "--device", given.device]
        try:
            done = subprocess.run([*command, *(["--quick"] if given.quick else [])], cwd=ROOT, timeout=seconds)
        except subprocess.TimeoutExpired:
            print(f"{name}: no result, ended after its {seconds:.0f} s", flush=True)
            failed.append(name)
            continue
        failed += [name] if done.returncode else []
    if failed:
        print(f"without a result, or with a fault: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())

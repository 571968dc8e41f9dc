"""Row 15: ResNet-50 training on a GPU: bf16, channels-last, compiled, batch 256, synthetic images from pinned memory.

Ours, with every callback and the logger of `visionkit fit`, over a bare loop with the same network, optimizer,
copies. Without a GPU it states this and ends well; `--device cpu --quick` runs the script's own logic on any machine.
"""

from __future__ import annotations

import copy
import shutil
import tempfile

import torch

from benchmarks import timing, training
from benchmarks.timing import Goal, Options, Quartiles, Report, Stopwatch
from benchmarks.training import WARM, Batches
from tasks.classification import ClassificationTask
from visionkit.geometry import InputSpec
from visionkit.optim import OptimConfig


def arms(options: Options, device: str, steps: int, folder: str) -> tuple[dict[str, timing.Arm], int]:
    """Both arms and their batch size. Each trains its own copy on and on, so that it is compiled once."""
    torch.manual_seed(0)
    small = device == "cpu"
    backbone, size, batch_size = ("test_resnet", 32, 8) if small else ("resnet50", 224, 64 if options.quick else 256)
    task = ClassificationTask(
        backbone,
        classes=[str(index) for index in range(1000)],
        input=InputSpec(size=(size, size)),
        optim=OptimConfig(lr=1e-4, name="sgd"),
        # torch.compile needs a C++ compiler for the CPU and a C compiler for the GPU's launchers
        compile_network=not small and any(map(shutil.which, ("gcc", "cc", "clang"))),
    ).to(device)
    batch = training.random_batch(task, batch_size, pin=not small)
    batches, tensors = Batches(batch, steps), Batches(training.tensors_of(batch), steps)
    loop, fitted = copy.deepcopy(task), task
    loop.setup("fit")
    first = {"ours": True}

    def bare(watch: Stopwatch) -> None:
        training.bare(loop, tensors, watch, loop.losses, device=device, bfloat16=True)

    def ours(watch: Stopwatch) -> None:
        fitted.compile_network = fitted.compile_network and first.pop("ours", False)
        training.fit(
            fitted,
            batches,
            watch,
            folder,
            ours=True,
            log=True,
            accelerator="cpu" if small else "gpu",
            precision="bf16-mixed",
        )
        fitted.to(device)  # Lightning takes the module off the GPU when it is done

    return {"bare": bare, "ours": ours}, batch_size


def run(options: Options) -> Report:
    clock = options.clock or "wall"
    report = Report(15, "GPU training, ResNet-50, bf16, channels-last, compiled, batch 256", clock)
    device = options.device or "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        return report.skip("no CUDA device on this machine")
    training.hush()
    if device == "cuda":
        torch.backends.cudnn.benchmark = True
    with timing.watched(report), tempfile.TemporaryDirectory() as folder:
        steps = WARM + (10 if options.quick else 60)
        sides, batch_size = arms(options, device, steps, folder)
        times = timing.measure(
            sides, rounds=options.rounds or (2 if options.quick else 9), clock=clock, attempts=1 if options.quick else 3
        )
        images = batch_size * (steps - WARM)
        for name in sides:
            rate = Quartiles.of([images / seconds for seconds in times.seconds[name]])
            counts = name == "ours" and device == "cuda" and not options.quick
            report.add(f"{name}, images per second", rate, Goal(5000) if counts else None, "/s")
        report.add("ours over the bare loop", times.speed("ours", "bare"), Goal(0.98), times=times)
    return report


if __name__ == "__main__":
    raise SystemExit(timing.main(run, __doc__ or ""))

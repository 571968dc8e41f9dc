"""Row 1 for tasks with losses of their own: a training step, ours over a bare loop of the same network and losses.

- `bare`: forward, the task's losses, backward, optimizer and schedule in a loop; logs nothing.
- `ours`: the task under the Trainer with every callback and the logger of `visionkit fit`.

Both train on one batch of drawn scenes again and again. `benchmarks.gpu` runs the same rows with networks of
ResNet-50 class in bfloat16; here, on a CPU, they have ResNet-18 on smaller images in float32.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from lightning.fabric.utilities import move_data_to_device

from benchmarks import timing, training
from benchmarks.timing import Goal, Options, Report, Stopwatch
from benchmarks.training import WARM, Batches
from visionkit.geometry import InputSpec
from visionkit.optim import OptimConfig
from visionkit.task import VisionTask
from visionkit.types import Batch

Scale = Literal["quick", "cpu", "gpu"]
OPTIM = OptimConfig(lr=1e-4)
BACKBONE: dict[Scale, str] = {"quick": "test_resnet", "cpu": "resnet18", "gpu": "resnet50"}


def _spec(scale: Scale, **sizes: tuple[int, int]) -> InputSpec:
    return InputSpec(size=sizes[scale], resize_mode="stretch")


def detection(scale: Scale) -> VisionTask:
    """FCOS at 512x512."""
    from tasks.detection import DetectionTask
    from visionkit.synthetic import OBJECT_CLASSES

    small = {"neck_channels": 64, "convs": 1} if scale == "quick" else {}
    # Of 64 pixels the last level would be one position, and its group norms of one number.
    spec = _spec(scale, quick=(256, 256), cpu=(256, 256), gpu=(512, 512))
    return DetectionTask(BACKBONE[scale], classes=OBJECT_CLASSES, input=spec, fcos=small, optim=OPTIM)


def queries(scale: Scale) -> VisionTask:
    """D-FINE of size s at 640x640."""
    from tasks.detection import DetectionTask
    from visionkit.synthetic import OBJECT_CLASSES

    size: dict[str, Any] = {"size": "n", "strides": (8, 16, 32)} if scale == "quick" else {"size": "s"}
    spec = _spec(scale, quick=(128, 128), cpu=(320, 320), gpu=(640, 640))
    return DetectionTask(
        BACKBONE[scale], architecture="dfine", classes=OBJECT_CLASSES, input=spec, dfine=size, optim=OPTIM
    )


def segmentation(scale: Scale) -> VisionTask:
    """U-Net at 512x512."""
    from tasks.semantic_segmentation import SemanticSegmentationTask
    from visionkit.synthetic import SEMANTIC_CLASSES

    small = {"channels": (16, 16, 8, 8, 8)} if scale == "quick" else {}
    spec = _spec(scale, quick=(64, 64), cpu=(192, 192), gpu=(512, 512))
    return SemanticSegmentationTask(BACKBONE[scale], classes=SEMANTIC_CLASSES, input=spec, unet=small, optim=OPTIM)


def pose(scale: Scale) -> VisionTask:
    """SimpleBaseline at 256x192."""
    from tasks.pose import PoseTask

    small: dict[str, Any] = {"width": 16} if scale == "quick" else {}
    spec = _spec(scale, quick=(64, 64), cpu=(192, 144), gpu=(256, 192))
    return PoseTask(BACKBONE[scale], input=spec, simple_baseline=small, optim=OPTIM)


class Row(NamedTuple):
    """One task.

    Attributes:
        title: Names network and size on a GPU.
        build: Makes the task at a scale.
        target: Target of the drawn scenes.
        images: Images per batch on a GPU.
    """

    title: str
    build: Callable[[Scale], VisionTask]
    target: str
    images: int


TASKS = {
    "FCOS": Row("detection, FCOS on ResNet-50, 512x512, batch 16", detection, "boxes", 16),
    "D-FINE": Row("detection, D-FINE on ResNet-50, 640x640, batch 16", queries, "boxes", 16),
    "U-Net": Row("semantic segmentation, U-Net on ResNet-50, 512x512, batch 16", segmentation, "label_map", 16),
    "SimpleBaseline": Row("pose, SimpleBaseline on ResNet-50, 256x192, batch 64", pose, "keypoints", 64),
}
ON_CPU = 4
"""Images per batch on a CPU."""


def drawn(task: VisionTask, target: Any, count: int) -> Batch:
    """One training batch of drawn scenes, in pinned memory where there is a GPU."""
    from datamodules.scene_data import SceneData

    data = SceneData(
        target=target,
        count=count,
        eval_count=1,
        size=task.input.size,
        input=task.input,
        classes=task.classes,
        batch_size=count,
        crop=getattr(task, "crop", None) if target == "keypoints" else None,
    )
    batch: Batch = next(iter(data.train_dataloader()))
    return batch


def arms(task: VisionTask, batch: Batch, device: str, steps: int, folder: str) -> dict[str, timing.Arm]:
    """A bare loop and ours; each trains a copy of its own on and on, in bfloat16 on a GPU."""
    batches, tensors = Batches(batch, steps), Batches(training.tensors_of(batch), steps)
    loop, fitted = (training.ready(task).to(device) for _ in range(2))

    def bare(watch: Stopwatch) -> None:
        optimizer, schedule = training.optimization(loop, steps)
        for index, given in enumerate(tensors):
            if index == WARM:
                training.synchronize()
                watch.start()
            moved = move_data_to_device(given, device)
            with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
                loss = torch.stack(list(loop.losses(loop.run(moved), moved["target"]).values())).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule["scheduler"].step()
        training.synchronize()
        watch.stop()

    def ours(watch: Stopwatch) -> None:
        training.fit(fitted, batches, watch, folder, ours=True, log=True, **training.on(device))
        fitted.to(device)  # Lightning takes the module off the GPU when it is done

    return {"bare": bare, "ours": ours}


def add(report: Report, options: Options, folder: str) -> None:
    """Measures every task on the CPU.

    Args:
        report: Gets the numbers.
        options: Of the row.
        folder: Where runs are written.
    """
    quick = options.quick
    scale: Scale = "quick" if quick else "cpu"
    counted = 2 if quick else 10
    for name, row in TASKS.items():
        torch.manual_seed(0)
        task = row.build(scale)
        batch = drawn(task, row.target, 2 if quick else ON_CPU)
        times = timing.measure(
            arms(task, batch, "cpu", WARM + counted, folder),
            rounds=options.rounds or (1 if quick else 7),
            clock=options.clock or "cpu",
            warmup=0 if quick else 1,
            attempts=1 if quick else 2,
        )
        network = f"{name}, {BACKBONE[scale]}, {'x'.join(map(str, task.input.size))}"
        report.add(f"{network}: bare step", times.per_unit("bare", counted * 1e-3), unit="ms")
        report.add(f"{network}: ours over bare", times.ratio("ours", "bare"), Goal(1.02, "at most"), times=times)


def run(options: Options) -> Report:
    training.hush()
    report = Report(1, "training step of tasks with losses of their own, over a bare loop", options.clock or "cpu")
    with timing.watched(report), tempfile.TemporaryDirectory() as folder:
        add(report, options, folder)
    return report


if __name__ == "__main__":
    raise SystemExit(timing.main(run, __doc__ or ""))

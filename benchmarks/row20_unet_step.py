"""Row 20: a training step of a U-Net, ours as `visionkit fit` runs it over smp's own model in a bare loop.

- `ours`: `SemanticSegmentationTask` under the Trainer with all that `visionkit fit` brings.
- `smp`: `segmentation_models_pytorch.Unet` on the same timm encoder, normalized the same way, its loss, its optimizer
  and its schedule in a loop of a few lines, as one writes it; channels-last too.

Weights, batches and settings are the same, and so is what both have learned at the end.
"""

from __future__ import annotations

import copy
import tempfile
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import timing, training
from benchmarks.timing import Goal, Options, Report, Stopwatch
from benchmarks.training import WARM, Batches
from tasks.semantic_segmentation import SemanticSegmentationTask
from visionkit.geometry import Geometry, InputSpec
from visionkit.nn.normalize import Normalize
from visionkit.optim import OptimConfig
from visionkit.types import Batch

CLASSES = 21
BACKBONE = "resnet18"


class Smp(nn.Module):
    """smp's model behind the normalization, uint8 in."""

    def __init__(self, normalize: Normalize, network: nn.Module) -> None:
        super().__init__()
        self.normalize, self.network = normalize, network

    def forward(self, image: Tensor) -> Tensor:
        return self.network(self.normalize(image).contiguous(memory_format=torch.channels_last))  # type: ignore[no-any-return]


def tensors(module: nn.Module) -> list[Tensor]:
    """Weights and statistics in the order in which they are made."""
    return [value for value in module.state_dict().values() if value.dtype.is_floating_point]


def pairs(task: SemanticSegmentationTask, theirs: Any) -> list[tuple[Tensor, Tensor]]:
    """Ours and theirs, part by part; stages of the encoder that nothing depends on are left out of ours."""
    ours: Any = task.network
    encoder = zip(tensors(ours.backbone.model), tensors(theirs.encoder.model), strict=False)
    decoder = zip(tensors(ours.decoder.decoder), tensors(theirs.decoder), strict=True)
    head = zip(tensors(ours.head), tensors(theirs.segmentation_head), strict=True)
    return [*encoder, *decoder, *head]


def batch_of(task: SemanticSegmentationTask, batch_size: int) -> Batch:
    """Noise, and labels in large parts."""
    height, width = task.input.size
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, CLASSES, (batch_size, height // 16, width // 16), generator=generator)
    return {
        "inputs": {
            "image": torch.randint(0, 256, (batch_size, 3, height, width), dtype=torch.uint8, generator=generator)
        },
        "target": {"label_map": labels.repeat_interleave(16, 1).repeat_interleave(16, 2)},
        "geometry": [Geometry.plan(task.input, (height, width))] * batch_size,
        "id": [str(index) for index in range(batch_size)],
    }


def arms(size: int, batch_size: int, steps: int, run: str) -> dict[str, timing.Arm]:
    """The two arms; each returns what it has trained."""
    import segmentation_models_pytorch as smp

    torch.manual_seed(0)
    task = SemanticSegmentationTask(
        BACKBONE,
        classes=[f"class {index}" for index in range(CLASSES)],
        input=InputSpec(size=(size, size)),
        losses={"cross_entropy": 1.0, "dice": 1.0},
        optim=OptimConfig(lr=1e-4),
    )
    task.setup("fit")
    theirs = smp.Unet(f"tu-{BACKBONE}", encoder_weights=None, classes=CLASSES)
    with torch.no_grad():
        for mine, other in pairs(task, theirs):
            other.copy_(mine)
    theirs = theirs.to(memory_format=torch.channels_last)
    batch = batch_of(task, batch_size)
    batches, plain = Batches(batch, steps), Batches(training.tensors_of(batch), steps)

    def ours(watch: Stopwatch) -> Any:
        module = copy.deepcopy(task)
        training.fit(module, batches, watch, run, ours=True, log=True)
        return module

    def bare(watch: Stopwatch) -> Any:
        model = Smp(copy.deepcopy(task.normalize), copy.deepcopy(theirs)).train()
        dice = smp.losses.DiceLoss("multiclass", ignore_index=255)
        cross_entropy = nn.CrossEntropyLoss(ignore_index=255)
        optimizer, schedule = training.optimization_of(model.network, task.optim, steps)
        for index, given in enumerate(plain):
            if index == WARM:
                watch.start()
            logits, labels = model(given["inputs"]["image"]), given["target"]["label_map"]
            loss = cross_entropy(logits, labels) + dice(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule["scheduler"].step()
        watch.stop()
        return model.network

    return {"smp": bare, "ours": ours}


def assert_equal(sides: dict[str, timing.Arm]) -> None:
    """Both have learned the same."""
    mine, other = sides["ours"](Stopwatch("cpu")), sides["smp"](Stopwatch("cpu"))
    for a, b in pairs(mine, other):
        torch.testing.assert_close(a, b, rtol=1e-2, atol=2e-4, msg="the two arms end with different weights")


def run(options: Options) -> Report:
    training.hush()
    clock = options.clock or "cpu"
    report = Report(20, f"training step of a U-Net on {BACKBONE}, {CLASSES} classes, over smp in a bare loop", clock)
    with timing.watched(report), tempfile.TemporaryDirectory() as folder:
        size, batch_size, counted = (64, 2, 2) if options.quick else (128, 4, 15)
        assert_equal(arms(64, 2, WARM + 2, folder))
        sides = arms(size, batch_size, WARM + counted, folder)
        times = timing.measure(
            sides,
            rounds=options.rounds or (2 if options.quick else 9),
            clock=clock,
            attempts=1 if options.quick else 3,
        )
        report.add("smp in a bare loop, a step", times.per_unit("smp", counted * 1e-3), unit="ms")
        report.add("ours over it", times.ratio("ours", "smp"), Goal(1.02, "at most"), times=times)
    return report


if __name__ == "__main__":
    raise SystemExit(timing.main(run, __doc__ or ""))

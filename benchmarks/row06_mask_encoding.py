"""Row 6: 100 masks of a two-stage network to COCO's run lengths at 1280x960, and at 12 megapixels.

The network gives 28x28 maps and boxes; what leaves is a string a mask. A full-size bitmap in between costs its pixels
and its memory, though an object covers a small part of the image. Boxes have the sizes of COCO's objects.

- `ours`: `visionkit.masks.paste_masks`, which processes the box alone.
- `torchvision`: `paste_masks_in_image`, the threshold, pycocotools' encoder.
- `touched`: writing as many pixels as the boxes have, the least that any way can do.

The outputs are equal byte for byte. Memory is what the process grows by at its highest, read in a process of its own;
that of a whole prediction of twelve megapixels too.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import torch

from benchmarks import timing
from benchmarks.memory import Growth
from benchmarks.timing import Goal, Options, Quartiles, Report, Stopwatch
from visionkit.masks import paste_masks

SIZES = {"1280x960": (960, 1280), "12 megapixels": (3000, 4000)}


def objects(size: tuple[int, int], number: int = 100) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth maps as networks give them, (N, 28, 28), and boxes (N, 4) of COCO's sizes in an image of that size."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:28, :28] / 27 - 0.5
    angle, ratio = rng.uniform(0, np.pi, (2, number, 1, 1))
    across = np.cos(angle) * x + np.sin(angle) * y
    along = -np.sin(angle) * x + np.cos(angle) * y
    maps = 1 / (1 + np.exp(12 * ((across**2 * (1 + ratio) + along**2) / 0.2 - 1) + rng.normal(0, 1, (number, 28, 28))))
    # Roots of COCO's areas are spread evenly in their logarithm, from a fiftieth to a half of the image's side.
    side = np.exp(rng.uniform(np.log(0.02), np.log(0.5), number)) * (size[0] * size[1]) ** 0.5
    shape = np.exp(rng.normal(0, 0.4, number))
    sides = np.stack([side * shape, side / shape], axis=1).clip(2, size[::-1])
    corners = rng.uniform(0, 1, (number, 2)) * (np.array(size[::-1]) - sides)
    boxes = np.concatenate([corners, corners + sides], axis=1)
    return torch.from_numpy(maps.astype(np.float32)), torch.from_numpy(boxes.astype(np.float32))


def by_torchvision(maps: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int]) -> list[str]:
    """The usual way."""
    import pycocotools.mask as coco
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    pasted = (paste_masks_in_image(maps[:, None], boxes, size)[:, 0] > 0.5).numpy().astype(np.uint8)
    return [coco.encode(np.asfortranarray(mask))["counts"].decode() for mask in pasted]


def memory(arm: str, size: str) -> float:
    """MB that a process grows by at its highest when it does the work once."""
    command = [sys.executable, "-m", "benchmarks.row06_mask_encoding", "--grow", arm, size]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def _grow(arm: str, size: tuple[int, int]) -> None:
    maps, boxes = objects(size)
    torch.nn.functional.interpolate(maps[:1, None], size=(30, 30), mode="bilinear")  # what torch keeps for itself
    by_torchvision(maps[:1], boxes[:1].clamp(max=20), (32, 32))
    paste_masks(maps[:1], boxes[:1].clamp(max=20), (32, 32))
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8) if arm == "predict" else None
    growth = Growth()
    if image is not None:
        from benchmarks import overhead_by_task

        overhead_by_task.instances(image, quick=False)  # builds the network and predictions once
    elif arm == "ours":
        paste_masks(maps, boxes, size)
    else:
        by_torchvision(maps, boxes, size)
    print(growth.peak())


def run(options: Options) -> Report:
    clock = options.clock or "cpu"
    report = Report(6, "100 instance masks to run lengths at 1280x960", clock)
    with timing.watched(report):
        size = (96, 128) if options.quick else SIZES["1280x960"]
        maps, boxes = objects(size)
        pixels = int(((boxes[:, 2:] - boxes[:, :2]) + 2).prod(dim=1).sum())

        def ours(watch: Stopwatch) -> Any:
            return [each["counts"] for each in paste_masks(maps, boxes, size)]

        def torchvision(watch: Stopwatch) -> Any:
            return by_torchvision(maps, boxes, size)

        def touched(watch: Stopwatch) -> Any:
            return np.ones(pixels, dtype=np.float32).sum()

        assert ours(Stopwatch(clock)) == torchvision(Stopwatch(clock)), "both sides give the same bytes"
        times = timing.measure(
            {"ours": ours, "torchvision": torchvision, "touched": touched},
            rounds=options.rounds or (2 if options.quick else 15),
            clock=clock,
            attempts=1 if options.quick else 3,
            wanted=lambda t: [t.speed("ours", "torchvision")],
        )
        report.add("ours", times.per_unit("ours", 1e-3), unit="ms")
        report.add("writing the pixels of the boxes", times.per_unit("touched", 1e-3), unit="ms")
        report.add("ours against torchvision", times.speed("ours", "torchvision"), Goal(60, "at least"), times=times)
        if not options.quick:
            for name in SIZES:
                goal = Goal(10, "at most") if name == "1280x960" else None
                report.add(f"memory, {name}", Quartiles.of([memory("ours", name)] * 2), goal, unit="MB")
                report.add(f"memory of torchvision, {name}", Quartiles.of([memory("torchvision", name)] * 2), unit="MB")
            whole = memory("predict", "12 megapixels")
            report.add("memory, 12 megapixels predicted", Quartiles.of([whole] * 2), Goal(1000, "at most"), unit="MB")
            report.note(
                "the last is Mask R-CNN on ResNet-50 at 640x480 from being built to its hundred masks, weights included"
            )
    return report


if __name__ == "__main__":
    if "--grow" in sys.argv:
        _grow(sys.argv[-2], SIZES[sys.argv[-1]])
        raise SystemExit(0)
    raise SystemExit(timing.main(run, __doc__ or ""))

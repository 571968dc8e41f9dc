"""Row 16: an image of 12,000 x 8,000 segmented within 3 GB, in tiles that overlap by what the network sees.

The peak is that of this process, the decoded image (288 MB) and the libraries (about 400 MB) included. With
`--quick` the image is smaller and the peak carries no information.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from benchmarks import timing
from benchmarks.memory import held
from benchmarks.timing import Goal, Options, Quartiles, Report
from tasks.semantic_segmentation import SemanticSegmentationTask
from visionkit.geometry import InputSpec
from visionkit.images import ImageSource
from visionkit.predictor import Predictor
from visionkit.tiling import BlendMap

CLASSES = 21


def run(options: Options) -> Report:
    clock = options.clock or "wall"
    report = Report(16, "a 12,000 x 8,000 image segmented in tiles: U-Net on RegNetX-200MF, 21 classes", clock)
    with timing.watched(report):
        height, width = (1600, 2400) if options.quick else (8000, 12000)
        torch.manual_seed(0)
        task = SemanticSegmentationTask(
            "test_resnet" if options.quick else "regnetx_002",
            unet={"channels": [96, 64, 48, 32, 16]},
            classes=[f"class {number}" for number in range(CLASSES)],
            input=InputSpec(size=(512, 512), resize_mode="native"),
        ).eval()
        task.setup("predict")
        coarse = np.random.default_rng(0).integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
        image = coarse.repeat(16, axis=0).repeat(16, axis=1)
        watch = timing.Stopwatch(clock)
        prediction: Any = Predictor(task)(image)
        labels = prediction.labels
        seconds = watch.stop()
        assert labels.shape == (height, width) and labels.max() < CLASSES
        tiles = task.plan(ImageSource(image)).reduce
        assert isinstance(tiles, BlendMap)
        report.add("overlap of the tiles", Quartiles.of([tiles.overlap.overlap]), unit="px")
        report.add("time", Quartiles.of([seconds]), unit="s")
        report.add("peak memory of the process", Quartiles.of([held("VmHWM") / 1e3]), Goal(3.0, "at most"), unit="GB")
    return report


if __name__ == "__main__":
    raise SystemExit(timing.main(run, __doc__ or ""))

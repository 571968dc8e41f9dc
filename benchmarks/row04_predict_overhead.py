"""Row 4: `predictor(array)` on an image of 1280x960 over the bare network, ResNet-50, one thread.

The network is what the image is for, so what comes before and after it should hardly be felt. The image is
large and the network's input small, which is the hard case: a network run at 1280x960 takes twenty times as long.

- `network`: the task's forward on a tensor that lies ready, in inference mode, weights channels-last.
- `ours`: array in, named probabilities out.
- `pil`: what one writes by hand: PIL's resize and crop, ToTensor, Normalize, the network, softmax, names.

These are of classification at 224, the hardest case; `overhead_by_task.py` has the others (pose is part of row 17,
super-resolution of row 13).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks import overhead_by_task, timing
from benchmarks.sample_images import jpegs
from benchmarks.timing import Goal, Options, Report, Stopwatch
from tasks.classification import ClassificationTask
from visionkit.images import read_image
from visionkit.predictor import Predictor

CLASSES = 1000


def arms(backbone: str, source_image: np.ndarray, times: int) -> dict[str, timing.Arm]:
    """The three arms; each runs a model on the images some times."""
    from torchvision.transforms import v2

    torch.manual_seed(0)
    names = [f"class {index}" for index in range(CLASSES)]
    task = ClassificationTask(backbone, classes=names).eval()
    task.setup("predict")
    predictor: Any = Predictor(task)
    ready = predictor.prepare(source_image)["inputs"]["image"][None]
    spec, normalize = task.input, task.normalize
    short = int(spec.size[0] / spec.crop_fraction)
    by_hand = v2.Compose(
        [
            v2.Resize(short, interpolation=v2.InterpolationMode(spec.interpolation)),
            v2.CenterCrop(spec.size),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(normalize.mean, normalize.std),
        ]
    )

    @torch.inference_mode()
    def network(watch: Stopwatch) -> Any:
        for _ in range(times):
            out = task(ready)
        return out.logits.softmax(dim=-1)[0].numpy()

    def ours(watch: Stopwatch) -> Any:
        for _ in range(times):
            out = predictor(source_image)
        return out.probabilities

    @torch.inference_mode()
    def pil(watch: Stopwatch) -> Any:
        for _ in range(times):
            image = by_hand(Image.fromarray(source_image))[None].contiguous(memory_format=torch.channels_last)
            out = task.network(image).logits.softmax(dim=-1)[0]
            value, index = out.topk(5)
            _ = [(names[i], v) for i, v in zip(index.tolist(), value.tolist(), strict=True)]
        return out.numpy()

    return {"network": network, "ours": ours, "pil": pil}


def run(options: Options) -> Report:
    clock = options.clock or "cpu"
    report = Report(4, "predict(array of 1280x960) over the bare network", clock)
    with timing.watched(report):
        image = read_image(jpegs((1280, 960), 1, options.data)[0][0])
        sides = arms("test_resnet" if options.quick else "resnet50", image, 1 if options.quick else 3)
        predictions = {name: arm(Stopwatch(clock)) for name, arm in sides.items()}
        np.testing.assert_allclose(predictions["ours"], predictions["network"], atol=1e-6)
        # Pillow rounds between its two passes and torch does not: a gray level here and there.
        np.testing.assert_allclose(predictions["pil"], predictions["network"], atol=1e-3)
        times = timing.measure(
            sides,
            rounds=options.rounds or (2 if options.quick else 15),
            clock=clock,
            attempts=1 if options.quick else 3,
            wanted=lambda t: [t.ratio("ours", "network")],
        )
        unit = 1e-3 * (1 if options.quick else 3)
        report.add("the network alone", times.per_unit("network", unit), unit="ms")
        report.add("ours beyond the network", times.per_unit("ours", unit, minus="network"), unit="ms")
        report.add("ours over the network", times.ratio("ours", "network"), Goal(1.05, "at most"), times=times)
        report.add("PIL by hand over the network", times.ratio("pil", "network"))
        for name, (build, limit) in overhead_by_task.TASKS.items():
            torch.manual_seed(0)
            times = timing.measure(
                build(image, options.quick),
                rounds=options.rounds or (2 if options.quick else 7),
                clock=clock,
                attempts=1 if options.quick else 3,
                wanted=lambda t: [t.ratio("ours", "network")],
            )
            report.add(f"{name}: the network alone", times.per_unit("network", 1e-3), unit="ms")
            report.add(f"{name}: ours beyond it", times.per_unit("ours", 1e-3, minus="network"), unit="ms")
            report.add(f"{name}: ours over it", times.ratio("ours", "network"), Goal(limit, "at most"), times=times)
    return report


if __name__ == "__main__":
    raise SystemExit(timing.main(run, __doc__ or ""))
